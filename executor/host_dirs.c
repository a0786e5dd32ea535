#include "executor/host_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define KEPT ".kept"
#define PROTECTED "-protected"
#define PROJECT_FILE "project" /* its number, with PROTECTED behind it for a protected ref */
#define PROJECT_MAX 32	       /* bytes of that file */

/* A directory per slot whose content belongs to one project at a time. */
struct shelf {
	const char *path; /* <base>/<slot> */
	bool is_kept;
	bool has_projects; /* builds: a tree of projects, each with the runner's own directory beside it */
};

char *
host_dirs_home(const struct plan *p)
{
	return mem_printf("%s/home", p->slot_dir);
}

char *
host_dirs_tmp(const struct plan *p)
{
	return mem_printf("%s/mnt/tmp", p->slot_dir);
}

char *
host_dirs_var_tmp(const struct plan *p)
{
	return mem_printf("%s/mnt/var-tmp", p->slot_dir);
}

static char *
parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

static const char *
name_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

/*
 * An admin's directory: links on the way to it are the admin's own. What is missing is made so that job users can pass
 * and not look around. Descriptor, or -1.
 */
static int
open_admin_dir(const char *path, struct err *e)
{
	AUTO_FREE char *made = mem_strdup(path);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *at;

	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return err_errno(e, "directory %s", path);
	for (at = made + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(made, 0711) < 0 && errno != EEXIST)
			return err_errno(e, "directory %s", made);
		*at = '/';
	}
	if (mkdir(made, 0711) < 0 && errno != EEXIST)
		return err_errno(e, "directory %s", made);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_errno(e, "directory %s", path) : fd;
}

static int
open_parent(const char *path, struct err *e)
{
	AUTO_FREE char *parent = parent_of(path);

	return open_admin_dir(parent, e);
}

/* mkdir, then owner and mode through the descriptor. Descriptor, or -1. */
static int
make_dir(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode, struct err *e)
{
	AUTO_FD int fd = -1;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "directory %s", name);
	fd = fs_open_dir(dirfd, name, e);
	if (fd < 0)
		return -1;
	if ((geteuid() == 0 && fchown(fd, uid, gid) < 0) || fchmod(fd, mode) < 0)
		return err_errno(e, "directory %s", name);
	return take_fd(fd);
}

/* The first error of several stays; the others are of the same kind more often than not. */
static int
keep_first(int rc, struct err *first, const struct err *e)
{
	if (rc < 0 && first->kind == ERR_NONE)
		*first = *e;
	return rc;
}

/* What a protected job finds, tree or cache, is not to come from one that anybody who may push can write to. */
static char *
kept_name(int64_t project, bool is_protected, const struct plan *p)
{
	return mem_printf("%lld%s-%lld", (long long)project, is_protected ? PROTECTED : "",
			  (long long)p->slot);
}

/*
 * The runner's own directory beside the project's, where an aborted job leaves its file variables. The tree is the job
 * user's: no link of it is followed.
 */
