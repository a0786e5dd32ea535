#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/cgroup.h"
#include "executor/host.h"
#include "executor/host_sweep.h"
#include "tests/unit/host_place.h"
#include "tests/unit/memfd.h"

/*
 * Jobs with a user of their own, which only root can try. The user needs a number and no account. All directories lie
 * below /tmp: what must stay reachable there although jobs have a /tmp of their own does.
 */
/* Runs f as the job user in a child; its exit code. */
static int
as_job(int (*f)(const char *arg), const char *arg)
{
	int status;
	uid_t uid = place_job_uid();
	pid_t pid = fork();

	if (pid == 0) {
		if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
			_exit(99);
		_exit(f(arg));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
a_job_is_its_user_with_the_groups_that_were_named(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *script =
		mem_printf("[ \"$(id -u) $(id -G) $USER\" = \"%u %u %u %s\" ]", place_job_uid(),
			   place_job_uid(), place_job_uid() + 1, p->plan.user);

	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, script), 0);
}

static void
a_job_has_places_of_its_own_for_temporary_files(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *mark = mem_printf("job-mark-%d", (int)getpid());
	AUTO_FREE char *script = NULL;

	place_prepare(&p->plan);
	script = mem_printf("touch /tmp/%s /var/tmp/%s /dev/shm/%s", mark, mark, mark);
	assert_int_equal(place_run(&p->plan, script), 0);
	assert_false(place_has("/tmp", mark));
	assert_false(place_has("/var/tmp", mark));
	assert_false(place_has("/dev/shm", mark));
	free(take_ptr(script));
	script = mem_printf("[ -e /tmp/%s ] && [ -e /var/tmp/%s ]", mark, mark);
	assert_int_equal(place_run(&p->plan, script), 0);
}

static void
builds_and_home_below_tmp_stay_and_the_rest_of_it_is_not_there(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *outside = mem_printf("%s/outside", p->dir);
	AUTO_FREE char *script = NULL;

	place_prepare(&p->plan);
	assert_int_equal(mkdir(outside, 0755), 0);
	script = mem_printf("touch here ~/here && [ \"$(pwd)\" = %s ] && [ ! -e %s ] && ! ls %s/mnt",
			    p->plan.builds_dir, outside, p->plan.slot_dir);
	assert_int_equal(place_run(&p->plan, script), 0);
	assert_true(place_has(p->plan.builds_dir, "here"));
}

static void
a_link_planted_where_builds_are_put_back_is_not_followed(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *target = mem_printf("%s/target", p->dir);
	AUTO_FREE char *link = mem_printf("%s/mnt/tmp/%s", p->plan.slot_dir, strrchr(p->dir, '/') + 1);
	AUTO_FD int script = memfd_of("script", "true", 4);
	struct env_stage stage = { .name = "build_script", .script_fd = script, .serve_fd = -1 };
	struct env_result result = { 0 };
	struct err e = ERR_INIT;

	place_prepare(&p->plan);
	assert_int_equal(mkdir(target, 0777), 0);
	/* The check in prepare put the builds back once already. */
	assert_int_equal(fs_remove_tree(AT_FDCWD, link, NULL), 0);
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(env_host.run(&p->plan, &stage, &result, &e), -1);
	assert_int_equal(e.kind, ERR_FAILED);
	assert_int_equal(rmdir(target), 0);
	assert_int_equal(unlink(link), 0);
}

/* To where the job's namespace shows the host's files, which root may write to. */
static void
a_link_planted_where_builds_are_put_back_has_nothing_made_behind_it(void **state)
{
	struct place *p = *state;
	char target[] = "/srv/test-host-XXXXXX";
	AUTO_FREE char *link = mem_printf("%s/mnt/tmp/%s", p->plan.slot_dir, strrchr(p->dir, '/') + 1);
	AUTO_FD int script = place_script("true", 4);
	struct env_stage stage = { .name = "build_script", .script_fd = script, .serve_fd = -1 };
	struct env_result result = { 0 };
	int rc;

	place_prepare(&p->plan);
	assert_non_null(mkdtemp(target));
	assert_int_equal(fs_remove_tree(AT_FDCWD, link, NULL), 0);
	assert_int_equal(symlink(target, link), 0);
	rc = env_host.run(&p->plan, &stage, &result, NULL);
	/* Empty, or it stays to be looked at. */
	assert_int_equal(rmdir(target), 0);
	assert_int_equal(rc, -1);
	assert_int_equal(unlink(link), 0);
}

