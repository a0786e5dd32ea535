/*
 * `tidewaiter inspect early --tmpdir DIR` beside a user step (images.early): a child of ours, in no cgroup of the job, whose only
 * use is that the layer store has the layers when the step ends. So nothing that happens to it is an error, and a step waits at
 * most GUARD_EARLY_STOP_MS for it to go. It dies with us, and ends by itself when the runner signals our process group.
 */
#pragma once

#include "base/proc.h"
#include "executor/guard.h"

#define GUARD_EARLY_STOP_MS 500 /* from SIGTERM to SIGKILL */

struct guard_early {
	struct proc proc;
	bool is_running;
};

/* Where it does not apply, or cannot be had, nothing runs afterwards. */
void guard_early_start(const struct guard *g, struct guard_early *x);
/* `x` is a struct guard_early; for struct env_stage.ended, too. Nothing runs afterwards; a second time it does nothing. */
void guard_early_stop(void *x);
