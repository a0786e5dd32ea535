#include "executor/host_kill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/cgroup.h"
#include "executor/host_ids.h"

#define PROC_TEXT_MAX (4 * 1024 * 1024) /* bytes of a process' environment or list of children */
#define PAUSE_MS 5			/* between two looks at what no event tells of */
#define ZOMBIE_MS 100			/* after which it is looked whether only zombies are left */
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

/* The child's part: 0, or an errno. */
static int
kill_as(uid_t uid, gid_t gid, int sig)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0)
		return errno;
	if (syscall(SYS_setresuid, NOBODYS_UID, uid, NOBODYS_UID) < 0 &&
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return errno;
	/* Never as root: it would be everybody. */
	if (getuid() == 0 || geteuid() != uid)
		return EPERM;
	/* It says nothing about whom it hit. ESRCH and EPERM: there are only others. */
	return kill(-1, sig) == 0 || errno == ESRCH || errno == EPERM ? 0 : errno;
}

/*
 * One kill(2) hits all processes of the uid, and those in user namespaces that it owns, between two forks of theirs: none
 * gets away by forking. *ret_done: false when the killer was killed itself.
 */
static int
signal_as(uid_t uid, gid_t gid, int sig, bool *ret_done, struct err *e)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		_exit(kill_as(uid, gid, sig) & 0xff);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return err_errno(e, "wait");
	}
	*ret_done = WIFEXITED(status);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
		errno = WEXITSTATUS(status);
		return err_errno(e, "processes of uid %u", uid);
	}
	return 0;
}

/* What /proc/PID/status (proc(5)) and the namespaces tell of a process of a user. */
struct look {
	bool is_living; /* it runs, or could again */
	bool is_container; /* in a pid namespace below ours, and in no user namespace below ours: of an engine that is root's */
};

static bool
is_own_user_namespace(int proc_fd, const char *pid)
{
	AUTO_FREE char *path = mem_printf("%s/ns/user", pid);
	char theirs[64], own[64];
	ssize_t n = readlinkat(proc_fd, path, theirs, sizeof(theirs));

	return n > 0 && readlinkat(proc_fd, "self/ns/user", own, sizeof(own)) == n &&
	       memcmp(theirs, own, (size_t)n) == 0;
}

/* False: gone, or another user's by its real uid. */
static bool
look_at(int proc_fd, const char *pid, int64_t uid, struct look *ret)
{
	AUTO_FREE char *path = mem_printf("%s/status", pid);
	AUTO_FREE char *text = NULL;
	const char *state, *uids, *nested;
	size_t len;

	if (fs_read_max(proc_fd, path, PROC_TEXT_MAX, &text, &len, NULL) < 0)
		return false;
	state = strstr(text, "\nState:\t");
	uids = strstr(text, "\nUid:\t");
	nested = strstr(text, "\nNSpid:\t");
	if (!state || !uids || strtoll(uids + 6, NULL, 10) != uid)
		return false;
	ret->is_living = state[8] != 'Z' && state[8] != 'X';
	/* "NSpid: 26785 12": its number here, and in each namespace down to its own */
	nested = nested ? nested + 8 : "";
	nested += strspn(nested, "0123456789");
	ret->is_container = nested[0] == '\t' && is_own_user_namespace(proc_fd, pid);
	return true;
}

struct count {
	size_t n_living, n_container;
};

/* sig 0: only counts; else it goes to each that is living and no container's. */
static int
scan_uid(int64_t uid, int sig, struct count *ret, struct err *e)
{
	AUTO_DIR DIR *dir = opendir("/proc");
	struct dirent *ent;
	int rc;

	if (!dir)
		return err_errno(e, "/proc");
	*ret = (struct count){ 0 };
	while ((rc = fs_next(dir, &ent, e)) > 0) {
		AUTO_FD int pidfd = -1;
		struct look look;
		int64_t pid;

		if (str_parse_int(ent->d_name, 1, INT32_MAX, &pid, NULL) < 0)
			continue;
		/* The pidfd first: a number that was given to somebody else meanwhile does no harm. */
		if (sig != 0)
			pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
		if (!look_at(dirfd(dir), ent->d_name, uid, &look) || !look.is_living)
			continue;
		ret->n_container += look.is_container;
		ret->n_living += !look.is_container;
		if (pidfd >= 0 && !look.is_container)
			(void)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
	}
	return rc < 0 ? err_wrap(e, "/proc") : 0;
}

