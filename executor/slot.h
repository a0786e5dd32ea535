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
 * state_dir/slots (0711) where it is missing. The slot's lock is held until slot_taken_free(): after the cleaning.
 */
struct slot_taken {
	int64_t slot;
	bool was_stale;		   /* it must be cleaned before use */
	struct slot_owner *former; /* who held it, where that is known and another than us */
	int lock_fd;
};
#define SLOT_TAKEN_INIT                   \
	{                                 \
		.slot = -1, .lock_fd = -1 \
	}
#define AUTO_SLOT_TAKEN __attribute__((cleanup(slot_taken_free)))

int slot_take(const char *state_dir, int64_t n_slots, const struct slot_owner *owner, int64_t deadline,
	      struct slot_taken *ret, struct err *e);
void slot_taken_free(struct slot_taken *t);
/*
 * Ends the protocol programs of an attempt whose runner is gone: a run phase goes on when the runner is killed, and
 * at its end would do to the slot what is meant for its own job. They are known by their name and their working directory, which is
 * TMPDIR (PROTOCOL.md, 1) and which no job can enter. SIGKILL; waits until they are gone: ERR_TIMEOUT.
 */
int slot_end_processes(const struct slot_owner *former, int64_t deadline, struct err *e);
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
