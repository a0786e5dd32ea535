/*
 * One format of compression each: what a member (gzip), frame (zstd) or stream
 * (xz, bzip2) begins with, and how it is decoded piece by piece. Used by
 * stages/source_compressed.c alone, which knows that many may follow one another.
 *
 * A new format is one file that ends in a `const struct codec_ops`, and a line in the table of source_compressed.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CODEC_MAGIC_MAX 8

struct codec_io {
	const unsigned char *in;
	size_t n_in;
	unsigned char *out;
	size_t n_out;
};

struct codec_ops {
	const char *word;   /* "gzip" */
	const char *member; /* "member": what it calls that of which many may follow one another */
	size_t magic_len;   /* bytes that is_start() looks at */
	bool is_padded;	    /* zeros by four bytes may follow a member (xz) */
	bool (*is_start)(const unsigned char *magic);
	void *(*new)(uint64_t window_max);
	void (*free)(void *state);
	/* Ready for a member. */
	int (*start)(void *state, struct err *e);
	/*
	 * Takes and gives what it can; io is moved on. *ret_is_end when the member has ended and its checksum was right. `is_last`:
	 * no more input will come. Refusals: "<word>: damaged …", "checksum: …", "window: …".
	 */
	int (*step)(void *state, struct codec_io *io, bool is_last, bool *ret_is_end, struct err *e);
};

extern const struct codec_ops codec_gzip, codec_zstd, codec_xz, codec_bzip2;
#ifdef HAVE_ISAL
extern const struct codec_ops codec_gzip_isal; /* instead of codec_gzip */
#endif
