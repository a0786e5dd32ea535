#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "executor/host.h"
#include "executor/host_dirs.h"
#include "executor/host_kill.h"
#include "tests/unit/host_place.h"

/* Jobs that are not separated, whoever runs the test. Separated ones: test_host_separated.c, tests/e2e. */

static void
a_script_gives_its_exit_code_or_128_and_its_signal(void **state)
{
	struct place *p = *state;

	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "true"), 0);
	assert_int_equal(place_run(&p->plan, "exit 3"), 3);
	assert_int_equal(place_run(&p->plan, "kill -KILL $$"), 128 + SIGKILL);
	assert_int_equal(place_run(&p->plan, "kill -SEGV $$"), 128 + SIGSEGV);
}

static void
a_script_starts_in_the_builds_directory_with_a_home_of_its_own(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *script = NULL;

	place_prepare(&p->plan);
	script = mem_printf("[ \"$PWD\" = %s ] && [ \"$HOME\" = %s/home ] && [ -w \"$HOME\" ] && [ -w . ]",
			    p->plan.builds_dir, p->plan.slot_dir);
	assert_int_equal(place_run(&p->plan, script), 0);
}

static void
nothing_of_our_environment_reaches_a_script_but_what_is_named(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *env = NULL;

	assert_int_equal(setenv("CUSTOM_ENV_CI_JOB_TOKEN", "secret", 1), 0);
	assert_int_equal(setenv("SECRET_OF_THE_SERVICE", "secret", 1), 0);
	assert_int_equal(setenv("https_proxy", "http://proxy", 1), 0);
	strv_add(&p->plan.job.env_pass, "https_proxy");
	strv_add(&p->plan.job.env_pass, "CUSTOM_ENV_CI_JOB_TOKEN");
	strv_add(&p->plan.job.env_set, "SITE=here");
	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "env > env.txt"), 0);
	env = place_read(p->plan.builds_dir, "env.txt");
	assert_null(strstr(env, "secret"));
	assert_non_null(strstr(env, "https_proxy=http://proxy\n"));
	assert_non_null(strstr(env, "SITE=here\n"));
	assert_non_null(strstr(env, "LANG=C.UTF-8\n"));
	assert_non_null(strstr(env, "PATH=/usr/local/bin:/usr/bin:/bin\n"));
}

static void
a_script_larger_than_a_pipe_and_a_variable_of_120_kib_work(void **state)
{
	struct place *p = *state;
	AUTO_BUF struct buf script = BUF_INIT(4 * 1024 * 1024);
	size_t i;

	place_prepare(&p->plan);
	buf_add_str(&script, "export BIG='");
	for (i = 0; i < 120 * 1024; i++)
		buf_add_char(&script, 'x');
	buf_add_str(&script, "'\n");
	for (i = 0; i < 40000; i++)
		buf_add_str(&script, ": a line that does nothing\n");
	buf_add_str(&script, "/bin/sh -c '[ ${#BIG} = 122880 ]' && exit 7\n");
	assert_int_equal(place_run(&p->plan, buf_str(&script)), 7);
}

static void
daemons_of_a_stage_end_with_it(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *pid = NULL;
	int64_t n;

	place_prepare(&p->plan);
	/* In a session of its own, deaf to SIGTERM, holding our standard output. */
	assert_int_equal(place_run(&p->plan,
				   "setsid bash -c 'trap \"\" TERM HUP; echo $$ > pid.tmp; mv pid.tmp pid; "
				   "while :; do sleep 1000; done' < /dev/null &\n"
				   "until [ -e pid ]; do sleep 0.01; done"),
			 0);
	pid = place_read(p->plan.builds_dir, "pid");
	pid[strcspn(pid, "\n")] = '\0';
	assert_int_equal(str_parse_int(pid, 2, INT32_MAX, &n, NULL), 0);
	assert_int_equal(kill((pid_t)n, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void
what_is_asked_to_end_may_do_so_within_kill_wait(void **state)
{
	struct place *p = *state;

	p->plan.job.kill_wait = 20000;
	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "setsid bash -c 'trap \"touch said; exit\" TERM; touch up; "
					     "while :; do sleep 0.01; done' < /dev/null &\n"
					     "until [ -e up ]; do sleep 0.01; done"),
			 0);
	assert_true(place_has(p->plan.builds_dir, "said"));
}

static void
a_signal_from_the_runner_reaches_the_script(void **state)
{
	struct place *p = *state;
	pid_t pid;
	int status;

	place_prepare(&p->plan);
	pid = fork();
	if (pid == 0) {
		const char text[] =
			"trap 'touch trapped; exit 1' TERM; touch up; while :; do sleep 0.01; done";
		struct env_stage stage = { .name = "build_script",
					   .serve_fd = -1,
					   .script_fd = place_script(text, sizeof(text) - 1) };
		struct env_result result = { 0 };

		if (env_host.run(&p->plan, &stage, &result, NULL) < 0)
			_exit(99);
		_exit(result.was_signalled ? 100 + result.code : result.code);
	}
	place_wait_for(p->plan.builds_dir, "up");
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 101);
	assert_true(place_has(p->plan.builds_dir, "trapped"));
}

