/*
 * The end of a job's processes. Three ways, by what there is: the job's cgroup; the uid, for slot users only; and, for a user
 * who runs jobs as himself, what descends from us or carries the slot's mark in its environment.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "executor/plan.h"

#define HOST_KILL_WAIT_MS 30000 /* for processes in the kernel's hands; then it is an error */
/* In the environment of jobs that run as our own user: NAME=slot_dir. */
#define HOST_MARK "TIDEWAITER_SLOT_DIR"

/* May the slot's uid be killed as a whole? Never root, never our own. */
int host_kill_check_uid(const struct plan *p, struct err *e);

/*
 * What a stage left behind: SIGTERM and job.kill_wait to go by, then SIGKILL. We are a child subreaper, and
 * direct children of ours are the stage's alone. Reaps them.
 */
int host_kill_stage(const struct plan *p, struct err *e);

/* Everything of the job, from any process of ours: SIGKILL at once, and again until there is nothing. */
int host_kill_all(const struct plan *p, struct err *e);
