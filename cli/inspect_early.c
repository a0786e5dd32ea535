#include "cli/inspect_early.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "cli/workspace.h"
#include "stages/archive_kind.h"
#include "stages/discover.h"
#include "stages/early_keeper.h"
#include "stages/early_watch.h"
#include "stages/tar.h"

#define SHARE 4 /* of the free space one in so many may be used, so that nobody runs out of it for us */

struct early {
	struct inspection i; /* an archive for each that was read, by its number; those before are ignored */
	struct options opt;  /* bounded; what it points to is the model's */
	int64_t size_max;    /* bytes of one archive by the settings */
	const struct pipeline_users *users;
	struct workspace *w;
	struct early_keeper *keeper;
	bool has_lease[EARLY_KNOWN_MAX];
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
	for (size_t k = 0; k < x->i.n_archives; k++)
		if (fs_identity_equal(&x->i.archives[k].id, id))
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
open_archive(const struct early *x, const char *path)
{
	AUTO_FD int fd = fs_open_beneath(x->i.project_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, NULL);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 || !is_archive(fd))
		return -1;
	return take_fd(fd);
}

/* --- one archive --- */

/* Whoever shares the disk does not know of us, so we leave most of what is free. */
static bool
bound(struct early *x, int64_t size)
{
	uint64_t space = 0;

	if (fs_space_left(x->w->fd, &space, NULL) < 0)
		return false;
	x->opt.images.max_size = x->size_max;
	if (space / SHARE < (uint64_t)x->size_max)
		x->opt.images.max_size = (int64_t)(space / SHARE);
	return size <= x->opt.images.max_size;
}

static void
drop_lease(struct early *x, size_t k)
{
	if (x->has_lease[k])
		early_keeper_drop(x->keeper, x->i.archives[k].fd);
	x->has_lease[k] = false;
}

/* The lease first, then what the file is, then its bytes. */
static int
take(struct early *x, const char *path, struct err *e)
{
	AUTO_FD int fd = is_blob(path) ? -1 : open_archive(x, path);
	size_t k = x->i.n_archives;
	struct fs_identity id;
	struct archive *a;
	struct stat st;
	int rc;

	if (fd < 0)
		return 0;
	x->has_lease[k] = early_keeper_take(x->keeper, fd);
	if (fstat(fd, &st) < 0 || (fs_identity_of(&st, &id), is_done(x, &id)) || id.size > x->size_left ||
	    !bound(x, id.size)) {
		if (x->has_lease[k])
			early_keeper_drop(x->keeper, fd);
		return 0;
	}
	x->size_left -= id.size;
	a = inspection_add_archive(&x->i);
	a->name = mem_strdup(path);
	a->fd = take_fd(fd);
	a->id = id;
	rc = pipeline_unpack_early(&x->i, x->users, e);
	a = &x->i.archives[k];
	if (rc < 0 || a->is_unfit || a->is_ignored)
		drop_lease(x, k);
	a->is_ignored = true; /* for the next */
	return rc;
}

/* --- the whole --- */

static int
watch(struct early *x, struct early_watch *w, int stop_fd, struct err *e)
{
	struct pollfd fds[2] = { { .fd = early_watch_fd(w), .events = POLLIN },
				 { .fd = stop_fd, .events = POLLIN } };

	while (x->i.n_archives < EARLY_KNOWN_MAX) {
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

/* The signals that end us, readable. */
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

/* Until the step ends there is nothing more to do but to keep the leases. */
static void
wait_for_end(int stop_fd)
{
	struct pollfd pfd = { .fd = stop_fd, .events = POLLIN };

	while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
}

/* Our parent has closed its direction: nobody of the step has a file open any more that would have to wait for a lease. */
static bool
is_step_over(int to)
{
	char c;

	return to >= 0 && recv(to, &c, 1, MSG_DONTWAIT) == 0;
}

static void
hand_over(struct early *x, int to)
{
	for (size_t k = 0; k < x->i.n_archives; k++) {
		const struct archive *a = &x->i.archives[k];
		const struct early_known known = { .id = a->id, .number = k, .lease_fd = a->fd };

		if (x->has_lease[k] && early_lease_holds(a->fd))
			(void)early_known_send(to, &known);
	}
}

static int
run(struct early *x, const struct glob_set *globs, int stop_fd, int to, struct err *e)
{
	AUTO(early_watch) struct early_watch *w = NULL;
	struct err why = ERR_INIT;
	int rc;

	if (early_watch_open(x->i.project_fd, globs, &w, e) < 0 || early_keeper_start(&x->keeper, e) < 0 ||
	    workspace_make_for(getppid(), x->i.cache_dir, &x->w, e) < 0)
		return -1;
	x->i.work_fd = x->w->fd;
	x->i.work_dir = x->w->path;
	x->i.out_fd = x->w->out_fd;
	rc = watch(x, w, stop_fd, &why);
	if (rc == 0)
		wait_for_end(stop_fd);
	/* in the queue nobody answers for a lease */
	if (is_step_over(to))
		hand_over(x, to);
	return 0;
}

int
inspect_early(const struct inspection *model, const struct pipeline_users *users, int to, struct err *e)
{
	AUTO_FREE struct early *x = mem_alloc(sizeof(*x));
	AUTO(glob_set) struct glob_set *globs = NULL;
	struct inspection scratch = *model;
	AUTO_FD int stop_fd = open_stop();
	int rc;

	if (stop_fd < 0)
		return err_errno(e, "signals");
	x->i = *model;
	x->opt = *model->opt;
	x->opt.images.threads = 1;
	x->i.opt = &x->opt;
	x->size_max = model->opt->images.max_size;
	x->size_left = model->opt->images.store_max;
	x->users = users;
	globs = discover_collect_globs(&scratch);
	inspection_free(&scratch);
	rc = run(x, globs, stop_fd, to, e);
	/* The keeper stays: to end it would give the leases in the queue back, too. Each ends with its last descriptor. */
	if (x->w)
		workspace_leave(x->w);
	inspection_free(&x->i);
	return rc;
}

/* --- the other side --- */

size_t
inspect_early_take_over(const char *cache_dir, int work_fd, int from, struct early_known ret[EARLY_KNOWN_MAX])
{
	AUTO_FREE char *parent = mem_printf("%s/work", cache_dir);
	AUTO_FREE char *name = NULL;
	AUTO_FD int parent_fd = fs_open_dir(AT_FDCWD, parent, NULL);
	size_t n = from < 0 ? 0 : early_known_receive(from, ret, EARLY_KNOWN_MAX);
	uint64_t start;

	if (n > 0 && parent_fd >= 0 && proc_start_time(getppid(), &start, NULL) == 0) {
		name = mem_printf("%d-%ju", (int)getppid(), (uintmax_t)start);
		if (renameat(parent_fd, name, work_fd, EARLY_DIR) == 0)
			return n;
	}
	early_known_close(ret, n);
	return 0;
}
