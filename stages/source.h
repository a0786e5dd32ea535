/*
 * A forward reader over an archive's bytes: a window of a file, or what a
 * gzip stream in such a window holds. Further kinds (other compressions, a
 * stream from an engine) are one more table of functions each.
 *
 * Bytes are hostile. A gzip source is bounded in what it gives and in the
 * ratio of what it gives to what it read; many members one after the other are
 * honest (RFC 1952, 2.2), checksums are checked, anything behind the last
 * member is refused. Refusals are ERR_REFUSED and begin with the rule: "cut",
 * "ratio", "size", "checksum", "gzip", "behind the end".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

struct source;

struct source_limits {
	uint64_t out_max;   /* bytes */
	uint64_t ratio_max; /* bytes given per byte read; the first 16 MiB are free */
};

/*
 * A window of a file, read with pread(2), so that several can share the descriptor, which stays
 * the caller's. A file that turns out shorter than the window is ERR_REFUSED ("changed").
 */
struct source *source_new_file(int fd, uint64_t offset, uint64_t size);
/* The same, inflated. `tap`, when not NULL, is fed all compressed bytes; the caller owns it. */
struct source *source_new_gzip(int fd, uint64_t offset, uint64_t size, const struct source_limits *limits,
			       struct hash *tap);
void source_free(struct source *s);
MEM_AUTO_DECLARE(source)

/* Exactly n bytes, fewer only where the source ends. */
int source_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e);
/* Passes over at most n bytes; fewer only where the source ends. */
int source_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e);
uint64_t source_offset(const struct source *s); /* bytes given or skipped so far */
