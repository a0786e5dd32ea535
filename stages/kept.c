#include "stages/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"

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
