#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define BLOCK (64 * 1024)

void
proc_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int
proc_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0U);
}

void
proc_be_idle(void)
{
	const struct sched_param none = { 0 };
	/* IOPRIO_* of linux/ioprio.h, which is not everywhere */
	const int who_process = 1, class_idle = 3, class_shift = 13;

	(void)syscall(SYS_ioprio_set, who_process, 0, class_idle << class_shift);
	(void)sched_setscheduler(0, SCHED_IDLE, &none);
}

void
proc_end_idle(pid_t pid)
{
	const struct sched_param none = { 0 };

	(void)sched_setscheduler(pid, SCHED_OTHER, &none);
}

void
proc_settle(void)
{
	umask(022);
	(void)signal(SIGCHLD, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_IGN);
}

/* clone3 as fork; into a cgroup where one is named. */
static pid_t
fork_into(int cgroup_fd, int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
	};

	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static void
reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction now;

		if (sigaction(sig, NULL, &now) == 0 && now.sa_handler != SIG_DFL)
			signal(sig, SIG_DFL);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Moves fd above the numbers that are about to be given away. */
static int
lift(int fd, int above)
{
	return fd >= 0 && fd <= above ? fcntl(fd, F_DUPFD_CLOEXEC, above + 1) : fd;
}

static int
set_descriptors(const struct proc_spec *spec)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int from[3] = { spec->fd_in, spec->fd_out, spec->fd_err };

	for (int i = 0; i < 3; i++) {
		from[i] = lift(from[i] < 0 ? null : from[i], 2);
		if (from[i] < 0)
			return errno;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(from[i], i) < 0)
			return errno;
	/* whoever started us may have left us descriptors; the next program gets those that are named alone */
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return errno;
	for (size_t i = 0; i < spec->n_pass_fds; i++)
		if (fcntl(spec->pass_fds[i], F_SETFD, 0) < 0)
			return errno;
	return 0;
}

static int
set_limit(__rlimit_resource_t what, int64_t max)
{
	struct rlimit lim = { .rlim_cur = (rlim_t)max, .rlim_max = (rlim_t)max };

	return setrlimit(what, &lim) < 0 ? errno : 0;
}

static int
set_ids(const struct proc_spec *spec)
{
	if (!spec->has_ids)
		return 0;
	if (setgroups(spec->n_groups, spec->groups) < 0 || setresgid(spec->gid, spec->gid, spec->gid) < 0 ||
	    setresuid(spec->uid, spec->uid, spec->uid) < 0)
		return errno;
	return 0;
}

int
proc_die_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return errno;
	return getppid() == parent ? 0 : ESRCH;
}

/* In the child; an errno, or it does not return. */
static int
child_exec(const struct proc_spec *spec, pid_t parent)
{
	int no;

	reset_signals();
	no = spec->dies_with_parent ? proc_die_with(parent) : 0;
	if (no)
		return no;
	if (spec->new_session && setsid() < 0)
		return errno;
	if (spec->new_group && !spec->new_session && setpgid(0, 0) < 0)
		return errno;
	if (spec->cwd_fd >= 0 && fchdir(spec->cwd_fd) < 0)
		return errno;
	no = set_descriptors(spec);
	if (!no)
		no = set_limit(RLIMIT_CORE, 0);
	if (!no && spec->memory_max > 0)
		no = set_limit(RLIMIT_AS, spec->memory_max);
	if (!no && spec->file_max > 0)
		no = set_limit(RLIMIT_FSIZE, spec->file_max);
	if (!no && spec->in_child && spec->in_child_before_ids)
		no = spec->in_child(spec->in_child_arg);
	if (!no)
		no = set_ids(spec);
	if (!no && spec->in_child && !spec->in_child_before_ids)
		no = spec->in_child(spec->in_child_arg);
	if (no)
		return no;
	if (spec->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return errno;
	/* a change of ids has cleared it */
	no = spec->dies_with_parent ? proc_die_with(parent) : 0;
	if (no)
		return no;
	execve(spec->path, spec->argv, spec->envp);
	return errno;
}

int
proc_start(const struct proc_spec *spec, struct proc *ret, struct err *e)
{
	AUTO_FD int report_in = -1;
	AUTO_FD int report_out = -1;
	int ends[2], no = 0, pidfd = -1;
	pid_t parent = getpid(), pid;
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	report_in = ends[0];
	report_out = ends[1];
	pid = fork_into(spec->cgroup_fd, &pidfd);
	if (pid < 0)
		return err_errno(e, "%s: start", spec->path);
	if (pid == 0) {
		/* the report pipe must not be one of the descriptors that are given away */
		int report = lift(report_out, 2);

		no = child_exec(spec, parent);
		if (write(report, &no, sizeof(no)) < 0)
			_exit(126);
		_exit(127);
	}
	close(take_fd(report_out));
	do
		n = read(report_in, &no, sizeof(no));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(no)) {
		waitpid(pid, NULL, 0);
		close(pidfd);
		errno = no;
		return err_errno(e, "%s: start", spec->path);
	}
	ret->pid = pid;
	ret->pidfd = pidfd;
	return 0;
}

void
proc_close(struct proc *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
}

static void
kill_it(const struct proc *p, bool kill_group)
{
	if (kill_group)
		kill(-p->pid, SIGKILL);
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0U);
}

static int
reap(struct proc *p, bool was_late, int64_t started, struct proc_result *ret, struct err *e)
{
	struct rusage use = { 0 };
	int status;

	while (wait4(p->pid, &status, 0, &use) < 0)
		if (errno != EINTR)
			return err_errno(e, "wait");
	*ret = (struct proc_result){ .rss_max = use.ru_maxrss * 1024, .wall_ms = clock_mono_ms() - started };
	if (was_late) {
		ret->end = PROC_TIMED_OUT;
	} else if (WIFSIGNALED(status)) {
		ret->end = PROC_SIGNALLED;
		ret->code = WTERMSIG(status);
	} else {
		ret->end = PROC_EXITED;
		ret->code = WEXITSTATUS(status);
	}
	return 0;
}

