/*
 * SHA-256 (FIPS 180-4) and SHA-512 by libcrypto, and OCI digests ("sha256:<64 hex>").
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

#define HASH_DIGEST_MAX 136 /* "sha512:" + 128 hex + NUL */

enum hash_algo { HASH_SHA256, HASH_SHA512 };

struct hash;
struct hash *hash_new(enum hash_algo algo);
void hash_update(struct hash *h, const void *p, size_t n);
void hash_digest(struct hash *h, char out[HASH_DIGEST_MAX]); /* "sha256:…"; ready for a next message */
void hash_free(struct hash *h);
MEM_AUTO_DECLARE(hash)

void hash_of(enum hash_algo algo, const void *p, size_t n, char out[HASH_DIGEST_MAX]);
/* From offset 0 to the end of the file, whatever the file position is (pread). */
int hash_of_fd(enum hash_algo algo, int fd, char out[HASH_DIGEST_MAX], struct err *e);
/* "sha256:" + 64 or "sha512:" + 128 lower-case hex digits, nothing else. 0 or -1. */
int hash_parse_digest(const char *digest, enum hash_algo *ret_algo, const char **ret_hex);
