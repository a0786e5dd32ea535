/*
 * `tidewaiter inspect early --tmpdir DIR --early-fd N` beside a user step (images.early): a child of ours, in no cgroup of the job. It fills the
 * layer store and, where that is certain, knows at the end what archives hold: then descriptors with leases lie in the socket
 * that we keep, for `inspect run` of the same call, and what they stand for in <cache_dir>/work/<our pid>-<start time>. All of it
 * only saves time: nothing that happens to that process is an error, and a step waits at most GUARD_EARLY_STOP_MS for
 * it to go. It dies with us, and ends by itself when the runner signals our process group.
 */
#pragma once

#include "base/proc.h"
#include "executor/guard.h"

#define GUARD_EARLY_STOP_MS 500 /* from SIGTERM to SIGKILL */

struct guard_early {
	const struct plan *plan;
	struct proc proc;
	bool is_running;
	int fd; /* our end; -1: it was never started */
};

/* Where it does not apply, or cannot be had, nothing runs afterwards. */
void guard_early_start(const struct guard *g, struct guard_early *x);
/* `arg` is a struct guard_early; for struct env_stage.ended, too. Nothing runs afterwards; a second time it does nothing. */
void guard_early_stop(void *arg);
/* The inspection has been, or will not be: removes what is left. */
void guard_early_free(struct guard_early *x);
