/*
 * What every CUnit program shares: a main that runs the suites it is given, and a scratch directory.
 *
 * A test file ends with
 *
 *	static CU_TestInfo tests[] = {
 *		UNIT_TEST(test_a_key_is_found_again),
 *		CU_TEST_INFO_NULL,
 *	};
 *
 *	int main(int argc, char **argv)
 *	{
 *		CU_SuiteInfo suites[] = { UNIT_SUITE("bytes", NULL, NULL, tests), CU_SUITE_INFO_NULL };
 *
 *		return unit_main(argc, argv, suites);
 *	}
 *
 * Arguments choose what is run: each is part of the name of a suite, or of a test.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <CUnit/Basic.h>

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNIT_TEST(fn)   \
	{               \
#fn, fn \
	}

/* set_up and tear_down run around each test; either may be NULL. */
#define UNIT_SUITE(name, set_up, tear_down, tests)         \
	{                                                  \
		name, NULL, NULL, set_up, tear_down, tests \
	}

static inline bool unit_chosen(int argc, char **argv, const char *suite, const char *test)
{
	for (int i = 1; i < argc; i++)
		if (strstr(suite, argv[i]) || strstr(test, argv[i]))
			return true;
	return argc < 2;
}

/* Runs what argv chooses of the suites and prints CUnit's summary. The exit status for main. */
static inline int unit_main(int argc, char **argv, CU_SuiteInfo *suites)
{
	unsigned chosen = 0;
	bool good;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
		fprintf(stderr, "CUnit: %s\n", CU_get_error_msg());
		return 2;
	}
	for (CU_pSuite suite = CU_get_registry()->pSuite; suite; suite = suite->pNext) {
		unsigned active = 0;

		for (CU_pTest test = suite->pTest; test; test = test->pNext) {
			bool chosen_test = unit_chosen(argc, argv, suite->pName, test->pName);

			CU_set_test_active(test, chosen_test ? CU_TRUE : CU_FALSE);
			active += chosen_test;
		}
		CU_set_suite_active(suite, active ? CU_TRUE : CU_FALSE);
		chosen += active;
	}
	CU_set_fail_on_inactive(CU_FALSE);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	good = chosen > 0 && CU_basic_run_tests() == CUE_SUCCESS && CU_get_number_of_failures() == 0 &&
	       CU_get_number_of_suites_failed() == 0 && CU_get_number_of_tests_run() == chosen;
	if (!chosen)
		fprintf(stderr, "no test of that name\n");
	CU_cleanup_registry();
	return good ? 0 : 1;
}

/* Makes a fresh directory and writes its path, at most 255 bytes, to `out`. Ends the program if it cannot. */
static inline void unit_tmpdir(char out[256])
{
	const char *base = getenv("TMPDIR");

	if (snprintf(out, 256, "%s/mvccfs-test-XXXXXX", base && *base ? base : "/tmp") >= 256 ||
	    !mkdtemp(out)) {
		perror("no scratch directory");
		exit(2);
	}
}

static inline int unit_rmtree_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Removes a directory and all in it. */
static inline void unit_rmtree(const char *dir)
{
	nftw(dir, unit_rmtree_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
