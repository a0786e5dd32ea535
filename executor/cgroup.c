#include "executor/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/mountinfo.h"

#define PROC_TEXT_MAX (1024 * 1024) /* bytes of a list of processes */
#define DEPTH_MAX 16		    /* of groups below the job's; rootless engines make some */
#define GROUPS_MAX 4096
#define FALLBACK_PAUSE_MS 10
#define LOOK_AGAIN_MS 50 /* while waiting for an event */

/* The line "0::/path". */
static char *
own_path(const char *cgroup)
{
	const char *at = cgroup;

	while (at && !str_has_prefix(at, "0::/")) {
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	if (!at)
		return NULL;
	at += strlen("0::");
	return mem_strndup(at, strcspn(at, "\n"));
}

char *
cgroup_own_dir(const char *mountinfo, const char *cgroup)
{
	AUTO_FREE char *text = mem_strdup(mountinfo);
	AUTO_FREE char *own = own_path(cgroup);
	char *save = NULL, *line;

	/* "/../x" is a group outside of our namespace: there is no way to it. */
	if (!own || strstr(own, "/.."))
		return NULL;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct mountinfo m;
		size_t len;

		if (!mountinfo_parse(line, &m) || !str_eq(m.type, "cgroup2"))
			continue;
		len = str_eq(m.root, "/") ? 0 : strlen(m.root);
		if (strncmp(own, m.root, len) == 0 && (own[len] == '/' || own[len] == '\0'))
			return mem_printf("%s%s", m.point, str_eq(own + len, "/") ? "" : own + len);
	}
	return NULL;
}

/* FNV-1a: two installations on one host do not meet in one name. */
static uint32_t
hash_name(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

int
cgroup_path(const char *state_dir, int64_t slot, char **ret, struct err *e)
{
	AUTO_FREE char *mounts = NULL;
	AUTO_FREE char *groups = NULL;
	AUTO_FREE char *own = NULL;
	size_t len;

	if (fs_read_max(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mounts, &len, e) < 0 ||
	    fs_read_max(AT_FDCWD, "/proc/self/cgroup", PROC_TEXT_MAX, &groups, &len, e) < 0)
		return -1;
	own = cgroup_own_dir(mounts, groups);
	/* cgroup.procs too: who is born in the group must be allowed to leave ours. */
	if (!own || faccessat(AT_FDCWD, own, W_OK | X_OK, AT_EACCESS) < 0) {
		*ret = mem_strdup("");
		return 0;
	}
	{
		AUTO_FREE char *procs = mem_printf("%s/cgroup.procs", own);

		if (faccessat(AT_FDCWD, procs, W_OK, AT_EACCESS) < 0)
			*ret = mem_strdup("");
		else
			*ret = mem_printf("%s/tidewaiter-%08x-%lld", own, (unsigned)hash_name(state_dir),
					  (long long)slot);
	}
	return 0;
}

int
cgroup_make(const char *dir, struct err *e)
{
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_errno(e, "cgroup %s", dir);
	return 0;
}

int
cgroup_open(const char *dir, struct err *e)
{
	return fs_open_dir(AT_FDCWD, dir, e);
}

/* The run phase and a cleanup may be at it at the same time: a group that was removed while it was held open. */
static bool
is_removed(const struct err *e)
{
	return e->no == ENODEV || e->no == ENOENT;
}

static int
read_populated(int dirfd, bool *ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	struct err why = ERR_INIT;
	size_t len;

	if (fs_read_max(dirfd, "cgroup.events", PROC_TEXT_MAX, &text, &len, &why) < 0) {
		if (!is_removed(&why))
			return err_set(e, why.kind, "%s", why.text);
		*ret = false;
		return 0;
	}
	*ret = strstr(text, "populated 1") != NULL;
	return 0;
}

/* Descriptor, or -1: with ret_gone when there is no such group. */
static int
open_group(const char *dir, bool *ret_gone, struct err *e)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	*ret_gone = fd < 0 && errno == ENOENT;
	if (fd < 0 && !*ret_gone)
		return err_errno(e, "cgroup %s", dir);
	return fd;
}

int
cgroup_is_empty(const char *dir, bool *ret, struct err *e)
{
	AUTO_FD int fd = -1;
	bool is_gone, is_populated = false;

	fd = open_group(dir, &is_gone, e);
	if (fd < 0 && !is_gone)
		return -1;
	if (fd >= 0 && read_populated(fd, &is_populated, e) < 0)
		return err_wrap(e, "cgroup %s", dir);
	*ret = !is_populated;
	return 0;
}

/* What is done to every group of a tree, the deepest first. */
struct visit {
	int sig; /* 0: remove the groups instead */
	size_t n_groups;
};

static int
signal_group(int fd, int sig, struct err *e)
{
	AUTO_FREE char *text = NULL;
	struct err why = ERR_INIT;
	char *save = NULL, *word;
	size_t len;

	if (fs_read_max(fd, "cgroup.procs", PROC_TEXT_MAX, &text, &len, &why) < 0)
		return is_removed(&why) ? 0 : err_set(e, why.kind, "%s", why.text);
	for (word = strtok_r(text, "\n", &save); word; word = strtok_r(NULL, "\n", &save)) {
		int64_t pid;

		/* 0 is a process that our pid namespace does not show */
		if (str_parse_int(word, 1, INT32_MAX, &pid, NULL) == 0 && pid != getpid())
			kill((pid_t)pid, sig);
	}
	return 0;
}

