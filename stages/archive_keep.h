/*
 * Where the contents of a compressed archive go as they pass, since nothing is
 * inflated twice and manifest.json usually comes last. Only what can be part
 * of an image is kept: JSON, tars, compressed tars. A large plain tar gets a
 * file of its own, which later is renamed into the layout; all else shares one file.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "stages/archive_entries.h"
#include "stages/layer_cache.h"

struct keep;
/*
 * A directory `name` is made below work_fd, which stays the caller's. `cache` (NULL: none) has plain tars that need not be
 * written again: what an entry's name says is linked from there, what its bytes are is in place.digest.
 */
int keep_new(int work_fd, const char *name, uint64_t size_max, uint64_t json_max,
	     const struct layer_cache *cache, struct keep **ret, struct err *e);
void keep_free(struct keep *s); /* removes the directory */
MEM_AUTO_DECLARE(keep)

/* Reads the content of the entry that tar_next() just gave, and sets n->place. */
int keep_take(struct keep *s, struct tar *t, struct entry *n, struct err *e);
/* For renaming work_name out of it. */
int keep_dirfd(const struct keep *s);
