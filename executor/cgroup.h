/*
 * Control groups v2, used for one thing only: a job's processes have a name by which all of them can be killed at once.
 * No controller is enabled. Works where the v2 hierarchy is mounted, alone or beside v1, and we may make directories in
 * our own group. https://docs.kernel.org/admin-guide/cgroup-v2.html
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * The directory of the group of this slot's jobs, below the group that we run in: owned by the caller, "" where there is
 * no cgroup v2 that we may write. It is not made. The name is the same for all calls with the same state_dir and slot.
 */
int cgroup_path(const char *state_dir, int64_t slot, char **ret, struct err *e);

/* Our own group's directory by the texts of /proc/self/mountinfo and /proc/self/cgroup; NULL without v2. Owned by the caller. */
char *cgroup_own_dir(const char *mountinfo, const char *cgroup);

int cgroup_make(const char *dir, struct err *e); /* already there is success */
int cgroup_open(const char *dir, struct err *e); /* descriptor to be born in */
int cgroup_is_empty(const char *dir, bool *ret,
		    struct err *e); /* no process in it or below; "not there" is empty */
int cgroup_signal(const char *dir, int sig, struct err *e); /* to what is in it and below now; not atomic */
/*
 * SIGKILL to all in it and below, those being forked included; waits until they are gone: ERR_TIMEOUT. "Not there" is
 * success. A group in which something was killed is made anew: descriptors of it are of no use afterwards.
 */
int cgroup_kill(const char *dir, int64_t deadline, struct err *e);
int cgroup_remove(const char *dir, struct err *e); /* with the groups below; "not there" is success */
