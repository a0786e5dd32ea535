#include "stages/early_watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"

#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_EXCL_UNLINK)
#define READ_BYTES (64 * 1024)
#define READS_MAX 16 /* at once, so that the caller can look at other things */

struct dir {
	int wd;
	char *path; /* "" for the project directory */
	struct glob_at at;
	unsigned depth;
};

struct path {
	char *name;
	int64_t written_at; /* clock_mono_ms() */
};

struct early_watch {
	int project_fd; /* borrowed */
	const struct glob_set *globs;
	int fd;
	struct dir dirs[EARLY_DIRS_MAX];
	size_t n_dirs;
	struct path paths[EARLY_PATHS_MAX];
	size_t n_paths;
	unsigned n_walks;
	size_t n_names;
	bool has_lost; /* events */
};

/* --- what was written --- */

static void
add_path(struct early_watch *w, const char *name)
{
	for (size_t i = 0; i < w->n_paths; i++)
		if (!strcmp(w->paths[i].name, name)) {
			w->paths[i].written_at = clock_mono_ms();
			return;
		}
	if (w->n_paths < EARLY_PATHS_MAX)
		w->paths[w->n_paths++] = (struct path){ mem_strdup(name), clock_mono_ms() };
}

char *
early_watch_take(struct early_watch *w)
{
	int64_t now = clock_mono_ms();

	for (size_t i = 0; i < w->n_paths; i++) {
		char *name = w->paths[i].name;

		if (now - w->paths[i].written_at < EARLY_SETTLE_MS)
			continue;
		w->n_paths--;
		memmove(&w->paths[i], &w->paths[i + 1], (w->n_paths - i) * sizeof(*w->paths));
		return name;
	}
	return NULL;
}

int
early_watch_timeout(const struct early_watch *w)
{
	int64_t now = clock_mono_ms(), least = INT64_MAX;

	for (size_t i = 0; i < w->n_paths; i++) {
		int64_t left = w->paths[i].written_at + EARLY_SETTLE_MS - now;

		if (left < least)
			least = left;
	}
	return w->n_paths == 0 ? -1 : least < 0 ? 0 : (int)least;
}

/* --- directories --- */

static void
dir_free(struct dir *d)
{
	mem_free_at(&d->path);
	glob_at_free(&d->at);
}

static struct dir *
dir_of(struct early_watch *w, int wd)
{
	for (size_t i = 0; i < w->n_dirs; i++)
		if (w->dirs[i].wd == wd)
			return &w->dirs[i];
	return NULL;
}

static void
forget_dir(struct early_watch *w, int wd)
{
	struct dir *d = dir_of(w, wd);

	if (!d)
		return;
	dir_free(d);
	*d = w->dirs[--w->n_dirs];
}

/* Takes `at` over. NULL: it is not watched. A directory that was moved is known by its wd, and has another path now. */
static const struct dir *
watch_dir(struct early_watch *w, int dirfd, const char *path, struct glob_at *at, unsigned depth)
{
	struct dir new = { .path = mem_strdup(path), .at = *at, .depth = depth };
	struct dir *d;
	char name[32];

	*at = (struct glob_at){ 0 };
	snprintf(name, sizeof(name), "/proc/self/fd/%d", dirfd);
	new.wd = w->n_dirs < EARLY_DIRS_MAX ? inotify_add_watch(w->fd, name, EVENTS) : -1;
	if (new.wd < 0) {
		dir_free(&new);
		return NULL;
	}
	d = dir_of(w, new.wd);
	if (d)
		dir_free(d);
	else
		d = &w->dirs[w->n_dirs++];
	*d = new;
	return d;
}

static void walk_dir(struct early_watch *w, int dirfd, const char *path, struct glob_at *at, unsigned depth);

static char *
join(const char *dir, const char *name)
{
	return dir[0] ? mem_printf("%s/%s", dir, name) : mem_strdup(name);
}

