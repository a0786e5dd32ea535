#include "executor/host_kill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/cgroup.h"

#define PROC_TEXT_MAX (4 * 1024 * 1024) /* bytes of a process' environment or list of children */
#define PAUSE_MS 5			/* between two looks at what no event tells of */
/*
 * The real and saved uid of a process that kills by its effective uid: nobody's, so that the job cannot kill the killer,
 * and no bystander is hit by it.
 */
#define NOBODYS_UID ((uid_t)-3)

static void
pause_ms(int ms)
{
	(void)poll(NULL, 0, ms);
}

int
host_kill_check_uid(const struct plan *p, struct err *e)
{
	if (!p->is_separated || p->uid <= 0 || p->uid == (int64_t)getuid() || p->uid == (int64_t)geteuid() ||
	    p->uid >= (int64_t)NOBODYS_UID || str_is_empty(p->user))
		return err_set(e, ERR_FAILED, "uid %lld is not a slot user's: nothing is killed by it",
			       (long long)p->uid);
	return 0;
}

/* The child's part: 0 when there was nobody, 1 when somebody was hit, 2 + errno. */
static int
kill_as(uid_t uid, gid_t gid, int sig)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0)
		return 2 + errno;
	if (syscall(SYS_setresuid, NOBODYS_UID, uid, NOBODYS_UID) < 0 &&
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return 2 + errno;
	/* Never as root: it would be everybody. */
	if (getuid() == 0 || geteuid() != uid)
		return 2 + EPERM;
	if (kill(-1, sig) == 0)
		return 1;
	/* EPERM: there are processes, none of them ours to signal */
	return errno == ESRCH || errno == EPERM ? 0 : 2 + errno;
}

/*
 * One kill(2) hits all processes of the uid, and those in user namespaces that it owns, between two forks of theirs.
 * *ret_hit: there was one. A killer that is killed counts as a hit: it is tried again.
 */
static int
signal_uid(const struct plan *p, int sig, bool *ret_hit, struct err *e)
{
	int status;
	pid_t pid;

	if (host_kill_check_uid(p, e) < 0)
		return -1;
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		_exit(kill_as((uid_t)p->uid, (gid_t)p->gid, sig) & 0xff);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return err_errno(e, "wait");
	}
	*ret_hit = !WIFEXITED(status) || WEXITSTATUS(status) == 1;
	if (WIFEXITED(status) && WEXITSTATUS(status) >= 2) {
		errno = WEXITSTATUS(status) - 2;
		return err_errno(e, "processes of user %s", p->user);
	}
	return 0;
}

/* Zombies are hit as well and are gone when their parents are: so "nobody" can take a few rounds. */
static int
kill_uid(const struct plan *p, int64_t deadline, struct err *e)
{
	for (;;) {
		bool is_hit = false;

		if (signal_uid(p, SIGKILL, &is_hit, e) < 0)
			return -1;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!is_hit)
			return 0;
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "user %s: processes are left that do not die", p->user);
		pause_ms(PAUSE_MS);
	}
}

/* Parent of a process by /proc/PID/stat (the field behind the name in parentheses, which may hold anything). */
static pid_t
parent_of(int proc_fd, const char *pid)
{
	AUTO_FREE char *path = mem_printf("%s/stat", pid);
	AUTO_FREE char *text = NULL;
	const char *at;
	size_t len;

	if (fs_read_max(proc_fd, path, PROC_TEXT_MAX, &text, &len, NULL) < 0)
		return -1;
	at = strrchr(text, ')');
	/* ") S ppid": a zombie waits for its parent only */
	if (!at || strlen(at) < 5 || at[2] == 'Z')
		return -1;
	return (pid_t)strtol(at + 4, NULL, 10);
}

static bool
has_mark(int proc_fd, const char *pid, const char *mark)
{
	AUTO_FREE char *path = mem_printf("%s/environ", pid);
	AUTO_FREE char *text = NULL;
	size_t len, at;

	if (fs_read_max(proc_fd, path, PROC_TEXT_MAX, &text, &len, NULL) < 0)
		return false;
	for (at = 0; at < len; at += strlen(text + at) + 1) {
		if (str_eq(text + at, mark))
			return true;
	}
	return false;
}

/* A process that this look is about: our child, or one that carries the mark. */
static bool
is_meant(int proc_fd, const char *pid, const char *mark)
{
	return mark ? has_mark(proc_fd, pid, mark) : parent_of(proc_fd, pid) == getpid();
}

