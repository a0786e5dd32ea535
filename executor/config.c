#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "executor/host.h"
#include "executor/payload.h"
#include "executor/phase.h"
#include "executor/plan.h"
#include "executor/settings.h"
#include "executor/slot.h"

#define END_WAIT_MS 30000 /* for processes that were sent SIGKILL */

static int
load_payload(struct payload **ret, struct err *e)
{
	const char *path = getenv("JOB_RESPONSE_FILE");

	if (str_is_empty(path))
		return err_set(e, ERR_USAGE,
			       "JOB_RESPONSE_FILE is not set: gitlab-runner 14.1 or newer is needed");
	return payload_load(path, ret, e);
}

static int
wait_for_slot(const struct settings *s, const struct slot_owner *owner, struct slot_taken *ret, struct err *e)
{
	AUTO_FREE char *waited = str_human_duration(s->job.slot_wait);

	if (slot_take(s->state_dir, s->job.slots, owner, clock_deadline(s->job.slot_wait), ret, e) == 0)
		return 0;
	if (e->kind != ERR_TIMEOUT)
		return -1;
	return err_wrap(e,
			"waited %s (job.slot_wait, job.slots in %s; the runner's `concurrent` should not be larger)",
			waited, s->path);
}

/* A job whose runner was killed had no cleanup: it is made good before the slot serves another. */
static int
clean_stale(const struct settings *s, const struct slot_taken *t, struct err *e)
{
	AUTO(plan) struct plan *left = NULL;

	if (plan_of_slot(s, t->slot, &left, e) < 0)
		return -1;
	if ((t->former && slot_end_processes(t->former, clock_deadline(END_WAIT_MS), e) < 0) ||
	    env_host.kill_all(left, e) < 0 || env_host.destroy(left, e) < 0)
		return err_wrap(e, "cleaning slot %lld of a job whose runner is gone", (long long)t->slot);
	return 0;
}

/* One JSON object for the runner (PROTOCOL.md, 1: config's output). */
static void
print_answer(const struct plan *p)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	char host[256] = "";
	cJSON *driver = json_add_object(j, "driver");

	json_add_str(driver, "name", "tidewaiter");
	json_add_str(driver, "version", TIDEWAITER_VERSION);
	json_add_str(j, "builds_dir", p->builds_dir);
	json_add_str(j, "cache_dir", p->job_cache_dir);
	/* Each slot has a builds directory of its own: the project is at <builds_dir>/<group>/<project>. */
	json_add_bool(j, "builds_dir_is_shared", false);
	if (gethostname(host, sizeof(host) - 1) == 0 && host[0] != '\0' && str_is_utf8(host, strlen(host)))
		json_add_str(j, "hostname", host);
	/* It would be the environment of our own programs, stronger than what the runner sets: nothing is needed. */
	json_add_object(j, "job_env");
	text = json_print(j);
	printf("%s\n", text);
}

static int
plan_job(const struct phase_context *c, struct settings *s, struct payload *payload, const char *match,
	 int64_t slot, struct err *e)
{
	AUTO(plan) struct plan *p = NULL;

	if (plan_make(s, payload, match, slot, &p, e) < 0 || plan_write(c->tmpdir_fd, p, e) < 0)
		return -1;
	print_answer(p);
	return 0;
}

static int
config_run(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;
	AUTO(payload) struct payload *payload = NULL;
	AUTO(slot_owner) struct slot_owner *owner = NULL;
	AUTO(plan) struct plan *first = NULL;
	AUTO_SLOT_TAKEN struct slot_taken taken = SLOT_TAKEN_INIT;
	AUTO_FREE char *state_dir = NULL;
	const char *match;
	struct err ignored = ERR_INIT;

	if (settings_load(c->config_path, &s, e) < 0 || load_payload(&payload, e) < 0)
		return -1;
	match = settings_apply_project(s, payload->facts.project_path);
	/* Where setup was never run this says so before a slot is taken. */
	if (plan_of_slot(s, 0, &first, e) < 0)
		return -1;
	owner = slot_owner_new(c->tmpdir, e);
	if (!owner || wait_for_slot(s, owner, &taken, e) < 0)
		return -1;
	state_dir = mem_strdup(s->state_dir);
	if (taken.was_stale && clean_stale(s, &taken, e) < 0)
		return -1;
	if (plan_job(c, s, payload, match, taken.slot, e) < 0) {
		/* Nothing of the job is there yet; cleanup would do the same. */
		if (!taken.was_stale)
			(void)slot_release(state_dir, owner, taken.slot, &ignored);
		return -1;
	}
	ret->end = PHASE_OK;
	return 0;
}

const struct phase phase_config = {
	.name = "config",
	.usage = "",
	.summary = "Reads the settings and the job, takes a slot, and tells gitlab-runner where the job runs.",
	.details =
		"Reads   the settings, at most 1 MiB; $JOB_RESPONSE_FILE, the job as GitLab gave it, at most 16 MiB.\n"
		"Waits   for a free slot, at most job.slot_wait of the settings; a slot whose runner is gone is\n"
		"        cleaned first: what runs of its job has 30 s to end.\n"
		"Writes  the plan and the slot's record (state_dir); one JSON object to standard output: driver,\n"
		"        builds_dir, builds_dir_is_shared, cache_dir, job_env.\n"
		"Fails   on settings that were not understood, in one line with file, line, key, what was found and\n"
		"        what is allowed; on users that are missing (tidewaiter setup makes them).\n",
	.is_in_job_log = true,
	.run = config_run,
};