/* A name in the directory `dir`, which has changed or is seen for the first time. */
static void
look_at_name(struct early_watch *w, const char *dir, const struct glob_at *at, unsigned depth,
	     const char *name, bool is_dir)
{
	struct glob_at below;
	struct glob_match m = glob_at_step(w->globs, at, name, &below);
	AUTO_FREE char *path = join(dir, name);

	if (!is_dir && (m.is_named || m.is_in_tree)) {
		add_path(w, path);
	} else if (is_dir && m.is_way && depth < EARLY_DEPTH_MAX && strlen(path) < PATH_MAX) {
		AUTO_FD int fd = fs_open_beneath(w->project_fd, path, O_RDONLY | O_DIRECTORY, 0, NULL);

		if (fd >= 0)
			walk_dir(w, fd, path, &below, depth + 1);
	}
	glob_at_free(&below);
}

static unsigned char
type_of(int dirfd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type;
	if (fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return DT_UNKNOWN;
	return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
}

/* Watched first, then read: what comes meanwhile is seen twice rather than never. Takes `at` over. */
static void
walk_dir(struct early_watch *w, int dirfd, const char *path, struct glob_at *at, unsigned depth)
{
	const struct dir *d = watch_dir(w, dirfd, path, at, depth);
	AUTO_DIR DIR *stream = d ? fs_list(dirfd, NULL) : NULL;
	struct dirent *entry;
	int wd = d ? d->wd : -1;

	while (stream && w->n_names < EARLY_NAMES_MAX && fs_next(stream, &entry, NULL) > 0) {
		unsigned char type;

		w->n_names++;
		type = type_of(dirfd, entry);
		/* One that was met again below itself is known by another path now. */
		d = dir_of(w, wd);
		if (!d || strcmp(d->path, path) != 0)
			return;
		if (type == DT_DIR || type == DT_REG)
			look_at_name(w, path, &d->at, depth, entry->d_name, type == DT_DIR);
	}
}

static void
walk_all(struct early_watch *w)
{
	struct glob_at at;

	w->n_walks++;
	w->has_lost = false;
	glob_at_start(w->globs, &at);
	walk_dir(w, w->project_fd, "", &at, 1);
}

/* --- events --- */

static void
take_event(struct early_watch *w, const struct inotify_event *v)
{
	const struct dir *d = dir_of(w, v->wd);
	bool is_dir = v->mask & IN_ISDIR;

	if (v->mask & IN_Q_OVERFLOW)
		w->has_lost = true;
	else if (v->mask & IN_IGNORED)
		forget_dir(w, v->wd);
	else if (d && v->len > 0 && (is_dir || (v->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)))) {
		/* looking at a directory may move the records */
		AUTO_FREE char *path = mem_strdup(d->path);

		look_at_name(w, path, &d->at, d->depth, v->name, is_dir);
	}
}

int
early_watch_read(struct early_watch *w, struct err *e)
{
	AUTO_FREE char *block = mem_alloc(READ_BYTES);

	for (unsigned k = 0; k < READS_MAX; k++) {
		ssize_t n = read(w->fd, block, READ_BYTES);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return err_errno(e, "inotify");
		if (n <= 0)
			break;
		for (char *at = block; at < block + n;) {
			const struct inotify_event *v = (const void *)at;

			take_event(w, v);
			at += sizeof(*v) + v->len;
		}
	}
	if (w->has_lost && w->n_walks >= EARLY_WALKS_MAX)
		return err_set(e, ERR_FAILED, "the job changes files faster than they can be looked at");
	if (w->has_lost)
		walk_all(w);
	return 0;
}

/* --- the whole --- */

int
early_watch_open(int project_fd, const struct glob_set *globs, struct early_watch **ret, struct err *e)
{
	AUTO(early_watch) struct early_watch *w = mem_alloc(sizeof(*w));

	w->project_fd = project_fd;
	w->globs = globs;
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		return err_errno(e, "inotify");
	walk_all(w);
	if (w->n_dirs == 0)
		return err_set(e, ERR_FAILED, "the project directory cannot be watched");
	*ret = take_ptr(w);
	return 0;
}

void
early_watch_free(struct early_watch *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n_dirs; i++)
		dir_free(&w->dirs[i]);
	for (size_t i = 0; i < w->n_paths; i++)
		mem_free_at(&w->paths[i].name);
	mem_close_at(&w->fd);
	mem_free_at(&w);
}

int
early_watch_fd(const struct early_watch *w)
{
	return w->fd;
}
