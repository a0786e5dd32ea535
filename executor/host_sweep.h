/*
 * What a slot user can leave outside of his directories: SysV IPC, POSIX message queues, keys in the kernel's keyrings, crontabs and at
 * jobs, files in places that all users share, mounts below the slot's directories. Only for slot users, never for our own
 * user. Everything is idempotent.
 */
#pragma once

#include "base/err.h"
#include "executor/plan.h"

/* What could start a process in the job's name later: crontabs, at jobs, lingering sessions. Before an inspection too. */
int host_sweep_timers(const struct plan *p, struct err *e);
/* The rest; all processes of the job are dead. The first error is reported after all else was tried. */
int host_sweep_rest(const struct plan *p, struct err *e);
/* Mounts on and below these absolute directories, the last first. */
int host_sweep_mounts(const char *const *dirs, size_t n_dirs, struct err *e);
