/*
 * The figures in Prometheus' text format: what its parser asks for, checked line by line.
 */
#include "fs/metrics.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <ctype.h>

enum { LINES_MAX = 2000 };

static struct fixture *fx;
static struct ns *ns;
static char *text; /* of the metrics, cut into lines */
static const char *lines[LINES_MAX];
static size_t nlines;

static void set_up(void)
{
	static const struct ns_who who = { .uid = 1, .comm = "test" };
	struct ns_options opt = { 0 };
	struct metrics_env env = { .db_path = "/srv/a \"quoted\" \\ path",
				   .started_ns = 1700000000123456789,
				   .nodes = 7 };
	struct buf out = { 0 };
	struct ns_attr attr;
	char *save = NULL;

	fx = fixture_new();
	fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
	for (unsigned i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d%u", i);
		CU_ASSERT_EQUAL(ns_mkdir(ns, &who, NS_ROOT, slice_str(name), 0755, &attr), 0);
	}
	env.db = fx->db;
	env.ns = ns;
	CU_ASSERT_EQUAL_FATAL(metrics_text(&env, &out), 0);
	CU_ASSERT_FATAL(out.len && out.data[out.len - 1] == '\n'); /* the last line is ended, too */
	CU_ASSERT_EQUAL_FATAL(buf_put_u8(&out, 0), 0);
	text = (char *)out.data;
	nlines = 0;
	for (char *line = strtok_r(text, "\n", &save); line && nlines < LINES_MAX;
	     line = strtok_r(NULL, "\n", &save))
		lines[nlines++] = line;
}

static void tear_down(void)
{
	free(text);
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_close(fx);
}

static bool starts(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

static bool ends(const char *s, const char *with)
{
	size_t n = strlen(s), m = strlen(with);

	return n >= m && strcmp(s + n - m, with) == 0;
}

/* The value of the sample that begins so, up to its space. */
static double sample(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < nlines; i++)
		if (starts(lines[i], name) && lines[i][n] == ' ')
			return strtod(lines[i] + n + 1, NULL);
	CU_FAIL("no such sample");
	return -1;
}

/* Each family: HELP, TYPE, then its samples and no others, and no family twice. */
static void test_each_family_is_told_of_before_its_samples(void)
{
	char family[128] = "", type[16] = "", seen[LINES_MAX / 2][128];
	size_t nseen = 0;

	for (size_t i = 0; i < nlines; i++) {
		char name[128], kind[16];

		if (sscanf(lines[i], "# HELP %127s", name) == 1) {
			CU_ASSERT(ends(lines[i], ".")); /* a sentence */
			for (size_t j = 0; j < nseen; j++)
				CU_ASSERT_STRING_NOT_EQUAL(seen[j], name);
			strcpy(seen[nseen++], name);
			CU_ASSERT_EQUAL_FATAL(sscanf(lines[++i], "# TYPE %127s %15s", family, type), 2);
			CU_ASSERT_STRING_EQUAL(family, name);
			continue;
		}
		CU_ASSERT_EQUAL(sscanf(lines[i], "%127[a-z_]", name), 1);
		snprintf(kind, sizeof(kind), "%s", name + strlen(family));
		CU_ASSERT(starts(name, family));
		if (strcmp(type, "histogram") == 0)
			CU_ASSERT(!strcmp(kind, "_bucket") || !strcmp(kind, "_sum") ||
				  !strcmp(kind, "_count"))
		else
			CU_ASSERT_STRING_EQUAL(kind, "");
	}
	CU_ASSERT(nseen > 30);
}

static void test_names_say_what_they_count_in(void)
{
	for (size_t i = 0; i < nlines; i++) {
		char name[128], type[16];

		if (sscanf(lines[i], "# TYPE %127s %15s", name, type) != 2)
			continue;
		CU_ASSERT(starts(name, "mvccfs_"));
		CU_ASSERT_EQUAL(ends(name, "_total"), strcmp(type, "counter") == 0);
		if (strcmp(type, "histogram") == 0)
			CU_ASSERT(ends(name, "_seconds"));
		for (const char *c = name; *c; c++)
			CU_ASSERT(islower((unsigned char)*c) || *c == '_');
	}
}

static void test_every_sample_has_a_number(void)
{
	for (size_t i = 0; i < nlines; i++) {
		const char *value = strrchr(lines[i], ' ');
		char *end;

		if (lines[i][0] == '#')
			continue;
		CU_ASSERT_FATAL(value != NULL);
		strtod(value + 1, &end);
		CU_ASSERT(end > value + 1 && *end == '\0');
	}
}

static void test_a_histogram_adds_up(void)
{
	double last = 0, bound = -1;
	unsigned buckets = 0;

	for (size_t i = 0; i < nlines; i++) {
		double le, n;

		if (!starts(lines[i], "mvccfs_commit_duration_seconds_bucket"))
			continue;
		buckets++;
		n = strtod(strrchr(lines[i], ' '), NULL);
		CU_ASSERT(n >= last);
		last = n;
		if (sscanf(lines[i], "mvccfs_commit_duration_seconds_bucket{le=\"%lf\"}", &le) == 1) {
			CU_ASSERT(le > bound);
			bound = le;
		}
	}
	CU_ASSERT(buckets > 10);
	CU_ASSERT_EQUAL(sample("mvccfs_commit_duration_seconds_bucket{le=\"+Inf\"}"), last);
	CU_ASSERT_EQUAL(sample("mvccfs_commit_duration_seconds_count"), last);
	CU_ASSERT(last >= 20);
	CU_ASSERT(sample("mvccfs_commit_duration_seconds_sum") > 0);
}

static void test_figures_are_those_of_the_store(void)
{
	CU_ASSERT_EQUAL(sample("mvccfs_revision"), 21);
	CU_ASSERT_EQUAL(sample("mvccfs_commits_total"), 20);
	CU_ASSERT_EQUAL(sample("mvccfs_kernel_inodes"), 7);
	CU_ASSERT_EQUAL(sample("mvccfs_start_time_seconds"), 1700000000);
	CU_ASSERT_EQUAL(sample("mvccfs_stopped"), 0);
}

static void test_a_label_is_escaped(void)
{
	CU_ASSERT(ends(lines[2], "db=\"/srv/a \\\"quoted\\\" \\\\ path\"} 1"));
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_each_family_is_told_of_before_its_samples),
	UNIT_TEST(test_names_say_what_they_count_in),
	UNIT_TEST(test_every_sample_has_a_number),
	UNIT_TEST(test_a_histogram_adds_up),
	UNIT_TEST(test_figures_are_those_of_the_store),
	UNIT_TEST(test_a_label_is_escaped),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("metrics", set_up, tear_down, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
