#include "executor/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "executor/cgroup.h"
#include "executor/host_dirs.h"
#include "executor/host_kill.h"
#include "executor/host_spawn.h"
#include "executor/host_sweep.h"

#define CHECK_TEXT_MAX 4096
#define SIGNAL_BASE 128 /* a shell's exit code for death by signal n: 128 + n */

/* What a stage needs from the host (PROTOCOL.md, 5); without the last uploads are skipped silently. */
static const char *const tools[] = { "bash", "git", "hostname", "mkdir", "rm", "find" };

/* The child's part of the check: as the job user, where he would stand. */
static int
check_as_job(struct host_child *c, pid_t parent, struct err *e)
{
	const struct plan *p = c->plan;
	AUTO_FREE char *runner = NULL;
	size_t i;

	/* cleanup does not wait for it: it must not become the job's user when prepare is gone */
	errno = proc_die_with(parent);
	if (errno != 0)
		return err_errno(e, "the check of the job environment");
	if (host_child_enter(c, e) < 0 || host_child_become(c, e) < 0)
		return -1;
	errno = proc_die_with(parent);
	if (errno != 0)
		return err_errno(e, "the check of the job environment");
	if (chdir(c->home) < 0)
		return err_errno(e, "user %s cannot enter %s", p->user, c->home);
	if (chdir(p->builds_dir) < 0)
		return err_errno(e, "user %s cannot enter %s", p->user, p->builds_dir);
	for (i = 0; i < MEM_COUNT(tools); i++) {
		AUTO_FREE char *path = proc_find(tools[i], p->job.path);

		if (!path)
			return err_set(e, ERR_FAILED,
				       "there is no %s for the job in %s: install it, or set job.path in %s",
				       tools[i], p->job.path, p->settings_path);
	}
	runner = proc_find(p->job.runner_path, p->job.path);
	if (!runner)
		return err_set(e, ERR_FAILED,
			       "the job cannot start %s, which caches and artifacts need: set job.runner_path in %s "
			       "(looked for in %s)",
			       p->job.runner_path, p->settings_path, p->job.path);
	return 0;
}

/* In a child of its own, for there is no way back from being the job user. Its words come through a pipe. */
static int
check_tools(const struct plan *p, struct err *e)
{
	AUTO_FREE char *said = NULL;
	struct host_child c;
	size_t len;
	int pipe_fds[2], status = 0;
	pid_t parent = getpid(), pid;

	if (host_child_init(&c, p, NULL, e) < 0) {
		host_child_free(&c);
		return -1;
	}
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		host_child_free(&c);
		return err_errno(e, "pipe");
	}
	pid = fork();
	if (pid == 0) {
		struct err in_child = ERR_INIT;

		if (check_as_job(&c, parent, &in_child) == 0)
			_exit(0);
		(void)fs_write_all(pipe_fds[1], in_child.text, strlen(in_child.text), NULL);
		_exit(1);
	}
	host_child_free(&c);
	close(pipe_fds[1]);
	if (pid < 0) {
		close(pipe_fds[0]);
		return err_errno(e, "fork");
	}
	(void)fs_read_fd_max(pipe_fds[0], CHECK_TEXT_MAX, &said, &len, NULL);
	close(pipe_fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(e, ERR_FAILED, "%s",
		       str_is_empty(said) ? "the job environment could not be checked" : said);
}

static int
host_prepare(const struct plan *p, struct err *e)
{
	if (host_dirs_make(p, e) < 0)
		return -1;
	if (!str_is_empty(p->cgroup) && cgroup_make(p->cgroup, e) < 0)
		return -1;
	return check_tools(p, e);
}

/*
 * The job opens /dev/stdout and /dev/stderr by name as well: the pipes to the runner are given to it. A terminal or
 * a file of whoever tries a job by hand is not.
 */
static void
give_outputs(const struct plan *p)
{
	int fd;

	for (fd = STDOUT_FILENO; p->is_separated && fd <= STDERR_FILENO; fd++) {
		struct stat st;

		/* Where it fails, opening them by name fails in the job, and nothing else. */
		if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && fchown(fd, (uid_t)p->uid, (gid_t)-1) < 0)
			return;
	}
}

/* One that waits for a process while it listens to the runner. */
struct watch {
	struct proc proc;
	int signal_fd;
	bool was_signalled;
	int64_t deadline;
	const struct env_stage *stage; /* NULL for tools */
};

static int
open_signals(sigset_t *ret_old, struct err *e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, ret_old) < 0)
		return err_errno(e, "signals");
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_errno(e, "signals") : fd;
}

/* Orphans of the job become our children. The process that is waited for stays for proc_wait(). */
static void
reap_orphans(pid_t but)
{
	siginfo_t info;

	for (;;) {
		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
		    info.si_pid == but)
			return;
		(void)waitpid(info.si_pid, NULL, WNOHANG);
	}
}

/* The runner signals our group; the job's is another one. */
static void
take_signals(struct watch *w)
{
	struct signalfd_siginfo info;

	while (read(w->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			/* A tool runs beside a script, which is not for it to reap. */
			if (w->stage)
				reap_orphans(w->proc.pid);
			continue;
		}
		w->was_signalled = true;
		(void)kill(-w->proc.pid, SIGTERM);
	}
}

