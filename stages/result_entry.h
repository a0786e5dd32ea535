/*
 * What Trivy said of an image, as it is kept: on disk, and in a Redis behind a MAC.
 *
 *   "TWRESULT" | version (LE32) | 0 (LE32) | key (64 hex digits) | length of the JSON (LE64) | zstd frame | SHA-256 of all that (32 bytes)
 *
 * The checksum tells damage from truth, not friend from foe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define RESULT_FORMAT 1
#define RESULT_KEY_LEN 64		     /* hex digits, of a SHA-256 */
#define RESULT_ENTRY_MAX ((size_t)256 << 20) /* bytes, packed */

/* Appends to *out; out->is_full when it does not fit. */
void result_pack(const char *key, const char *json, size_t len, struct buf *out);
/* False, with nothing in *json, when it is not a whole entry of that key or the JSON is larger than json->max. */
bool result_unpack(const char *key, const char *entry, size_t len, struct buf *json);
