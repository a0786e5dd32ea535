#include "stages/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
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
confine_listen(int *ret_listen_fd, int *ret_port, struct err *e)
{
	AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return err_errno(e, "a socket on 127.0.0.1");
	*ret_port = ntohs(a.sin_port);
	*ret_listen_fd = take_fd(fd);
	return 0;
}

static int
raise_loopback(struct err *e)
{
	AUTO_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? err_errno(e, "lo") : 0;
}

int
confine_make_net(int *ret_net_fd, int *ret_listen_fd, int *ret_port, struct err *e)
{
	AUTO_FD int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	AUTO_FD int net = -1;
	int rc;

	if (ours < 0 || unshare(CLONE_NEWNET) < 0)
		return err_errno(e, "a network for the scanner");
	rc = raise_loopback(e);
	if (rc == 0)
		rc = confine_listen(ret_listen_fd, ret_port, e);
	net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (setns(ours, CLONE_NEWNET) < 0)
		return err_errno(e, "back from the scanner's network");
	if (rc == 0 && net < 0)
		return err_errno(e, "the scanner's network");
	*ret_net_fd = take_fd(net);
	return rc;
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

/* `flags`: RECURSIVE, or AT_EMPTY_PATH for the mount that the descriptor is. */
static int
make_read_only(int fd, const char *path, unsigned flags, struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID };

	/* before Linux 5.12 there is no such call; the rest of the view holds there, too */
	if (syscall(SYS_mount_setattr, fd, path, flags, &attr, sizeof(attr)) < 0 && errno != ENOSYS)
		return err_errno(e, "read-only");
	return 0;
}

/* The mount that a directory would be, without a place yet. */
static int
take_tree(int fd, struct err *e)
{
	int tree = (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	return tree < 0 ? err_errno(e, "a mount") : tree;
}

static int
put_tree(int tree, const char *path, struct err *e)
{
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(e, "%s", path);
	return 0;
}

/* `own` and `trivys` are the work directory and Trivy's as mounts that have no place yet. */
static int
make_view(const struct confine_view *v, int own, int trivys, struct err *e)
{
	AUTO_FREE char *works = mem_printf("%s/work/", v->cache_dir);
	AUTO_FREE char *trivy_dir = mem_printf("%s/" CONFINE_TRIVY_DIR, v->work_dir);

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
	/* layouts hold links to layers that other inspections read, too */
	if (make_read_only(AT_FDCWD, "/", RECURSIVE, e) < 0 ||
	    make_read_only(own, "", AT_EMPTY_PATH, e) < 0 || put_tree(own, v->work_dir, e) < 0)
		return -1;
	return put_tree(trivys, trivy_dir, e);
}

static int
make_trivy_dir(const struct confine_view *v, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int fd = -1;

	if (fs_mkdirs(v->work_fd, CONFINE_TRIVY_DIR, 0700, e) < 0)
		return -1;
	fd = fs_open_dir(v->work_fd, CONFINE_TRIVY_DIR, e);
	if (fd < 0)
		return -1;
	return fchown(fd, uid, gid) < 0 ? err_errno(e, CONFINE_TRIVY_DIR) : take_fd(fd);
}

int
confine_scanner(const struct confine_view *v, uid_t uid, gid_t gid, struct err *e)
{
	/* a mount can be taken in the namespace that it is in only, which is still the opener's */
	AUTO_FD int trivy_dir = make_trivy_dir(v, uid, gid, e);
	AUTO_FD int own = trivy_dir < 0 ? -1 : take_tree(v->work_fd, e);
	AUTO_FD int trivys = own < 0 ? -1 : take_tree(trivy_dir, e);

	if (trivys < 0)
		return err_wrap(e, "%s", v->work_dir);
	if (v->net_fd >= 0 ? setns(v->net_fd, CLONE_NEWNET) < 0 : unshare(CLONE_NEWNET) < 0)
		return err_errno(e, "cannot take the network away from the scanner");
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC) < 0)
		return err_errno(e, "the scanner's namespaces");
	if (make_view(v, own, trivys, e) < 0)
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

int
confine_beside(uid_t uid, gid_t gid, pid_t parent, struct err *e)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	if ((uid != (uid_t)-1 && confine_become(uid, gid, e) < 0) || confine_finish(e) < 0)
		return -1;
	/* a change of user clears it, so it comes behind */
	errno = proc_die_with(parent);
	return errno != 0 ? err_errno(e, "its parent is gone") : 0;
}
