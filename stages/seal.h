/*
 * What hosts keep where others may write, too (a Redis): authenticated by HMAC-SHA-256 under a key that the runner hosts alone
 * have. The MAC covers kind and name, so that entries cannot change places.
 *
 *   "TWMAC1 <16 hex: which key> <64 hex: MAC>\n" and the entry
 *
 * It says who wrote it and where it belongs, not when: whoever can write there can put an older one of the same name back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define SEAL_KEY_MIN 32 /* bytes */
#define SEAL_LEN 89	/* bytes in front of the entry; two entries with the same ones are the same */

/* Appends to *out; out->is_full when it does not fit. `name` may be of any length, but without a newline. */
void seal_add(const char *mac_key, const char *kind, const char *name, const char *entry, size_t len,
	      struct buf *out);
/* *ret_entry points into `sealed`. False: not whole, or not of that key, kind and name. */
bool seal_open(const char *mac_key, const char *kind, const char *name, const char *sealed, size_t len,
	       const char **ret_entry, size_t *ret_len);
