/*
 * What happens around an inspection in the run phase, and its connection to `tidewaiter inspect`.
 *
 * `tidewaiter inspect before --tmpdir DIR`  before the first stage of a matching job, with images.from_engine: what container engines
 *     have now goes into PLAN_ENGINE_PREFIX files.
 * `tidewaiter inspect ahead --tmpdir DIR`   beside the last user step of a matching job (guard_ahead.h).
 * `tidewaiter inspect early --tmpdir DIR`   beside a user step of a matching job, with images.early (guard_early.h).
 * `tidewaiter inspect run --tmpdir DIR`     after the last user step of a matching job that succeeded. Reads the plan,
 *     writes PLAN_INSPECTION_NAME, prints the job log section on stdout. Exit: 0 go on, 1 blocked (in enforce mode), 3 undecided and
 *     enforced (system failure); anything else is a system failure too.
 * `tidewaiter inspect verify --tmpdir DIR`  before and after stages that store caches or artifacts: inspected archives unchanged?
 *     0 unchanged, 1 changed or appeared (named on stdout).
 * `tidewaiter inspect publish --tmpdir DIR` writes the report files into the project directory anew, just before an upload.
 * `tidewaiter inspect withhold --tmpdir DIR` moves blocked and uninspected archives out of the project directory (enforce).
 * `tidewaiter inspect withheld --tmpdir DIR` looks for them again, behind such a stage, and removes them: 0 nothing, 1 some were put back.
 */
#pragma once

#include "base/err.h"
#include "executor/env.h"
#include "executor/phase.h"
#include "executor/plan.h"

/* What a stage is to us. Unknown names are GUARD_PLAIN. */
enum guard_kind {
	GUARD_PLAIN,	    /* of the runner's own: get_sources … */
	GUARD_USER,	    /* the user's code: a step that is not the last, after_script */
	GUARD_LAST_STEP,    /* the last user step: the inspection follows it */
	GUARD_CACHE,	    /* stores caches */
	GUARD_UPLOAD,	    /* stores artifacts */
	GUARD_CLEANUP_VARS, /* cleanup_file_variables, the last one of all */
};

enum guard_kind guard_kind_of(const struct plan *p, const char *stage);

struct guard {
	const struct phase_context *c;
	const struct env_ops *env;
	const struct plan *plan;
	struct plan_state *state; /* the caller writes it to TMPDIR */
	enum guard_kind kind;
	const char *stage;
	const int *early_fd; /* for `inspect run`: what was read early (guard_early.h); NULL: nothing */
};

/* Before the script. *ret_skip: it must not run, and *ret says how the phase ends. */
int guard_before(struct guard *g, bool *ret_skip, struct phase_result *ret, struct err *e);
/* After it: may turn success into failure, never the other way. `script` is how it ended. */
int guard_after(struct guard *g, const struct env_result *script, struct phase_result *ret, struct err *e);
/* The user's code that an inspection follows: a step, not after_script. */
bool guard_is_step(const struct guard *g);
/* Does the driver have to carry the archive upload of this stage (executor/upload.h)? */
bool guard_needs_upload(const struct guard *g);
/* Just before the driver carries it: code of the job has run since guard_before(). For struct upload; arg is the guard. */
int guard_before_upload(void *arg, struct err *e);

/*
 * The driver's own uploads: of the reports as an archive, where no upload stage took them along, and of the Code Quality report
 * (report.codequality), where the job declares none. Called in cleanup_file_variables, and by the cleanup phase before destroy() for runners that have no such stage. Does nothing when there is
 * nothing to upload or it was done. A GitLab that refuses is a warning in the log, not an error.
 */
int guard_upload_reports(struct guard *g, struct err *e);

/* Where our programs lie: the directory of the running one. Owned by the caller; NULL with e set. */
char *guard_own_dir(struct err *e);
char *guard_find_tidewaiter(struct err *e); /* path of the program with the verbs; the same */
void guard_inspect_env(struct strv *env);   /* what it gets of our environment: nothing of the job's */
int guard_load_payload(struct payload **ret, struct err *e); /* of JOB_RESPONSE_FILE */