/* The pidfd first, then the look: a number that was given to somebody else meanwhile does no harm. */
static bool
signal_if_meant(int proc_fd, const char *pid, const char *mark, int sig)
{
	int64_t n;
	AUTO_FD int pidfd = -1;

	if (str_parse_int(pid, 1, INT32_MAX, &n, NULL) < 0 || n == getpid())
		return false;
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)n, 0);
	if (pidfd < 0 || !is_meant(proc_fd, pid, mark))
		return false;
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) == 0;
}

/* mark NULL: direct children. *ret_n: how many were signalled. */
static int
signal_scan(const char *mark, int sig, size_t *ret_n, struct err *e)
{
	AUTO_DIR DIR *dir = opendir("/proc");
	struct dirent *ent;

	if (!dir)
		return err_errno(e, "/proc");
	*ret_n = 0;
	while ((ent = readdir(dir))) {
		if (ent->d_name[0] >= '1' && ent->d_name[0] <= '9' &&
		    signal_if_meant(dirfd(dir), ent->d_name, mark, sig))
			++*ret_n;
	}
	return 0;
}

/* All that ended; false when no child is left, running or not. */
static bool
reap(void)
{
	pid_t pid;

	do {
		pid = waitpid(-1, NULL, WNOHANG);
	} while (pid > 0 || (pid < 0 && errno == EINTR));
	return pid == 0;
}

/* We are their subreaper: whoever loses its parent becomes our child, so killing children again and again gets all. */
static int
kill_children(int64_t deadline, struct err *e)
{
	while (reap()) {
		size_t n;

		if (signal_scan(NULL, SIGKILL, &n, e) < 0)
			return -1;
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "processes of the job are left that do not die");
		pause_ms(1);
	}
	return 0;
}

/* Is there anything that a SIGTERM could reach? */
static int
stage_is_empty(const struct plan *p, bool *ret, struct err *e)
{
	if (!str_is_empty(p->cgroup))
		return cgroup_is_empty(p->cgroup, ret, e);
	*ret = !reap();
	return 0;
}

static int
ask_to_end(const struct plan *p, struct err *e)
{
	int64_t deadline = clock_deadline(p->job.kill_wait);
	bool is_empty = false, is_hit;
	size_t n;
	int rc;

	if (stage_is_empty(p, &is_empty, e) < 0)
		return -1;
	if (is_empty || p->job.kill_wait <= 0)
		return 0;
	if (!str_is_empty(p->cgroup))
		rc = cgroup_signal(p->cgroup, SIGTERM, e);
	else if (p->is_separated)
		rc = signal_uid(p, SIGTERM, &is_hit, e);
	else
		rc = signal_scan(NULL, SIGTERM, &n, e);
	while (rc == 0 && clock_left_ms(deadline) > 0) {
		reap();
		rc = stage_is_empty(p, &is_empty, e);
		if (is_empty)
			break;
		pause_ms(PAUSE_MS);
	}
	return rc;
}

int
host_kill_stage(const struct plan *p, struct err *e)
{
	int64_t deadline;
	int rc;

	if (ask_to_end(p, e) < 0)
		return -1;
	deadline = clock_deadline(HOST_KILL_WAIT_MS);
	if (!str_is_empty(p->cgroup))
		rc = cgroup_kill(p->cgroup, deadline, e);
	else if (p->is_separated)
		rc = kill_uid(p, deadline, e);
	else
		rc = kill_children(deadline, e);
	reap();
	return rc;
}

static int
kill_marked(const struct plan *p, int64_t deadline, struct err *e)
{
	AUTO_FREE char *mark = mem_printf("%s=%s", HOST_MARK, p->slot_dir);
	size_t n = 0;

	for (;;) {
		if (signal_scan(mark, SIGKILL, &n, e) < 0)
			return -1;
		reap();
		if (n == 0)
			return 0;
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "processes of the job are left that do not die");
		pause_ms(PAUSE_MS);
	}
}

int
host_kill_all(const struct plan *p, struct err *e)
{
	int64_t deadline = clock_deadline(HOST_KILL_WAIT_MS);

	if (!str_is_empty(p->cgroup) && cgroup_kill(p->cgroup, deadline, e) < 0)
		return -1;
	/* What cron, at or a user's systemd started in the user's name was born elsewhere. */
	return p->is_separated ? kill_uid(p, deadline, e) : kill_marked(p, deadline, e);
}
