#include "stages/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "stages/baseline.h"
#include "stages/confine.h"
#include "stages/delivery.h"
#include "stages/engine.h"
#include "stages/fetcher.h"
#include "stages/kept.h"
#include "stages/outside.h"
#include "stages/queue.h"
#include "stages/scan.h"
#include "stages/shared.h"

#define PROGRESS_MS 1000
/* A runner with inspections of that length in front has a job timeout that is shorter. */
#define TURN_WAIT_MAX_MS (60 * 60 * 1000)
#define SAY_PLACE_MS 15000
#define ARCHIVES_MAX 4096 /* discover takes no more */

static const struct stage *const all_stages[] = {
	&stage_discover, &stage_snapshot, &stage_recall, &stage_unpack, &stage_scan,
	&stage_gate,	 &stage_report,	  &stage_upload, NULL,
};
static const struct stage *const early_stages[] = { &stage_unpack, NULL };
static const struct stage *const classifying_stages[] = { &stage_discover, &stage_unpack, NULL };

struct pipeline {
	const struct stage *const *stages;
	struct inspection *i;
	const struct pipeline_users *users;
	int sigfd; /* tells when we are to stop */
};

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

	if (p->i->project_fd < 0 && isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s, %s …\033[K", doing, time);
}

static void
erase_progress(const struct pipeline *p)
{
	if (p->i->project_fd < 0 && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

static int
run_stages(const struct pipeline *p, enum stage_place place, struct err *e)
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
	if (a->rc == 0 && place == STAGE_SCANNER && p->stages == all_stages)
		scan_open(p->i);
	if (a->rc == 0)
		a->rc = run_stages(p, place, &a->e);
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

static int
run_child(const struct pipeline *p, enum stage_place place, struct answer *ret, struct err *e)
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

/* ---- the whole ---- */

static int
give_to(const struct pipeline *p, int fd, uid_t uid, gid_t gid, struct err *e)
{
	if (p->users->is_separated && fchown(fd, uid, gid) < 0)
		return err_errno(e, "work directory");
	return 0;
}

/* Only a plain file of the scanner's own with no other name: it could have put anything there. */
static int
give_file(int dir_fd, const char *name, const struct pipeline_users *u, struct err *e)
{
	AUTO_FD int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "%s", name);
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != u->scan_uid)
		return err_set(e, ERR_FAILED, "%s: no plain file of the scanner's", name);
	return fchown(fd, u->courier_uid, u->courier_gid) < 0 ? err_errno(e, "%s", name) : 0;
}

/* The scanner made the deliveries; the courier has to read them and take them away. */
static int
give_deliveries(const struct pipeline *p, struct err *e)
{
	const struct pipeline_users *u = p->users;
	int fd = openat(p->i->out_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!u->is_separated)
		return 0;
	if (!dir)
		return err_errno(e, "deliveries");
	while ((entry = readdir(dir)))
		if ((str_has_prefix(entry->d_name, DELIVERY_PREFIX) ||
		     str_has_prefix(entry->d_name, BASELINE_PREFIX)) &&
		    give_file(dirfd(dir), entry->d_name, u, e) < 0)
			return -1;
	return give_to(p, p->i->out_fd, u->courier_uid, u->courier_gid, e);
}

/* ---- the queue of inspections ---- */

struct waiting {
	const struct log *log;
	int64_t said_at; /* clock_mono_ms(), 0: never */
};

/* At once, then as it changes, but not for each that goes. */
static void
say_place(void *arg, int64_t n_going_on, int64_t n_before)
{
	struct waiting *w = arg;
	int64_t now = clock_mono_ms();

	if (w->said_at && now - w->said_at < SAY_PLACE_MS)
		return;
	w->said_at = now;
	if (n_before == 0)
		log_line(w->log, LOG_NOTE, "waiting: this inspection is the next (trivy.parallel: %jd)",
			 (intmax_t)n_going_on);
	else
		log_line(w->log, LOG_NOTE, "waiting: %jd inspection%s before this one (trivy.parallel: %jd)",
			 (intmax_t)n_before, n_before == 1 ? "" : "s", (intmax_t)n_going_on);
}

/* What inspects unpacks and scans; both cost memory and disk, so no more than trivy.parallel do it at once. */
static int
wait_for_turn(const struct pipeline *p, struct queue_ticket **ret, struct err *e)
{
	struct waiting waiting = { .log = p->i->log };
	const struct queue_wait wait = { .n = p->i->opt->trivy.parallel,
					 .deadline = clock_deadline(TURN_WAIT_MAX_MS),
					 .stop_fd = &p->sigfd,
					 .say = say_place,
					 .arg = &waiting };

	if (!p->i->shared || p->i->shared->inspections_fd < 0 || p->i->is_early ||
	    (p->i->n_archives == 0 && !p->i->engines))
		return 0;
	if (queue_take(p->i->shared->inspections_fd, &wait, ret, e) < 0)
		return err_wrap(e, "queue of inspections (trivy.parallel)");
	return 0;
}

/* ---- the process that talks to container engines ---- */

struct talker {
	pid_t pid; /* 0: none */
	int fd;	   /* the scanner's end */
};

/* It has the right to talk to an engine, which is root's by another name, and parses nothing of a job. Does not return. */
static void
talk(const struct pipeline *p, int fd, pid_t parent)
{
	const struct options_images *o = &p->i->opt->images;
	struct err e = ERR_INIT;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (p->i->project_fd >= 0)
		close(p->i->project_fd);
	if (confine_finish(&e) == 0 && proc_die_with(parent) == 0)
		engine_serve(fd, &o->engine_sockets, o->engine_timeout);
	_exit(0);
}

static int
start_talker(const struct pipeline *p, struct talker *ret, struct err *e)
{
	AUTO_FD int ours = -1;
	AUTO_FD int its = -1;
	pid_t parent = getpid();
	int ends[2];

	if (!p->i->engines)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(e, "socketpair");
	ours = ends[0];
	its = ends[1];
	fflush(NULL);
	ret->pid = fork();
	if (ret->pid < 0)
		return err_errno(e, "fork");
	if (ret->pid == 0) {
		close(ours);
		talk(p, its, parent);
	}
	ret->fd = take_fd(ours);
	p->i->engine_fd = ret->fd;
	return 0;
}

static void
end_talker(struct talker *t)
{
	if (t->pid <= 0)
		return;
	mem_close_at(&t->fd);
	/* it may be in the midst of an image that nobody waits for any more */
	proc_kill(t->pid);
	t->pid = 0;
}
#define AUTO_TALKER __attribute__((cleanup(end_talker)))

/* Those that only tell archives from other files ask nobody. */
static int
start_outside(const struct pipeline *p, struct outside **ret, struct err *e)
{
	const struct pipeline_users *u = p->users;

	if (p->stages != all_stages)
		return 0;
	return outside_start(&p->i->opt->trivy, p->i->log, u->is_separated ? u->courier_uid : (uid_t)-1,
			     u->courier_gid, ret, e);
}

static int
run_scanner(const struct pipeline *p, struct answer *a, struct err *e)
{
	AUTO_TALKER struct talker talker = { .fd = -1 };

	const struct pipeline_users *u = p->users;
	AUTO(queue_ticket) struct queue_ticket *ticket = NULL;
	AUTO(outside) struct outside *outside = NULL;
	int rc;

	if (run_stages(p, STAGE_OPENER, e) < 0 || give_to(p, p->i->work_fd, u->scan_uid, u->scan_gid, e) < 0 ||
	    give_to(p, p->i->out_fd, u->scan_uid, u->scan_gid, e) < 0 || wait_for_turn(p, &ticket, e) < 0 ||
	    start_talker(p, &talker, e) < 0 || start_outside(p, &outside, e) < 0)
		return -1;
	p->i->outside = outside;
	rc = run_child(p, STAGE_SCANNER, a, e);
	p->i->outside = NULL;
	if (rc < 0)
		return -1;
	take_answer(p->i, a);
	return 0;
}

/* The verdict stands: what delivery meets is said in the log and changes nothing. */
static void
run_courier(const struct pipeline *p, struct answer *a)
{
	struct err e = ERR_INIT;

	if (give_deliveries(p, &e) < 0 || run_child(p, STAGE_COURIER, a, &e) < 0)
		log_line(p->i->log, LOG_WARN, "delivery to DefectDojo: %s", e.text);
}

static int
run_all(const struct pipeline *p, struct pipeline_result *result, struct err *e)
{
	AUTO_FREE struct answer *a = mem_alloc(sizeof(*a));

	if (run_scanner(p, a, e) < 0)
		return -1;
	if (result)
		*result = a->result;
	if (result && !p->i->skips_upload)
		run_courier(p, a);
	return 0;
}

/* With the signals that end us turned into a descriptor. */
static int
run_guarded(struct pipeline *p, struct pipeline_result *result, struct err *e)
{
	AUTO_FD int sigfd = -1;
	sigset_t stop, before;
	int rc;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGHUP);
	sigprocmask(SIG_BLOCK, &stop, &before);
	sigfd = p->sigfd = signalfd(-1, &stop, SFD_CLOEXEC);
	rc = sigfd < 0 ? err_errno(e, "signalfd") : run_all(p, result, e);
	/* what came is not delivered again: the caller cleans up and ends */
	while (rc < 0 && !p->i->is_early && sigtimedwait(&stop, NULL, &(struct timespec){ 0 }) > 0)
		;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}

