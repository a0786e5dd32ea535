/*
 * Layers on their way from an archive into a layout's blobs: read once, hashed
 * and written by several threads, the longest first. A blob appears under its
 * digest only when it is what the image's config says it is.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stages/archive_entries.h"

struct layer_job {
	const struct entry *from;
	char *what;	      /* "layer 3 of 7 (<name>)", owned */
	const char *named_as; /* its name in manifest.json, a link perhaps */
	const char *diff_id;  /* "sha256:…", what its plain bytes must be */
	uint64_t size;	      /* filled: bytes, plain */
};

struct layer_limits {
	uint64_t size_max;  /* bytes of all layers, plain */
	uint64_t ratio_max; /* of one compressed layer */
	unsigned threads;   /* at least 1 */
};

/*
 * `blobs_fd`: the layout's blobs/sha256. `keep_fd`: where entries have files of their own, -1 for none; those
 * are renamed. Everything is stored, or the first fault by the order of jobs is said (ERR_REFUSED "forged layer: …",
 * "ratio: …", "cut: …"; ERR_UNSUPPORTED; ERR_NO_SPACE); then the caller removes the layout.
 */
int layer_store(struct layer_job *jobs, size_t n, int blobs_fd, int keep_fd,
		const struct layer_limits *limits, struct err *e);
unsigned layer_threads(int64_t setting); /* 0: as many as CPUs that we may run on */
