/*
 * Who holds read leases on files of a job must let go of them the moment the job opens such a file for writing, or the job waits
 * (up to /proc/sys/fs/lease-break-time): a thread of its own that does nothing else, whatever the rest of the process is at.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

struct early_keeper;

/* Blocks SIGIO in the calling thread, which must be the only one, and in all that it starts. */
int early_keeper_start(struct early_keeper **ret, struct err *e);
void early_keeper_free(struct early_keeper *k); /* ends the thread, lets go of what it holds */
MEM_AUTO_DECLARE(early_keeper)

/* Takes a lease on fd, which stays the caller's, and may be a duplicate. False: it cannot be had, or there are too many. */
bool early_keeper_take(struct early_keeper *k, int fd);
/* Lets go of it; of one that is not held it does nothing. Before fd is closed. */
void early_keeper_drop(struct early_keeper *k, int fd);