static int
run_with_shared(struct pipeline *p, struct pipeline_result *result, struct err *e)
{
	struct inspection *i = p->i;
	const struct pipeline_users *u = p->users;
	AUTO(shared)
	struct shared *shared =
		shared_open(i->cache_dir, u->is_separated ? u->scan_uid : (uid_t)-1, u->scan_gid, i->log);
	int rc;

	i->shared = shared;
	rc = run_guarded(p, result, e);
	i->shared = NULL;
	return rc;
}

/* Of a project nobody named there is no triage and no baseline. */
static bool
asks_others(const struct inspection *i)
{
	return !str_is_empty(i->job->project_path) && i->state_dir;
}

int
pipeline_run(struct inspection *i, const struct pipeline_users *users, struct pipeline_result *result,
	     struct err *e)
{
	struct pipeline p = { .stages = all_stages, .i = i, .users = users };
	uid_t uid = users->is_separated ? users->courier_uid : (uid_t)-1;
	AUTO(kept) struct kept *kept = kept_open(i->state_dir, uid, users->courier_gid);
	/* before anything else: what it asks for takes its time meanwhile */
	AUTO(fetcher)
	struct fetcher *fetcher = asks_others(i) ? fetcher_start(i, kept, uid, users->courier_gid) : NULL;
	int rc;

	i->kept = kept;
	i->fetcher = fetcher;
	rc = run_with_shared(&p, result, e);
	i->kept = NULL;
	i->fetcher = NULL;
	return rc;
}

int
pipeline_unpack_early(struct inspection *i, const struct pipeline_users *users, struct err *e)
{
	struct pipeline p = { .stages = early_stages, .i = i, .users = users };

	i->is_early = true;
	return run_with_shared(&p, NULL, e);
}

int
pipeline_classify(struct inspection *i, const struct pipeline_users *users, struct err *e)
{
	struct pipeline p = { .stages = classifying_stages, .i = i, .users = users };

	return run_guarded(&p, NULL, e);
}
