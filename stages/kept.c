#include "stages/kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/str.h"

#define TIDIED ".tidied"
#define TIDY_EVERY_S (24 * 3600)
#define HALF_S 3600 /* a temporary name of that age has no writer any more */

static const struct {
	const char *name;
	size_t at;
} dirs[] = {
	{ "triage", offsetof(struct kept, triage_fd) },
	{ "baselines", offsetof(struct kept, baselines_fd) },
	{ "texts", offsetof(struct kept, texts_fd) },
	{ "fixes", offsetof(struct kept, fixes_fd) },
};

static int *
fd_at(struct kept *k, size_t n)
{
	return (int *)(void *)((char *)k + dirs[n].at);
}

struct kept *
kept_open(const char *state_dir, uid_t uid, gid_t gid)
{
	struct kept *k = mem_alloc(sizeof(*k));
	/* O_PATH: the courier may pass through it, not read it */
	AUTO_FD int parent = state_dir ? open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	for (size_t n = 0; n < MEM_COUNT(dirs); n++)
		*fd_at(k, n) = -1;
	if (parent < 0) {
		err_errno(&k->fault, "%s", state_dir ? state_dir : "state_dir");
		return k;
	}
	for (size_t n = 0; n < MEM_COUNT(dirs); n++) {
		*fd_at(k, n) = fs_make_dir_of(parent, dirs[n].name, uid, gid, &k->fault);
		if (*fd_at(k, n) < 0)
			err_wrap(&k->fault, "%s", state_dir);
	}
	return k;
}

void
kept_free(struct kept *k)
{
	if (!k)
		return;
	for (size_t n = 0; n < MEM_COUNT(dirs); n++)
		mem_close_at(fd_at(k, n));
	mem_free_at(&k);
}

static bool
is_tidied(int dir_fd, int64_t now_s)
{
	struct stat st;

	return fstatat(dir_fd, TIDIED, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mtime <= now_s &&
	       now_s - (int64_t)st.st_mtime < TIDY_EVERY_S;
}

void
kept_tidy(int dir_fd, int64_t age_s)
{
	int64_t now_s = clock_wall_s();
	AUTO_DIR DIR *dir = is_tidied(dir_fd, now_s) ? NULL : fs_list(dir_fd, NULL);
	struct dirent *entry;
	struct stat st;

	/* first of all, so that of many jobs one looks */
	if (dir)
		(void)fs_publish(dir_fd, TIDIED, "", 0, 0600, 0, NULL);
	while (dir && fs_next(dir, &entry, NULL) > 0) {
		bool is_half = entry->d_name[0] == '.';

		if (!str_eq(entry->d_name, TIDIED) &&
		    fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    now_s - (int64_t)st.st_mtime > (is_half ? HALF_S : age_s))
			unlinkat(dir_fd, entry->d_name, 0);
	}
}

void
kept_name(const char *const *parts, size_t n, char out[KEPT_NAME_SIZE])
{
	AUTO(hash) struct hash *h = hash_new(HASH_SHA256);
	char digest[HASH_DIGEST_MAX];
	const char *hex = digest;
	enum hash_algo algo;

	for (size_t k = 0; k < n; k++)
		hash_update(h, parts[k] ? parts[k] : "", parts[k] ? strlen(parts[k]) + 1 : 1);
	hash_digest(h, digest);
	if (hash_parse_digest(digest, &algo, &hex) < 0)
		hex = digest;
	snprintf(out, KEPT_NAME_SIZE, "%.64s", hex);
}

void
kept_key(const char *const *parts, size_t n, char out[KEPT_KEY_SIZE])
{
	char name[KEPT_NAME_SIZE];

	kept_name(parts, n, name);
	snprintf(out, KEPT_KEY_SIZE, "%.32s", name);
}
