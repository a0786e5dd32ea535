#include "cli/rehearse_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

static int
own(const struct tree_copy *t, int dir, const char *name, struct err *e)
{
	if (t->has_owner && fchownat(dir, name, t->uid, t->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, "%s", name);
	return 0;
}

static int
copy_file(int from_dir, const char *name, int to_dir, const char *to_name, struct err *e)
{
	AUTO_FD int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	AUTO_FD int to = -1;
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		return err_errno(e, "%s", name);
	/* what an earlier rehearsal left is replaced, a link that stands there not followed */
	if (unlinkat(to_dir, to_name, 0) < 0 && errno != ENOENT)
		return err_errno(e, "%s", to_name);
	to = openat(to_dir, to_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, st.st_mode & 0777);
	if (to < 0)
		return err_errno(e, "%s", to_name);
	return fs_copy(from, 0, to, (uint64_t)st.st_size, e);
}

static int
copy_link(int from_dir, const char *name, int to_dir, const char *to_name, struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_errno(e, "%s", name);
	target[n] = '\0';
	if (symlinkat(target, to_dir, to_name) < 0)
		return err_errno(e, "%s", to_name);
	return 0;
}

/* Names in a directory, sorted. */
static int
list_names(int dir, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *d = fs_list(dir, e);
	struct dirent *entry;
	int rc = -1;

	while (d && (rc = fs_next(d, &entry, e)) > 0) {
		if (ret->n >= TREE_ENTRIES_MAX)
			return err_set(e, ERR_REFUSED, "more than %d entries in a directory",
				       TREE_ENTRIES_MAX);
		strv_add(ret, entry->d_name);
	}
	strv_sort(ret);
	return rc;
}

static int copy_entry(int from_dir, const char *name, int to_dir, const char *to_name, int depth,
		      struct tree_copy *t, struct err *e);

static int
copy_below(int from_dir, int to_dir, int depth, struct tree_copy *t, struct err *e)
{
	AUTO_STRV struct strv names = { 0 };

	if (depth > TREE_DEPTH_MAX)
		return err_set(e, ERR_REFUSED, "more than %d directories deep", TREE_DEPTH_MAX);
	if (list_names(from_dir, &names, e) < 0)
		return -1;
	for (size_t i = 0; i < names.n; i++)
		if (copy_entry(from_dir, names.v[i], to_dir, names.v[i], depth, t, e) < 0)
			return -1;
	return 0;
}

static int
copy_dir(int from_dir, const char *name, int to_dir, const char *to_name, int depth, struct tree_copy *t,
	 struct err *e)
{
	AUTO_FD int from = fs_open_dir(from_dir, name, e);
	AUTO_FD int to = -1;
	struct stat st;

	if (from < 0)
		return -1;
	if (fstat(from, &st) < 0 ||
	    (mkdirat(to_dir, to_name, (st.st_mode & 0777) | 0700) < 0 && errno != EEXIST))
		return err_errno(e, "%s", to_name);
	to = fs_open_dir(to_dir, to_name, e);
	if (to < 0)
		return -1;
	return copy_below(from, to, depth + 1, t, e);
}

static int
copy_entry(int from_dir, const char *name, int to_dir, const char *to_name, int depth, struct tree_copy *t,
	   struct err *e)
{
	struct stat st;
	int rc = 0;

	if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, "%s", name);
	if (++t->n_entries > TREE_ENTRIES_MAX)
		return err_set(e, ERR_REFUSED, "more than %d files", TREE_ENTRIES_MAX);
	if (S_ISREG(st.st_mode))
		rc = copy_file(from_dir, name, to_dir, to_name, e);
	else if (S_ISLNK(st.st_mode))
		rc = copy_link(from_dir, name, to_dir, to_name, e);
	else if (S_ISDIR(st.st_mode))
		rc = copy_dir(from_dir, name, to_dir, to_name, depth, t, e);
	else
		return 0;
	return rc < 0 ? -1 : own(t, to_dir, to_name, e);
}

/* Makes the parents of a path below dir and opens the last of them; *ret_name is what is left of the path. */
static int
open_parent(int dir, const char *path, const struct tree_copy *t, const char **ret_name, struct err *e)
{
	AUTO_FD int at = fs_open_dir(dir, ".", e);
	const char *slash;

	while (at >= 0 && (slash = strchr(path, '/')) != NULL) {
		AUTO_FREE char *name = mem_strndup(path, (size_t)(slash - path));
		int next;

		if (mkdirat(at, name, 0755) == 0) {
			if (own(t, at, name, e) < 0)
				return -1;
		} else if (errno != EEXIST) {
			return err_errno(e, "%s", name);
		}
		next = fs_open_dir(at, name, e);
		close(at);
		at = next;
		path = slash + 1;
	}
	*ret_name = path;
	return take_fd(at);
}

int
tree_copy(int from_dir, const char *name, int to_dir, const char *to_name, struct tree_copy *t, struct err *e)
{
	const char *last;
	AUTO_FD int parent = open_parent(to_dir, to_name, t, &last, e);

	return parent < 0 ? -1 : copy_entry(from_dir, name, parent, last, 0, t, e);
}

int
tree_copy_all(int from_dir, int to_dir, struct tree_copy *t, struct err *e)
{
	return copy_below(from_dir, to_dir, 0, t, e);
}

static int
list_below(int dir, const char *prefix, int depth, struct strv *ret, struct err *e)
{
	AUTO_STRV struct strv names = { 0 };

	if (depth > TREE_DEPTH_MAX)
		return err_set(e, ERR_REFUSED, "more than %d directories deep", TREE_DEPTH_MAX);
	if (list_names(dir, &names, e) < 0)
		return -1;
	for (size_t i = 0; i < names.n; i++) {
		AUTO_FREE char *path = mem_printf("%s%s", prefix, names.v[i]);
		AUTO_FREE char *below = mem_printf("%s/", path);
		AUTO_FD int sub = -1;

		if (ret->n >= TREE_ENTRIES_MAX)
			return err_set(e, ERR_REFUSED, "more than %d files", TREE_ENTRIES_MAX);
		strv_add(ret, path);
		sub = openat(dir, names.v[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0 && list_below(sub, below, depth + 1, ret, e) < 0)
			return -1;
	}
	return 0;
}

int
tree_list(int dir, struct strv *ret, struct err *e)
{
	return list_below(dir, "", 0, ret, e);
}
