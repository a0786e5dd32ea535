/*
 * Files that a process outside the job still has open for writing. Such a process can change bytes between one look at them
 * and the next, through a mapping without a trace in the file's times. So they are copied before anything looks at them, the
 * copy is what is inspected, and its digest is what the file must have when it is stored.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"

/* All zeros: none was needed. */
struct snapshot {
	char digest[HASH_DIGEST_MAX]; /* of the copy; "" where there is none */
	int fd;			      /* the copy, without a name; only where there is a digest */
};

/* Could anybody be writing to it now, a mapping included? Not certain (no right, no lease on that filesystem) counts as yes. */
bool snapshot_has_writer(int fd);
/* The first id->size bytes of fd, into a file below dir_fd. ERR_REFUSED "changed: …" when there are fewer; ERR_NO_SPACE. */
int snapshot_take(struct snapshot *s, int fd, const struct fs_identity *id, int dir_fd, struct err *e);
void snapshot_free(struct snapshot *s); /* what it owns */
/* Where the bytes to be inspected are: the copy, or else the file itself. */
int snapshot_fd(const struct snapshot *s, int fd);