/* The kernel's own count, in microseconds; it has zombies in it. */
static bool
has_any(int64_t uid)
{
	errno = 0;
	return getpriority(PRIO_USER, (id_t)uid) != -1 || errno != ESRCH;
}

/*
 * To all processes of the slot user. Images have users of their own numbers (999 is many a database's): where a container of
 * root's engine runs as the same number, one by one, and not it. *ret_done: false when it has to be done again.
 */
static int
signal_user(const struct plan *p, int sig, bool *ret_done, struct err *e)
{
	struct count count = { 0 };

	if (host_kill_check_uid(p, e) < 0)
		return -1;
	if (has_any(p->uid) && scan_uid(p->uid, 0, &count, e) < 0)
		return -1;
	if (count.n_container == 0)
		return signal_as((uid_t)p->uid, (gid_t)p->gid, sig, ret_done, e);
	if (scan_uid(p->uid, sig, &count, e) < 0)
		return -1;
	*ret_done = count.n_living == 0;
	return 0;
}

/* Zombies whose parent does not look are dead enough. */
static bool
has_living(int64_t uid)
{
	struct count count = { 0 };

	return scan_uid(uid, 0, &count, NULL) < 0 || count.n_living > 0;
}

static int
kill_uid(const struct plan *p, int64_t deadline, struct err *e)
{
	int64_t patience = clock_deadline(ZOMBIE_MS);

	for (;;) {
		bool is_done = false;

		if (signal_user(p, SIGKILL, &is_done, e) < 0)
			return -1;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (is_done && (!has_any(p->uid) || (clock_left_ms(patience) == 0 && !has_living(p->uid))))
			return 0;
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "user %s: processes are left that do not die", p->user);
		pause_ms(1);
	}
}

/*
 * What runs as a subordinate number outside of the user's namespaces, where a kill as the user does not reach: a set-uid
 * program of a container's files is enough to get there. *ret_n: how many there were.
 */
static int
kill_subs_once(const struct host_ids *ids, size_t *ret_n, struct err *e)
{
	AUTO_DIR DIR *dir = opendir("/proc");
	struct dirent *ent;
	int rc;

	if (!dir)
		return err_errno(e, "/proc");
	*ret_n = 0;
	while ((rc = fs_next(dir, &ent, e)) > 0) {
		struct look look;
		struct stat st;
		bool is_done;

		if (ent->d_name[0] < '1' || ent->d_name[0] > '9' ||
		    fstatat(dirfd(dir), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !host_ids_is_sub(ids, st.st_uid) || !look_at(dirfd(dir), ent->d_name, st.st_uid, &look) ||
		    !look.is_living)
			continue;
		if (signal_as(st.st_uid, st.st_uid, SIGKILL, &is_done, e) < 0)
			return -1;
		++*ret_n;
	}
	return rc < 0 ? err_wrap(e, "/proc") : 0;
}

/* The user and all that is subordinate to him: again while one could have started another. */
static int
kill_ids(const struct plan *p, int64_t deadline, struct err *e)
{
	struct host_ids ids;
	size_t n = 0;

	if (host_ids_load(p, &ids, e) < 0)
		return -1;
	do {
		if (kill_uid(p, deadline, e) < 0 || (ids.subs.n > 0 && kill_subs_once(&ids, &n, e) < 0))
			return -1;
		if (n > 0 && clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT,
				       "user %s: processes of subordinate ids are left that do not die",
				       p->user);
	} while (n > 0);
	return 0;
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
	int rc;

	if (!dir)
		return err_errno(e, "/proc");
	*ret_n = 0;
	while ((rc = fs_next(dir, &ent, e)) > 0) {
		if (ent->d_name[0] >= '1' && ent->d_name[0] <= '9' &&
		    signal_if_meant(dirfd(dir), ent->d_name, mark, sig))
			++*ret_n;
	}
	return rc < 0 ? err_wrap(e, "/proc") : 0;
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
	bool is_empty = false, is_done;
	size_t n;
	int rc;

	if (stage_is_empty(p, &is_empty, e) < 0)
		return -1;
	if (is_empty || p->job.kill_wait <= 0)
		return 0;
	if (!str_is_empty(p->cgroup))
		rc = cgroup_signal(p->cgroup, SIGTERM, e);
	else if (p->is_separated)
		rc = signal_user(p, SIGTERM, &is_done, e);
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
		rc = kill_ids(p, deadline, e);
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
	return p->is_separated ? kill_ids(p, deadline, e) : kill_marked(p, deadline, e);
}
