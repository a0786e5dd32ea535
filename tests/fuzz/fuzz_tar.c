/*
 * The tar reader alone, from a file and from the same bytes under gzip's reader: entries lie within the input, one
 * behind the other, and a second reading finds the same.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/tar.h"
#include "tests/fuzz/fuzz.h"

#define SIZE_LIMIT (1ULL << 40)
static const struct tar_limits limits = { SIZE_LIMIT, 4096, 1 << 20 };

static void
read_all(int fd, size_t size, char digest[HASH_DIGEST_MAX])
{
	AUTO(hash) struct hash *hash = hash_new(HASH_SHA256);
	AUTO(source) struct source *src = source_new_file(fd, 0, size);
	AUTO(tar) struct tar *tar = tar_new(src, &limits);
	struct err e = ERR_INIT;
	struct tar_entry n;
	uint64_t end = 0;
	bool has = true;

	while (tar_next(tar, &has, &n, &e) == 0 && has) {
		if (n.offset < end + TAR_BLOCK || n.offset > size || n.size > SIZE_LIMIT ||
		    (n.type != TAR_FILE && n.size))
			abort();
		end = n.offset + n.size;
		hash_update(hash, n.name, strlen(n.name) + 1);
		hash_update(hash, n.link, strlen(n.link) + 1);
		hash_update(hash, &n.size, sizeof(n.size));
	}
	hash_update(hash, e.text, strlen(e.text));
	hash_digest(hash, digest);
}

static void
read_gzip(int fd, size_t size)
{
	const struct source_limits unpacked = { .out_max = SIZE_LIMIT, .ratio_max = 100 };
	AUTO(source) struct source *src = source_new_gzip(fd, 0, size, &unpacked, NULL);
	AUTO(tar) struct tar *tar = tar_new(src, &limits);
	struct err e = ERR_INIT;
	struct tar_entry n;
	char chunk[4096];
	size_t got = 0;
	bool has = true;

	while (tar_next(tar, &has, &n, &e) == 0 && has)
		if (n.type == TAR_FILE && tar_read(tar, chunk, sizeof(chunk), &got, &e) < 0)
			break;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FD int fd = memfd_create("tar", MFD_CLOEXEC);
	char first[HASH_DIGEST_MAX], second[HASH_DIGEST_MAX];
	struct err e = ERR_INIT;

	if (fd < 0 || fs_write_all(fd, data, size, &e) < 0)
		abort();
	read_all(fd, size, first);
	read_all(fd, size, second);
	if (strcmp(first, second) != 0)
		abort();
	read_gzip(fd, size);
	return 0;
}
