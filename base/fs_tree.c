/*
 * Removal of a tree that a stranger made: any depth, any modes, links, mounts.
 * An explicit stack of open directories, so that no path is ever resolved twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

#define DEPTH_OPEN_MAX 128
#define PASSES_MAX 256 /* over one directory that is not empty in the end */

struct level {
	DIR *dir;
	char *name; /* in its parent */
	unsigned passes;
};

struct walk {
	struct level *levels;
	size_t n;
	dev_t dev; /* of the tree: mounts below it are not entered */
};

/* chmod 0700 of a directory that cannot be opened; never of what a link put in its place leads to. */
static int
make_accessible(int parent, const char *name)
{
	AUTO_FD int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[64];

	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, 0700);
}

/* Opens a directory below parent; made readable when its owner took that away. NULL: not a directory, or not ours. */
static DIR *
open_level(int parent, const char *name, dev_t dev, bool is_top)
{
	AUTO_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	DIR *dir;

	if (fd < 0 && errno == EACCES && make_accessible(parent, name) == 0)
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	if (!is_top && st.st_dev != dev) {
		errno = EXDEV;
		return NULL;
	}
	if ((st.st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0 && errno != EPERM)
		return NULL;
	dir = fdopendir(fd);
	if (dir)
		take_fd(fd);
	return dir;
}

static void
push(struct walk *w, DIR *dir, const char *name)
{
	w->levels = mem_resize(w->levels, w->n + 1, sizeof(*w->levels));
	w->levels[w->n++] = (struct level){ .dir = dir, .name = mem_strdup(name) };
}

/*
 * Too deep to hold every level open: the directory is moved up beside the
 * tree's top, where the walk meets it later as a shallow one.
 */
static int
move_up(struct walk *w, int parent, const char *name)
{
	AUTO_FREE char *fresh = NULL;
	uint64_t r;

	/* a name that whoever made the tree cannot have taken before */
	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		abort();
	fresh = mem_printf(".tidewaiter-deep-%016jx", (uintmax_t)r);
	/* a directory that cannot be written cannot be given another parent */
	if (make_accessible(parent, name) < 0 && errno != EPERM)
		return -1;
	if (renameat(parent, name, dirfd(w->levels[0].dir), fresh) < 0)
		return -1;
	rewinddir(w->levels[0].dir);
	return 0;
}

/* -1; errno is that of unlinkat(2), no, where it was no directory after all. */
static int
not_removed(int no)
{
	if (errno == ENOTDIR)
		errno = no;
	return -1;
}

/* One entry of the directory on top of the stack: gone, or pushed. -1 with errno. */
static int
remove_entry(struct walk *w, const char *name)
{
	int parent = dirfd(w->levels[w->n - 1].dir);
	int no;
	DIR *dir;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM && errno != EACCES)
		return -1;
	no = errno;
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
		return not_removed(no);
	if (w->n >= DEPTH_OPEN_MAX)
		return move_up(w, parent, name);
	dir = open_level(parent, name, w->dev, false);
	if (!dir)
		return not_removed(no);
	push(w, dir, name);
	return 0;
}

static void
walk_free(struct walk *w)
{
	for (size_t i = 0; i < w->n; i++) {
		closedir(w->levels[i].dir);
		free(w->levels[i].name);
	}
	free(w->levels);
}

static int
walk_run(struct walk *w, int top_parent, struct err *e)
{
	while (w->n > 0) {
		struct level *top = &w->levels[w->n - 1];
		struct dirent *entry;
		int parent, rc = fs_next(top->dir, &entry, e);

		if (rc < 0)
			return err_wrap(e, "%s", top->name);
		if (rc > 0) {
			if (remove_entry(w, entry->d_name) < 0)
				return err_errno(e, "remove %s", entry->d_name);
			continue;
		}
		parent = w->n > 1 ? dirfd(w->levels[w->n - 2].dir) : top_parent;
		if (unlinkat(parent, top->name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
			/* somebody put a file there meanwhile, or readdir missed what moved; but not for ever */
			if ((errno != ENOTEMPTY && errno != EEXIST) || ++top->passes > PASSES_MAX)
				return err_errno(e, "remove %s", top->name);
			rewinddir(top->dir);
			continue;
		}
		closedir(top->dir);
		free(top->name);
		w->n--;
	}
	return 0;
}

int
fs_remove_tree(int dirfd_, const char *name, struct err *e)
{
	struct walk w = { 0 };
	struct stat st;
	DIR *dir;
	int rc;

	if (fstatat(dirfd_, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "%s", name);
	if (!S_ISDIR(st.st_mode)) {
		if (unlinkat(dirfd_, name, 0) < 0 && errno != ENOENT)
			return err_errno(e, "remove %s", name);
		return 0;
	}
	dir = open_level(dirfd_, name, 0, true);
	if (!dir)
		return errno == ENOENT ? 0 : err_errno(e, "remove %s", name);
	w.dev = st.st_dev;
	push(&w, dir, name);
	rc = walk_run(&w, dirfd_, e);
	walk_free(&w);
	return rc;
}

int
fs_remove_beneath(int dirfd_, const char *path, struct err *e)
{
	AUTO_FREE char *dir = mem_strdup(path);
	AUTO_FD int fd = -1;
	char *slash = strrchr(dir, '/');

	if (!slash)
		return fs_remove_tree(dirfd_, path, e);
	*slash = '\0';
	fd = fs_open_beneath(dirfd_, dir, O_RDONLY | O_DIRECTORY, 0, e);
	if (fd >= 0)
		return fs_remove_tree(fd, slash + 1, e);
	if (errno != ENOENT)
		return -1;
	err_clear(e);
	return 0;
}
