/*
 * A job environment: where stage scripts run. The phases know only this table; the host environment is the
 * first, containers come later.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "executor/plan.h"

/* How a stage script ended. */
struct env_result {
	bool was_signalled; /* we were told to stop (SIGTERM from the runner) */
	int code;	    /* exit code, 128 + n for death by signal n */
};

struct env_stage {
	const char *name;		 /* "build_script" … */
	int script_fd;			 /* given to bash on descriptor 0 */
	const struct strv *path_prepend; /* directories put first in PATH; NULL: none */
	const struct strv *env_extra;	 /* NAME=value; NULL: none */
	/* Called whenever serve_fd is readable while the script runs; -1 with e set ends the stage. serve_fd -1: none. */
	int serve_fd;
	int (*serve)(void *arg, struct err *e);
	void *serve_arg;
	/* Called once the script has ended, before what it left is killed; from then on no other child of ours may live. NULL: nobody. */
	void (*ended)(void *arg);
	void *ended_arg;
};

/* A program of ours (by absolute path, with a built environment) that runs as the job's user beside or after a script. */
struct env_tool {
	char *const *argv; /* argv[0] is the path */
	char *const *envp;
	const char *cwd; /* absolute */
	bool is_shielded; /* processes of the job cannot trace it or read its memory, where users are separated */
};

struct env_ops {
	const char *name;
	int (*prepare)(const struct plan *p, struct err *e);
	/* When it returns nothing that the script started is left, and nobody of the job holds our stdout or stderr. */
	int (*run)(const struct plan *p, const struct env_stage *stage, struct env_result *ret, struct err *e);
	/* Output goes to our stdout and stderr. PROC_EXITED, PROC_SIGNALLED and 128 + n as in env_result. */
	int (*run_tool)(const struct plan *p, const struct env_tool *tool, int64_t deadline,
			struct env_result *ret, struct err *e);
	/* Kills every process of the job, wherever it hides; called before an inspection and in cleanup. */
	int (*kill_all)(const struct plan *p, struct err *e);
	/* Removes what prepare made and the job left. Idempotent; `p` may describe a slot only (a lost plan). */
	int (*destroy)(const struct plan *p, struct err *e);
};
