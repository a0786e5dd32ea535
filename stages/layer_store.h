/*
 * Layers on their way from an archive into a layout's blobs: read once, hashed
 * and written by several threads, the longest first. A blob appears under its
 * digest only when it is what the image's config says it is. What the host's
 * layer cache has is only hashed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stages/archive_entries.h"
#include "stages/layer_cache.h"

struct layer_job {
	const struct entry *from;
	char *what;		   /* "layer 3 of 7 (<name>)", owned */
	const char *named_as;	   /* its name in manifest.json, a link perhaps */
	const char *diff_id;	   /* what its plain bytes must be: "sha256:…" or "sha512:…" */
	const char *stored_digest; /* the same of the bytes as stored, by its descriptor; NULL or "": none said */
	/* Sees the plain bytes as they pass, in order, from one thread; NULL: nobody. */
	void (*see)(void *arg, const void *p, size_t n);
	void *see_arg;
	uint64_t size; /* filled: bytes, plain */
	bool is_known; /* by layer_store_known(): its blob is there */
};

struct layer_limits {
	uint64_t size_max;		 /* bytes of all layers, plain */
	uint64_t layer_max;		 /* bytes of one, plain */
	uint64_t ratio_max;		 /* of one compressed layer */
	uint64_t window_max;		 /* source.h */
	unsigned threads;		 /* at least 1 */
	const struct layer_cache *cache; /* NULL: none */
};

/*
 * Before layer_store(): puts the blobs of those that the cache has, marks these and fills their sizes. The number of them.
 * They are whole and right; what the archive's bytes are is still to be seen.
 */
size_t layer_store_known(struct layer_job *jobs, size_t n, int blobs_fd, const struct layer_limits *limits);

/*
 * `blobs_fd`: where blobs are made, named by the digits of their diff_id. `keep_fd`: where entries have files of their own, -1
 * for none; those are renamed. Everything is stored, or the first fault by the order of jobs is said (ERR_REFUSED "forged layer: …",
 * "ratio: …", "cut: …"; ERR_NO_SPACE); then the caller removes what is in blobs_fd.
 */
int layer_store(struct layer_job *jobs, size_t n, int blobs_fd, int keep_fd,
		const struct layer_limits *limits, struct err *e);
unsigned layer_threads(int64_t setting); /* 0: as many as CPUs that we may run on */
