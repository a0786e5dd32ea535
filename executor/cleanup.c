#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "executor/guard.h"
#include "executor/host.h"
#include "executor/phase.h"
#include "executor/plan.h"
#include "executor/settings.h"
#include "executor/slot.h"

#define LOCK_WAIT_MS (5 * 60 * 1000) /* another cleanup of this slot is at work */

/*
 * The plan, or what is known without one: config got no further than the settings, or never got that far (then *ret
 * stays NULL). *ret_is_whole: it is the plan that config wrote.
 */
static int
find_plan(struct phase_context *c, const struct slot_owner *owner, struct plan **ret, int64_t *ret_slot,
	  bool *ret_is_whole, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;
	struct err why = ERR_INIT;

	*ret_is_whole = plan_read(c->tmpdir_fd, ret, &why) == 0;
	if (*ret_is_whole)
		return slot_find((*ret)->state_dir, owner, ret_slot, e);
	if (why.no != ENOENT)
		log_line(&c->log, LOG_WARN, "cleanup: %s; the settings are read instead", why.text);
	if (settings_load(c->config_path, &s, e) < 0 || slot_find(s->state_dir, owner, ret_slot, e) < 0)
		return -1;
	return *ret_slot < 0 ? 0 : plan_of_slot(s, *ret_slot, ret, e);
}

/* Runners without cleanup_file_variables, and jobs that were aborted before it: what they left to upload. */
static void
upload_reports(struct phase_context *c, const struct plan *p)
{
	struct plan_state state = { 0 };
	struct err e = ERR_INIT;
	struct guard g = {
		.c = c,
		.env = &env_host,
		.plan = p,
		.state = &state,
		.kind = GUARD_CLEANUP_VARS,
		.stage = "cleanup",
	};

	/* A report that does not reach GitLab is in the spool all the same, and the slot is wanted back. */
	if (plan_state_read(c->tmpdir_fd, &state, &e) < 0 ||
	    (!str_eq(state.last_stage, "cleanup_file_variables") && guard_upload_reports(&g, &e) < 0))
		log_line(&c->log, LOG_WARN, "cleanup: reports were not uploaded: %s", e.text);
	plan_state_free(&state);
}

static int
clean_slot(struct phase_context *c, const struct plan *p, bool is_whole, const struct slot_owner *owner,
	   int64_t slot, struct err *e)
{
	AUTO_FD int lock = -1;
	bool is_ours;

	lock = slot_lock(p->state_dir, owner, slot, clock_deadline(LOCK_WAIT_MS), &is_ours, e);
	if (lock < 0)
		return -1;
	if (!is_ours)
		return 0;
	if (env_host.kill_all(p, e) < 0)
		return -1;
	if (is_whole)
		upload_reports(c, p);
	if (env_host.destroy(p, e) < 0)
		return -1;
	return slot_release(p->state_dir, owner, slot, e);
}

/* Killed at any point and run again it does the rest: the slot's record goes when the slot is clean, the plan last. */
static int
cleanup_run(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	AUTO(slot_owner) struct slot_owner *owner = slot_owner_new(c->tmpdir, e);
	AUTO(plan) struct plan *p = NULL;
	int64_t slot = -1;
	bool is_whole;

	if (!owner || find_plan(c, owner, &p, &slot, &is_whole, e) < 0)
		return -1;
	if (slot >= 0 && clean_slot(c, p, is_whole, owner, slot, e) < 0)
		return err_wrap(e, "slot %lld stays taken until it can be cleaned", (long long)slot);
	ret->end = PHASE_OK;
	return plan_remove(c->tmpdir_fd, e);
}

const struct phase phase_cleanup = {
	.name = "cleanup",
	.usage = "",
	.summary = "Ends what is left of the job, removes what it made, and gives its slot back.",
	.details =
		"Reads   the plan in $TMPDIR; without one, the settings and the slot's record.\n"
		"Waits   for another cleanup of the same slot, at most 5 min.\n"
		"Ends    every process of the job; removes its mounts, files, System V IPC, crontab and at jobs. Trees\n"
		"        that job.keep_builds keeps stay. May be called again, and while run is still at work.\n"
		"Fails   where something cannot be removed: the slot stays taken, and the next call tries again.\n"
		"        gitlab-runner writes what it says into its own log, not into the job's.\n",
	.run = cleanup_run,
};
