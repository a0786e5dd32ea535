#include "stages/pipeline_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "stages/confine.h"
#include "stages/outside.h"
#include "stages/scan.h"

#define PROGRESS_MS 1000
#define ARCHIVES_MAX 4096 /* discover takes no more */

/* What a confined child tells the opener. Fixed in size: there is nothing to parse. */
struct answer {
	int rc;
	struct err e;
	struct pipeline_result result;
	uint8_t is_ignored[ARCHIVES_MAX / 8], is_unfit[ARCHIVES_MAX / 8]; /* a bit per archive */
};

/* A line on a terminal that is waited at for more than a second; there is none in a job log. */
static void
show_progress(const struct pipeline *p, const char *doing, int64_t since)
{
	AUTO_FREE char *time = str_human_duration(clock_mono_ms() - since);

	if (p->i->project_fd < 0 && log_is_terminal(stderr))
		fprintf(stderr, "\r%s, %s …\033[K", doing, time);
}

static void
erase_progress(const struct pipeline *p)
{
	if (p->i->project_fd < 0 && log_is_terminal(stderr))
		fputs("\r\033[K", stderr);
}

int
pipeline_run_stages(const struct pipeline *p, enum stage_place place, struct err *e)
{
	for (const struct stage *const *s = p->stages; *s; s++) {
		if ((*s)->place != place)
			continue;
		if (*s == &stage_report)
			erase_progress(p);
		if ((*s)->run(p->i, e) < 0)
			return err_wrap(e, "%s", (*s)->name);
	}
	return 0;
}

/* For the child of `place`, before anything of a stranger is looked at. */
static int
confine(const struct pipeline *p, enum stage_place place, struct err *e)
{
	const struct pipeline_users *u = p->users;
	const struct confine_view view = { .cache_dir = p->i->cache_dir,
					   .work_dir = p->i->work_dir,
					   .work_fd = p->i->work_fd,
					   .net_fd = p->i->outside ? p->i->outside->net_fd : -1 };

	if (u->is_separated && place == STAGE_SCANNER &&
	    confine_scanner(&view, u->scan_uid, u->scan_gid, e) < 0)
		return -1;
	if (u->is_separated && place == STAGE_COURIER && confine_become(u->courier_uid, u->courier_gid, e) < 0)
		return -1;
	return confine_finish(e);
}

/* ---- children ---- */

static bool
is_heavy(enum verdict v)
{
	return v == VERDICT_UNDECIDED || v == VERDICT_BLOCK;
}

static void
fill_answer(struct inspection *i, struct answer *a)
{
	struct pipeline_result *r = &a->result;

	r->verdict = i->verdict;
	r->mode = inspection_mode(i);
	r->n_images = (uint32_t)i->n_images;
	for (size_t k = 0; k < i->n_images; k++) {
		const struct image *m = &i->images[k];

		r->n_findings += m->report ? (uint32_t)m->report->n_findings : 0;
		r->n_blocking += (uint32_t)m->n_blocking;
		/* one under a rule that stops nothing is not kept back for another's sake */
		if (is_heavy(m->verdict) && m->mode == r->mode)
			i->archives[m->archive].is_unfit = true;
	}
	for (size_t k = 0; k < i->n_archives && k < ARCHIVES_MAX; k++) {
		const struct archive *x = &i->archives[k];

		r->n_archives += !x->is_ignored;
		if (x->is_ignored)
			a->is_ignored[k / 8] |= (uint8_t)(1U << k % 8);
		else if (x->is_unfit || x->fault.kind != ERR_NONE)
			a->is_unfit[k / 8] |= (uint8_t)(1U << k % 8);
	}
}

static void
take_answer(struct inspection *i, const struct answer *a)
{
	i->verdict = a->result.verdict;
	i->mode = a->result.mode;
	for (size_t k = 0; k < i->n_archives; k++) {
		bool is_known = k < ARCHIVES_MAX;

		i->archives[k].is_ignored = is_known && (a->is_ignored[k / 8] >> k % 8 & 1);
		i->archives[k].is_unfit = !is_known || (a->is_unfit[k / 8] >> k % 8 & 1);
	}
}

/* Nobody holds the other end of its pipe: getppid(2) tells nothing in a PID namespace of one's own. */
static bool
is_orphan(int to)
{
	struct pollfd pfd = { .fd = to, .events = POLLOUT };

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
}

/* In the child; does not return. */
static void
child_main(const struct pipeline *p, enum stage_place place, int to)
{
	struct answer *a = mem_alloc(sizeof(*a));
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	a->rc = confine(p, place, &a->e);
	/* a change of user clears it, so it comes behind */
	if (a->rc == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || is_orphan(to)))
		a->rc = err_set(&a->e, ERR_FAILED, "its parent is gone");
	/* neither has business in the project directory: the scanner got the archives' descriptors */
	if (p->i->project_fd >= 0)
		close(p->i->project_fd);
	if (a->rc == 0 && place == STAGE_SCANNER && p->scans)
		scan_open(p->i);
	if (a->rc == 0)
		a->rc = pipeline_run_stages(p, place, &a->e);
	/* a verdict that nobody could read, or half an object of JSON, must not look like success */
	if (a->rc == 0 && place == STAGE_SCANNER && (fflush(stdout) != 0 || ferror(stdout)))
		a->rc = err_set(&a->e, ERR_FAILED, "standard output cannot be written");
	fill_answer(p->i, a);
	fflush(NULL);
	_exit(fs_write_all(to, a, sizeof(*a), NULL) == 0 ? 0 : 1);
}