static void
a_job_sees_no_processes_of_others(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *script = mem_printf("[ ! -e /proc/%d ] && [ -e /proc/$$ ]", (int)getpid());

	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, script), 0);
}

static void
a_job_can_open_its_output_by_name(void **state)
{
	struct place *p = *state;
	int pipe_fds[2], saved, code;
	char said[16] = "";

	place_prepare(&p->plan);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	saved = dup(STDOUT_FILENO);
	assert_int_equal(dup2(pipe_fds[1], STDOUT_FILENO), STDOUT_FILENO);
	code = place_run(&p->plan, "echo hello > /dev/stdout");
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	close(saved);
	assert_int_equal(code, 0);
	assert_int_equal(read(pipe_fds[0], said, sizeof(said) - 1), 6);
	assert_string_equal(said, "hello\n");
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void
assert_daemons_die(struct plan *p)
{
	place_prepare(p);
	assert_int_equal(place_run(p,
				   "for i in $(seq 50); do setsid bash -c 'trap \"\" TERM HUP INT; sleep 1000; sleep 1000' &\n done\n"
				   "setsid bash -c 'echo $$ > pid.tmp; mv pid.tmp pid; while :; do sleep 100; done' &\n"
				   "until [ -e pid ]; do sleep 0.01; done"),
			 0);
	assert_int_equal(kill((pid_t)place_read_number(p->builds_dir, "pid"), 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void
daemons_die_by_the_cgroup(void **state)
{
	struct place *p = *state;

	if (str_is_empty(p->plan.cgroup))
		skip();
	assert_daemons_die(&p->plan);
}

static void
daemons_die_by_the_uid_where_there_is_no_cgroup(void **state)
{
	struct place *p = *state;

	free(take_ptr(p->plan.cgroup));
	p->plan.cgroup = mem_strdup("");
	assert_daemons_die(&p->plan);
}

/* Born elsewhere: as cron, at or a user's systemd would start it. */
static void
kill_all_reaches_what_the_user_has_outside_of_the_cgroup(void **state)
{
	struct place *p = *state;
	uid_t uid = place_job_uid();
	int ready[2], status;
	char byte;
	pid_t pid;

	place_prepare(&p->plan);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_IGN);
		if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
		    write(ready[1], "x", 1) != 1)
			_exit(99);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	/* kill_all() reaps children of ours, this one as well. */
	assert_int_equal(env_host.kill_all(&p->plan, NULL), 0);
	if (waitpid(pid, &status, 0) == pid)
		assert_true(WIFSIGNALED(status));
	assert_int_equal(kill(pid, 0), -1);
}

/* The first process of a pid namespace, as the job's number: what runs in a container of an engine that is root's. */
static pid_t
start_container(int *ret_inner)
{
	uid_t uid = place_job_uid();
	int ready[2];
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		pid_t inner = unshare(CLONE_NEWPID) < 0 ? -1 : fork();

		if (inner == 0) {
			if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
				_exit(99);
			for (;;)
				pause();
		}
		if (write(ready[1], &inner, sizeof(inner)) != sizeof(inner))
			_exit(99);
		waitpid(inner, NULL, 0);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], ret_inner, sizeof(*ret_inner)), sizeof(*ret_inner));
	close(ready[0]);
	return pid;
}

static bool
is_running_as(pid_t pid, uid_t uid)
{
	AUTO_FREE char *path = mem_printf("/proc/%d", (int)pid);
	struct stat st;

	return stat(path, &st) == 0 && st.st_uid == uid;
}

static void
a_container_that_runs_as_the_same_number_is_let_alone(void **state)
{
	struct place *p = *state;
	int64_t deadline = clock_deadline(PLACE_WAIT_MS);
	pid_t engine;
	int inner;

	free(take_ptr(p->plan.cgroup));
	p->plan.cgroup = mem_strdup("");
	place_prepare(&p->plan);
	engine = start_container(&inner);
	if (inner < 0)
		skip();
	while (!is_running_as(inner, place_job_uid()) && clock_left_ms(deadline) > 0)
		usleep(1000);
	assert_int_equal(place_run(&p->plan,
				   "setsid bash -c 'echo $$ > pid.tmp; mv pid.tmp pid; while :; do sleep 100; done' &\n"
				   "until [ -e pid ]; do sleep 0.01; done"),
			 0);
	assert_int_equal(env_host.kill_all(&p->plan, NULL), 0);
	assert_int_equal(kill(inner, 0), 0);
	assert_int_equal(kill((pid_t)place_read_number(p->plan.builds_dir, "pid"), 0), -1);
	assert_int_equal(kill(inner, SIGKILL), 0);
	(void)waitpid(engine, NULL, 0);
}

