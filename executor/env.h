/*
 * A job environment: where stage scripts run. The phases know only this table; the host environment is the
 * first, containers come later.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "executor/plan.h"

/* How a stage script ended. */
struct env_result {
	bool was_signalled; /* we were told to stop (SIGTERM from the runner) */
	int code;	    /* exit code, 128 + n for death by signal n */
};

struct env_stage {
	const char *name;   /* "build_script" … */
	int script_fd;	    /* given to bash on descriptor 0 */
	const struct strv *path_prepend; /* directories put first in PATH */
	const struct strv *env_extra;	 /* NAME=value */
};

struct env_ops {
	const char *name;
	int (*prepare)(const struct plan *p, struct err *e);
	int (*run)(const struct plan *p, const struct env_stage *stage, struct env_result *ret, struct err *e);
	/* Kills every process of the job; called before an inspection and in cleanup. */
	int (*kill_all)(const struct plan *p, struct err *e);
	/* Removes what prepare made and the job left. Idempotent; `p` may describe a slot only (a lost plan). */
	int (*destroy)(const struct plan *p, struct err *e);
};
