#include "executor/phase.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/proc.h"
#include "base/str.h"

#define FAILURE_CODE_DEFAULT 1
#define SYSTEM_CODE_DEFAULT 2

/* What the runner tells each call; its own values, which a job cannot set (a job's variables are CUSTOM_ENV_ ones). */
struct runner_codes {
	int job_failed;
	int system_failed;
	const char *file; /* BUILD_EXIT_CODE_FILE, NULL with runners older than 17 */
};

static int
code_from_env(const char *name, int fallback)
{
	const char *text = getenv(name);
	int64_t n;

	if (!text || str_parse_int(text, 1, 255, &n, NULL) < 0)
		return fallback;
	return (int)n;
}

static void
codes_load(struct runner_codes *ret)
{
	ret->job_failed = code_from_env("BUILD_FAILURE_EXIT_CODE", FAILURE_CODE_DEFAULT);
	ret->system_failed = code_from_env("SYSTEM_FAILURE_EXIT_CODE", SYSTEM_CODE_DEFAULT);
	ret->file = getenv("BUILD_EXIT_CODE_FILE");
	if (str_is_empty(ret->file))
		ret->file = NULL;
}

/* The runner never removes the file: one of an earlier stage would be reported for this one. */
static int
codes_forget(const struct runner_codes *codes, struct err *e)
{
	if (codes->file && unlink(codes->file) < 0 && errno != ENOENT)
		return err_errno(e, "BUILD_EXIT_CODE_FILE %s", codes->file);
	return 0;
}

static int
codes_tell(const struct runner_codes *codes, int job_code, struct err *e)
{
	AUTO_FD int fd = -1;
	char text[16];
	int n;

	if (!codes->file)
		return 0;
	fd = open(codes->file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, "BUILD_EXIT_CODE_FILE %s", codes->file);
	n = snprintf(text, sizeof(text), "%d\n", job_code);
	return fs_write_all(fd, text, (size_t)n, e);
}

/* The one place where exit codes are decided (PROTOCOL.md, 1: exit codes). */
static int
phase_exit(const struct phase *p, const struct log *log, const struct runner_codes *codes, int rc,
	   const struct phase_result *result, const struct err *e)
{
	struct err told = ERR_INIT;

	if (rc < 0) {
		AUTO_FREE char *safe = str_safe(e->text, ERR_TEXT_MAX);

		log_line(log, LOG_ERROR, "%s: %s", p->name, safe);
		return codes->system_failed;
	}
	switch (result->end) {
	case PHASE_OK:
		return 0;
	case PHASE_SYSTEM_FAILED:
		return codes->system_failed;
	case PHASE_JOB_FAILED:
		/* 0 would fail the job and send no exit code; one that is no exit code at all becomes the ordinary 1. */
		if (codes_tell(codes, result->job_code > 0 && result->job_code < 256 ? result->job_code : 1,
			       &told) < 0)
			log_line(log, LOG_WARN, "%s: %s", p->name, told.text);
		return codes->job_failed;
	}
	return codes->system_failed;
}

static void
print_help(const struct phase *p)
{
	printf("Usage: tidewaiter-%s [--config FILE]%s\n\n"
	       "%s\n\n"
	       "%s%s"
	       "  --config FILE  settings, an absolute path (default " SETTINGS_PATH_DEFAULT ")\n"
	       "  --help         this text\n"
	       "  --version      name and version\n\n"
	       "gitlab-runner calls it as its custom executor's %s_exec, with --config in %s_args, and says in\n"
	       "the environment where things are: TMPDIR and the variables below. To try a job by hand:\n"
	       "tidewaiter rehearse.\n\n"
	       "Errors: one line on standard error, which %s.\n"
	       "Exit codes: 0; $BUILD_FAILURE_EXIT_CODE (1 where it is not set) when the job failed, its own exit\n"
	       "code, 1 to 255, is then in $BUILD_EXIT_CODE_FILE; $SYSTEM_FAILURE_EXIT_CODE (2) for everything\n"
	       "else: settings, a wrong call, something missing or broken on this host.\n"
	       "Protocol: https://docs.gitlab.com/runner/executors/custom/ (as of gitlab-runner 19.4; 17 and newer\n"
	       "are supported fully).\n",
	       p->name, p->usage, p->summary, p->details ? p->details : "", p->details ? "\n" : "", p->name,
	       p->name, p->is_in_job_log ? "is the job log" : "is gitlab-runner's log");
}

