#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "executor/cgroup.h"

#define V1 \
	"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
#define V2_BESIDE_V1 V1 "38 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
#define V2_ALONE "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V2_IN_CONTAINER "700 690 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"

static void
assert_own_dir(const char *mounts, const char *groups, const char *expected)
{
	AUTO_FREE char *dir = cgroup_own_dir(mounts, groups);

	if (expected)
		assert_string_equal(dir, expected);
	else
		assert_null(dir);
}

static void
our_group_is_found_where_v2_is_mounted(void **state)
{
	(void)state;
	assert_own_dir(V2_ALONE, "0::/system.slice/gitlab-runner.service\n",
		       "/sys/fs/cgroup/system.slice/gitlab-runner.service");
	assert_own_dir(V2_BESIDE_V1, "9:name=systemd:/\n4:memory:/x\n0::/\n", "/sys/fs/cgroup/unified");
}

static void
a_part_of_the_hierarchy_mounted_in_a_container_is_taken_into_account(void **state)
{
	(void)state;
	assert_own_dir(V2_IN_CONTAINER, "0::/docker/abc\n", "/sys/fs/cgroup");
	assert_own_dir(V2_IN_CONTAINER, "0::/docker/abc/job\n", "/sys/fs/cgroup/job");
	assert_own_dir(V2_IN_CONTAINER, "0::/docker/abcdef\n", NULL);
}

static void
without_v2_or_out_of_our_namespace_there_is_none(void **state)
{
	(void)state;
	assert_own_dir(V1, "0::/\n", NULL);
	assert_own_dir(V2_ALONE, "4:memory:/x\n", NULL);
	assert_own_dir(V2_ALONE, "0::/../other\n", NULL);
	assert_own_dir("", "", NULL);
}

/* A group of this test, or NULL where this host has none that we may write. */
static char *
make_group(int64_t slot)
{
	AUTO_FREE char *dir = NULL;

	assert_int_equal(cgroup_path("/test/of/cgroup", slot, &dir, NULL), 0);
	if (str_is_empty(dir))
		return NULL;
	assert_int_equal(cgroup_make(dir, NULL), 0);
	return take_ptr(dir);
}

static void
move_to(const char *dir, pid_t pid)
{
	AUTO_FREE char *path = mem_printf("%s/cgroup.procs", dir);
	AUTO_FILE FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fprintf(f, "%d\n", pid) > 0);
}

static void
the_path_is_the_same_for_the_same_slot_and_another_for_others(void **state)
{
	AUTO_FREE char *a = NULL;
	AUTO_FREE char *b = NULL;
	AUTO_FREE char *c = NULL;
	AUTO_FREE char *d = NULL;

	(void)state;
	assert_int_equal(cgroup_path("/var/lib/a", 1, &a, NULL), 0);
	if (str_is_empty(a))
		skip();
	assert_int_equal(cgroup_path("/var/lib/a", 1, &b, NULL), 0);
	assert_int_equal(cgroup_path("/var/lib/a", 2, &c, NULL), 0);
	assert_int_equal(cgroup_path("/var/lib/b", 1, &d, NULL), 0);
	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
	assert_string_not_equal(a, d);
}

static void
killing_a_group_kills_all_in_it_and_below(void **state)
{
	AUTO_FREE char *dir = make_group(9001);
	AUTO_FREE char *below = dir ? mem_printf("%s/below", dir) : NULL;
	bool is_empty = false;
	int status;
	pid_t pid;

	(void)state;
	if (!dir)
		skip();
	assert_int_equal(cgroup_make(below, NULL), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
	move_to(below, pid);
	assert_int_equal(cgroup_is_empty(dir, &is_empty, NULL), 0);
	assert_false(is_empty);
	assert_int_equal(cgroup_kill(dir, clock_deadline(10000), NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(cgroup_is_empty(dir, &is_empty, NULL), 0);
	assert_true(is_empty);
	assert_int_equal(cgroup_remove(dir, NULL), 0);
	assert_int_equal(access(dir, F_OK), -1);
}

/* Seen on Linux 6.18: a process that clone3() puts into a group that was ever killed by cgroup.kill dies at once. */
static void
a_process_born_in_a_group_after_a_kill_lives(void **state)
{
	AUTO_FREE char *dir = make_group(9003);
	char *const argv[] = { (char[]){ "true" }, NULL };
	char *const envp[] = { NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_result result;
	AUTO_FD int fd = -1;
	pid_t pid;

	(void)state;
	if (!dir)
		skip();
	pid = fork();
	if (pid == 0) {
		for (;;)
			pause();
	}
	move_to(dir, pid);
	assert_int_equal(cgroup_kill(dir, clock_deadline(10000), NULL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	fd = cgroup_open(dir, NULL);
	assert_true(fd >= 0);
	spec.path = "/bin/true";
	spec.argv = argv;
	spec.envp = envp;
	spec.cgroup_fd = fd;
	assert_int_equal(proc_run(&spec, clock_deadline(10000), NULL, NULL, &result, NULL), 0);
	assert_int_equal(result.end, PROC_EXITED);
	assert_int_equal(result.code, 0);
	assert_int_equal(cgroup_remove(dir, NULL), 0);
}

static void
a_signal_reaches_what_is_in_the_group(void **state)
{
	AUTO_FREE char *dir = make_group(9002);
	int status;
	pid_t pid;

	(void)state;
	if (!dir)
		skip();
	pid = fork();
	if (pid == 0) {
		for (;;)
			pause();
	}
	move_to(dir, pid);
	assert_int_equal(cgroup_signal(dir, SIGTERM, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	assert_int_equal(cgroup_remove(dir, NULL), 0);
}

static void
a_group_that_is_not_there_is_empty_and_removed(void **state)
{
	bool is_empty = false;

	(void)state;
	assert_int_equal(cgroup_is_empty("/nonexistent/group", &is_empty, NULL), 0);
	assert_true(is_empty);
	assert_int_equal(cgroup_kill("/nonexistent/group", 0, NULL), 0);
	assert_int_equal(cgroup_signal("/nonexistent/group", SIGTERM, NULL), 0);
	assert_int_equal(cgroup_remove("/nonexistent/group", NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_group_is_found_where_v2_is_mounted),
		cmocka_unit_test(a_part_of_the_hierarchy_mounted_in_a_container_is_taken_into_account),
		cmocka_unit_test(without_v2_or_out_of_our_namespace_there_is_none),
		cmocka_unit_test(the_path_is_the_same_for_the_same_slot_and_another_for_others),
		cmocka_unit_test(killing_a_group_kills_all_in_it_and_below),
		cmocka_unit_test(a_process_born_in_a_group_after_a_kill_lives),
		cmocka_unit_test(a_signal_reaches_what_is_in_the_group),
		cmocka_unit_test(a_group_that_is_not_there_is_empty_and_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
