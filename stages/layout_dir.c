#include "stages/layout_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

struct walk {
	struct layout_files *files;
	size_t n_names, n_max;
};

void
layout_files_free(struct layout_files *l)
{
	for (size_t i = 0; i < l->n; i++) {
		mem_free_at(&l->v[i].name);
		mem_close_at(&l->v[i].fd);
		snapshot_free(&l->v[i].snapshot);
	}
	mem_free_at(&l->v);
	*l = (struct layout_files){ 0 };
}

static int
take_file(struct walk *w, int dirfd, const char *name, const char *path, struct err *e)
{
	AUTO_FD int fd = fs_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, e);
	AUTO_FREE char *safe = str_safe(path, 120);
	struct layout_file *f;
	struct stat st;

	if (fd < 0)
		return err_wrap(e, "%s", safe);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "fstat");
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_REFUSED, "type: %s is neither a file nor a directory", safe);
	if (st.st_nlink != 1)
		return err_set(e, ERR_REFUSED, "link: %s has other names (hard links) too", safe);
	w->files->v = mem_resize(w->files->v, w->files->n + 1, sizeof(*w->files->v));
	f = &w->files->v[w->files->n++];
	*f = (struct layout_file){ .name = mem_strdup(path), .fd = take_fd(fd) };
	fs_identity_of(&st, &f->id);
	return 0;
}

static int walk_dir(struct walk *w, int dirfd, const char *path, unsigned depth, struct err *e);

static int
look_at(struct walk *w, int dirfd, const char *name, const char *path, unsigned depth, struct err *e)
{
	AUTO_FREE char *safe = str_safe(path, 120);
	AUTO_FD int fd = -1;
	struct stat st;

	if (++w->n_names > w->n_max)
		return err_set(e, ERR_NO_SPACE,
			       "not inspected: the directory has more than the %zu files that are allowed",
			       w->n_max);
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, "%s", safe);
	if (S_ISLNK(st.st_mode))
		return err_set(e, ERR_REFUSED, "link: %s is a symbolic link, which is not followed", safe);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(e, ERR_REFUSED, "type: %s is neither a file nor a directory", safe);
	if (S_ISREG(st.st_mode))
		return take_file(w, dirfd, name, path, e);
	if (depth >= LAYOUT_DIR_DEPTH)
		return err_set(e, ERR_REFUSED, "depth: %s lies deeper than %d directories", safe,
			       LAYOUT_DIR_DEPTH);
	fd = fs_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0, e);
	return fd < 0 ? err_wrap(e, "%s", safe) : walk_dir(w, fd, path, depth + 1, e);
}

/* `dirfd` stays the caller's. */
static int
walk_dir(struct walk *w, int dirfd, const char *path, unsigned depth, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, e);
	struct dirent *d;
	int rc;

	if (!dir)
		return *path ? err_wrap(e, "%s", path) : -1;
	while ((rc = fs_next(dir, &d, e)) > 0) {
		AUTO_FREE char *below = NULL;

		below = *path ? mem_printf("%s/%s", path, d->d_name) : mem_strdup(d->d_name);
		if (look_at(w, dirfd, d->d_name, below, depth, e) < 0)
			return -1;
	}
	return rc < 0 && *path ? err_wrap(e, "%s", path) : rc;
}

static int
compare_files(const void *a, const void *b)
{
	return strcmp(((const struct layout_file *)a)->name, ((const struct layout_file *)b)->name);
}

int
layout_dir_open(int dirfd, size_t n_max, struct layout_files *ret, struct err *e)
{
	struct layout_files files = { 0 };
	struct walk w = { .files = &files, .n_max = n_max };

	if (walk_dir(&w, dirfd, "", 0, e) < 0) {
		layout_files_free(&files);
		return -1;
	}
	if (files.n)
		qsort(files.v, files.n, sizeof(*files.v), compare_files);
	*ret = files;
	return 0;
}
