/*
 * Results of scans, kept on this host for the next: what Trivy said of an image, by a key that names everything that it
 * depends on (result_key.h). Bounded in bytes, what was used longest ago goes first. For any number of processes and
 * threads at once. Nothing here fails a scan: what cannot be read is not there, what cannot be written is not kept.
 *
 *   <dir>/<64 hex>        an entry (result_entry.h)
 *   <dir>/.<name>.<hex>   on its way
 *   <dir>/memo-<64 hex>   a short text, kept as results are: result_cache_remember()
 *   <dir>/used, lock      bytes of all entries, about; held while that is changed
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct result_cache {
	int dir_fd;	  /* -1: none */
	int64_t size_max; /* bytes, 0: none */
};

/* Into *json, whose limit holds. An entry that is damaged is removed. */
bool result_cache_get(const struct result_cache *c, const char *key, struct buf *json);
void result_cache_put(const struct result_cache *c, const char *key, const char *json, size_t len);
void result_cache_drop(const struct result_cache *c, const char *key);

/* A text of at most 200 bytes under a name of 64 hex digits. The caller owns what recall gives; NULL: not there. */
char *result_cache_recall(const struct result_cache *c, const char *name);
void result_cache_remember(const struct result_cache *c, const char *name, const char *text);
