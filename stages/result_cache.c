#include "stages/result_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/result_entry.h"

#define LOCK_WAIT_MS 2000
#define MEMO_MAX 200 /* bytes */
#define MEMO_PREFIX "memo-"
#define FILES_MAX 1000000
/* After an eviction there is room again for a while. */
#define KEEP_OF_TEN 9
/* What a writer that was killed has left on its way. */
#define STALE_S 3600

struct file {
	char *name;
	int64_t size, used_ns;
};

static bool
is_usable(const struct result_cache *c)
{
	return c->dir_fd >= 0 && c->size_max > 0;
}

static bool
is_key(const char *name)
{
	return strlen(name) == RESULT_KEY_LEN && str_is_hex(name, RESULT_KEY_LEN);
}

/* ---- the bound ---- */

static int64_t
read_used(const struct result_cache *c)
{
	AUTO_FREE char *text = NULL;
	int64_t n;
	size_t len;

	if (fs_read_max(c->dir_fd, "used", 32, &text, &len, NULL) < 0 ||
	    str_parse_int(text, 0, INT64_MAX, &n, NULL) < 0)
		return -1;
	return n;
}

static void
write_used(const struct result_cache *c, int64_t n)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%jd", (intmax_t)n);

	if (fs_publish(c->dir_fd, "used", text, (size_t)len, 0600, 0, NULL) < 0)
		unlinkat(c->dir_fd, "used", 0); /* then it is counted anew */
}

static int
older_first(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

static void
files_free(struct file *v, size_t n)
{
	for (size_t k = 0; k < n; k++)
		free(v[k].name);
	free(v);
}

static size_t
list_files(const struct result_cache *c, struct file **ret, int64_t *ret_total)
{
	AUTO_DIR DIR *dir = fs_list(c->dir_fd, NULL);
	struct dirent *entry;
	size_t n = 0, cap = 0;

	*ret = NULL;
	*ret_total = 0;
	while (dir && n < FILES_MAX && fs_next(dir, &entry, NULL) > 0) {
		struct stat st;

		if (str_eq(entry->d_name, "used") || str_eq(entry->d_name, "lock") ||
		    fstatat(c->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (!is_key(entry->d_name) && !str_has_prefix(entry->d_name, MEMO_PREFIX) &&
		    st.st_mtim.tv_sec + STALE_S < clock_wall_s()) {
			unlinkat(c->dir_fd, entry->d_name, 0);
			continue;
		}
		if (n == cap)
			*ret = mem_resize(*ret, cap = cap ? cap * 2 : 256, sizeof(struct file));
		(*ret)[n++] = (struct file){ .name = mem_strdup(entry->d_name),
					     .size = (int64_t)st.st_blocks * 512,
					     .used_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 +
							st.st_mtim.tv_nsec };
		*ret_total += (int64_t)st.st_blocks * 512;
	}
	return n;
}

/* Counts what is there and takes the oldest away where it is too much. */
static int64_t
trim(const struct result_cache *c)
{
	struct file *files;
	int64_t total;
	size_t n = list_files(c, &files, &total);
	int64_t keep = total > c->size_max ? c->size_max / 10 * KEEP_OF_TEN : c->size_max;

	if (n > 0)
		qsort(files, n, sizeof(*files), older_first);
	for (size_t k = 0; k < n && total > keep; k++)
		if (unlinkat(c->dir_fd, files[k].name, 0) == 0)
			total -= files[k].size;
	files_free(files, n);
	return total;
}

static void
account(const struct result_cache *c, int64_t size)
{
	AUTO_FD int lock = fs_lock(c->dir_fd, "lock", clock_deadline(LOCK_WAIT_MS), NULL);
	int64_t used;

	if (lock < 0)
		return;
	used = read_used(c);
	if (used < 0 || used + size > c->size_max)
		used = trim(c);
	else
		used += size;
	write_used(c, used);
}

/* ---- entries ---- */

bool
result_cache_get(const struct result_cache *c, const char *key, struct buf *json)
{
	AUTO_FREE char *entry = NULL;
	AUTO_FD int fd = -1;
	size_t len;

	if (!is_usable(c))
		return false;
	fd = openat(c->dir_fd, key, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (fs_read_fd_max(fd, RESULT_ENTRY_MAX, &entry, &len, NULL) < 0 ||
	    !result_unpack(key, entry, len, json)) {
		result_cache_drop(c, key);
		return false;
	}
	if (futimens(fd, NULL) < 0)
		return true; /* it only goes sooner */
	return true;
}

void
result_cache_put(const struct result_cache *c, const char *key, const char *json, size_t len)
{
	AUTO_BUF struct buf entry = BUF_INIT(RESULT_ENTRY_MAX);

	if (!is_usable(c))
		return;
	result_pack(key, json, len, &entry);
	if (entry.is_full || (int64_t)entry.len > c->size_max ||
	    fs_publish(c->dir_fd, key, entry.data, entry.len, 0600, 0, NULL) < 0)
		return;
	account(c, ((int64_t)entry.len + 4095) / 4096 * 4096);
}

void
result_cache_drop(const struct result_cache *c, const char *key)
{
	if (is_usable(c))
		unlinkat(c->dir_fd, key, 0);
}

/* ---- short texts ---- */

char *
result_cache_recall(const struct result_cache *c, const char *name)
{
	AUTO_BUF struct buf text = BUF_INIT(MEMO_MAX);
	AUTO_FREE char *path = mem_printf(MEMO_PREFIX "%s", name);
	AUTO_FREE char *entry = NULL;
	size_t len;

	if (!is_usable(c) || fs_read_max(c->dir_fd, path, 4096, &entry, &len, NULL) < 0 ||
	    !result_unpack(name, entry, len, &text))
		return NULL;
	return mem_strdup(buf_str(&text));
}

void
result_cache_remember(const struct result_cache *c, const char *name, const char *text)
{
	AUTO_BUF struct buf entry = BUF_INIT(4096);
	AUTO_FREE char *path = mem_printf(MEMO_PREFIX "%s", name);

	if (!is_usable(c) || strlen(text) > MEMO_MAX)
		return;
	result_pack(name, text, strlen(text), &entry);
	if (!entry.is_full && fs_publish(c->dir_fd, path, entry.data, entry.len, 0600, 0, NULL) == 0)
		account(c, 4096);
}
