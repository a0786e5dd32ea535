#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"

#define LONG_MS 20000

/* sh is only what is started here; nothing of ours goes through it. */
static int
run_sh(const char *script, int64_t deadline, struct buf *out, struct buf *err_out, struct proc_result *r,
       struct err *e)
{
	AUTO_FREE char *text = mem_strdup(script);
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, text, NULL };
	char *envp[] = { (char[]){ "ONLY=this" }, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;

	spec.path = "/bin/sh";
	spec.argv = argv;
	spec.envp = envp;
	return proc_run(&spec, deadline, out, err_out, r, e);
}

static void
an_exit_a_signal_and_a_timeout_are_told_apart(void **state)
{
	struct proc_result r;
	AUTO_FREE char *exited = NULL, *signalled = NULL, *late = NULL;

	(void)state;
	assert_int_equal(run_sh("exit 3", clock_deadline(LONG_MS), NULL, NULL, &r, NULL), 0);
	assert_int_equal(r.end, PROC_EXITED);
	assert_int_equal(r.code, 3);
	exited = proc_describe(&r);
	assert_string_equal(exited, "exited with 3");
	assert_int_equal(run_sh("kill -SEGV $$", clock_deadline(LONG_MS), NULL, NULL, &r, NULL), 0);
	assert_int_equal(r.end, PROC_SIGNALLED);
	assert_int_equal(r.code, SIGSEGV);
	signalled = proc_describe(&r);
	assert_string_equal(signalled, "was killed by SIGSEGV (11)");
	assert_int_equal(run_sh("sleep 100", clock_deadline(50), NULL, NULL, &r, NULL), 0);
	assert_int_equal(r.end, PROC_TIMED_OUT);
	late = proc_describe(&r);
	assert_string_equal(late, "took longer than its time");
}

