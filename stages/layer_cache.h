/*
 * Layers that some inspection of this host has verified, kept for the next: plain tars under the name of their
 * diff_id.
 *
 *   <dir>/boot      the boot in which `now` was filled
 *   <dir>/now/      sha256-<64 hex>, sha512-<128 hex>: read-only files, hard-linked out of and into layouts, so that
 *                   what is dropped here stays where it is used
 *   <dir>/before/   the same from before the last boot: a power cut may have cost bytes that were never
 *                   written to the disk, so they are hashed before they are used and go to `now` then
 *
 * A layer comes here by link(2) when its hash was right, whole or not at all. Nothing here fails an inspection: what cannot
 * be had is not there. For any number of processes and threads at once; none waits for another. `dir` and the
 * places linked from and to lie on one file system. Where a file is another user's it is not taken.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

struct layer_cache;

/* dir_fd stays the caller's; -1 or size_max 0 (bytes) give NULL, which the other calls take for an empty one. */
struct layer_cache *layer_cache_open(int dir_fd, int64_t size_max);
void layer_cache_free(struct layer_cache *c);
MEM_AUTO_DECLARE(layer_cache)

/* Links it to `name` below to_fd and says how long it is; false: it is not there. It counts as used now. */
bool layer_cache_take(const struct layer_cache *c, const char *diff_id, int to_fd, const char *name,
		      uint64_t *ret_size);
/* Takes the file `name` below from_fd in, whose bytes are what diff_id says; makes it read-only. */
void layer_cache_put(const struct layer_cache *c, const char *diff_id, int from_fd, const char *name);
/* Drops what stands for diff_id: it was found to be something else. */
void layer_cache_drop(const struct layer_cache *c, const char *diff_id);
struct layer_cache_use {
	uint64_t size; /* bytes */
	size_t n;      /* layers */
};
/* What is kept below dir_fd; nothing is changed. */
void layer_cache_look(int dir_fd, struct layer_cache_use *ret);
/* Drops what was used longest ago until the rest fits size_max. */
void layer_cache_trim(const struct layer_cache *c);
