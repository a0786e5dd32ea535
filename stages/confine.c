#include "stages/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

/* <sys/mount.h> and <linux/mount.h> of Debian 12 do not go together. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
#define REC_SLAVE (0x4000UL | 0x80000UL) /* MS_REC | MS_SLAVE */
#define PLAIN (0x2UL | 0x4UL | 0x8UL)	 /* MS_NOSUID | MS_NODEV | MS_NOEXEC */
#define RECURSIVE 0x8000U		 /* AT_RECURSIVE */

/* Below cache_dir: what other inspections have, and what all share. */
static const char *const hidden[] = { "work", "layers", "results", "trivy-slots", "inspections" };

pid_t
confine_fork(bool own_pids, struct err *e)
{
	AUTO_FD int ours = -1;
	pid_t pid;
	int no;

	if (own_pids) {
		ours = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
		if (ours < 0 || unshare(CLONE_NEWPID) < 0)
			return err_errno(e, "a PID namespace");
	}
	pid = fork();
	no = errno;
	if (pid == 0)
		return 0;
	/* what we start next is no business of that child's */
	if (own_pids && setns(ours, CLONE_NEWPID) < 0)
		return err_errno(e, "back from a PID namespace");
	errno = no;
	return pid < 0 ? err_errno(e, "fork") : pid;
}

int
confine_become(uid_t uid, gid_t gid, struct err *e)
{
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_errno(e, "cannot become user %u", (unsigned)uid);
	return 0;
}

static int
hide(const struct confine_view *v, struct err *e)
{
	for (size_t k = 0; k < MEM_COUNT(hidden); k++) {
		AUTO_FREE char *path = mem_printf("%s/%s", v->cache_dir, hidden[k]);

		if (mount("tmpfs", path, "tmpfs", PLAIN, "mode=0711,size=64k,nr_inodes=16") < 0 &&
		    errno != ENOENT)
			return err_errno(e, "%s", path);
	}
	return 0;
}

static int
make_read_only(struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID };

	/* before Linux 5.12 there is no such call; the rest of the view holds there, too */
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/", RECURSIVE, &attr, sizeof(attr)) < 0 && errno != ENOSYS)
		return err_errno(e, "read-only");
	return 0;
}

/* `own` is the work directory as a mount that has no place yet. */
static int
make_view(const struct confine_view *v, int own, struct err *e)
{
	AUTO_FREE char *works = mem_printf("%s/work/", v->cache_dir);

	if (mount(NULL, "/", NULL, REC_SLAVE, NULL) < 0)
		return err_errno(e, "/");
	/* a container's /proc may not be mounted anew; then the processes of others are seen, and cannot be signalled */
	if (mount("proc", "/proc", "proc", PLAIN, NULL) < 0 && errno != EPERM)
		return err_errno(e, "/proc");
	if (str_has_prefix(v->work_dir, works)) {
		if (hide(v, e) < 0)
			return -1;
		if (mkdir(v->work_dir, 0700) < 0)
			return err_errno(e, "%s", v->work_dir);
	}
	if (make_read_only(e) < 0)
		return -1;
	if (syscall(SYS_move_mount, own, "", AT_FDCWD, v->work_dir, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(e, "%s", v->work_dir);
	return 0;
}

int
confine_scanner(const struct confine_view *v, uid_t uid, gid_t gid, struct err *e)
{
	/* a mount can be taken in the namespace that it is in only, which is still the opener's */
	AUTO_FD int own = (int)syscall(SYS_open_tree, v->work_fd, "",
				       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (own < 0)
		return err_errno(e, "%s", v->work_dir);
	if (unshare(CLONE_NEWNET) < 0)
		return err_errno(e, "cannot take the network away from the scanner");
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC) < 0)
		return err_errno(e, "the scanner's namespaces");
	if (make_view(v, own, e) < 0)
		return err_wrap(e, "the scanner's view of the files");
	return confine_become(uid, gid, e);
}

int
confine_finish(struct err *e)
{
	struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_errno(e, "no core files");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(e, "prctl");
	return 0;
}