static int
watch_until_exit(struct watch *w, struct err *e)
{
	const struct env_stage *stage = w->stage;
	struct pollfd p[3] = {
		{ .fd = w->proc.pidfd, .events = POLLIN },
		{ .fd = w->signal_fd, .events = POLLIN },
		{ .fd = stage && stage->serve ? stage->serve_fd : -1, .events = POLLIN },
	};

	for (;;) {
		int n = poll(p, MEM_COUNT(p), clock_poll_timeout(w->deadline));

		if (n < 0 && errno != EINTR)
			return err_errno(e, "waiting for the job");
		if (p[1].revents & POLLIN)
			take_signals(w);
		if (p[0].revents || (n == 0 && clock_left_ms(w->deadline) == 0))
			return 0;
		if (n > 0 && p[2].revents && stage && stage->serve && stage->serve(stage->serve_arg, e) < 0)
			return -1;
	}
}

static void
result_of(const struct proc_result *r, struct env_result *ret)
{
	switch (r->end) {
	case PROC_EXITED:
		ret->code = r->code;
		break;
	case PROC_SIGNALLED:
		ret->code = SIGNAL_BASE + r->code;
		break;
	case PROC_TIMED_OUT:
		ret->code = SIGNAL_BASE + SIGKILL;
		break;
	}
}

/* Starts, watches and collects; what the process left behind is the caller's. */
static int
run_watched(const struct proc_spec *spec, struct watch *w, struct env_result *ret, struct err *e)
{
	struct proc_result r;
	struct err first = ERR_INIT;
	sigset_t old;
	int rc;

	w->signal_fd = open_signals(&old, e);
	if (w->signal_fd < 0)
		return -1;
	rc = proc_start(spec, &w->proc, e);
	if (rc == 0) {
		rc = watch_until_exit(w, &first);
		if (rc < 0 && e)
			*e = first;
		if (rc < 0)
			(void)kill(-w->proc.pid, SIGKILL);
		if (proc_wait(&w->proc, true, rc < 0 ? CLOCK_DEADLINE_NEVER : w->deadline, &r,
			      rc < 0 ? NULL : e) < 0)
			rc = -1;
		proc_close(&w->proc);
	}
	/* A signal that comes now is for the stage as well: it stays blocked until our own end decides. */
	if (rc == 0) {
		take_signals(w);
		ret->was_signalled = w->was_signalled;
		result_of(&r, ret);
	}
	close(w->signal_fd);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static int
host_run(const struct plan *p, const struct env_stage *stage, struct env_result *ret, struct err *e)
{
	char name[] = "bash";
	char *const argv[] = { name, NULL };
	struct watch w = { .stage = stage, .deadline = CLOCK_DEADLINE_NEVER };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct env_result result = { 0 };
	struct host_child c;
	int rc;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return err_errno(e, "subreaper");
	rc = host_child_init(&c, p, stage, e);
	if (rc == 0) {
		give_outputs(p);
		host_child_fill(&c, &spec);
		spec.path = c.bash;
		spec.argv = argv;
		spec.envp = c.env.v;
		spec.fd_in = stage->script_fd;
		spec.fd_out = STDOUT_FILENO;
		spec.fd_err = STDERR_FILENO;
		rc = run_watched(&spec, &w, &result, e);
	}
	host_child_free(&c);
	if (stage->ended)
		stage->ended(stage->ended_arg);
	/* Also after a fault of ours: nothing of the stage lives on. */
	if (host_kill_stage(p, rc < 0 ? NULL : e) < 0)
		rc = -1;
	if (rc == 0)
		*ret = result;
	return rc < 0 ? err_wrap(e, "%s", stage->name) : 0;
}

static int
host_run_tool(const struct plan *p, const struct env_tool *tool, int64_t deadline, struct env_result *ret,
	      struct err *e)
{
	struct watch w = { .deadline = deadline };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct host_child c;
	int rc = host_child_init(&c, p, NULL, e);

	if (rc == 0) {
		give_outputs(p);
		mem_free_at(&c.cwd);
		c.cwd = mem_strdup(tool->cwd);
		c.is_shielded = tool->is_shielded;
		host_child_fill(&c, &spec);
		spec.path = tool->argv[0];
		spec.argv = tool->argv;
		spec.envp = tool->envp;
		spec.fd_out = STDOUT_FILENO;
		spec.fd_err = STDERR_FILENO;
		rc = run_watched(&spec, &w, ret, e);
	}
	host_child_free(&c);
	return rc < 0 ? err_wrap(e, "%s", tool->argv[0]) : 0;
}

static int
host_kill(const struct plan *p, struct err *e)
{
	/* Timers first: what they start meanwhile is killed, and after that nothing starts any more. */
	if (host_sweep_timers(p, e) < 0)
		return -1;
	return host_kill_all(p, e);
}

static int
host_destroy(const struct plan *p, struct err *e)
{
	const char *const dirs[] = { p->builds_dir, p->job_cache_dir, p->slot_dir };
	struct err first = ERR_INIT;

	if (host_kill(p, e) < 0)
		return -1;
	if (p->is_separated && host_sweep_mounts(dirs, MEM_COUNT(dirs), e) < 0)
		return -1;
	/* A queue that cannot be removed does not keep the slot's files from being removed. */
	(void)host_sweep_rest(p, &first);
	if (host_dirs_remove(p, e) < 0)
		return -1;
	if (!str_is_empty(p->cgroup) && cgroup_remove(p->cgroup, e) < 0)
		return -1;
	if (first.kind == ERR_NONE)
		return 0;
	if (e)
		*e = first;
	return -1;
}

const struct env_ops env_host = {
	.name = "host",
	.prepare = host_prepare,
	.run = host_run,
	.run_tool = host_run_tool,
	.kill_all = host_kill,
	.destroy = host_destroy,
};
