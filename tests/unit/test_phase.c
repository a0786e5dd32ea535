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
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/phase.h"

/* What the runner gives a call, and what came of it. */
struct call {
	char dir[64];
	char *code_file;
	int code;
	char *text;		 /* what the file held afterwards; NULL: it was not there */
	char *err;		 /* standard error */
	const char *stdout_path; /* NULL: /dev/null */
	bool is_closed;		 /* descriptors 0 and 1 */
};

static void
make_call(struct call *c)
{
	memset(c, 0, sizeof(*c));
	snprintf(c->dir, sizeof(c->dir), "/tmp/test-phase-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	c->code_file = mem_printf("%s/build_exit_code", c->dir);
}

static void
remove_call(struct call *c)
{
	assert_int_equal(fs_remove_tree(AT_FDCWD, c->dir, NULL), 0);
	mem_free_at(&c->code_file);
	mem_free_at(&c->text);
	mem_free_at(&c->err);
}
#define AUTO_CALL __attribute__((cleanup(remove_call)))

static void
set_env(const struct call *c, bool has_code_file)
{
	clearenv();
	setenv("TMPDIR", c->dir, 1);
	setenv("BUILD_FAILURE_EXIT_CODE", "1", 1);
	setenv("SYSTEM_FAILURE_EXIT_CODE", "2", 1);
	if (has_code_file)
		setenv("BUILD_EXIT_CODE_FILE", c->code_file, 1);
}

/* phase_main() in a process of its own, as the runner has it. */
static void
run_with(struct call *c, const struct phase *p, bool has_code_file, char **argv)
{
	AUTO_FREE char *err_path = mem_printf("%s/stderr", c->dir);
	int argc = 0, status;
	struct stat st;
	size_t len;
	pid_t child;

	while (argv[argc])
		argc++;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		int fd = open(err_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		int out = open(c->stdout_path ? c->stdout_path : "/dev/null", O_WRONLY | O_CLOEXEC | O_CREAT,
			       0600);

		dup2(out, 1);
		dup2(fd, 2);
		if (c->is_closed) {
			close(0);
			close(1);
		}
		set_env(c, has_code_file);
		_exit(phase_main(p, argc, argv));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	c->code = WEXITSTATUS(status);
	mem_free_at(&c->text);
	mem_free_at(&c->err);
	if (lstat(c->code_file, &st) == 0 && S_ISREG(st.st_mode))
		assert_int_equal(fs_read_max(AT_FDCWD, c->code_file, 100, &c->text, &len, NULL), 0);
	assert_int_equal(fs_read_max(AT_FDCWD, err_path, 10000, &c->err, &len, NULL), 0);
}

static void
run(struct call *c, const struct phase *p, bool has_code_file)
{
	char name[] = "tidewaiter-test";
	char *argv[] = { name, NULL };

	run_with(c, p, has_code_file, argv);
}

static void
write_code_file(const struct call *c, const char *text)
{
	AUTO_FD int fd = open(c->code_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(fs_write_all(fd, text, strlen(text), NULL), 0);
}

static int
ends_well(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	(void)c;
	(void)e;
	ret->end = PHASE_OK;
	return 0;
}

/* A descriptor below 3 would be standard input or output to whatever is started next. */
static int
opens_file(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	int fd = open("/", O_RDONLY | O_CLOEXEC);

	(void)c;
	ret->end = PHASE_OK;
	return fd >= 3 ? 0 : err_set(e, ERR_FAILED, "descriptor %d", fd);
}
static const struct phase opens_a_file = { .name = "test", .usage = "", .summary = "", .run = opens_file };

static int
job_failed_with_90(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	(void)c;
	(void)e;
	ret->end = PHASE_JOB_FAILED;
	ret->job_code = PHASE_CODE_BLOCKED;
	return 0;
}

static int
job_failed_with_nothing(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	(void)c;
	(void)e;
	ret->end = PHASE_JOB_FAILED;
	ret->job_code = 0;
	return 0;
}

static int
breaks(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	(void)c;
	/* Whatever the result says, an error is a system failure. */
	ret->end = PHASE_JOB_FAILED;
	ret->job_code = 90;
	return err_set(e, ERR_FAILED, "the \033]0;disk\007 is gone");
}

static int
wants_an_argument(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	(void)e;
	ret->end = c->n_args == 2 && str_eq(c->args[0], "/s") && str_eq(c->args[1], "stage") &&
				   str_eq(c->config_path, "/c.yml") && c->tmpdir_fd > 2
			   ? PHASE_OK
			   : PHASE_JOB_FAILED;
	ret->job_code = 77;
	return 0;
}

static const struct phase good = { .name = "test", .usage = "", .summary = "", .run = ends_well };
static const struct phase blocked = { .name = "test", .usage = "", .summary = "", .run = job_failed_with_90 };
static const struct phase nothing = {
	.name = "test", .usage = "", .summary = "", .run = job_failed_with_nothing
};
static const struct phase broken = { .name = "test", .usage = "", .summary = "", .run = breaks };
static const struct phase with_args = {
	.name = "test", .usage = " SCRIPT STAGE", .summary = "", .n_args_min = 2, .run = wants_an_argument
};

static void
success_is_0_and_removes_an_older_exit_code(void **state)
{
	AUTO_CALL struct call c;

	(void)state;
	make_call(&c);
	write_code_file(&c, "3\n");
	run(&c, &good, true);
	assert_int_equal(c.code, 0);
	assert_null(c.text);
	assert_string_equal(c.err, "");
}

static void
a_failed_job_has_its_code_in_the_file(void **state)
{
	AUTO_CALL struct call c;

	(void)state;
	make_call(&c);
	write_code_file(&c, "3 is longer than ours\n");
	run(&c, &blocked, true);
	assert_int_equal(c.code, 1);
	assert_string_equal(c.text, "90\n");
}

static void
with_an_older_runner_a_failed_job_is_1_without_a_file(void **state)
{
	AUTO_CALL struct call c;

	(void)state;
	make_call(&c);
	run(&c, &blocked, false);
	assert_int_equal(c.code, 1);
	assert_null(c.text);
}

static void
a_failed_job_without_a_code_is_1(void **state)
{
	AUTO_CALL struct call c;

	(void)state;
	make_call(&c);
	run(&c, &nothing, true);
	assert_int_equal(c.code, 1);
	assert_string_equal(c.text, "1\n");
}

static void
an_error_is_a_system_failure_and_is_said_in_one_safe_line(void **state)
{
	AUTO_CALL struct call c;

	(void)state;
	make_call(&c);
	run(&c, &broken, true);
	assert_int_equal(c.code, 2);
	assert_null(c.text);
	assert_non_null(strstr(c.err, "is gone"));
	assert_null(strchr(c.err, '\007'));
	assert_ptr_equal(strchr(c.err, '\n'), c.err + strlen(c.err) - 1);
}

static void
arguments_come_after_the_options(void **state)
{
	AUTO_CALL struct call c;
	char *words[] = { (char[]){ "x" },  (char[]){ "--config" }, (char[]){ "/c.yml" },
			  (char[]){ "/s" }, (char[]){ "stage" },    NULL };
	char *joined[] = { (char[]){ "x" },  (char[]){ "--config=/c.yml" }, (char[]){ "--" },
			   (char[]){ "/s" }, (char[]){ "stage" },	    NULL };

	(void)state;
	make_call(&c);
	run_with(&c, &with_args, true, words);
	assert_int_equal(c.code, 0);
	run_with(&c, &with_args, true, joined);
	assert_int_equal(c.code, 0);
}

static void
a_wrong_call_is_a_system_failure_that_says_what_is_wrong(void **state)
{
	AUTO_CALL struct call c;
	char *no_file[] = { (char[]){ "x" }, (char[]){ "--config" }, NULL };
	char *relative[] = { (char[]){ "x" }, (char[]){ "--config=c.yml" }, NULL };
	char *unknown[] = { (char[]){ "x" }, (char[]){ "--colour" }, NULL };
	char *slip[] = { (char[]){ "x" }, (char[]){ "--confg=/x" }, NULL };
	char *extra[] = { (char[]){ "x" }, (char[]){ "extra" }, NULL };
	char *less[] = { (char[]){ "x" }, (char[]){ "/s" }, NULL };

	(void)state;
	make_call(&c);
	run_with(&c, &good, true, no_file);
	assert_int_equal(c.code, 2);
	run_with(&c, &good, true, relative);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "absolute"));
	run_with(&c, &good, true, unknown);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "--colour is no option, allowed are --config FILE"));
	run_with(&c, &good, true, slip);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "--confg=/x is no option (is --config meant?)"));
	run_with(&c, &good, true, extra);
	assert_int_equal(c.code, 2);
	run_with(&c, &with_args, true, less);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "SCRIPT STAGE"));
}