static void
what_a_killed_driver_left_running_is_found_again(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *pid_text = NULL;
	int64_t n;
	pid_t pid;

	place_prepare(&p->plan);
	pid = fork();
	if (pid == 0) {
		const char text[] =
			"setsid bash -c 'echo $$ > pid.tmp; mv pid.tmp pid; exec sleep 1000' < /dev/null > "
			"/dev/null 2>&1 &\nsleep 1000";
		struct env_stage stage = { .name = "build_script",
					   .serve_fd = -1,
					   .script_fd = place_script(text, sizeof(text) - 1) };
		struct env_result result = { 0 };

		(void)env_host.run(&p->plan, &stage, &result, NULL);
		_exit(0);
	}
	place_wait_for(p->plan.builds_dir, "pid");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	pid_text = place_read(p->plan.builds_dir, "pid");
	pid_text[strcspn(pid_text, "\n")] = '\0';
	assert_int_equal(str_parse_int(pid_text, 2, INT32_MAX, &n, NULL), 0);
	assert_int_equal(kill((pid_t)n, 0), 0);
	assert_int_equal(env_host.kill_all(&p->plan, NULL), 0);
	/* Dead, and with a parent that has not looked yet a zombie at most. */
	for (;;) {
		AUTO_FREE char *path = mem_printf("/proc/%lld/stat", (long long)n);
		AUTO_FREE char *stat = NULL;
		size_t len;

		if (fs_read_max(AT_FDCWD, path, 4096, &stat, &len, NULL) < 0 || strstr(stat, ") Z "))
			break;
		usleep(1000);
	}
}

struct asker {
	int fd;
	const char *answer; /* a file that is made */
	unsigned n;
};

