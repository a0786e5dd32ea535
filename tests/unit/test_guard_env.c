#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/guard_env.h"

#define ASSERT_FILTERED(text, expected) assert_filtered(text, sizeof(text) - 1, expected)

static void
assert_filtered(const char *text, size_t len, const char *expected)
{
	AUTO_BUF struct buf kept = BUF_INIT(4096);

	guard_filter_env(text, len, &kept);
	assert_string_equal(buf_str(&kept), expected);
}

static void
variables_of_the_job_stay(void **state)
{
	(void)state;
	ASSERT_FILTERED("VERSION=1.2\nA_PATH=/x\nPATHS=1\n\xc3\xa4=\n",
			"VERSION=1.2\nA_PATH=/x\nPATHS=1\n\xc3\xa4=\n");
	ASSERT_FILTERED("", "");
	ASSERT_FILTERED("NO_NEWLINE=1", "NO_NEWLINE=1");
}

static void
path_loader_shell_and_git_go(void **state)
{
	(void)state;
	ASSERT_FILTERED("PATH=/evil\nA=1\n", "A=1\n");
	ASSERT_FILTERED("LD_PRELOAD=x\nLD_AUDIT=x\nLD_LIBRARY_PATH=x\nGLIBC_TUNABLES=x\n", "");
	ASSERT_FILTERED("BASH_ENV=x\nENV=x\nSHELLOPTS=x\nIFS=x\nPROMPT_COMMAND=x\nPS4=x\nCDPATH=x\n", "");
	ASSERT_FILTERED("GIT_EXEC_PATH=x\nGIT_CONFIG_COUNT=1\nHOME=/evil\n", "");
	ASSERT_FILTERED("https_proxy=x\nHTTPS_PROXY=x\nCI_SERVER_URL=x\nTIDEWAITER_UPLOAD=x\n", "");
}

static void
other_spellings_that_bash_reads_alike_go_too(void **state)
{
	(void)state;
	ASSERT_FILTERED("  PATH=/evil\n\tPATH=/evil\n", "");
	ASSERT_FILTERED("PATH+=:/evil\n", "");
	ASSERT_FILTERED("PATH[0]=/evil\n", "");
	ASSERT_FILTERED("PA\0TH=/evil\nB=2\n", "B=2\n");
	ASSERT_FILTERED("-n PATH\n-f\n", "");
	ASSERT_FILTERED("A=1\nPATH=/evil", "A=1\n");
}

struct place {
	char dir[64];
	struct plan plan;
	char *temp; /* <project>.tmp */
	char *file;
};

static int
setup(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/test-guard-env-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->plan.builds_dir = mem_strdup(p->dir);
	p->plan.project_dir = mem_printf("%s/group/app", p->dir);
	p->temp = mem_printf("%s/group/app.tmp", p->dir);
	p->file = mem_printf("%s/gitlab_runner_env", p->temp);
	assert_int_equal(fs_mkdirs(AT_FDCWD, p->temp, 0755, NULL), 0);
	*state = p;
	return 0;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	mem_free_at(&p->plan.builds_dir);
	mem_free_at(&p->plan.project_dir);
	mem_free_at(&p->temp);
	mem_free_at(&p->file);
	free(p);
	return 0;
}

static void
write_file(const char *path, const char *text)
{
	AUTO_FILE FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
}

static void
the_file_is_rewritten_and_stays_its_owners(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *text = NULL;
	struct stat st;
	size_t len;

	write_file(p->file, "PATH=/evil\nA=1\n");
	if (geteuid() == 0)
		assert_int_equal(chown(p->file, 12345, 12346), 0);
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	assert_int_equal(fs_read_max(AT_FDCWD, p->file, 4096, &text, &len, NULL), 0);
	assert_string_equal(text, "A=1\n");
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_uid, geteuid() == 0 ? 12345 : geteuid());
}

static void
a_link_a_fifo_and_a_directory_are_removed_and_what_they_name_is_left_alone(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *other = mem_printf("%s/other", p->dir);
	AUTO_FREE char *text = NULL;
	size_t len;

	write_file(other, "PATH=/mine\n");
	assert_int_equal(symlink(other, p->file), 0);
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	assert_int_equal(access(p->file, F_OK), -1);
	assert_int_equal(fs_read_max(AT_FDCWD, other, 4096, &text, &len, NULL), 0);
	assert_string_equal(text, "PATH=/mine\n");

	assert_int_equal(mkfifo(p->file, 0666), 0);
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	assert_int_equal(access(p->file, F_OK), -1);

	assert_int_equal(mkdir(p->file, 0755), 0);
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	assert_int_equal(access(p->file, F_OK), -1);
}

static void
a_hill_of_bytes_is_removed(void **state)
{
	struct place *p = *state;

	write_file(p->file, "A=1\n");
	assert_int_equal(truncate(p->file, GUARD_ENV_MAX + 1), 0);
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	assert_int_equal(access(p->file, F_OK), -1);
}

static void
a_directory_swapped_for_a_link_is_refused(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *elsewhere = mem_printf("%s/elsewhere", p->dir);
	AUTO_FREE char *file = mem_printf("%s/gitlab_runner_env", elsewhere);
	struct err e = ERR_INIT;

	assert_int_equal(mkdir(elsewhere, 0755), 0);
	write_file(file, "PATH=/evil\n");
	assert_int_equal(rmdir(p->temp), 0);
	assert_int_equal(symlink(elsewhere, p->temp), 0);
	assert_int_equal(guard_clean_env(&p->plan, &e), -1);
	assert_int_not_equal(e.kind, ERR_NONE);
	assert_int_equal(access(file, F_OK), 0);
}

static void
no_file_and_no_project_are_fine(void **state)
{
	struct place *p = *state;

	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	assert_int_equal(rmdir(p->temp), 0);
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
	p->plan.project_dir[0] = '\0';
	assert_int_equal(guard_clean_env(&p->plan, NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(variables_of_the_job_stay),
		cmocka_unit_test(path_loader_shell_and_git_go),
		cmocka_unit_test(other_spellings_that_bash_reads_alike_go_too),
		cmocka_unit_test_setup_teardown(the_file_is_rewritten_and_stays_its_owners, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_a_fifo_and_a_directory_are_removed_and_what_they_name_is_left_alone,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_hill_of_bytes_is_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_directory_swapped_for_a_link_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(no_file_and_no_project_are_fine, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
