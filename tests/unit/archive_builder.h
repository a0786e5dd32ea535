/* Tars and image archives made in memory, so that every field of a header can lie. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "stages/options.h"

#define BUILD_MAX (64 * 1024 * 1024)
#define BUILD_END ((size_t)1024)

/* What is not set is as it should be. */
struct build_header {
	const char *name, *link, *prefix;
	char type;		/* '0' when 0 */
	const char *magic;	/* 8 bytes; POSIX when NULL */
	const char *size_field; /* 12 bytes; the true size when NULL */
	uint64_t size;
	long checksum_off; /* added to the true one */
};

void build_header(struct buf *tar, const struct build_header *h);
/* A header and its content, padded. */
void build_entry(struct buf *tar, const struct build_header *h, const void *p, size_t n);
void build_file(struct buf *tar, const char *name, const void *p, size_t n);
void build_text(struct buf *tar, const char *name, const char *text);
void build_link(struct buf *tar, char type, const char *name, const char *to);
/* One PAX record to text: build_pax_record(&text, "path", "x"). */
void build_pax_record(struct buf *text, const char *key, const char *value);
void build_pax(struct buf *tar, char type, const struct buf *records);
void build_end(struct buf *tar);

/* Limits that what is made here keeps: small ones, two threads. */
struct options_images build_limits(void);

void build_gzip(struct buf *out, const void *p, size_t n);

/* An image with plain layers. */
struct build_image {
	struct buf layers[8];
	size_t n;
	char digests[8][HASH_DIGEST_MAX];
	struct buf config;
	char config_digest[HASH_DIGEST_MAX];
};
/* n layers, each a tar of one file that differs from the others'. */
void build_image_init(struct build_image *m, size_t n);
/* Files of at least so many bytes. */
void build_image_init_sized(struct build_image *m, size_t n, size_t size);
void build_image_free(struct build_image *m);
/* <hex>.tar for each layer, <hex>.json for the config, manifest.json; without the end. */
void build_docker_archive(struct buf *tar, const struct build_image *m);
/* A file without a name that holds this. */
int build_fd(const void *p, size_t n);