static void
help_and_version_need_no_runner(void **state)
{
	AUTO_CALL struct call c;
	char *help[] = { (char[]){ "x" }, (char[]){ "--help" }, NULL };
	char *version[] = { (char[]){ "x" }, (char[]){ "--version" }, NULL };

	(void)state;
	make_call(&c);
	run_with(&c, &broken, true, help);
	assert_int_equal(c.code, 0);
	run_with(&c, &broken, true, version);
	assert_int_equal(c.code, 0);
}

static void
help_tells_limits_errors_exit_codes_and_the_protocol(void **state)
{
	static const char *const words[] = { "Usage: tidewaiter-",
					     "--config FILE",
					     "--version",
					     "Reads ",
					     "Fails ",
					     "standard error",
					     "$BUILD_FAILURE_EXIT_CODE",
					     "$SYSTEM_FAILURE_EXIT_CODE",
					     "https://docs.gitlab.com/runner/executors/custom/" };
	const struct phase *const phases[] = { &phase_config, &phase_prepare, &phase_run, &phase_cleanup };
	char *help[] = { (char[]){ "x" }, (char[]){ "--help" }, NULL };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(phases); i++) {
		AUTO_CALL struct call c;
		AUTO_FREE char *path = NULL, *text = NULL;
		size_t len;

		make_call(&c);
		path = mem_printf("%s/stdout", c.dir);
		c.stdout_path = path;
		run_with(&c, phases[i], true, help);
		assert_int_equal(c.code, 0);
		assert_string_equal(c.err, "");
		assert_int_equal(fs_read_max(AT_FDCWD, path, 10000, &text, &len, NULL), 0);
		for (size_t k = 0; k < MEM_COUNT(words); k++)
			if (!strstr(text, words[k]) &&
			    !(phases[i] == &phase_run && str_has_prefix(words[k], "Reads")))
				fail_msg("%s --help does not say %s", phases[i]->name, words[k]);
		for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
			if (strcspn(p, "\n") > 110)
				fail_msg("a long line: %s", p);
	}
}

