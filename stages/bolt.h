/*
 * A strict, read-only reader of bbolt files, the form of Trivy's vulnerability
 * database: https://pkg.go.dev/go.etcd.io/bbolt, page.go and bucket.go there.
 * Little endian, as on every machine that Trivy is built for.
 *
 * bbolt trusts its pages: what was cut out or zeroed in the middle of a file
 * is an entry that is not found, and so a finding less. Here every page that
 * can be reached is looked at: its own number, its kind, its elements within
 * it, keys in order and within what the page above promised, no page twice.
 * Errors are ERR_FAILED, name the page and not the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BOLT_BUCKETS_MAX 16	 /* depth of buckets in buckets */
#define BOLT_LEVELS_MAX 32	 /* pages from a bucket's root to its leaves */
#define BOLT_KEY_MAX 32768	 /* bytes; bbolt's own limit */
#define BOLT_RUN_MAX (64u << 20) /* bytes of a page with its overflow */

struct bolt {
	int fd; /* borrowed */
	uint32_t page_size;
	uint64_t n_pages; /* what the file must hold */
	uint64_t root;	  /* page of the topmost bucket */
	uint64_t txid;
};

/* An entry as the walk comes by. All of it is valid during the call. */
struct bolt_item {
	unsigned depth;	 /* 0: an entry of the topmost bucket */
	const char *top; /* key of the topmost bucket that it lies in, NUL behind it; "" at depth 0 */
	bool is_bucket;
	const unsigned char *key, *value; /* no value of a bucket */
	size_t key_len, value_len;
};

/* The newer of the two heads whose checksums are true; the file must be as long as that says. */
int bolt_open(int fd, uint64_t file_size, struct bolt *ret, struct err *e);

/* Every entry in order, a bucket before what is in it. `visit` may end the walk with -1 and e set. */
int bolt_walk(const struct bolt *b, int (*visit)(void *arg, const struct bolt_item *item, struct err *e),
	      void *arg, struct err *e);
/* The entries of the topmost bucket alone: a few pages, however large the file is. */
int bolt_walk_top(const struct bolt *b, int (*visit)(void *arg, const struct bolt_item *item, struct err *e),
		  void *arg, struct err *e);