int
proc_wait(struct proc *p, bool kill_group, int64_t deadline, struct proc_result *ret, struct err *e)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };
	int64_t started = clock_mono_ms();
	int n;

	if (p->pidfd < 0 && (p->pidfd = pfd.fd = proc_pidfd(p->pid)) < 0)
		return err_errno(e, "pidfd");
	do
		n = poll(&pfd, 1, clock_poll_timeout(deadline));
	while ((n < 0 && errno == EINTR) || (n == 0 && clock_left_ms(deadline) > 0));
	if (n == 0)
		kill_it(p, kill_group);
	return reap(p, n == 0, started, ret, e);
}

/* One read into b; false at the end of the stream. Bytes over the buffer's limit are read and dropped. */
static bool
drain(int fd, struct buf *b, char *block)
{
	ssize_t n = read(fd, block, BLOCK);

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n > 0 && b) {
		size_t room = b->max - b->len;
		bool was_full = b->is_full;

		buf_add(b, block, (size_t)n < room ? (size_t)n : room);
		b->is_full = was_full || (size_t)n > room;
	}
	return n > 0;
}

/* Reads both pipes until both end and the process is gone; false when the deadline passes or it is to be stopped. */
static bool
collect(const struct proc *p, int fds[2], struct buf *bufs[2], int stop_fd, int64_t deadline)
{
	AUTO_FREE char *block = mem_alloc(BLOCK);
	struct pollfd pfds[4] = {
		{ .fd = fds[0], .events = POLLIN },
		{ .fd = fds[1], .events = POLLIN },
		{ .fd = p->pidfd, .events = POLLIN },
		{ .fd = stop_fd, .events = POLLIN },
	};

	while (pfds[0].fd >= 0 || pfds[1].fd >= 0 || pfds[2].fd >= 0) {
		int n = poll(pfds, 4, clock_poll_timeout(deadline));

		if ((n == 0 && clock_left_ms(deadline) == 0) || (n > 0 && (pfds[3].revents & POLLIN)))
			return false;
		for (int i = 0; n > 0 && i < 2; i++)
			if (pfds[i].revents && !drain(fds[i], bufs[i], block))
				pfds[i].fd = -1;
		if (n > 0 && pfds[2].fd >= 0 && pfds[2].revents)
			pfds[2].fd = -1;
	}
	return true;
}

int
proc_run(const struct proc_spec *spec, int64_t deadline, struct buf *out, struct buf *err_out,
	 struct proc_result *ret, struct err *e)
{
	struct proc_spec with_pipes = *spec;
	struct buf *bufs[2] = { out, err_out };
	AUTO_FD int out_r = -1;
	AUTO_FD int out_w = -1;
	AUTO_FD int err_r = -1;
	AUTO_FD int err_w = -1;
	struct proc p;
	int64_t started = clock_mono_ms();
	int ends[2], fds[2];
	bool was_late;

	if (out) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return err_errno(e, "pipe");
		out_r = ends[0];
		out_w = with_pipes.fd_out = ends[1];
	}
	if (err_out) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return err_errno(e, "pipe");
		err_r = ends[0];
		err_w = with_pipes.fd_err = ends[1];
	}
	/* its own group, so that the deadline reaches its children, too */
	with_pipes.new_group = true;
	if (proc_start(&with_pipes, &p, e) < 0)
		return -1;
	if (out_w >= 0)
		close(take_fd(out_w));
	if (err_w >= 0)
		close(take_fd(err_w));
	fds[0] = out_r;
	fds[1] = err_r;
	was_late = !collect(&p, fds, bufs, spec->stop_fd ? *spec->stop_fd : -1, deadline);
	if (was_late)
		kill_it(&p, true);
	if (reap(&p, was_late, started, ret, e) < 0) {
		proc_close(&p);
		return -1;
	}
	proc_close(&p);
	return 0;
}

char *
proc_describe(const struct proc_result *r)
{
	const char *abbrev;

	switch (r->end) {
	case PROC_EXITED:
		return mem_printf("exited with %d", r->code);
	case PROC_SIGNALLED:
		abbrev = sigabbrev_np(r->code);
		return mem_printf("was killed by SIG%s (%d)", abbrev ? abbrev : "?", r->code);
	case PROC_TIMED_OUT:
		return mem_strdup("took longer than its time");
	}
	return mem_strdup("ended in an unknown way");
}

static bool
is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *
proc_find(const char *name, const char *path_list)
{
	AUTO_FREE char *copy = mem_strdup(path_list);
	char *save = NULL;

	if (strchr(name, '/'))
		return name[0] == '/' && is_program(name) ? mem_strdup(name) : NULL;
	for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		AUTO_FREE char *path = mem_printf("%s/%s", dir, name);

		if (dir[0] == '/' && is_program(path))
			return take_ptr(path);
	}
	return NULL;
}

int
proc_start_time(pid_t pid, uint64_t *ret, struct err *e)
{
	char name[64], text[1024];
	AUTO_FD int fd = -1;
	const char *p;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "%s", name);
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0) {
		errno = n == 0 ? ENOENT : errno == ESRCH ? ENOENT : errno;
		return err_errno(e, "%s", name);
	}
	text[n] = '\0';
	/* the second field is a name in parentheses that may hold anything: fields count behind its last ')' */
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return err_set(e, ERR_FAILED, "%s: not understood", name);
	*ret = strtoull(p + 1, NULL, 10);
	return 0;
}