static void
a_program_that_cannot_be_started_is_an_error_and_no_exit_code(void **state)
{
	char *argv[] = { (char[]){ "x" }, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_result r;
	struct err e = ERR_INIT;

	(void)state;
	spec.path = "/no/such/program";
	spec.argv = argv;
	spec.envp = argv + 1;
	assert_int_equal(proc_run(&spec, clock_deadline(LONG_MS), NULL, NULL, &r, &e), -1);
	assert_int_equal(e.no, ENOENT);
	assert_non_null(strstr(e.text, "/no/such/program"));
	spec.path = "/etc/passwd";
	assert_int_equal(proc_run(&spec, clock_deadline(LONG_MS), NULL, NULL, &r, &e), -1);
	assert_int_equal(e.no, EACCES);
}

static void
both_outputs_are_read_and_bounded(void **state)
{
	AUTO_BUF struct buf out = BUF_INIT(1000);
	AUTO_BUF struct buf err_out = BUF_INIT(1000);
	struct proc_result r;

	(void)state;
	assert_int_equal(run_sh("echo out; echo err >&2; echo \"$ONLY$HOME\"", clock_deadline(LONG_MS), &out,
				&err_out, &r, NULL),
			 0);
	assert_string_equal(buf_str(&out), "out\nthis\n");
	assert_string_equal(buf_str(&err_out), "err\n");
	buf_reset(&out);
	assert_int_equal(run_sh("head -c 3000000 /dev/zero | tr '\\0' x", clock_deadline(LONG_MS), &out, NULL,
				&r, NULL),
			 0);
	assert_int_equal(r.end, PROC_EXITED);
	assert_int_equal(out.len, 1000);
	assert_true(out.is_full);
}

/* The child of the child holds the pipe: without its death the reading would not end. */
static void
the_deadline_ends_the_whole_group(void **state)
{
	AUTO_BUF struct buf out = BUF_INIT(1000);
	struct proc_result r;

	(void)state;
	assert_int_equal(run_sh("sleep 1000 & echo $!; wait", clock_deadline(300), &out, NULL, &r, NULL), 0);
	assert_int_equal(r.end, PROC_TIMED_OUT);
}

static void
a_child_gets_three_descriptors_and_those_it_is_given(void **state)
{
	AUTO_FD int secret = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	AUTO_FD int given = fcntl(secret, F_DUPFD_CLOEXEC, 20);
	AUTO_BUF struct buf out = BUF_INIT(1000);
	char *argv[] = { (char[]){ "ls" }, (char[]){ "/proc/self/fd" }, NULL };
	char *envp[] = { NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_result r;
	AUTO_FREE char *expected = NULL;

	/* as whoever started us may have left one: without close-on-exec */
	AUTO_FD int inherited = fcntl(secret, F_DUPFD, 30);

	(void)state;
	assert_true(inherited >= 30);
	spec.path = "/bin/ls";
	spec.argv = argv;
	spec.envp = envp;
	spec.pass_fds = &given;
	spec.n_pass_fds = 1;
	assert_int_equal(proc_run(&spec, clock_deadline(LONG_MS), &out, NULL, &r, NULL), 0);
	expected = mem_printf("0\n1\n2\n%d\n3\n", given); /* 3 is the listing itself */
	if (strcmp(buf_str(&out), expected) != 0) {
		mem_free_at(&expected);
		expected = mem_printf("0\n1\n%d\n2\n3\n", given);
	}
	assert_string_equal(buf_str(&out), expected);
}

static void
ignored_signals_and_core_files_are_not_inherited(void **state)
{
	AUTO_BUF struct buf out = BUF_INIT(1000);
	struct proc_result r;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(run_sh("ulimit -c; kill -PIPE $$; echo survived", clock_deadline(LONG_MS), &out,
				NULL, &r, NULL),
			 0);
	signal(SIGPIPE, SIG_DFL);
	assert_string_equal(buf_str(&out), "0\n");
	assert_int_equal(r.end, PROC_SIGNALLED);
	assert_int_equal(r.code, SIGPIPE);
}

static int
fail_with_eperm(void *arg)
{
	(void)arg;
	return EPERM;
}

static void
what_fails_before_the_program_is_reported(void **state)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_result r;
	struct err e = ERR_INIT;

	(void)state;
	spec.path = "/bin/true";
	spec.argv = argv;
	spec.envp = argv + 1;
	spec.in_child = fail_with_eperm;
	assert_int_equal(proc_run(&spec, clock_deadline(LONG_MS), NULL, NULL, &r, &e), -1);
	assert_int_equal(e.no, EPERM);
}

static void
programs_are_found_by_absolute_directories_only(void **state)
{
	AUTO_FREE char *sh = proc_find("sh", "relative:/nowhere:/bin:/usr/bin");
	AUTO_FREE char *absolute = proc_find("/bin/sh", "");
	AUTO_FREE char *none = proc_find("sh", ".:bin");
	AUTO_FREE char *relative = proc_find("./sh", "/bin");
	AUTO_FREE char *no_program = proc_find("passwd", "/etc");

	(void)state;
	assert_string_equal(sh, "/bin/sh");
	assert_string_equal(absolute, "/bin/sh");
	assert_null(none);
	assert_null(relative);
	assert_null(no_program);
}

static void
a_process_has_a_start_time_until_it_is_gone(void **state)
{
	char *argv[] = { (char[]){ "sleep" }, (char[]){ "100" }, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc p;
	struct proc_result r;
	struct err e = ERR_INIT;
	uint64_t first, second;

	(void)state;
	spec.path = "/bin/sleep";
	spec.argv = argv;
	spec.envp = argv + 2;
	assert_int_equal(proc_start(&spec, &p, NULL), 0);
	assert_int_equal(proc_start_time(p.pid, &first, NULL), 0);
	assert_int_equal(proc_start_time(p.pid, &second, NULL), 0);
	assert_true(first == second && first > 0);
	assert_int_equal(proc_wait(&p, false, clock_deadline(0), &r, NULL), 0);
	assert_int_equal(r.end, PROC_TIMED_OUT);
	assert_int_equal(proc_start_time(p.pid, &first, &e), -1);
	assert_int_equal(e.no, ENOENT);
	proc_close(&p);
}

/* Says that it is there, and never gets as far as the program. */
static int
stay(void *arg)
{
	const int *fd = arg;

	if (write(*fd, "x", 1) != 1)
		return EIO;
	pause();
	return 0;
}

static void
a_child_that_is_not_the_program_yet_dies_with_its_parent(void **state)
{
	char *argv[] = { (char[]){ "true" }, NULL, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc p;
	struct pollfd end;
	char byte;
	int ends[2];
	pid_t parent;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	spec.path = "/bin/true";
	spec.argv = argv;
	spec.envp = argv + 1;
	spec.dies_with_parent = true;
	spec.in_child = stay;
	spec.in_child_arg = &ends[1];
	parent = fork();
	assert_true(parent >= 0);
	if (parent == 0)
		_exit(proc_start(&spec, &p, NULL) == 0 ? 0 : 1);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	kill(parent, SIGKILL);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	end = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	assert_int_equal(poll(&end, 1, LONG_MS), 1);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

static void
an_idle_child_is_idle_and_can_be_brought_back(void **state)
{
	pid_t pid;
	int ends[2];
	char c;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		proc_be_idle();
		_exit(write(ends[1], "x", 1) == 1 && pause() == 0);
	}
	assert_int_equal(read(ends[0], &c, 1), 1);
	assert_int_equal(sched_getscheduler(pid), SCHED_IDLE);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	proc_end_idle(pid);
	/* an ordinary user may not be allowed to go back */
	assert_true(geteuid() != 0 || sched_getscheduler(pid) == SCHED_OTHER);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exit_a_signal_and_a_timeout_are_told_apart),
		cmocka_unit_test(a_program_that_cannot_be_started_is_an_error_and_no_exit_code),
		cmocka_unit_test(both_outputs_are_read_and_bounded),
		cmocka_unit_test(the_deadline_ends_the_whole_group),
		cmocka_unit_test(a_child_gets_three_descriptors_and_those_it_is_given),
		cmocka_unit_test(ignored_signals_and_core_files_are_not_inherited),
		cmocka_unit_test(what_fails_before_the_program_is_reported),
		cmocka_unit_test(programs_are_found_by_absolute_directories_only),
		cmocka_unit_test(a_process_has_a_start_time_until_it_is_gone),
		cmocka_unit_test(a_child_that_is_not_the_program_yet_dies_with_its_parent),
		cmocka_unit_test(an_idle_child_is_idle_and_can_be_brought_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
