/*
 * A forward reader over an archive's bytes: a window of a file, what comes
 * through a descriptor that cannot be read twice (an engine's answer), or what a
 * compressed stream of either holds.
 *
 * Bytes are hostile. A compressed source is bounded in what it gives and in the
 * ratio of what it gives to what it read, and in the window or dictionary it asks for; many
 * gzip members, zstd frames (skippable ones too), xz or bzip2 streams one after the other are honest (RFC 1952, 2.2; RFC
 * 8878, 3.1), checksums are checked, anything behind the last one is refused. Refusals are ERR_REFUSED and
 * begin with the rule: "cut", "ratio", "size", "window", "checksum", "gzip", "zstd", "xz", "bzip2" (damaged),
 * "behind the end", "changed".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "stages/archive_kind.h"

#define SOURCE_WINDOW_DEFAULT \
	(UINT64_C(128) << 20) /* bytes; as much as zstd -19 --ultra -22 and xz -9 ask for */

struct source;

struct source_limits {
	uint64_t out_max;    /* bytes */
	uint64_t ratio_max;  /* bytes given per byte read; the first 16 MiB are free */
	uint64_t window_max; /* bytes of zstd's window, xz's dictionary; 0: SOURCE_WINDOW_DEFAULT */
};

/* Is fed all compressed bytes, in order, by whichever thread reads. */
struct source_tap {
	void (*see)(void *arg, const void *p, size_t n);
	void *arg;
};

/*
 * A window of a file, read with pread(2), so that several can share the descriptor, which stays
 * the caller's. A file that turns out shorter than the window is ERR_REFUSED ("changed").
 */
struct source *source_new_file(int fd, uint64_t offset, uint64_t size);
/* A pipe or socket, which stays the caller's, to its end; more than size_max bytes are ERR_REFUSED ("size"). */
struct source *source_new_stream(int fd, uint64_t size_max);
/*
 * What `raw` holds, plain; it takes raw over. `kind`: one that archive_kind_is_compressed(), else NULL is given, and raw
 * is freed. `tap`, when not NULL, is copied; its arg is the caller's.
 */
struct source *source_new_compressed(enum archive_kind kind, struct source *raw,
				     const struct source_limits *limits, const struct source_tap *tap);
/*
 * The same bytes as `inner`, which it takes over; a thread of its own reads ahead by up to 2 MiB, so that what inner does
 * (inflating) and what the reader does (hashing, writing) go on at the same time. Where no thread can be had: inner itself.
 */
struct source *source_new_ahead(struct source *inner);
/* source_new_compressed(ARCHIVE_GZIP, source_new_file(…), …) */
struct source *source_new_gzip(int fd, uint64_t offset, uint64_t size, const struct source_limits *limits,
			       const struct source_tap *tap);
void source_free(struct source *s);
MEM_AUTO_DECLARE(source)

/* Exactly n bytes, fewer only where the source ends. */
int source_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e);
/* Passes over at most n bytes; fewer only where the source ends. */
int source_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e);
uint64_t source_offset(const struct source *s); /* bytes given or skipped so far */
