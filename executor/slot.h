/*
 * Slots: one concurrent job's user and directories. No process of ours lives through a job, so a slot is held by a
 * record state_dir/slots/<n>.json {slot, runner pid and start time, device and inode of TMPDIR}, written under a short lock
 * (state_dir/slots/.lock). A record whose runner is gone, or whose TMPDIR is gone, is free for taking, after its slot was cleaned.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "executor/settings.h"

struct slot_owner {
	pid_t runner_pid; /* our parent */
	uint64_t runner_start;
	uint64_t tmp_dev, tmp_ino;
};

int slot_owner_of(const char *tmpdir, struct slot_owner *ret, struct err *e);

/* Waits until the deadline for a free slot: ERR_TIMEOUT names who holds them. *ret_was_stale: the slot must be cleaned before use. */
int slot_take(const struct settings *s, const struct slot_owner *owner, int64_t deadline, int64_t *ret_slot,
	      bool *ret_was_stale, struct err *e);
/* The slot of this owner, or -1 in ret_slot when it holds none. */
int slot_find(const struct settings *s, const struct slot_owner *owner, int64_t *ret_slot, struct err *e);
int slot_release(const struct settings *s, const struct slot_owner *owner, int64_t slot, struct err *e);