static int
visit_tree(int fd, struct visit *v, int depth, struct err *e)
{
	AUTO_DIR DIR *dir = NULL;
	int dirfd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *ent;
	int rc;

	if (dirfd < 0)
		return errno == ENOENT ? 0 : err_errno(e, "cgroup");
	dir = fdopendir(dirfd);
	if (!dir) {
		close(dirfd);
		return err_errno(e, "cgroup");
	}
	if (depth > DEPTH_MAX || ++v->n_groups > GROUPS_MAX)
		return err_set(e, ERR_REFUSED, "more than %d groups, or deeper than %d", GROUPS_MAX,
			       DEPTH_MAX);
	while ((rc = fs_next(dir, &ent, e)) > 0) {
		AUTO_FD int child = -1;

		if (ent->d_type != DT_DIR || ent->d_name[0] == '.')
			continue;
		child = openat(fd, ent->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0)
			continue; /* just removed by the job */
		if (visit_tree(child, v, depth + 1, e) < 0)
			return -1;
		if (v->sig == 0 && unlinkat(fd, ent->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return err_errno(e, "%s", ent->d_name);
	}
	if (rc < 0)
		return err_wrap(e, "cgroup");
	return v->sig ? signal_group(fd, v->sig, e) : 0;
}

int
cgroup_signal(const char *dir, int sig, struct err *e)
{
	AUTO_FD int fd = -1;
	struct visit v = { .sig = sig };
	bool is_gone;

	fd = open_group(dir, &is_gone, e);
	if (fd < 0)
		return is_gone ? 0 : -1;
	if (visit_tree(fd, &v, 0, e) < 0)
		return err_wrap(e, "cgroup %s", dir);
	return 0;
}

/* Kernels before 5.14 have no cgroup.kill: then again and again until the group is empty. */
static int
write_kill(int fd, const char *dir, bool *ret_has_kill, struct err *e)
{
	AUTO_FD int kill_fd = openat(fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);

	*ret_has_kill = kill_fd >= 0;
	if (kill_fd < 0 && errno != ENOENT)
		return err_errno(e, "cgroup %s/cgroup.kill", dir);
	if (kill_fd >= 0)
		return fs_write_all(kill_fd, "1", 1, e);
	return cgroup_signal(dir, SIGKILL, e);
}

/* Until "populated 0": the kernel wakes whoever polls cgroup.events. */
static int
wait_empty(int fd, int64_t wait_deadline, bool *ret_empty, struct err *e)
{
	AUTO_FD int events = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	struct pollfd p = { .fd = events, .events = POLLPRI };
	int timeout_ms;

	if (events < 0)
		return err_errno(e, "cgroup.events");
	for (;;) {
		char text[256] = "";
		ssize_t n = pread(events, text, sizeof(text) - 1, 0);

		if (n < 0)
			return err_errno(e, "cgroup.events");
		*ret_empty = strstr(text, "populated 0") != NULL;
		if (*ret_empty || clock_left_ms(wait_deadline) == 0)
			return 0;
		/* A group that is removed meanwhile wakes nobody. */
		timeout_ms = clock_poll_timeout(wait_deadline);
		if (timeout_ms < 0 || timeout_ms > LOOK_AGAIN_MS)
			timeout_ms = LOOK_AGAIN_MS;
		if (poll(&p, 1, timeout_ms) < 0 && errno != EINTR)
			return err_errno(e, "cgroup.events");
	}
}

static int
kill_group(const char *dir, int64_t deadline, struct err *e)
{
	AUTO_FD int fd = -1;
	bool is_gone, is_empty = false, has_kill = false, was_killed = false;

	fd = open_group(dir, &is_gone, e);
	if (fd < 0)
		return is_gone ? 0 : -1;
	if (wait_empty(fd, 0, &is_empty, e) < 0)
		return err_wrap(e, "cgroup %s", dir);
	while (!is_empty) {
		was_killed = true;
		if (write_kill(fd, dir, &has_kill, e) < 0 ||
		    wait_empty(fd, has_kill ? deadline : clock_deadline(FALLBACK_PAUSE_MS), &is_empty, e) < 0)
			return err_wrap(e, "cgroup %s", dir);
		if (!is_empty && clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "cgroup %s: processes are left that do not die", dir);
	}
	/*
	 * Newer kernels (6.18 for one) count the kills of a group and kill a process that is born into it by clone3() when
	 * the count differs from that of its parent's group: a group that was killed is of no use any more.
	 */
	if (was_killed && (cgroup_remove(dir, e) < 0 || cgroup_make(dir, e) < 0))
		return -1;
	return 0;
}

int
cgroup_kill(const char *dir, int64_t deadline, struct err *e)
{
	struct err why = ERR_INIT;

	while (kill_group(dir, deadline, &why) < 0) {
		if (!is_removed(&why) || clock_left_ms(deadline) == 0) {
			if (e)
				*e = why;
			return -1;
		}
		err_clear(&why);
	}
	return 0;
}

int
cgroup_remove(const char *dir, struct err *e)
{
	AUTO_FD int fd = -1;
	struct visit v = { .sig = 0 };
	bool is_gone;

	fd = open_group(dir, &is_gone, e);
	if (fd < 0)
		return is_gone ? 0 : -1;
	if (visit_tree(fd, &v, 0, e) < 0)
		return err_wrap(e, "cgroup %s", dir);
	if (rmdir(dir) < 0 && errno != ENOENT)
		return err_errno(e, "cgroup %s", dir);
	return 0;
}
