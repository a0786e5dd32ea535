/*
 * Sees the entries of a layer's tar as its plain bytes pass, and keeps what
 * tells whether a package list lies behind a link (stages/layer_hidden.h): all
 * symbolic links, whiteouts, and what has, or through a link may have, the
 * name of such a list or of a directory above one.
 *
 * It reads as Go's archive/tar does, since that is what Trivy, Docker,
 * containerd, Podman and BuildKit read layers with: what that library refuses
 * ends the reading, and the facts say so. Memory is bounded: what is kept of a
 * layer by LAYER_WATCH_MAX, of several by what they share.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define LAYER_WATCH_MAX (16 * 1024 * 1024)     /* bytes kept of one layer */
#define LAYER_WATCH_ALL_MAX (64 * 1024 * 1024) /* a good value for what several layers share */

enum layer_fact_kind {
	FACT_FILE,
	FACT_DIR,
	FACT_SYMLINK,
	FACT_HARDLINK,
	FACT_OTHER,  /* a device, a FIFO, a type that readers do not agree on */
	FACT_GONE,   /* a whiteout: the path is not there any more */
	FACT_OPAQUE, /* what lower layers have in this directory is not there any more */
};

struct layer_fact {
	enum layer_fact_kind kind;
	bool is_odd; /* readers see another name or content: it climbs with "..", is sparse, has two names */
	uint32_t path, link; /* offsets into text; path is cleaned */
};

struct layer_facts {
	struct layer_fact *v; /* in the order of the tar */
	size_t n;
	const char *text;
	/* NULL, or why not all of it was seen: "its checksum is wrong"; at which entry (from 1). */
	const char *doubt;
	uint64_t doubt_at;
};

struct layer_watch;
/* `left`: bytes that all layers together may still keep, shared by their watches; NULL for no such limit. */
struct layer_watch *layer_watch_new(atomic_size_t *left);
void layer_watch_free(struct layer_watch *w);
MEM_AUTO_DECLARE(layer_watch)

/* The next n bytes. Never fails: what cannot be read becomes a doubt. */
void layer_watch_feed(struct layer_watch *w, const void *bytes, size_t n);
/* The same with the watch as void *, for a layer_job's `see`. */
void layer_watch_see(void *w, const void *p, size_t n);
/* When all bytes were fed. Belongs to the watch. */
const struct layer_facts *layer_watch_facts(struct layer_watch *w);
