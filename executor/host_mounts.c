#include "executor/host_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

struct kept_tree {
	const char *path;
	int fd; /* a detached copy of the mount */
};

static const char *const covered[] = { "/tmp", "/var/tmp", "/dev/shm" };

static const char *
covering(const char *path)
{
	size_t i;

	for (i = 0; i < MEM_COUNT(covered); i++) {
		size_t len = strlen(covered[i]);

		if (strncmp(path, covered[i], len) == 0 && path[len] == '/')
			return covered[i];
	}
	return NULL;
}

static int
clone_tree(const char *path, struct err *e)
{
	int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return fd < 0 ? err_errno(e, "%s", path) : fd;
}

static int
attach(int tree, const char *to, struct err *e)
{
	if (move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(e, "mount on %s", to);
	return 0;
}

/* A copy of one of the slot's directories, without set-uid programs and devices. Descriptor, or -1. */
static int
clone_own(const char *from, struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
	AUTO_FD int tree = clone_tree(from, e);

	if (tree < 0)
		return -1;
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(e, "%s", from);
	return take_fd(tree);
}

/* /var/tmp that is a link to /tmp, and a covered place that a host lacks, are passed over. */
static bool
is_own_dir(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* mkdir -p below a directory that the job can write to; links are not followed. Descriptor of the last, or -1. */
static int
make_beneath(int top, const char *below, struct err *e)
{
	AUTO_FREE char *copy = mem_strdup(below);
	AUTO_FD int at = fs_open_dir(top, ".", e);
	char *save = NULL, *part;

	for (part = strtok_r(copy, "/", &save); at >= 0 && part; part = strtok_r(NULL, "/", &save)) {
		int next;

		if (mkdirat(at, part, 0755) < 0 && errno != EEXIST)
			return err_errno(e, "mkdir %s", part);
		next = fs_open_dir(at, part, e);
		close(at);
		at = next;
	}
	return take_fd(at);
}

/* The place was made by us or by the job: nothing of it is followed. */
static int
put_back(const struct kept_tree *k, struct err *e)
{
	const char *top = covering(k->path);
	const char *below;
	AUTO_FD int dir = -1;
	AUTO_FD int at = -1;

	if (!top)
		return err_set(e, ERR_FAILED, "%s lies in none of the job's own directories", k->path);
	below = k->path + strlen(top) + 1;
	dir = fs_open_dir(AT_FDCWD, top, e);
	at = dir < 0 ? -1 : make_beneath(dir, below, e);
	if (at < 0)
		return err_wrap(e, "%s in the job's own %s", k->path, top);
	if (move_mount(k->fd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(e, "mount on %s", k->path);
	return 0;
}

/* Trees below covered places, in an order where what lies above comes first. */
static size_t
keep_trees(const struct strv *keep, struct kept_tree *ret)
{
	AUTO_STRV struct strv sorted = { 0 };
	size_t i, n = 0;

	strv_copy(&sorted, keep);
	strv_sort(&sorted);
	for (i = 0; i < sorted.n; i++) {
		if (!covering(sorted.v[i]) || (i > 0 && str_eq(sorted.v[i], sorted.v[i - 1])))
			continue;
		ret[n].fd = open_tree(AT_FDCWD, sorted.v[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		if (ret[n].fd < 0)
			continue;
		for (size_t k = 0; k < keep->n; k++) {
			if (str_eq(keep->v[k], sorted.v[i]))
				ret[n].path = keep->v[k];
		}
		n++;
	}
	return n;
}

static int
cover_all(const struct host_mounts *m, struct err *e)
{
	/* Both before either: the slot's directories can lie below /tmp themselves. */
	AUTO_FD int tmp = clone_own(m->tmp, e);
	AUTO_FD int var_tmp = tmp < 0 ? -1 : clone_own(m->var_tmp, e);

	if (var_tmp < 0 || attach(tmp, "/tmp", e) < 0)
		return -1;
	if (is_own_dir("/var/tmp") && attach(var_tmp, "/var/tmp", e) < 0)
		return -1;
	if (is_own_dir("/dev/shm") &&
	    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
		return err_errno(e, "mount on /dev/shm");
	return 0;
}

/* In a container that may not mount /proc, or on a kernel before 5.8, the old one stays. */
static void
hide_processes(void)
{
	AUTO_FD int fs = fsopen("proc", FSOPEN_CLOEXEC);
	AUTO_FD int mnt = -1;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "hidepid", "invisible", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mnt >= 0)
		(void)move_mount(mnt, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH);
}

int
host_mounts_enter(const struct host_mounts *m, struct err *e)
{
	AUTO_FREE struct kept_tree *kept = mem_array(m->keep->n + 1, sizeof(*kept));
	size_t i, n;
	int rc;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e,
				 errno == EPERM
					 ? "a mount namespace (job.private_tmp) needs CAP_SYS_ADMIN: give it to the "
					   "runner's container, or set job.private_tmp: false"
					 : "mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_errno(e, "mount namespace");
	n = keep_trees(m->keep, kept);
	rc = cover_all(m, e);
	for (i = 0; i < n; i++) {
		if (rc == 0)
			rc = put_back(&kept[i], e);
		close(kept[i].fd);
	}
	if (rc == 0)
		hide_processes();
	return rc;
}
