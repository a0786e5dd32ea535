/*
 * One call of an executable as the runner makes it: a process group of its own, standard input from /dev/null, two
 * pipes that are both awaited to their end, SIGTERM to the group at the end of its time and SIGKILL later.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "cli/rehearse_log.h"

struct rehearse_watch {
	int signal_fd;		 /* signalfd of SIGINT and SIGTERM */
	int64_t job_deadline;	 /* CLOCK_MONOTONIC ms; the event "job_timeout" */
	int64_t script_deadline; /* the same for "script_timeout"; CLOCK_DEADLINE_NEVER but during the script */
	int64_t kill_wait_ms;	 /* from SIGTERM to SIGKILL */
	int64_t give_up_ms;	 /* from SIGKILL until nobody waits any more */
	/* An event of runner-rules.json, or "signal" for one to ourselves. Returns what to send to the group, 0 for nothing. */
	int (*on_event)(void *arg, const char *event);
	void *arg;
};

struct rehearse_call {
	const struct strv *argv;
	const struct strv *env;
	int cwd_fd;
	int64_t limit_ms; /* 0: none; the event "exec_timeout" */
	struct buf *out;  /* standard output goes there; NULL: to the log */
	struct rehearse_log *log;
};

enum rehearse_end { CALL_EXITED, CALL_SIGNALLED, CALL_GIVEN_UP };

struct rehearse_call_result {
	enum rehearse_end end;
	int code; /* exit code or signal */
};

int rehearse_call(const struct rehearse_call *c, struct rehearse_watch *w, struct rehearse_call_result *ret,
		  struct err *e);
