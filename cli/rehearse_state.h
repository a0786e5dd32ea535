/*
 * What a rehearsal knows on its way: private to rehearse_play.c (the four executables) and rehearse_stages.c (the
 * stages of run in their order).
 */
#pragma once

#include <stdbool.h>

#include "cli/rehearse_call.h"
#include "cli/rehearse_play.h"

/* Why a call failed, and with it perhaps the job; reason NULL: it did not. */
struct failure {
	char *reason; /* GitLab's word */
	int exit_code;
	char *message;
};

void failure_set(struct failure *f, const char *reason, int exit_code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void failure_clear(struct failure *f);
void failure_move(struct failure *to, struct failure *from);

struct state {
	const struct rehearse_play *play;
	struct rehearse_watch watch;
	struct rehearse_dirs dirs;
	struct strv job_env; /* NAME=value, from config */
	char *attempt_dir;   /* the runner's TMPDIR */
	int attempt_fd;
	unsigned n_scripts;
	const char *phase;	  /* "before_script", "script", "after_script": when an event happens */
	const char *job_status;	  /* CI_JOB_STATUS */
	unsigned n_signals;	  /* to ourselves */
	const cJSON *interrupted; /* the event that ended the script or the job */
	bool is_stopped;	  /* only cleanup follows */
};

static inline struct rehearse_context
state_context(const struct state *s)
{
	return (struct rehearse_context){ s->play->rules, s->play->payload, &s->dirs, s->job_status };
}

/* Generates and runs the script of one stage. */
int state_run_script(struct state *s, const char *stage, const char *exports, struct failure *ret,
		     struct err *e);
/* All stages; *ret is the job's failure. */
int state_run_stages(struct state *s, struct failure *ret, struct err *e);
/* Waits, but not when a signal has come. */
void state_pause(struct state *s, int64_t seconds);
