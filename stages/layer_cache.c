#include "stages/layer_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/str.h"

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX 64
#define FILES_MAX 100000 /* looked at in one pass */

struct layer_cache {
	int dir_fd; /* borrowed */
	int now_fd, before_fd;
	int64_t size_max;
};

/* "sha256-<hex>"; false for what is no digest. */
static bool
name_of(const char *diff_id, char out[HASH_DIGEST_MAX])
{
	enum hash_algo algo;
	const char *hex;

	if (hash_parse_digest(diff_id, &algo, &hex) < 0)
		return false;
	snprintf(out, HASH_DIGEST_MAX, "%s-%s", algo == HASH_SHA256 ? "sha256" : "sha512", hex);
	return true;
}

static int
open_own_dir(int dir_fd, const char *name)
{
	if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		return -1;
	return fs_open_dir(dir_fd, name, NULL);
}

/* --- the boot --- */

/* What was put here before this boot leaves `now`. Whoever has the lock does it; another's work shows at the latest in `boot`. */
static void
move_to_before(const struct layer_cache *c)
{
	AUTO_DIR DIR *d = fs_list(c->now_fd, NULL);
	struct dirent *entry;

	while (d && fs_next(d, &entry, NULL) > 0)
		if (entry->d_name[0] != '.' &&
		    renameat(c->now_fd, entry->d_name, c->before_fd, entry->d_name) < 0)
			unlinkat(c->now_fd, entry->d_name, 0);
}

