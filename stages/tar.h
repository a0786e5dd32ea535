/*
 * A strict reader of tar headers: POSIX.1-2017 pax ("ustar" and its extended
 * headers), GNU (long names, base-256 numbers) and the old form of Version 7.
 *
 * Where readers of the world differ, it refuses: a prefix under GNU's magic,
 * global headers that change names or sizes, a PAX size that is not the
 * header's, names said twice, sizes of entries that have no content, sparse
 * entries, a lone block of zeros, anything but zeros behind the end.
 * Refusals are ERR_REFUSED and begin with the rule: "header", "size", "name",
 * "sparse", "cut", "behind the end".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "stages/source.h"

#define TAR_BLOCK 512

enum tar_type { TAR_FILE, TAR_DIR, TAR_SYMLINK, TAR_HARDLINK, TAR_SPECIAL };

struct tar_entry {
	enum tar_type type;
	const char *name; /* as written; belongs to the reader, until the next call */
	const char *link; /* "" where there is none */
	uint64_t size;	  /* bytes of content, only of TAR_FILE */
	uint64_t offset;  /* of the content in the source */
	uint64_t number;  /* from 1 */
};

struct tar;
struct tar_limits {
	uint64_t size; /* bytes an entry may claim */
	size_t name;   /* bytes of a name or link */
	size_t pax;    /* bytes of one extended header */
};
/* Reads from where the source is; the source stays the caller's. */
struct tar *tar_new(struct source *src, const struct tar_limits *limits);
void tar_free(struct tar *t);
MEM_AUTO_DECLARE(tar)

/*
 * The next entry; at the end *ret_has is false and all behind it was looked at. What of an entry's
 * content was not read is passed over.
 */
int tar_next(struct tar *t, bool *ret_has, struct tar_entry *ret, struct err *e);
/* Content of the last entry: n bytes, fewer where it ends; a source that ends before it is "cut". */
int tar_read(struct tar *t, void *p, size_t n, size_t *ret_n, struct err *e);

bool tar_is_zero(const unsigned char block[TAR_BLOCK]);
bool tar_is_header(const unsigned char block[TAR_BLOCK]);     /* its checksum is true */
bool tar_may_be_header(const unsigned char block[TAR_BLOCK]); /* to the most lenient of readers */
uint64_t tar_checksum(const unsigned char block[TAR_BLOCK]);
