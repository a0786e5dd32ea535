/*
 * `tidewaiter inspect ahead --tmpdir DIR` beside the last user step of a matching job: a child of ours, in no cgroup of the job, that asks
 * DefectDojo what has been triaged while the job still runs, and keeps the answer on disk for the inspection, which asks once more and falls back on
 * this where it gets no answer in time. It says nothing, decides nothing, and is ended with the step.
 */
#pragma once

#include "base/proc.h"
#include "executor/guard.h"

struct guard_ahead {
	struct proc proc;
	bool is_running;
};

/* Where it does not apply, or cannot be had, nothing runs afterwards. */
void guard_ahead_start(const struct guard *g, struct guard_ahead *x);
void guard_ahead_stop(struct guard_ahead *x);
