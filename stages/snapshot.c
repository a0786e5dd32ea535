#include "stages/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "stages/pipeline.h"

#define NAME "snapshot"
#define CHUNK (256 * 1024)

bool
snapshot_has_writer(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return true;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

static int
copy(int from, uint64_t size, int to, char digest[HASH_DIGEST_MAX], struct err *e)
{
	AUTO(hash) struct hash *h = hash_new(HASH_SHA256);
	AUTO_FREE char *chunk = mem_alloc(CHUNK);
	uint64_t at = 0;

	while (at < size) {
		size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
		ssize_t n = pread(from, chunk, want, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, "read");
		if (n == 0)
			return err_set(e, ERR_REFUSED, "changed: the file became shorter while it was read");
		hash_update(h, chunk, (size_t)n);
		if (fs_write_all(to, chunk, (size_t)n, e) < 0)
			return -1;
		at += (uint64_t)n;
	}
	hash_digest(h, digest);
	return 0;
}

int
snapshot_take(struct snapshot *s, int fd, const struct fs_identity *id, int dir_fd, struct err *e)
{
	uint64_t size = (uint64_t)id->size, space = 0;
	AUTO_FD int to = -1;

	if (fs_space_left(dir_fd, &space, e) < 0)
		return -1;
	if (size > space)
		return err_set(e, ERR_NO_SPACE,
			       "no space for a copy of a file that is still open for writing");
	to = openat(dir_fd, NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0 || unlinkat(dir_fd, NAME, 0) < 0)
		return err_errno(e, NAME);
	if (copy(fd, size, to, s->digest, e) < 0)
		return -1;
	s->fd = take_fd(to);
	return 0;
}

void
snapshot_free(struct snapshot *s)
{
	if (s->digest[0])
		close(s->fd);
	*s = (struct snapshot){ 0 };
}

int
snapshot_fd(const struct snapshot *s, int fd)
{
	return s->digest[0] ? s->fd : fd;
}

/* --- the stage --- */

static int
look_after(const struct inspection *i, struct snapshot *s, int fd, const struct fs_identity *id, struct err *e)
{
	/* Larger ones are refused by their size. */
	if (id->size > i->opt->images.max_size || !snapshot_has_writer(fd))
		return 0;
	return snapshot_take(s, fd, id, i->work_fd, e);
}

static int
look_after_archive(const struct inspection *i, struct archive *a, struct err *e)
{
	if (!a->is_dir)
		return look_after(i, &a->snapshot, a->fd, &a->id, e);
	for (size_t k = 0; k < a->files.n; k++) {
		struct layout_file *f = &a->files.v[k];

		if (look_after(i, &f->snapshot, f->fd, &f->id, e) < 0)
			return -1;
	}
	return 0;
}

/* Of archives that are given by name nothing is recorded and nothing is stored. */
static int
run(struct inspection *i, struct err *e)
{
	(void)e;
	for (size_t k = 0; i->project_fd >= 0 && k < i->n_archives; k++) {
		struct archive *a = &i->archives[k];

		if (a->fd >= 0 && !a->is_ignored && a->fault.kind == ERR_NONE)
			(void)look_after_archive(i, a, &a->fault);
	}
	return 0;
}

const struct stage stage_snapshot = { "snapshot", STAGE_OPENER, run };
