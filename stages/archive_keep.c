#include "stages/archive_keep.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "stages/docker_manifest.h"
#include "stages/image_names.h"

#define OWN_FILE_MIN (1024 * 1024) /* bytes from which a plain tar gets a file of its own */
#define CHUNK (256 * 1024)

struct keep {
	int work_fd;
	char *name;
	int dir_fd;
	int shared_fd;
	uint64_t shared_len;
	uint64_t json_max; /* bytes of a file that may be JSON of an image */
	uint64_t left;	   /* bytes that may still be kept */
	unsigned n_files;
	const struct layer_cache *cache;
	atomic_size_t watch_left;
	struct hash *hash;
	unsigned char chunk[CHUNK];
};

int
keep_new(int work_fd, const char *name, uint64_t size_max, uint64_t json_max, const struct layer_cache *cache,
	 struct keep **ret, struct err *e)
{
	AUTO(keep) struct keep *s = mem_alloc(sizeof(*s));

	s->work_fd = work_fd;
	s->name = mem_strdup(name);
	s->dir_fd = s->shared_fd = -1;
	s->left = size_max;
	s->cache = cache;
	atomic_init(&s->watch_left, LAYER_WATCH_ALL_MAX);
	s->json_max = json_max;
	s->hash = hash_new(HASH_SHA256);
	if (mkdirat(work_fd, name, 0700) < 0)
		return err_errno(e, "mkdir %s", name);
	s->dir_fd = fs_open_dir(work_fd, name, e);
	if (s->dir_fd < 0)
		return -1;
	s->shared_fd = openat(s->dir_fd, "shared", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->shared_fd < 0)
		return err_errno(e, "open %s/shared", name);
	*ret = take_ptr(s);
	return 0;
}

void
keep_free(struct keep *s)
{
	struct err ignored = ERR_INIT;

	if (!s)
		return;
	mem_close_at(&s->shared_fd);
	mem_close_at(&s->dir_fd);
	/* The work directory goes as a whole later; what stays for now only takes room. */
	if (fs_remove_tree(s->work_fd, s->name, &ignored) < 0)
		err_clear(&ignored);
	hash_free(s->hash);
	mem_free_at(&s->name);
	mem_free_at(&s);
}

int
keep_dirfd(const struct keep *s)
{
	return s->dir_fd;
}

static bool
looks_like_json(const unsigned char *p, size_t n)
{
	while (n && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
		p++, n--;
	return n && (*p == '{' || *p == '[');
}

static bool
is_wanted(const struct keep *s, const struct entry *n, const unsigned char *head, size_t len)
{
	switch (n->place.kind) {
	case ARCHIVE_TAR:
	case ARCHIVE_GZIP:
	case ARCHIVE_ZSTD:
	case ARCHIVE_XZ:
	case ARCHIVE_BZIP2:
		return true;
	case ARCHIVE_OTHER:
		/* A manifest that is none is read to say why. */
		return n->size <= s->json_max &&
		       (looks_like_json(head, len) || !strcmp(n->name, "manifest.json"));
	}
	return false;
}

/* A file of its own, from the cache where the name says what it is, else to be written. */
static int
open_own(struct keep *s, struct entry *n, int *ret_own, struct err *e)
{
	char claimed[HASH_DIGEST_MAX];
	uint64_t size = 0;

	n->place.work_name = mem_printf("entry-%u", s->n_files++);
	n->place.watch = layer_watch_new(&s->watch_left);
	if (docker_claimed_digest(n->name, claimed) &&
	    layer_cache_take(s->cache, claimed, s->dir_fd, n->place.work_name, &size)) {
		if (size == n->size)
			return 0;
		unlinkat(s->dir_fd, n->place.work_name, 0);
	}
	*ret_own = openat(s->dir_fd, n->place.work_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			  0600);
	if (*ret_own < 0)
		return err_errno(e, "open %s", n->place.work_name);
	return 0;
}

static int
open_place(struct keep *s, struct entry *n, int *ret_own, struct err *e)
{
	uint64_t space = 0;

	if (n->size > s->left)
		return err_set(e, ERR_REFUSED,
			       "size: the entries hold more bytes than are allowed (images.max_size)");
	if (fs_space_left(s->dir_fd, &space, e) < 0)
		return -1;
	if (n->size > space) {
		AUTO_FREE char *size = str_human_size(n->size), *left = str_human_size(space);

		return err_set(e, ERR_NO_SPACE, "no space for an entry of %s, %s are left", size, left);
	}
	s->left -= n->size;
	if (n->place.kind != ARCHIVE_TAR || n->size < OWN_FILE_MIN) {
		n->place.fd = s->shared_fd;
		n->place.offset = s->shared_len;
		return 0;
	}
	return open_own(s, n, ret_own, e);
}

static int
write_chunk(struct keep *s, const struct entry *n, int own, size_t len, struct err *e)
{
	if (n->place.work_name)
		return own < 0 ? 0 : fs_write_all(own, s->chunk, len, e);
	s->shared_len += len;
	return fs_write_all(s->shared_fd, s->chunk, len, e);
}

int
keep_take(struct keep *s, struct tar *t, struct entry *n, struct err *e)
{
	AUTO_FD int own = -1;
	char digest[HASH_DIGEST_MAX];
	size_t got = 0;

	if (tar_read(t, s->chunk, n->size < CHUNK ? (size_t)n->size : CHUNK, &got, e) < 0)
		return -1;
	n->place.kind = archive_kind_of(s->chunk, got);
	n->place.has_kind = true;
	if (!is_wanted(s, n, s->chunk, got))
		return 0;
	if (open_place(s, n, &own, e) < 0)
		return -1;
	while (got) {
		hash_update(s->hash, s->chunk, got);
		if (n->place.watch)
			layer_watch_feed(n->place.watch, s->chunk, got);
		if (write_chunk(s, n, own, got, e) < 0)
			return err_wrap(e, "unpack %s", s->name);
		if (tar_read(t, s->chunk, CHUNK, &got, e) < 0)
			return -1;
	}
	hash_digest(s->hash, digest);
	n->place.digest = mem_strdup(digest);
	return 0;
}