static void
output_that_cannot_be_written_is_a_system_failure_that_says_so(void **state)
{
	AUTO_CALL struct call c;
	char *help[] = { (char[]){ "x" }, (char[]){ "--help" }, NULL };
	char *version[] = { (char[]){ "x" }, (char[]){ "--version" }, NULL };

	(void)state;
	make_call(&c);
	c.stdout_path = "/dev/full";
	run_with(&c, &good, true, help);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "standard output: No space left on device"));
	run_with(&c, &good, true, version);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "standard output"));
	/* a file that is opened must not become the runner's answer */
	c.is_closed = true;
	run_with(&c, &good, true, version);
	assert_int_equal(c.code, 2);
	assert_non_null(strstr(c.err, "standard output: Bad file descriptor"));
	run_with(&c, &opens_a_file, true, (char *[]){ (char[]){ "x" }, NULL });
	assert_int_equal(c.code, 0);
}

static void
a_directory_in_place_of_the_exit_code_file_is_a_system_failure(void **state)
{
	AUTO_CALL struct call c;

	(void)state;
	make_call(&c);
	assert_int_equal(mkdir(c.code_file, 0700), 0);
	run_with(&c, &good, true, (char *[]){ (char[]){ "x" }, NULL });
	assert_int_equal(c.code, 2);
	assert_int_equal(rmdir(c.code_file), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(success_is_0_and_removes_an_older_exit_code),
		cmocka_unit_test(a_failed_job_has_its_code_in_the_file),
		cmocka_unit_test(with_an_older_runner_a_failed_job_is_1_without_a_file),
		cmocka_unit_test(a_failed_job_without_a_code_is_1),
		cmocka_unit_test(an_error_is_a_system_failure_and_is_said_in_one_safe_line),
		cmocka_unit_test(arguments_come_after_the_options),
		cmocka_unit_test(a_wrong_call_is_a_system_failure_that_says_what_is_wrong),
		cmocka_unit_test(help_and_version_need_no_runner),
		cmocka_unit_test(help_tells_limits_errors_exit_codes_and_the_protocol),
		cmocka_unit_test(output_that_cannot_be_written_is_a_system_failure_that_says_so),
		cmocka_unit_test(a_directory_in_place_of_the_exit_code_file_is_a_system_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