static int
make_answer(void *arg, struct err *e)
{
	struct asker *a = arg;
	AUTO_FD int fd = -1;
	char byte;

	(void)e;
	assert_int_equal(read(a->fd, &byte, 1), 1);
	fd = open(a->answer, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	a->n++;
	return 0;
}

static void
whoever_asks_while_a_script_runs_is_served(void **state)
{
	struct place *p = *state;
	AUTO_STRV struct strv env = { 0 };
	AUTO_FREE char *fifo = mem_printf("%s/fifo", p->dir);
	AUTO_FREE char *answer = mem_printf("%s/answer", p->plan.builds_dir);
	const char text[] = "printf x > \"$FIFO\"; until [ -e answer ]; do sleep 0.01; done";
	AUTO_FD int script = place_script(text, sizeof(text) - 1);
	AUTO_FD int fd = -1;
	struct asker asker = { .answer = answer };
	struct env_stage stage = { .name = "build_script", .script_fd = script, .env_extra = &env };
	struct env_result result = { 0 };

	place_prepare(&p->plan);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	fd = open(fifo, O_RDWR | O_CLOEXEC);
	strv_addf(&env, "FIFO=%s", fifo);
	stage.serve_fd = asker.fd = fd;
	stage.serve = make_answer;
	stage.serve_arg = &asker;
	assert_int_equal(env_host.run(&p->plan, &stage, &result, NULL), 0);
	assert_int_equal(result.code, 0);
	assert_int_equal(asker.n, 1);
}

struct ending {
	const char *dir;
	unsigned n;
	bool was_left; /* what the script had started was still there */
};

static void
note_ending(void *arg)
{
	struct ending *x = arg;
	pid_t pid = (pid_t)place_read_number(x->dir, "left");

	x->n++;
	x->was_left = pid > 0 && kill(pid, 0) == 0;
}

static void
whoever_wants_to_know_hears_of_the_end_before_what_is_left_is_killed(void **state)
{
	struct place *p = *state;
	const char text[] = "setsid sleep 1000 & echo $! > left; exit 4";
	AUTO_FD int script = place_script(text, sizeof(text) - 1);
	struct ending ending = { .dir = p->plan.builds_dir };
	struct env_stage stage = { .name = "build_script",
				   .script_fd = script,
				   .serve_fd = -1,
				   .ended = note_ending,
				   .ended_arg = &ending };
	struct env_result result = { 0 };

	place_prepare(&p->plan);
	assert_int_equal(env_host.run(&p->plan, &stage, &result, NULL), 0);
	assert_int_equal(result.code, 4);
	assert_int_equal(ending.n, 1);
	assert_true(ending.was_left);
}

static void
a_tool_runs_where_it_is_told_to_and_not_past_its_time(void **state)
{
	struct place *p = *state;
	char sh[] = "/bin/sh", option[] = "-c", script[] = "pwd > out; exit 5", forever[] = "sleep 1000";
	char *argv[] = { sh, option, script, NULL };
	char *slow[] = { sh, option, forever, NULL };
	char *envp[] = { NULL };
	struct env_tool tool = { .argv = argv, .envp = envp, .cwd = p->plan.builds_dir, .is_shielded = true };
	struct env_result result = { 0 };

	place_prepare(&p->plan);
	assert_int_equal(env_host.run_tool(&p->plan, &tool, CLOCK_DEADLINE_NEVER, &result, NULL), 0);
	assert_int_equal(result.code, 5);
	assert_true(place_has(p->plan.builds_dir, "out"));
	tool.argv = slow;
	assert_int_equal(env_host.run_tool(&p->plan, &tool, clock_deadline(50), &result, NULL), 0);
	assert_int_equal(result.code, 128 + SIGKILL);
}

static void
a_missing_tool_is_named_with_the_setting(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;

	mem_free_at(&p->plan.job.runner_path);
	p->plan.job.runner_path = mem_strdup("/nonexistent/gitlab-runner");
	assert_int_equal(env_host.prepare(&p->plan, &e), -1);
	assert_non_null(strstr(e.text, "/nonexistent/gitlab-runner"));
	assert_non_null(strstr(e.text, "job.runner_path"));
	mem_free_at(&p->plan.job.path);
	p->plan.job.path = mem_strdup("/nonexistent");
	err_clear(&e);
	assert_int_equal(env_host.prepare(&p->plan, &e), -1);
	assert_non_null(strstr(e.text, "bash"));
	assert_non_null(strstr(e.text, "job.path"));
}

static void
nothing_is_left_after_destroy_and_a_second_one_is_fine(void **state)
{
	struct place *p = *state;

	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "mkdir -p a/b ~/x; chmod 0 a ~/x; ln -s / link; mkfifo pipe"), 0);
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	assert_false(place_has(p->plan.slot_dir, ""));
	assert_false(place_has(p->plan.builds_dir, ""));
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
}

static void
a_cache_comes_back_for_its_own_project_only(void **state)
{
	struct place *p = *state;

	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "touch ../../cache/3/mine here"), 0);
	assert_true(place_has(p->plan.job_cache_dir, "mine"));
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	assert_false(place_has(p->plan.job_cache_dir, ""));

	p->plan.facts.project_id = 43;
	place_prepare(&p->plan);
	assert_false(place_has(p->plan.job_cache_dir, "mine"));
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);

	p->plan.facts.project_id = 42;
	place_prepare(&p->plan);
	assert_true(place_has(p->plan.job_cache_dir, "mine"));
	assert_false(place_has(p->plan.builds_dir, "here"));
}

static void
a_tree_is_kept_where_the_settings_say_so_even_with_a_plan_that_knows_no_project(void **state)
{
	struct place *p = *state;

	p->plan.job.keep_builds = true;
	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "touch here"), 0);
	p->plan.facts.project_id = 0;
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	p->plan.facts.project_id = 42;
	place_prepare(&p->plan);
	assert_true(place_has(p->plan.builds_dir, "here"));
}

static void
a_kept_tree_is_not_shared_between_protected_and_other_refs(void **state)
{
	struct place *p = *state;

	p->plan.job.keep_builds = true;
	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "touch here"), 0);
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	p->plan.facts.is_protected = true;
	place_prepare(&p->plan);
	assert_false(place_has(p->plan.builds_dir, "here"));
	assert_int_equal(place_run(&p->plan, "touch there"), 0);
	p->plan.facts.is_protected = false; /* as a plan says that knows no project */
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	place_prepare(&p->plan);
	assert_true(place_has(p->plan.builds_dir, "here"));
	assert_false(place_has(p->plan.builds_dir, "there"));
}

