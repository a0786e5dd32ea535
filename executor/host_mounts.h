/*
 * The mount namespace of a job's processes: the slot's directories over /tmp and /var/tmp, a tmpfs of its own on
 * /dev/shm, and a /proc that shows other users' processes to nobody (their command lines carry job tokens).
 * The namespace lives as long as the processes of one stage, so nothing is left to unmount.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct host_mounts {
	const char *tmp, *var_tmp; /* what stands for them */
	/*
	 * Directories that must stay where they are although they may lie below a covered one: builds_dir, home, those of
	 * PATH. Others and missing ones are passed over.
	 */
	const struct strv *keep;
};

/* In the child, as root, before ids are dropped. Mounts of the host go on to appear inside; none of ours appear outside. */
int host_mounts_enter(const struct host_mounts *m, struct err *e);
