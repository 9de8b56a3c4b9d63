/*
 * Labels as they come: out of an environment in any pieces, too long, no text.
 */
#include "fs/label.h"

#include "tests/unit.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char environment[] = "PATH=/bin\0MVCCFS_SESSIONS=no\0MVCCFS_SESSION=a=b\0XMVCCFS_MESSAGE=no\0"
				  "\0MVCCFS_MESSAGE=why \xc3\xbc\0HOME=/";

static void test_an_environment_is_read_in_any_pieces(void)
{
	for (size_t step = 1; step <= sizeof(environment); step++) {
		struct label label = { 0 };
		struct label_scan scan = { .out = &label };

		for (size_t at = 0; at < sizeof(environment); at += step) {
			size_t rest = sizeof(environment) - at;

			label_scan(&scan, slice_of(environment + at, rest < step ? rest : step));
		}
		CU_ASSERT_STRING_EQUAL(label.session, "a=b");
		CU_ASSERT_STRING_EQUAL(label.message, "why \xc3\xbc");
	}
}

static void test_an_empty_value_and_an_entry_without_end_say_nothing(void)
{
	struct label label = { 0 };
	struct label_scan scan = { .out = &label };

	label_scan(&scan, slice_of("MVCCFS_SESSION=\0MVCCFS_MESSAGE=cut o", 36));
	CU_ASSERT_STRING_EQUAL(label.session, "");
	CU_ASSERT_STRING_EQUAL(label.message, "");
}

static void test_what_is_too_long_is_cut_at_a_character(void)
{
	struct label label = { 0 };
	struct label_scan scan = { .out = &label };
	char name[] = LABEL_SESSION "=";
	char text[10000];

	memset(text, 'x', sizeof(text));
	text[NS_SESSION_MAX - 1] = '\xc3'; /* ends one byte too late */
	text[NS_SESSION_MAX] = '\xbc';
	label_scan(&scan, slice_str(name));
	label_scan(&scan, slice_of(text, sizeof(text)));
	label_scan(&scan, slice_of("\0" LABEL_MESSAGE "=next", sizeof(LABEL_MESSAGE) + 6));
	CU_ASSERT_EQUAL(strlen(label.session), NS_SESSION_MAX - 1);
	CU_ASSERT_EQUAL(label.session[NS_SESSION_MAX - 2], 'x');
	CU_ASSERT_STRING_EQUAL(label.message, "next");
}

static void test_every_byte_that_fits_is_kept(void)
{
	char text[NS_MESSAGE_MAX + 1], out[NS_MESSAGE_MAX + 1];

	memset(text, 'y', NS_MESSAGE_MAX);
	text[NS_MESSAGE_MAX] = '\0';
	label_copy(out, sizeof(out), slice_str(text));
	CU_ASSERT_STRING_EQUAL(out, text);
	label_copy(out, 5, slice_str("abc\xe2\x82\xac"));
	CU_ASSERT_STRING_EQUAL(out, "abc");
}

static void test_bytes_that_are_no_text_become_question_marks(void)
{
	char out[32];

	label_copy(out, sizeof(out), slice_str("a\xff\xc3z\xed\xa0\x80"));
	CU_ASSERT_STRING_EQUAL(out, "a??z???");
}

/* A program that is started in that environment and waits until its standard input ends. */
static pid_t start_labelled(int hold[2])
{
	char *const argv[] = { (char[]){ "cat" }, NULL };
	char *const envp[] = { (char[]){ "A=1" }, (char[]){ LABEL_MESSAGE "=m" },
			       (char[]){ LABEL_SESSION "=s" }, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		dup2(hold[0], 0);
		close(hold[0]);
		close(hold[1]);
		execve("/bin/cat", argv, envp);
		_exit(1);
	}
	return pid;
}

static void test_a_process_says_it_in_its_environment(void)
{
	struct label label = { 0 };
	int hold[2], status = -1;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(hold), 0);
	pid = start_labelled(hold);
	CU_ASSERT(pid > 0);
	while (pid > 0 && !label.session[0] && waitpid(pid, &status, WNOHANG) == 0)
		label_of_process(pid, &label); /* until execve() has happened */
	CU_ASSERT_STRING_EQUAL(label.session, "s");
	CU_ASSERT_STRING_EQUAL(label.message, "m");
	close(hold[0]);
	close(hold[1]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	CU_ASSERT_EQUAL(status, 0);
	label_of_process(pid, &label); /* gone */
	CU_ASSERT_STRING_EQUAL(label.session, "");
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_an_environment_is_read_in_any_pieces),
	UNIT_TEST(test_an_empty_value_and_an_entry_without_end_say_nothing),
	UNIT_TEST(test_what_is_too_long_is_cut_at_a_character),
	UNIT_TEST(test_every_byte_that_fits_is_kept),
	UNIT_TEST(test_bytes_that_are_no_text_become_question_marks),
	UNIT_TEST(test_a_process_says_it_in_its_environment),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("label", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
