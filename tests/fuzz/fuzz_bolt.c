/*
 * The walk through a database's pages: nothing is read outside of them, it ends, and what it shows lies in order. The heads, whose
 * checksums no chance finds, are made here: the input is what follows them, in pages of 1 KiB.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/bolt.h"
#include "tests/fuzz/fuzz.h"

#define PAGE 1024
#define HEADS (2 * PAGE)

struct seen {
	unsigned depth;
	uint64_t bytes, bytes_max;
	unsigned sum; /* so that every byte is read */
};

static int
visit(void *arg, const struct bolt_item *item, struct err *e)
{
	struct seen *s = arg;

	(void)e;
	if (item->depth > s->depth + 1 || item->key_len == 0 || (item->depth > 0 && !item->top))
		abort();
	s->depth = item->depth;
	/* each byte is shown at most as a bucket's value, and as what is inline in that */
	s->bytes += item->key_len + item->value_len;
	if (s->bytes > s->bytes_max)
		abort();
	for (size_t k = 0; k < item->key_len + item->value_len; k++)
		s->sum += item->key[k];
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FD int fd = memfd_create("db", MFD_CLOEXEC);
	uint64_t n_pages = (HEADS + size) / PAGE;
	struct bolt b = { .fd = fd, .page_size = PAGE, .n_pages = n_pages, .root = 2 };
	struct seen seen = { .bytes_max = 2 * (HEADS + size) }, top = seen;
	struct err e = ERR_INIT;

	if (fd < 0 || ftruncate(fd, HEADS) < 0 || lseek(fd, HEADS, SEEK_SET) < 0 ||
	    fs_write_all(fd, data, size, &e) < 0)
		abort();
	if (bolt_walk_top(&b, visit, &top, &e) < 0 && e.kind != ERR_FAILED)
		abort();
	err_clear(&e);
	if (bolt_walk(&b, visit, &seen, &e) < 0 && e.kind != ERR_FAILED)
		abort();
	return 0;
}
