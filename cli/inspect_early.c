#include "cli/inspect_early.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cli/workspace.h"
#include "stages/archive_kind.h"
#include "stages/discover.h"
#include "stages/early_watch.h"
#include "stages/tar.h"

#define SHARE 4 /* of the free space one in so many may be used, so that nobody runs out of it for us */

struct early {
	const struct inspection *model;
	const struct pipeline_users *users;
	struct fs_identity done[INSPECT_EARLY_ARCHIVES_MAX];
	size_t n_done;
	int64_t size_left; /* bytes of archives that may still be taken: more would push our own layers out of the store */
};

/* --- what is taken --- */

static bool
is_archive(int fd)
{
	unsigned char head[ARCHIVE_KIND_BYTES];
	ssize_t n = pread(fd, head, sizeof(head), 0);
	enum archive_kind kind = n > 0 ? archive_kind_of(head, (size_t)n) : ARCHIVE_OTHER;

	return kind != ARCHIVE_OTHER && !(kind == ARCHIVE_TAR && tar_is_zero(head));
}

static bool
is_done(const struct early *x, const struct fs_identity *id)
{
	for (size_t k = 0; k < x->n_done; k++)
		if (fs_identity_equal(&x->done[k], id))
			return true;
	return false;
}

/* Blobs of a layout that is a directory: layers without an image. */
static bool
is_blob(const char *path)
{
	return strstr(path, "blobs/sha256/") || strstr(path, "blobs/sha512/");
}

/* -1: not that one. It may be another file than the one that was written; that is the same to us. */
static int
open_archive(const struct early *x, const char *path, struct fs_identity *ret)
{
	AUTO_FD int fd =
		fs_open_beneath(x->model->project_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, NULL);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 || !is_archive(fd))
		return -1;
	fs_identity_of(&st, ret);
	return take_fd(fd);
}

/* --- one archive --- */

/* Whoever shares the disk does not know of us, so we leave most of what is free. */
static bool
bound(struct options *opt, int64_t size, int work_fd)
{
	uint64_t space = 0;

	if (fs_space_left(work_fd, &space, NULL) < 0)
		return false;
	if (space / SHARE < (uint64_t)opt->images.max_size)
		opt->images.max_size = (int64_t)(space / SHARE);
	opt->images.threads = 1;
	return size <= opt->images.max_size;
}

static int
unpack(struct early *x, const char *path, int *fd, const struct fs_identity *id, struct err *e)
{
	AUTO(workspace) struct workspace *w = NULL;
	struct options opt = *x->model->opt; /* what it points to stays the model's */
	struct inspection i = *x->model;
	struct archive *a;
	int rc = 0;

	if (workspace_make(x->model->cache_dir, &w, e) < 0)
		return -1;
	if (!bound(&opt, id->size, w->fd))
		return 0;
	i.opt = &opt;
	i.work_fd = w->fd;
	i.work_dir = w->path;
	i.out_fd = w->out_fd;
	a = inspection_add_archive(&i);
	a->name = mem_strdup(path);
	a->fd = take_fd(*fd);
	*fd = -1;
	a->id = *id;
	rc = pipeline_unpack_early(&i, x->users, e);
	inspection_free(&i);
	return rc;
}

static int
take(struct early *x, const char *path, struct err *e)
{
	struct fs_identity id;
	AUTO_FD int fd = is_blob(path) ? -1 : open_archive(x, path, &id);

	if (fd < 0 || is_done(x, &id) || id.size > x->size_left)
		return 0;
	x->size_left -= id.size;
	x->done[x->n_done++] = id;
	return unpack(x, path, &fd, &id, e);
}

/* --- the whole --- */

static int
watch(struct early *x, struct early_watch *w, int stop_fd, struct err *e)
{
	struct pollfd fds[2] = { { .fd = early_watch_fd(w), .events = POLLIN },
				 { .fd = stop_fd, .events = POLLIN } };

	while (x->n_done < INSPECT_EARLY_ARCHIVES_MAX) {
		AUTO_FREE char *path = NULL;

		if (poll(fds, MEM_COUNT(fds), early_watch_timeout(w)) < 0 && errno != EINTR)
			return err_errno(e, "poll");
		if (fds[1].revents)
			return 0;
		if (fds[0].revents && early_watch_read(w, e) < 0)
			return -1;
		path = early_watch_take(w);
		if (path && take(x, path, e) < 0)
			return -1;
	}
	return 0;
}

static int
open_stop(void)
{
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &stop, NULL) < 0)
		return -1;
	return signalfd(-1, &stop, SFD_CLOEXEC);
}

int
inspect_early(const struct inspection *model, const struct pipeline_users *users, struct err *e)
{
	AUTO_FREE struct early *x = mem_alloc(sizeof(*x));
	AUTO(glob_set) struct glob_set *globs = NULL;
	AUTO(early_watch) struct early_watch *w = NULL;
	struct inspection scratch = *model;
	AUTO_FD int stop_fd = open_stop();

	if (stop_fd < 0)
		return err_errno(e, "signals");
	x->model = model;
	x->users = users;
	x->size_left = model->opt->images.store_max;
	globs = discover_collect_globs(&scratch);
	inspection_free(&scratch);
	if (early_watch_open(model->project_fd, globs, &w, e) < 0)
		return -1;
	return watch(x, w, stop_fd, e);
}