static int
unknown_option(const struct phase *p, const char *option, struct err *e)
{
	static const char *const options[] = { "--config", "--help", "--version" };
	AUTO_FREE char *safe = str_safe(option, 80), *name = mem_strndup(option, strcspn(option, "="));
	struct nearest near = NEAREST_INIT(name);
	const char *best;

	for (size_t i = 0; i < MEM_COUNT(options); i++)
		nearest_try(&near, options[i]);
	best = nearest_best(&near);
	return err_set(e, ERR_USAGE,
		       "%s is no option%s%s%s, allowed are --config FILE, --help and --version; see "
		       "tidewaiter-%s --help",
		       safe, best ? " (is " : "", best ? best : "", best ? " meant?)" : "", p->name);
}

/* 0: go on, 1: said what was asked for. */
static int
parse_args(const struct phase *p, struct phase_context *c, int argc, char **argv, struct err *e)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (str_eq(argv[i], "--")) {
			i++;
			break;
		} else if (str_eq(argv[i], "--help") || str_eq(argv[i], "-h")) {
			print_help(p);
			return 1;
		} else if (str_eq(argv[i], "--version")) {
			printf("tidewaiter-%s " TIDEWAITER_VERSION "\n", p->name);
			return 1;
		} else if (str_has_prefix(argv[i], "--config=")) {
			c->config_path = argv[i] + strlen("--config=");
		} else if (str_eq(argv[i], "--config")) {
			if (++i == argc)
				return err_set(e, ERR_USAGE, "--config needs a file");
			c->config_path = argv[i];
		} else {
			return unknown_option(p, argv[i], e);
		}
	}
	c->n_args = argc - i;
	c->args = argv + i;
	/* More than is known today may come from a newer runner; less is of no use. */
	if (c->n_args < p->n_args_min || (p->n_args_min == 0 && c->n_args > 0))
		return err_set(e, ERR_USAGE,
			       "called with %d arguments instead of %d: usage: tidewaiter-%s [--config FILE]%s",
			       c->n_args, p->n_args_min, p->name, p->usage);
	if (c->config_path && c->config_path[0] != '/')
		return err_set(e, ERR_USAGE,
			       "--config %s: must be an absolute path, gitlab-runner starts us in a directory of its own",
			       c->config_path);
	return 0;
}

static int
open_tmpdir(struct phase_context *c, struct err *e)
{
	c->tmpdir = getenv("TMPDIR");
	if (!c->tmpdir || c->tmpdir[0] != '/')
		return err_set(e, ERR_USAGE,
			       "TMPDIR is not set: gitlab-runner calls this program; to try a job by hand use tidewaiter rehearse");
	c->tmpdir_fd = fs_open_dir(AT_FDCWD, c->tmpdir, e);
	if (c->tmpdir_fd < 0)
		return err_wrap(e, "TMPDIR");
	return 0;
}

static int
phase_run_all(const struct phase *p, struct phase_context *c, const struct runner_codes *codes, int argc,
	      char **argv, struct phase_result *ret, struct err *e)
{
	int rc = parse_args(p, c, argc, argv, e);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (open_tmpdir(c, e) < 0 || codes_forget(codes, e) < 0)
		return -1;
	return p->run(c, ret, e);
}

int
phase_main(const struct phase *p, int argc, char **argv)
{
	struct phase_context c = { .tmpdir_fd = -1 };
	struct phase_result result = { .end = PHASE_OK };
	struct runner_codes codes;
	struct err e = ERR_INIT;
	int rc;

	log_init(&c.log, stderr);
	/* A job log shows colours though it is no terminal; the runner's own log gets cleanup's lines. */
	if (p->is_in_job_log && !getenv("NO_COLOR"))
		c.log.has_colour = true;
	proc_settle();
	/* A runner that was killed has closed its ends of our pipes: what is being done is done to its end. */
	signal(SIGPIPE, SIG_IGN);
	codes_load(&codes);
	rc = fs_hold_standard(&e);
	if (rc == 0)
		rc = phase_run_all(p, &c, &codes, argc, argv, &result, &e);
	if (c.tmpdir_fd >= 0)
		close(c.tmpdir_fd);
	if (rc == 0)
		rc = fs_flush_standard(&e);
	return phase_exit(p, &c.log, &codes, rc, &result, &e);
}
