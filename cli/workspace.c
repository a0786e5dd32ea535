#include "cli/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#define OUT_NAME "out"

/* "<pid>-<start time>" of a process that lives on? */
static bool
is_alive(const char *name)
{
	uint64_t start, real;
	int pid, end = 0;

	if (sscanf(name, "%d-%ju%n", &pid, &start, &end) != 2 || name[end] || pid <= 0)
		return false;
	return proc_start_time(pid, &real, NULL) == 0 && real == start;
}

/* What processes left that were killed. Faults are of no interest here: the next one tries again. */
static void
sweep(int parent_fd)
{
	AUTO_DIR DIR *dir = fs_list(parent_fd, NULL);
	struct dirent *entry;

	while (dir && fs_next(dir, &entry, NULL) > 0)
		if (entry->d_name[0] != '.' && !is_alive(entry->d_name))
			fs_remove_tree(parent_fd, entry->d_name, NULL);
}

static int
make_dirs(struct workspace *w, struct err *e)
{
	if (mkdirat(w->parent_fd, w->name, 0700) < 0)
		return err_errno(e, "%s", w->path);
	w->fd = fs_open_dir(w->parent_fd, w->name, e);
	if (w->fd < 0)
		return -1;
	if (mkdirat(w->fd, OUT_NAME, 0755) < 0)
		return err_errno(e, "%s/" OUT_NAME, w->path);
	w->out_fd = fs_open_dir(w->fd, OUT_NAME, e);
	return w->out_fd < 0 ? -1 : 0;
}

int
workspace_make(const char *cache_dir, struct workspace **ret, struct err *e)
{
	return workspace_make_for(getpid(), cache_dir, ret, e);
}

int
workspace_make_for(pid_t pid, const char *cache_dir, struct workspace **ret, struct err *e)
{
	AUTO(workspace) struct workspace *w = mem_alloc(sizeof(*w));
	AUTO_FREE char *parent = mem_printf("%s/work", cache_dir);
	uint64_t start;

	*w = (struct workspace){ .parent_fd = -1, .fd = -1, .out_fd = -1 };
	/* the scanner's user walks through, and sees nothing */
	if (fs_mkdirs(AT_FDCWD, parent, 0711, e) < 0)
		return err_wrap(e, "cache_dir");
	w->parent_fd = fs_open_dir(AT_FDCWD, parent, e);
	if (w->parent_fd < 0 || proc_start_time(pid, &start, e) < 0)
		return -1;
	sweep(w->parent_fd);
	w->name = mem_printf("%d-%ju", (int)pid, (uintmax_t)start);
	w->path = mem_printf("%s/%s", parent, w->name);
	if (make_dirs(w, e) < 0)
		return -1;
	*ret = take_ptr(w);
	return 0;
}

void
workspace_free(struct workspace *w)
{
	if (w && w->name && w->parent_fd >= 0)
		fs_remove_tree(w->parent_fd, w->name, NULL);
	workspace_leave(w);
}

void
workspace_leave(struct workspace *w)
{
	if (!w)
		return;
	mem_close_at(&w->out_fd);
	mem_close_at(&w->fd);
	mem_close_at(&w->parent_fd);
	free(w->name);
	free(w->path);
	free(w);
}

static int
find_user(const char *name, uid_t *ret_uid, gid_t *ret_gid, struct err *e)
{
	const struct passwd *pw = getpwnam(name);

	if (!pw)
		return err_set(e, ERR_SETTINGS, "user %s is missing; `tidewaiter setup` makes it", name);
	if (pw->pw_uid == 0)
		return err_set(e, ERR_SETTINGS, "user %s is root, which it must not be", name);
	*ret_uid = pw->pw_uid;
	*ret_gid = pw->pw_gid;
	return 0;
}

int
workspace_users(const char *scan_user, const char *courier_user, struct pipeline_users *ret, struct err *e)
{
	*ret = (struct pipeline_users){ .is_separated = geteuid() == 0 };
	if (!ret->is_separated)
		return 0;
	if (find_user(scan_user, &ret->scan_uid, &ret->scan_gid, e) < 0)
		return -1;
	return find_user(courier_user, &ret->courier_uid, &ret->courier_gid, e);
}
