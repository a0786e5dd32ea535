/*
 * `tidewaiter inspect early`: while a step of the job runs (executor/guard_early.h), archives that the job has written are unpacked
 * into the layer store. We are the opener: root, watching and opening beneath the project directory as stage discover does; what
 * parses is a scanner per archive, confined as in an inspection. Nothing is decided and nothing is said: the inspection
 * at the end reads and hashes all archives as if we had never been there, only that it need not write what the store has.
 */
#pragma once

#include "base/err.h"
#include "executor/plan.h"
#include "stages/inspection.h"
#include "stages/pipeline.h"

#define INSPECT_EARLY_ARCHIVES_MAX 64 /* unpacked in one step */

/* `model`: what inspections of this job have in common, without a work directory. Until SIGTERM, SIGINT or SIGHUP, or there is no more to be done. */
int inspect_early(const struct inspection *model, const struct pipeline_users *users, struct err *e);
