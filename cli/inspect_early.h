/*
 * `tidewaiter inspect early`: while a step of the job runs (executor/guard_early.h), archives that the job has written are read and
 * unpacked. We are the opener: root, watching and opening beneath the project directory as stage discover does; what
 * parses is a scanner per archive, confined as in an inspection. Nothing is decided and nothing is said. What comes of it: layers
 * in the store, and, for files whose read lease was never broken since before they were read, the images, which
 * the inspection takes over (stages/early_result.h). All that is not certain is read again then.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "executor/plan.h"
#include "stages/early_result.h"
#include "stages/inspection.h"
#include "stages/pipeline.h"

/*
 * `model`: what inspections of this job have in common, without a work directory; ours is called by our parent, which has the
 * step run and removes it. `to`: socket for what is handed over, -1: nobody wants it. Until SIGTERM, SIGINT or SIGHUP, or
 * there is no more to be done.
 */
int inspect_early(const struct inspection *model, const struct pipeline_users *users, int to, struct err *e);

/* What the inspection of the same parent takes over: into EARLY_DIR of its work directory. 0: nothing. The caller owns the descriptors. */
size_t inspect_early_take_over(const char *cache_dir, int work_fd, int from,
			       struct early_known ret[EARLY_KNOWN_MAX]);