/* Until the child has ended, or we are told to stop: then it is killed. */
static int
wait_for(const struct pipeline *p, const char *doing, pid_t pid, int pidfd, struct proc_result *ret,
	 struct err *e)
{
	int64_t since = clock_mono_ms();
	struct pollfd fds[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = p->sigfd, .events = POLLIN } };
	struct proc child = { .pid = pid, .pidfd = pidfd };
	bool was_stopped = false;

	while (!(fds[0].revents & POLLIN) && !was_stopped) {
		int n = poll(fds, 2, PROGRESS_MS);

		if (n < 0 && errno != EINTR)
			break;
		if (n == 0)
			show_progress(p, doing, since);
		/* one that has ended is not stopped any more */
		was_stopped = n > 0 && !(fds[0].revents & POLLIN) && (fds[1].revents & POLLIN);
	}
	erase_progress(p);
	if (was_stopped && p->i->is_early)
		proc_end_idle(pid);
	if (was_stopped)
		kill(-pid, SIGKILL);
	if (proc_wait(&child, true, INT64_MAX, ret, e) < 0)
		return -1;
	return was_stopped ? err_set(e, ERR_FAILED, "stopped by a signal") : 0;
}

static bool
is_answer(const struct answer *a)
{
	return (a->rc == 0 || a->rc == -1) && (unsigned)a->e.kind <= ERR_NO_SPACE &&
	       (unsigned)a->result.verdict <= VERDICT_BLOCK && (unsigned)a->result.mode <= GATE_ENFORCE &&
	       memchr(a->e.text, '\0', sizeof(a->e.text));
}

static int
read_answer(int from, const struct proc_result *how, struct answer *ret, struct err *e)
{
	AUTO_FREE char *words = proc_describe(how);

	if (read(from, ret, sizeof(*ret)) == sizeof(*ret)) {
		/* whoever took the child over chose these bytes */
		if (is_answer(ret))
			return 0;
		return err_set(e, ERR_FAILED, "its process gave no valid answer");
	}
	/* it parses hostile bytes: a crash leaves no verdict, which is not a pass */
	return err_set(e, ERR_FAILED, "its process %s", words);
}

static bool
is_told_to_stop(const struct pipeline *p)
{
	struct pollfd pfd = { .fd = p->sigfd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

static int
run_forked(const struct pipeline *p, enum stage_place place, struct answer *ret, struct err *e)
{
	static const struct {
		const char *name, *doing;
	} places[] = { [STAGE_OPENER] = { "opener", "looking for images" },
		       [STAGE_SCANNER] = { "scanner", "inspecting images" },
		       [STAGE_COURIER] = { "courier", "delivering reports" } };
	AUTO_FD int from = -1;
	AUTO_FD int to = -1;
	AUTO_FD int pidfd = -1;
	struct proc_result how;
	pid_t pid;
	int ends[2];

	_Static_assert(sizeof(*ret) < 64 * 1024,
		       "an answer fits into a pipe, so that nobody has to read along");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	from = ends[0];
	to = ends[1];
	/* who is quick enough has ended before anybody looks */
	if (is_told_to_stop(p))
		return err_set(e, ERR_FAILED, "stopped by a signal");
	fflush(NULL);
	pid = confine_fork(p->users->is_separated && place == STAGE_SCANNER, e);
	if (pid < 0)
		return -1;
	if (pid == 0) {
		setpgid(0, 0);
		close(take_fd(from));
		child_main(p, place, to);
	}
	setpgid(pid, pid); /* in both, so that it is so before either goes on */
	close(take_fd(to));
	pidfd = proc_pidfd(pid);
	if (pidfd < 0) {
		err_errno(e, "%s: pidfd", places[place].name);
		kill(-pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return -1;
	}
	if (wait_for(p, places[place].doing, pid, pidfd, &how, e) < 0 || read_answer(from, &how, ret, e) < 0)
		return err_wrap(e, "%s", places[place].name);
	if (ret->rc < 0) {
		*e = ret->e;
		return -1;
	}
	return 0;
}

int
pipeline_run_child(const struct pipeline *p, enum stage_place place, struct pipeline_result *ret,
		   struct err *e)
{
	AUTO_FREE struct answer *a = mem_alloc(sizeof(*a));

	if (run_forked(p, place, a, e) < 0)
		return -1;
	if (!ret)
		return 0;
	take_answer(p->i, a);
	*ret = a->result;
	return 0;
}