static int
drop_runner_tmp(int base, const struct shelf *s, const struct plan *p, struct err *e)
{
	AUTO_FREE char *path =
		mem_printf("%s/%s.tmp", name_of(s->path), p->facts.project_path ? p->facts.project_path : "");
	AUTO_FD int dir = -1;
	char *at = path, *slash;

	if (!s->has_projects || !p->facts.project_path)
		return 0;
	for (; (slash = strchr(at, '/')); at = slash + 1) {
		int next;

		*slash = '\0';
		next = openat(dir < 0 ? base : dir, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return errno == ENOENT || errno == ENOTDIR ? 0 : err_errno(e, "directory %s", at);
		if (dir >= 0)
			close(dir);
		dir = next;
	}
	return fs_remove_tree(dir, at, e);
}

static int
open_kept(int base, struct err *e)
{
	return make_dir(base, KEPT, 0, 0, 0700, e);
}

/* The project's own directory of last time becomes <base>/<slot>, if it is still this user's. */
static int
shelf_take(int base, const struct shelf *s, const struct plan *p, struct err *e)
{
	AUTO_FREE char *kept = kept_name(p->facts.project_id, p->facts.is_protected, p);
	AUTO_FD int dir = -1;
	struct stat st;

	if (!s->is_kept || p->facts.project_id <= 0)
		return 0;
	dir = open_kept(base, e);
	if (dir < 0)
		return -1;
	if (fstatat(dir, kept, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "%s/%s", KEPT, kept);
	/* A user made anew has another number: the tree would be of no use to it. */
	if (!S_ISDIR(st.st_mode) || (p->is_separated && (int64_t)st.st_uid != p->uid))
		return fs_remove_tree(dir, kept, e);
	if (renameat(dir, kept, base, name_of(s->path)) < 0)
		return err_errno(e, "%s/%s", KEPT, kept);
	/* Again: the cleanup of last time may not have known the project's path. */
	return drop_runner_tmp(base, s, p, e);
}

static int
shelf_make(const struct shelf *s, const struct plan *p, struct err *e)
{
	AUTO_FD int base = open_parent(s->path, e);
	AUTO_FD int dir = -1;

	if (base < 0 || fs_remove_tree(base, name_of(s->path), e) < 0 || shelf_take(base, s, p, e) < 0)
		return err_wrap(e, "%s", s->path);
	dir = make_dir(base, name_of(s->path), (uid_t)p->uid, (gid_t)p->gid, 0700, e);
	return dir < 0 ? err_wrap(e, "%s", s->path) : 0;
}

/* Whose job it was: -1 when it never got that far. */
static int64_t
read_project(const struct plan *p, bool *is_protected)
{
	AUTO_FREE char *path = mem_printf("%s/%s", p->slot_dir, PROJECT_FILE);
	AUTO_FREE char *text = NULL;
	int64_t project;
	char *suffix;
	size_t len;

	*is_protected = false;
	if (fs_read_max(AT_FDCWD, path, PROJECT_MAX, &text, &len, NULL) < 0)
		return -1;
	suffix = strchr(text, '-');
	*is_protected = suffix && strcmp(suffix, PROTECTED) == 0;
	if (*is_protected)
		*suffix = '\0';
	if (str_parse_int(text, 1, INT64_MAX, &project, NULL) < 0)
		return -1;
	return project;
}

static int
shelf_park(int base, const struct shelf *s, const struct plan *p, int64_t project, bool is_protected,
	   struct err *e)
{
	AUTO_FREE char *kept = kept_name(project, is_protected, p);
	AUTO_FD int dir = open_kept(base, e);

	if (dir < 0 || drop_runner_tmp(base, s, p, e) < 0 || fs_remove_tree(dir, kept, e) < 0)
		return -1;
	if (renameat(base, name_of(s->path), dir, kept) < 0 && errno != ENOENT)
		return err_errno(e, "%s/%s", KEPT, kept);
	return 0;
}

/* Settings that name a place which cannot be, below a file for one: nothing was made there. */
static bool
is_nowhere(int no)
{
	return no == ENOENT || no == ENOTDIR;
}

static int
shelf_clear(const struct shelf *s, const struct plan *p, int64_t project, bool is_protected, struct err *e)
{
	AUTO_FREE char *parent = parent_of(s->path);
	AUTO_FD int base = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (base < 0)
		return is_nowhere(errno) ? 0 : err_errno(e, "directory %s", parent);
	if (s->is_kept && project > 0 && fstatat(base, name_of(s->path), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    shelf_park(base, s, p, project, is_protected, e) < 0)
		return err_wrap(e, "%s", s->path);
	if (fs_remove_tree(base, name_of(s->path), e) < 0)
		return err_wrap(e, "%s", s->path);
	return 0;
}

static void
shelves_of(const struct plan *p, struct shelf ret[2])
{
	ret[0] = (struct shelf){ .path = p->builds_dir, .is_kept = p->job.keep_builds, .has_projects = true };
	ret[1] = (struct shelf){ .path = p->job_cache_dir, .is_kept = true };
}

/* What is mounted over /tmp looks like it; what TMPDIR names is reached through the slot's directory and the user's alone. */
static int
make_tmp(int mnt, const char *name, const struct plan *p, bool is_mounted, struct err *e)
{
	return is_mounted ? make_dir(mnt, name, 0, 0, 01777, e)
			  : make_dir(mnt, name, (uid_t)p->uid, (gid_t)p->gid, 0700, e);
}

static int
make_slot_dir(const struct plan *p, struct err *e)
{
	bool is_mounted = p->is_separated && p->job.private_tmp;
	AUTO_FD int parent = open_parent(p->slot_dir, e);
	AUTO_FD int slot = -1;
	AUTO_FD int home = -1;
	AUTO_FD int mnt = -1;
	AUTO_FD int tmp = -1;
	AUTO_FD int var_tmp = -1;
	char project[PROJECT_MAX];
	int len = snprintf(project, sizeof(project), "%lld%s", (long long)p->facts.project_id,
			   p->facts.is_protected ? PROTECTED : "");

	if (parent < 0 || fs_remove_tree(parent, name_of(p->slot_dir), e) < 0)
		return -1;
	slot = make_dir(parent, name_of(p->slot_dir), 0, 0, p->is_separated ? 0711 : 0700, e);
	if (slot < 0)
		return -1;
	home = make_dir(slot, "home", (uid_t)p->uid, (gid_t)p->gid, 0700, e);
	mnt = home < 0 ? -1 : make_dir(slot, "mnt", 0, 0, is_mounted ? 0700 : 0711, e);
	tmp = mnt < 0 ? -1 : make_tmp(mnt, "tmp", p, is_mounted, e);
	var_tmp = tmp < 0 ? -1 : make_tmp(mnt, "var-tmp", p, is_mounted, e);
	if (var_tmp < 0)
		return -1;
	return fs_publish(slot, PROJECT_FILE, project, (size_t)len, 0600, 0, e);
}

int
host_dirs_make(const struct plan *p, struct err *e)
{
	struct shelf shelves[2];
	size_t i;

	/* A slot whose last cleanup was killed still holds another project's cache. */
	if (host_dirs_remove(p, e) < 0)
		return -1;
	shelves_of(p, shelves);
	if (make_slot_dir(p, e) < 0)
		return err_wrap(e, "%s", p->slot_dir);
	for (i = 0; i < MEM_COUNT(shelves); i++) {
		if (shelf_make(&shelves[i], p, e) < 0)
			return -1;
	}
	return 0;
}

static int
remove_slot_dir(const struct plan *p, struct err *e)
{
	AUTO_FREE char *parent = parent_of(p->slot_dir);
	AUTO_FD int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return is_nowhere(errno) ? 0 : err_errno(e, "directory %s", parent);
	return fs_remove_tree(dir, name_of(p->slot_dir), e);
}

int
host_dirs_remove(const struct plan *p, struct err *e)
{
	bool is_protected;
	int64_t project = read_project(p, &is_protected);
	struct shelf shelves[2];
	struct err first = ERR_INIT, one = ERR_INIT;
	size_t i;

	shelves_of(p, shelves);
	for (i = 0; i < MEM_COUNT(shelves); i++) {
		err_clear(&one);
		keep_first(shelf_clear(&shelves[i], p, project, is_protected, &one), &first, &one);
	}
	/* Last: it says whose the rest is, should we be killed on the way. */
	err_clear(&one);
	if (first.kind == ERR_NONE)
		keep_first(remove_slot_dir(p, &one), &first, &one);
	if (first.kind == ERR_NONE)
		return 0;
	if (e)
		*e = first;
	return -1;
}
