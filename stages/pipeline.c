#include "stages/pipeline.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/baseline.h"
#include "stages/delivery.h"
#include "stages/fetcher.h"
#include "stages/fix_recorder.h"
#include "stages/kept.h"
#include "stages/outside.h"
#include "stages/page_link.h"
#include "stages/pipeline_child.h"
#include "stages/queue.h"
#include "stages/shared.h"
#include "stages/talker.h"

/* A runner with inspections of that length in front has a job timeout that is shorter. */
#define TURN_WAIT_MAX_MS (60 * 60 * 1000)
#define SAY_PLACE_MS 15000

static const struct stage *const all_stages[] = {
	&stage_discover, &stage_snapshot, &stage_recall, &stage_unpack, &stage_scan,
	&stage_gate,	 &stage_report,	  &stage_upload, NULL,
};
static const struct stage *const early_stages[] = { &stage_unpack, NULL };
static const struct stage *const classifying_stages[] = { &stage_discover, &stage_unpack, NULL };

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

/* A page is the courier's, too: it says there which test its findings are in. */
static bool
is_for_courier(const char *name)
{
	return str_has_prefix(name, DELIVERY_PREFIX) || str_has_prefix(name, BASELINE_PREFIX) ||
	       str_has_prefix(name, PAGE_LINK_PREFIX) || str_has_suffix(name, ".html");
}

/* The scanner made the deliveries; the courier has to read them and take them away. */
static int
give_deliveries(const struct pipeline *p, struct err *e)
{
	const struct pipeline_users *u = p->users;
	AUTO_DIR DIR *dir = NULL;
	struct dirent *entry;
	int rc;

	if (!u->is_separated)
		return 0;
	dir = fs_list(p->i->out_fd, e);
	if (!dir)
		return err_wrap(e, "deliveries");
	while ((rc = fs_next(dir, &entry, e)) > 0)
		if (is_for_courier(entry->d_name) && give_file(dirfd(dir), entry->d_name, u, e) < 0)
			return -1;
	if (rc < 0)
		return err_wrap(e, "deliveries");
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

/* Those that only tell archives from other files ask nobody. */
static int
start_outside(const struct pipeline *p, struct outside **ret, struct err *e)
{
	const struct pipeline_users *u = p->users;

	if (!p->scans)
		return 0;
	return outside_start(&p->i->opt->trivy, p->i->log, u->is_separated ? u->courier_uid : (uid_t)-1,
			     u->courier_gid, ret, e);
}

static int
run_scanner(const struct pipeline *p, struct pipeline_result *ret, struct err *e)
{
	const struct pipeline_users *u = p->users;
	AUTO_TALKER struct talker talker = { .fd = -1 };
	AUTO(queue_ticket) struct queue_ticket *ticket = NULL;
	AUTO(outside) struct outside *outside = NULL;
	int rc;

	if (pipeline_run_stages(p, STAGE_OPENER, e) < 0 ||
	    give_to(p, p->i->work_fd, u->scan_uid, u->scan_gid, e) < 0 ||
	    give_to(p, p->i->out_fd, u->scan_uid, u->scan_gid, e) < 0 || wait_for_turn(p, &ticket, e) < 0 ||
	    talker_start(p->i, &talker, e) < 0 || start_outside(p, &outside, e) < 0)
		return -1;
	p->i->engine_fd = talker.fd;
	p->i->outside = outside;
	rc = pipeline_run_child(p, STAGE_SCANNER, ret, e);
	p->i->outside = NULL;
	p->i->engine_fd = 0;
	return rc;
}

/* The verdict stands: what delivery meets is said in the log and changes nothing. */
static void
run_courier(const struct pipeline *p)
{
	struct err e = ERR_INIT;

	if (give_deliveries(p, &e) < 0 || pipeline_run_child(p, STAGE_COURIER, NULL, &e) < 0)
		log_line(p->i->log, LOG_WARN, "delivery to DefectDojo: %s", e.text);
}

static int
run_all(const struct pipeline *p, struct pipeline_result *result, struct err *e)
{
	struct pipeline_result r = { 0 };

	if (run_scanner(p, &r, e) < 0)
		return -1;
	if (result)
		*result = r;
	if (result && !p->i->skips_upload)
		run_courier(p);
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
	struct pipeline p = { .stages = all_stages, .scans = true, .i = i, .users = users };
	uid_t uid = users->is_separated ? users->courier_uid : (uid_t)-1;
	AUTO(kept) struct kept *kept = kept_open(i->state_dir, uid, users->courier_gid);
	/* before anything else: what it asks for takes its time meanwhile */
	AUTO(fetcher)
	struct fetcher *fetcher = asks_others(i) ? fetcher_start(i, kept, uid, users->courier_gid) : NULL;
	AUTO(fix_recorder)
	struct fix_recorder *recorder = fix_recorder_start(i, kept, uid, users->courier_gid);
	int rc;

	i->kept = kept;
	i->fetcher = fetcher;
	i->fix_recorder = recorder;
	rc = run_with_shared(&p, result, e);
	i->kept = NULL;
	i->fetcher = NULL;
	i->fix_recorder = NULL;
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
