#include "cli/rehearse_call.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"

enum { AT_OUT, AT_ERR, AT_EXIT, AT_SIGNAL, AT_COUNT };

struct running {
	const struct rehearse_call *call;
	struct rehearse_watch *watch;
	struct proc proc;
	struct pollfd at[AT_COUNT];   /* fd -1: over */
	int64_t limit, kill, give_up; /* deadlines */
};

static void
send_group(struct running *r, int signal)
{
	if (signal == 0)
		return;
	kill(-r->proc.pid, signal);
	if (signal == SIGTERM && r->kill == CLOCK_DEADLINE_NEVER)
		r->kill = clock_deadline(r->watch->kill_wait_ms);
	if (signal == SIGKILL)
		r->give_up = clock_deadline(r->watch->give_up_ms);
}

static int64_t
next_deadline(const struct running *r)
{
	const int64_t all[] = { r->limit, r->kill, r->give_up, r->watch->job_deadline,
				r->watch->script_deadline };
	int64_t next = CLOCK_DEADLINE_NEVER;

	for (size_t i = 0; i < MEM_COUNT(all); i++)
		next = all[i] < next ? all[i] : next;
	return next;
}

/* False: nobody waits any more. */
static bool
take_deadlines(struct running *r)
{
	struct rehearse_watch *w = r->watch;

	if (clock_left_ms(r->give_up) == 0)
		return false;
	if (clock_left_ms(r->kill) == 0) {
		r->kill = CLOCK_DEADLINE_NEVER;
		send_group(r, SIGKILL);
	}
	if (clock_left_ms(r->limit) == 0) {
		r->limit = CLOCK_DEADLINE_NEVER;
		send_group(r, SIGTERM);
	}
	if (clock_left_ms(w->job_deadline) == 0) {
		w->job_deadline = CLOCK_DEADLINE_NEVER;
		send_group(r, w->on_event(w->arg, "job_timeout"));
	}
	if (clock_left_ms(w->script_deadline) == 0) {
		w->script_deadline = CLOCK_DEADLINE_NEVER;
		send_group(r, w->on_event(w->arg, "script_timeout"));
	}
	return true;
}

static void
take_output(struct running *r, int which)
{
	char data[16 * 1024];
	ssize_t n = read(r->at[which].fd, data, sizeof(data));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		mem_close_at(&r->at[which].fd);
	} else if (which == AT_OUT && r->call->out) {
		buf_add(r->call->out, data, (size_t)n);
	} else {
		rehearse_log_write(r->call->log, data, (size_t)n);
	}
}

static void
take_signal(struct running *r)
{
	struct signalfd_siginfo info;

	if (read(r->watch->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		send_group(r, r->watch->on_event(r->watch->arg, "signal"));
}

/* Until the process is gone and both pipes are at their end. False: it was given up. */
static int
watch(struct running *r, bool *ret_given_up, struct err *e)
{
	*ret_given_up = false;
	while (r->at[AT_OUT].fd >= 0 || r->at[AT_ERR].fd >= 0 || r->at[AT_EXIT].fd >= 0) {
		if (!take_deadlines(r)) {
			*ret_given_up = true;
			return 0;
		}
		if (poll(r->at, AT_COUNT, clock_poll_timeout(next_deadline(r))) < 0) {
			if (errno == EINTR)
				continue;
			return err_errno(e, "poll");
		}
		for (int i = AT_OUT; i <= AT_ERR; i++)
			if (r->at[i].fd >= 0 && r->at[i].revents)
				take_output(r, i);
		if (r->at[AT_EXIT].fd >= 0 && r->at[AT_EXIT].revents)
			r->at[AT_EXIT].fd = -1;
		if (r->at[AT_SIGNAL].revents)
			take_signal(r);
	}
	return 0;
}

static int
start(const struct rehearse_call *c, struct running *r, struct err *e)
{
	AUTO_FD int out_write = -1;
	AUTO_FD int err_write = -1;
	int fds[2];
	struct proc_spec spec = PROC_SPEC_INIT;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	r->at[AT_OUT].fd = fds[0];
	out_write = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	r->at[AT_ERR].fd = fds[0];
	err_write = fds[1];
	spec.path = c->argv->v[0];
	spec.argv = c->argv->v;
	spec.envp = c->env->v;
	spec.fd_out = out_write;
	spec.fd_err = err_write;
	spec.cwd_fd = c->cwd_fd;
	spec.new_group = true;
	return proc_start(&spec, &r->proc, e);
}

int
rehearse_call(const struct rehearse_call *c, struct rehearse_watch *w, struct rehearse_call_result *ret,
	      struct err *e)
{
	struct running r = { .call = c,
			     .watch = w,
			     .proc = { .pidfd = -1 },
			     .limit = c->limit_ms > 0 ? clock_deadline(c->limit_ms) : CLOCK_DEADLINE_NEVER,
			     .kill = CLOCK_DEADLINE_NEVER,
			     .give_up = CLOCK_DEADLINE_NEVER };
	struct proc_result ended = { 0 };
	bool is_given_up = false;
	int rc;

	for (int i = 0; i < AT_COUNT; i++)
		r.at[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	r.at[AT_SIGNAL].fd = w->signal_fd;
	rc = start(c, &r, e);
	if (rc == 0) {
		r.at[AT_EXIT].fd = r.proc.pidfd;
		rc = watch(&r, &is_given_up, e);
		rehearse_log_end_line(c->log);
		if (rc == 0 && !is_given_up)
			rc = proc_wait(&r.proc, false, CLOCK_DEADLINE_NEVER, &ended, e);
		proc_close(&r.proc);
	}
	mem_close_at(&r.at[AT_OUT].fd);
	mem_close_at(&r.at[AT_ERR].fd);
	if (rc < 0)
		return -1;
	*ret = (struct rehearse_call_result){ .end = is_given_up ? CALL_GIVEN_UP : CALL_EXITED,
					      .code = ended.code };
	if (!is_given_up && ended.end == PROC_SIGNALLED)
		ret->end = CALL_SIGNALLED;
	return 0;
}