static int
leave_queue(const char *arg)
{
	mqd_t q = mq_open(arg, O_CREAT | O_RDWR, 0600, NULL);

	return q == (mqd_t)-1 ? errno : 0;
}

static int
leave_file(const char *arg)
{
	int fd = open(arg, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	return fd < 0 ? errno : 0;
}

static void
queues_shared_memory_and_files_in_shared_places_go(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *file = mem_printf("/tmp/tidewaiter-unit-%d", (int)getpid());
	AUTO_FREE char *mine = mem_printf("/tmp/tidewaiter-unit-root-%d", (int)getpid());
	AUTO_FREE char *name = mem_printf("/tidewaiter-unit-%d", (int)getpid());
	int shm, queue, fd;

	place_prepare(&p->plan);
	/* shmget() is left out of some containers' allowed calls. */
	assert_int_equal(place_run(&p->plan, "ipcmk -M 4096 > ipc && tr -dc 0-9 < ipc > id"), 0);
	shm = (int)place_read_number(p->plan.builds_dir, "id");
	assert_int_equal(shmctl(shm, IPC_STAT, &(struct shmid_ds){ 0 }), 0);
	queue = as_job(leave_queue, name);
	assert_int_equal(as_job(leave_file, file), 0);
	fd = open(mine, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);

	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	assert_int_equal(shmctl(shm, IPC_STAT, &(struct shmid_ds){ 0 }), -1);
	assert_false(place_has("/tmp", strrchr(file, '/') + 1));
	assert_true(place_has("/tmp", strrchr(mine, '/') + 1));
	assert_int_equal(unlink(mine), 0);
	if (queue == 0) {
		assert_int_equal(mq_unlink(name), -1);
		assert_int_equal(errno, ENOENT);
	}
}

static void
a_crontab_of_the_user_goes_before_it_can_start_anything(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *path = mem_printf("/var/spool/cron/crontabs/%s", p->plan.user);
	int fd = geteuid() == 0 ? open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		skip();
	close(fd);
	assert_int_equal(env_host.kill_all(&p->plan, NULL), 0);
	assert_int_equal(access(path, F_OK), -1);
}

/* The tool says its pid, then waits until it was looked at. */
static int
start_tool(const struct plan *p, bool is_shielded, pid_t *ret_driver)
{
	AUTO_FREE char *file = mem_printf("%s/tool.pid", p->builds_dir);

	(void)unlink(file);
	*ret_driver = fork();
	if (*ret_driver == 0) {
		char sh[] = "/bin/sh", option[] = "-c";
		char script[] = "echo $$ > tool.tmp; mv tool.tmp tool.pid; while :; do sleep 1000; done";
		char secret[] = "SECRET=hunter2";
		char *argv[] = { sh, option, script, NULL };
		char *envp[] = { secret, NULL };
		struct env_tool tool = {
			.argv = argv, .envp = envp, .cwd = p->builds_dir, .is_shielded = is_shielded
		};
		struct env_result result = { 0 };

		_exit(env_host.run_tool(p, &tool, CLOCK_DEADLINE_NEVER, &result, NULL) < 0);
	}
	place_wait_for(p->builds_dir, "tool.pid");
	return (int)place_read_number(p->builds_dir, "tool.pid");
}

static int
read_environ(const char *path)
{
	char text[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, text, sizeof(text)) > 0 ? 0 : 1;
}

static void
a_shielded_tool_cannot_be_read_by_other_processes_of_its_user(void **state)
{
	struct place *p = *state;
	int i;

	place_prepare(&p->plan);
	for (i = 0; i < 2; i++) {
		bool is_shielded = i == 1;
		pid_t driver;
		int pid = start_tool(&p->plan, is_shielded, &driver);
		AUTO_FREE char *path = mem_printf("/proc/%d/environ", pid);

		assert_int_equal(as_job(read_environ, path), is_shielded ? 1 : 0);
		assert_int_equal(kill(driver, SIGTERM), 0);
		assert_int_equal(waitpid(driver, NULL, 0), driver);
	}
}

/* A job that replaces its project directory by a link to where it may not go itself. */
static void
a_tool_is_not_led_through_a_link_to_where_the_job_cannot_go(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *closed = mem_printf("%s/closed", p->dir);
	AUTO_FREE char *open_below = mem_printf("%s/closed/open", p->dir);
	AUTO_FREE char *link = mem_printf("%s/project", p->plan.builds_dir);
	char sh[] = "/bin/sh", option[] = "-c", script[] = "exit 0";
	char *argv[] = { sh, option, script, NULL };
	char *envp[] = { NULL };
	struct env_tool tool = { .argv = argv, .envp = envp, .cwd = link };
	struct env_result result = { 0 };
	struct err e = ERR_INIT;

	place_prepare(&p->plan);
	assert_int_equal(mkdir(closed, 0700), 0);
	assert_int_equal(mkdir(open_below, 0755), 0);
	assert_int_equal(symlink(open_below, link), 0);
	/* Below /tmp it would not be there at all. */
	p->plan.job.private_tmp = false;
	assert_int_equal(env_host.run_tool(&p->plan, &tool, CLOCK_DEADLINE_NEVER, &result, &e), -1);
	assert_int_equal(e.no, EACCES);
	assert_int_equal(chmod(closed, 0711), 0);
	assert_int_equal(env_host.run_tool(&p->plan, &tool, CLOCK_DEADLINE_NEVER, &result, NULL), 0);
}

static void
only_mounts_below_the_named_directories_are_undone(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *script = NULL;
	const char *dirs[] = { p->plan.builds_dir };

	place_prepare(&p->plan);
	script = mem_printf("mkdir -p '%s/a b' %s-beside && mount -t tmpfs none '%s/a b' && mkdir '%s/a b/c' && "
			    "mount -t tmpfs none '%s/a b/c' && mount -t tmpfs none %s-beside",
			    p->plan.builds_dir, p->plan.builds_dir, p->plan.builds_dir, p->plan.builds_dir,
			    p->plan.builds_dir, p->plan.builds_dir);
	if (system(script) != 0)
		skip();
	assert_int_equal(host_sweep_mounts(dirs, 1, NULL), 0);
	free(take_ptr(script));
	script = mem_printf("! mountpoint -q '%s/a b' && mountpoint -q %s-beside && umount %s-beside",
			    p->plan.builds_dir, p->plan.builds_dir, p->plan.builds_dir);
	assert_int_equal(system(script), 0);
}

#define WITH_PLACE(f) cmocka_unit_test_setup_teardown(f, place_setup_separated, place_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(a_job_is_its_user_with_the_groups_that_were_named),
		WITH_PLACE(a_job_has_places_of_its_own_for_temporary_files),
		WITH_PLACE(builds_and_home_below_tmp_stay_and_the_rest_of_it_is_not_there),
		WITH_PLACE(a_link_planted_where_builds_are_put_back_is_not_followed),
		WITH_PLACE(a_link_planted_where_builds_are_put_back_has_nothing_made_behind_it),
		WITH_PLACE(a_job_sees_no_processes_of_others),
		WITH_PLACE(a_job_can_open_its_output_by_name),
		WITH_PLACE(daemons_die_by_the_cgroup),
		WITH_PLACE(daemons_die_by_the_uid_where_there_is_no_cgroup),
		WITH_PLACE(kill_all_reaches_what_the_user_has_outside_of_the_cgroup),
		WITH_PLACE(a_container_that_runs_as_the_same_number_is_let_alone),
		WITH_PLACE(queues_shared_memory_and_files_in_shared_places_go),
		WITH_PLACE(a_crontab_of_the_user_goes_before_it_can_start_anything),
		WITH_PLACE(a_shielded_tool_cannot_be_read_by_other_processes_of_its_user),
		WITH_PLACE(a_tool_is_not_led_through_a_link_to_where_the_job_cannot_go),
		WITH_PLACE(only_mounts_below_the_named_directories_are_undone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
