/*
 * What was read of an archive while the job still ran, for the inspection at its end: the images with their layouts, so that
 * the bytes need not pass again. Written by a scanner into the work directory of early reading, which is renamed to EARLY_DIR
 * in that of the inspection, and read by that inspection's scanner: two processes of the same rights and the same job.
 *
 * It is for files whose bytes are certain not to have changed since. Who hashes must first have a read lease (F_SETLEASE, fcntl(2)),
 * which nobody gets while the file is open for writing or mapped so, and which the kernel breaks before it lets anybody open it for
 * writing. The lease lives with the open file, so it is handed on with the descriptor; while it is unbroken and the file's
 * identity is the same, the file holds what was hashed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "stages/archive_read.h"
#include "stages/inspection.h"

#define EARLY_DIR "early"

/* One that was read to the end without a fault. */
struct early_known {
	struct fs_identity id;
	uint64_t number; /* of its record and layouts */
	int lease_fd;
};

#define EARLY_KNOWN_MAX 64

/* F_RDLCK on fd: false where it cannot be had (open for writing, another's file, a file system without). */
bool early_lease_take(int fd);
bool early_lease_holds(int fd);

/* Through a socket pair (SOCK_SEQPACKET), which may outlive the sender: false when it did not go into the queue. */
bool early_known_send(int fd, const struct early_known *k);
/* All that is in the queue, at most `max`; the caller owns the descriptors. */
size_t early_known_receive(int fd, struct early_known *ret, size_t max);

void early_known_close(struct early_known *l, size_t n);

/* The record <stem>.json below work_fd. Images of which the layout alone does not tell all give none (ERR_UNSUPPORTED). */
int early_result_write(int work_fd, const char *stem, const struct archive_images *l, struct err *e);
/* The images of record `number` below EARLY_DIR in work_fd, the layouts' names with EARLY_DIR in front. */
int early_result_read(int work_fd, uint64_t number, const struct options_images *limits,
		      struct archive_images *ret, struct err *e);