/* Whether `now` holds this boot's layers, after it was made so. */
static bool
is_of_this_boot(const struct layer_cache *c)
{
	AUTO_FREE char *boot = NULL;
	AUTO_FREE char *seen = NULL;
	AUTO_FD int lock = -1;
	size_t len = 0, seen_len = 0;

	if (fs_read_max(AT_FDCWD, BOOT_ID_FILE, BOOT_ID_MAX, &boot, &len, NULL) < 0)
		return false;
	if (fs_read_max(c->dir_fd, "boot", BOOT_ID_MAX, &seen, &seen_len, NULL) == 0 && str_eq(seen, boot))
		return true;
	lock = openat(c->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return false;
	mem_free_at(&seen);
	if (fs_read_max(c->dir_fd, "boot", BOOT_ID_MAX, &seen, &seen_len, NULL) == 0 && str_eq(seen, boot))
		return true;
	move_to_before(c);
	return fs_publish(c->dir_fd, "boot", boot, len, 0600, 0, NULL) == 0;
}

struct layer_cache *
layer_cache_open(int dir_fd, int64_t size_max)
{
	AUTO(layer_cache) struct layer_cache *c = NULL;

	if (dir_fd < 0 || size_max <= 0)
		return NULL;
	c = mem_alloc(sizeof(*c));
	c->dir_fd = dir_fd;
	c->size_max = size_max;
	c->now_fd = open_own_dir(dir_fd, "now");
	c->before_fd = open_own_dir(dir_fd, "before");
	if (c->now_fd < 0 || c->before_fd < 0 || !is_of_this_boot(c))
		return NULL;
	return take_ptr(c);
}

void
layer_cache_free(struct layer_cache *c)
{
	if (!c)
		return;
	mem_close_at(&c->now_fd);
	mem_close_at(&c->before_fd);
	mem_free_at(&c);
}

/* --- one layer --- */

/* From before the boot: true when it is still what its name says, and in `now`. */
static bool
take_over(const struct layer_cache *c, const char *diff_id, const char *stored)
{
	AUTO_FD int fd = openat(c->before_fd, stored, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char digest[HASH_DIGEST_MAX];
	struct stat st;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    hash_of_fd(str_has_prefix(diff_id, "sha256:") ? HASH_SHA256 : HASH_SHA512, fd, digest, NULL) < 0 ||
	    !str_eq(digest, diff_id)) {
		unlinkat(c->before_fd, stored, 0);
		return false;
	}
	return renameat(c->before_fd, stored, c->now_fd, stored) == 0;
}

bool
layer_cache_take(const struct layer_cache *c, const char *diff_id, int to_fd, const char *name,
		 uint64_t *ret_size)
{
	static const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	char stored[HASH_DIGEST_MAX];
	struct stat st;

	if (!c || !name_of(diff_id, stored))
		return false;
	if (linkat(c->now_fd, stored, to_fd, name, 0) < 0 &&
	    (errno != ENOENT || !take_over(c, diff_id, stored) ||
	     linkat(c->now_fd, stored, to_fd, name, 0) < 0))
		return false;
	if (fstatat(to_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_uid != geteuid() || (st.st_mode & 0222)) {
		unlinkat(to_fd, name, 0);
		return false;
	}
	utimensat(c->now_fd, stored, now, AT_SYMLINK_NOFOLLOW);
	*ret_size = (uint64_t)st.st_size;
	return true;
}

void
layer_cache_put(const struct layer_cache *c, const char *diff_id, int from_fd, const char *name)
{
	char stored[HASH_DIGEST_MAX];

	if (!c || !name_of(diff_id, stored) || fchmodat(from_fd, name, 0400, 0) < 0)
		return;
	/* One that is there already is as good. */
	if (linkat(from_fd, name, c->now_fd, stored, 0) == 0)
		unlinkat(c->before_fd, stored, 0);
}

void
layer_cache_drop(const struct layer_cache *c, const char *diff_id)
{
	char stored[HASH_DIGEST_MAX];

	if (c && name_of(diff_id, stored))
		unlinkat(c->now_fd, stored, 0);
}

/* --- the bound --- */

struct kept {
	int dir_fd;
	int64_t used_ns;
	int64_t size;
	char name[HASH_DIGEST_MAX];
};

static int
compare_use(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

static void
list_dir(int dir_fd, struct kept **list, size_t *n, int64_t *total)
{
	AUTO_DIR DIR *d = fs_list(dir_fd, NULL);
	struct dirent *entry;
	struct stat st;

	while (d && *n < FILES_MAX && fs_next(d, &entry, NULL) > 0) {
		struct kept *k;

		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= HASH_DIGEST_MAX ||
		    fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (!(*n & (*n - 1)))
			*list = mem_resize(*list, *n ? *n * 2 : 1, sizeof(**list));
		k = &(*list)[(*n)++];
		k->dir_fd = dir_fd;
		k->used_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
		k->size = st.st_size;
		memcpy(k->name, entry->d_name, strlen(entry->d_name) + 1);
		*total += st.st_size;
	}
}

static void
look_at(int dir_fd, const char *name, struct layer_cache_use *u)
{
	AUTO_FD int fd = fs_open_dir(dir_fd, name, NULL);
	AUTO_FREE struct kept *list = NULL;
	int64_t total = 0;
	size_t n = 0;

	if (fd < 0)
		return;
	list_dir(fd, &list, &n, &total);
	u->size += (uint64_t)total;
	u->n += n;
}

void
layer_cache_look(int dir_fd, struct layer_cache_use *ret)
{
	*ret = (struct layer_cache_use){ 0 };
	look_at(dir_fd, "now", ret);
	look_at(dir_fd, "before", ret);
}

void
layer_cache_trim(const struct layer_cache *c)
{
	AUTO_FREE struct kept *list = NULL;
	AUTO_FD int lock = -1;
	int64_t total = 0;
	size_t n = 0;

	if (!c)
		return;
	lock = openat(c->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	/* Somebody who is at it already does it for all. */
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0)
		return;
	list_dir(c->now_fd, &list, &n, &total);
	list_dir(c->before_fd, &list, &n, &total);
	if (total <= c->size_max || !list)
		return;
	qsort(list, n, sizeof(*list), compare_use);
	for (size_t k = 0; k < n && total > c->size_max; k++)
		if (unlinkat(list[k].dir_fd, list[k].name, 0) == 0)
			total -= list[k].size;
}
