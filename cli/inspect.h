/*
 * What the verbs of `tidewaiter inspect` share: the plan of the job, its project directory, who is who. Verbs return exit codes of
 * command.h, or -1.
 */
#pragma once

#include "base/err.h"
#include "base/log.h"
#include "cli/workspace.h"
#include "executor/plan.h"
#include "stages/inspection.h"
#include "stages/pipeline.h"
#include "stages/policy_source.h"

struct inspect {
	int tmp_fd;
	struct plan *plan;
	int project_fd; /* -1: there is none */
	struct log log;
	struct pipeline_users users;
	int early_fd; /* what was read while the job ran goes out or comes in there; -1: nothing */
};

/* An inspection of this job, in a work directory or (NULL) none. */
void inspect_fill(const struct inspect *x, const struct workspace *w, struct inspection *ret);
/* Has the policy brought, by the courier, who may read it, while the caller does something else. `flags`: enum policy_git_flags. */
void inspect_begin_policy(const struct inspect *x, unsigned flags, struct policy_source *ret);
/* enum gate_mode of images that nobody has judged. */
int inspect_mode_unread(const struct inspect *x);

/* What was inspected is what is stored: inspect_verify.c. */
int inspect_verify(struct inspect *x, struct err *e);	/* is everything as the inspection saw it? */
int inspect_withhold(struct inspect *x, struct err *e); /* takes out what may not be stored */
int inspect_withheld(struct inspect *x, struct err *e); /* did anything of that come back meanwhile? */

/* The reports, on their way into the project directory: inspect_publish.c. */
int inspect_keep_reports(const struct inspect *x, int out_fd, struct err *e); /* out of the job's reach */
int inspect_publish(struct inspect *x, struct err *e);			      /* into report.dir */
