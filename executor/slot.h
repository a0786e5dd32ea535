/*
 * Slots: one concurrent job's user and directories. No process of ours lives through a job, so a slot is held by a
 * record state_dir/slots/<n>.json {slot, runner pid and start time, path, device and inode of TMPDIR}, written under a short
 * lock (state_dir/slots/.lock). A record whose runner is gone, or whose TMPDIR is gone, is free for taking, after its slot was
 * cleaned. One runner process runs many jobs, and an attempt has a TMPDIR of its own: the TMPDIR tells who owns a slot.
 *
 * Whoever cleans a slot holds its lock (state_dir/slots/<n>.lock): a cleanup that the runner has given up waiting for
 * may still be at work when the next job comes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"

struct slot_owner {
	pid_t runner_pid; /* the parent of our process group's leader: a wrapper script in between does not count */
	uint64_t runner_start; /* clock ticks since boot */
	char *tmpdir;
	uint64_t tmp_dev, tmp_ino;
};

struct slot_owner *slot_owner_new(const char *tmpdir, struct err *e); /* NULL on error */
void slot_owner_free(struct slot_owner *o);
MEM_AUTO_DECLARE(slot_owner)

/*
 * Takes the lowest free slot of 0 … n_slots-1, waiting until the deadline: ERR_TIMEOUT names who holds them. Makes
 * state_dir/slots (0711) where it is missing. *ret_was_stale: the slot must be cleaned before use. *ret_lock_fd: the slot's lock, held
 * until the caller closes it: after the cleaning.
 */
int slot_take(const char *state_dir, int64_t n_slots, const struct slot_owner *owner, int64_t deadline,
	      int64_t *ret_slot, bool *ret_was_stale, int *ret_lock_fd, struct err *e);
/* The slot of this owner, or -1 in ret_slot when it holds none. */
int slot_find(const char *state_dir, const struct slot_owner *owner, int64_t *ret_slot, struct err *e);
/*
 * The lock of a slot, waited for until the deadline. *ret_is_ours: the owner's record is still there; when it is not,
 * somebody else cleaned the slot and may use it. Descriptor, or -1.
 */
int slot_lock(const char *state_dir, const struct slot_owner *owner, int64_t slot, int64_t deadline,
	      bool *ret_is_ours, struct err *e);
/* Gives the slot back; nothing happens when it is not the owner's. */
int slot_release(const char *state_dir, const struct slot_owner *owner, int64_t slot, struct err *e);
