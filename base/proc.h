/*
 * Processes: started by absolute path with a built environment, never through
 * a shell. Started, exited, signalled and timed out are four different answers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct proc_spec {
	const char *path;	   /* absolute */
	char *const *argv;	   /* NULL at the end */
	char *const *envp;	   /* NULL at the end; never the caller's environ by accident */
	int fd_in, fd_out, fd_err; /* -1: /dev/null */
	const int *pass_fds;	   /* further descriptors, kept under their numbers */
	size_t n_pass_fds;
	int cwd_fd;    /* -1: stay */
	int cgroup_fd; /* directory of a cgroup v2 to be born in; -1: ours */
	bool has_ids;  /* setgroups, setresgid, setresuid */
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary, with has_ids */
	size_t n_groups;
	bool new_group; /* a process group of its own */
	bool new_session;
	bool no_new_privs;
	bool dies_with_parent; /* PR_SET_PDEATHSIG SIGKILL */
	int64_t memory_max;    /* RLIMIT_AS in bytes, 0: none. See also proc_watch_memory */
	int64_t file_max;      /* RLIMIT_FSIZE in bytes, 0: none */
	/* Runs in the child before exec and after ids are set when not NULL; 0, or an errno to report. */
	int (*in_child)(void *arg);
	void *in_child_arg;
	bool in_child_before_ids; /* in_child runs before ids are dropped instead */
	const int *stop_fd; /* proc_run: it is killed, and has timed out, when this becomes readable; NULL: none */
};
/* In a child: SIGKILL when `parent` ends. 0, or an errno; ESRCH: it has ended. Each change of ids undoes it: call it again. */
int proc_die_with(pid_t parent);
/*
 * First thing in main(): what the caller left us decides nothing. Files get the modes that they are made with (umask 022),
 * children can be waited for (SIGCHLD), a limit on the size of files is an error and no death (SIGXFSZ).
 */
void proc_settle(void);
/*
 * Core files are always switched off in the child (RLIMIT_CORE 0), signals reset to their defaults, descriptors
 * other than 0 to 2 and pass_fds closed.
 */

#define PROC_SPEC_INIT                                                                 \
	{                                                                              \
		.fd_in = -1, .fd_out = -1, .fd_err = -1, .cwd_fd = -1, .cgroup_fd = -1 \
	}

struct proc {
	pid_t pid;
	int pidfd;
};

enum proc_end {
	PROC_EXITED,	/* code: exit code */
	PROC_SIGNALLED, /* code: signal number */
	PROC_TIMED_OUT, /* it was killed at the deadline; code: 0 */
};

struct proc_result {
	enum proc_end end;
	int code;
	int64_t rss_max; /* bytes */
	int64_t wall_ms;
};

/* An exec that fails is an error here (ENOENT and so on), not exit 127. */
int proc_start(const struct proc_spec *spec, struct proc *ret, struct err *e);
/* Waits; at the deadline SIGKILL to the process (its group with new_group) and PROC_TIMED_OUT. */
int proc_wait(struct proc *p, bool kill_group, int64_t deadline, struct proc_result *ret, struct err *e);
/* start + read both outputs into the buffers (NULL: /dev/null) + wait. Overfull buffers keep the first bytes. */
int proc_run(const struct proc_spec *spec, int64_t deadline, struct buf *out, struct buf *err_out,
	     struct proc_result *ret, struct err *e);
void proc_close(struct proc *p);
/*
 * The calling thread, and what it starts from now on, gets CPU and disk only where nobody else wants them (SCHED_IDLE, idle
 * class of ioprio_set(2)). Such a process must hold no lock that others wait for. Where it cannot be, it stays as it was.
 */
void proc_be_idle(void);
/* The way back for a process that is about to be killed: it ends as fast as any other. */
void proc_end_idle(pid_t pid);
/* SIGKILL to a child of ours, and waits for its end. */
void proc_kill(pid_t pid);
/* pidfd_open(2) for a child of ours; -1 with errno. */
int proc_pidfd(pid_t pid);

/* "exited with 3", "was killed by SIGSEGV (11)", "took longer than its time": owned by the caller. */
char *proc_describe(const struct proc_result *r);

/* Finds `name` in a PATH-like list; NULL when not there. Absolute names are checked and returned. */
char *proc_find(const char *name, const char *path_list);

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); -1 with ENOENT when it is gone. */
int proc_start_time(pid_t pid, uint64_t *ret, struct err *e);