static void
a_builds_directory_that_cannot_be_does_not_keep_the_slot_from_being_cleaned(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *file = mem_printf("%s/file", p->dir);
	AUTO_FD int fd = open(file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	mem_free_at(&p->plan.builds_dir);
	p->plan.builds_dir = mem_printf("%s/builds/3", file);
	assert_int_equal(env_host.prepare(&p->plan, &e), -1);
	assert_non_null(strstr(e.text, file));
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	assert_int_equal(access(p->plan.slot_dir, F_OK), -1);
}

static void
a_cache_is_not_shared_between_protected_and_other_refs(void **state)
{
	struct place *p = *state;

	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan, "touch ../../cache/3/poisoned"), 0);
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	p->plan.facts.is_protected = true;
	place_prepare(&p->plan);
	assert_false(place_has(p->plan.job_cache_dir, "poisoned"));
	assert_int_equal(place_run(&p->plan, "touch ../../cache/3/trusted"), 0);
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	place_prepare(&p->plan);
	assert_true(place_has(p->plan.job_cache_dir, "trusted"));
	assert_false(place_has(p->plan.job_cache_dir, "poisoned"));
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	p->plan.facts.is_protected = false;
	place_prepare(&p->plan);
	assert_true(place_has(p->plan.job_cache_dir, "poisoned"));
	assert_false(place_has(p->plan.job_cache_dir, "trusted"));
}

static void
file_variables_of_an_aborted_job_are_not_kept_with_its_tree(void **state)
{
	struct place *p = *state;

	p->plan.job.keep_builds = true;
	mem_free_at(&p->plan.facts.project_path);
	p->plan.facts.project_path = mem_strdup("group/app");
	place_prepare(&p->plan);
	assert_int_equal(place_run(&p->plan,
				   "mkdir -p group/app group/app.tmp && touch group/app/here group/app.tmp/KEY"),
			 0);
	assert_int_equal(env_host.destroy(&p->plan, NULL), 0);
	place_prepare(&p->plan);
	assert_true(place_has(p->plan.builds_dir, "group/app/here"));
	assert_false(place_has(p->plan.builds_dir, "group/app.tmp"));
}

static void
only_a_slot_users_uid_may_be_killed_as_a_whole(void **state)
{
	struct plan p = { .is_separated = true, .uid = 0 };
	char user[] = "tidewaiter-job-0", none[] = "";

	(void)state;
	p.user = user;
	assert_int_equal(host_kill_check_uid(&p, NULL), -1);
	p.uid = (int64_t)geteuid();
	assert_int_equal(host_kill_check_uid(&p, NULL), -1);
	p.uid = (int64_t)UINT32_MAX;
	assert_int_equal(host_kill_check_uid(&p, NULL), -1);
	p.uid = 64123;
	p.user = none;
	assert_int_equal(host_kill_check_uid(&p, NULL), -1);
	p.user = user;
	p.is_separated = false;
	assert_int_equal(host_kill_check_uid(&p, NULL), -1);
	p.is_separated = true;
	assert_int_equal(host_kill_check_uid(&p, NULL), 0);
}

#define WITH_PLACE(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(a_script_gives_its_exit_code_or_128_and_its_signal),
		WITH_PLACE(a_script_starts_in_the_builds_directory_with_a_home_of_its_own),
		WITH_PLACE(nothing_of_our_environment_reaches_a_script_but_what_is_named),
		WITH_PLACE(a_script_larger_than_a_pipe_and_a_variable_of_120_kib_work),
		WITH_PLACE(daemons_of_a_stage_end_with_it),
		WITH_PLACE(what_is_asked_to_end_may_do_so_within_kill_wait),
		WITH_PLACE(a_signal_from_the_runner_reaches_the_script),
		WITH_PLACE(what_a_killed_driver_left_running_is_found_again),
		WITH_PLACE(whoever_asks_while_a_script_runs_is_served),
		WITH_PLACE(whoever_wants_to_know_hears_of_the_end_before_what_is_left_is_killed),
		WITH_PLACE(a_tool_runs_where_it_is_told_to_and_not_past_its_time),
		WITH_PLACE(a_missing_tool_is_named_with_the_setting),
		WITH_PLACE(nothing_is_left_after_destroy_and_a_second_one_is_fine),
		WITH_PLACE(a_cache_comes_back_for_its_own_project_only),
		WITH_PLACE(a_tree_is_kept_where_the_settings_say_so_even_with_a_plan_that_knows_no_project),
		WITH_PLACE(a_kept_tree_is_not_shared_between_protected_and_other_refs),
		WITH_PLACE(a_builds_directory_that_cannot_be_does_not_keep_the_slot_from_being_cleaned),
		WITH_PLACE(a_cache_is_not_shared_between_protected_and_other_refs),
		WITH_PLACE(file_variables_of_an_aborted_job_are_not_kept_with_its_tree),
		cmocka_unit_test(only_a_slot_users_uid_may_be_killed_as_a_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
