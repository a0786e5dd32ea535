/*
 * The plan: what the config phase decided, for the later phases; one JSON file (0600) in the runner's TMPDIR,
 * "tidewaiter-plan.json". Jobs cannot read or write it where users are separated. Beside it:
 *   tidewaiter-state.json      what run phases tell later ones (struct plan_state), rewritten whole
 *   tidewaiter-engine-N        what container engine N (images.engine_sockets) had before the job, written by `tidewaiter inspect`
 *   tidewaiter-inspection.json identities of inspected archives and names of report files, written by `tidewaiter inspect`
 */
#pragma once

#include "base/mem.h"
#include "executor/payload.h"
#include "executor/settings.h"

#define PLAN_NAME "tidewaiter-plan.json"
#define PLAN_STATE_NAME "tidewaiter-state.json"
#define PLAN_INSPECTION_NAME "tidewaiter-inspection.json"
#define PLAN_ENGINE_PREFIX "tidewaiter-engine-" /* a number follows, from 0 */
#define PLAN_MAX (16 * 1024 * 1024)		/* bytes */

struct plan {
	char *settings_path;
	char *state_dir, *cache_dir; /* ours */
	char *scan_user, *courier_user;
	struct settings_job job; /* as in the settings */
	struct options opt;	 /* overrides for the project applied */
	struct job_facts facts;

	bool is_separated; /* root: jobs run as slot users */
	int64_t slot;
	char *user; /* slot user, "" when not separated */
	int64_t uid, gid;
	struct strv group_ids; /* decimal */
	char *builds_dir;      /* <builds_dir>/<slot>: CI_BUILDS_DIR of the job */
	char *job_cache_dir;
	char *slot_dir; /* state_dir/slots/<slot>: home, tmp, var-tmp, shm, withheld … */
	char *cgroup; /* absolute directory for the job's cgroup (v2), which prepare may make; "" where there is none */
	char *project_dir; /* of the job, below builds_dir; what config expects, settled by plan_settle_project_dir() */

	char *image;
	int64_t n_services;
	int64_t made_s; /* wall clock: the job began */
	struct strv step_stages;
	bool has_archive;
	int archive_when;
	bool is_matching;     /* the job's name and stage match inject, and the mode is not off */
	char *override_match; /* which projects[] entry applied, "" none */
};

/* What run phases leave for later ones. */
struct plan_state {
	bool job_failed; /* a user step failed, or we blocked */
	bool is_blocked; /* the gate said so */
	bool is_inspected;
	bool is_enforced;  /* the inspection was ruled by mode enforce */
	bool was_uploaded; /* the archive upload stage ran through our gitlab-runner with scan_result in it */
	bool is_withheld;
	bool is_tampered;    /* an inspected archive changed, or an upload was not ours (enforce) */
	bool has_own_upload; /* the driver uploaded the reports by itself, or tried */
	char *last_stage;    /* the one that ran last, NULL before the first */
};

/* What settings and slot alone say, the rest empty: enough for env_ops.kill_all and .destroy. Missing users are an error with is_separated. */
int plan_of_slot(const struct settings *s, int64_t slot, struct plan **ret, struct err *e);
/* The whole plan. `s` has the project's overrides applied; settings and payload lose what the plan takes over. */
int plan_make(struct settings *s, struct payload *payload, const char *override_match, int64_t slot,
	      struct plan **ret, struct err *e);

/* inject.jobs and inject.stages match name and stage, `*` crossing `/` (job names may contain it), and the mode is not off. */
bool plan_is_matching(const struct options *o, const struct job_facts *f);

/*
 * Where the project lies is the runner's to say, and only one of its words cannot be overridden by a job:
 * RUNNER_TEMP_PROJECT_DIR, "<project dir>.tmp", known from prepare on with runner 17 and newer. CI_PROJECT_DIR can be, and GIT_STRATEGY
 * "empty" moves the project to "<project>-empty". Prepare calls this with getenv("CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR"), NULL
 * allowed: where it names another directory below builds_dir the plan is written anew. One outside is an error.
 */
int plan_settle_project_dir(int dirfd, struct plan *p, const char *temp_project_dir, struct err *e);

int plan_write(int dirfd, const struct plan *p, struct err *e);
int plan_read(int dirfd, struct plan **ret, struct err *e); /* ENOENT in e->no where config never got there */
void plan_free(struct plan *p);
MEM_AUTO_DECLARE(plan)
/* Removes plan, state and inspection from TMPDIR; what is not there is no error. */
int plan_remove(int dirfd, struct err *e);

int plan_state_write(int dirfd, const struct plan_state *s, struct err *e);
int plan_state_read(int dirfd, struct plan_state *ret, struct err *e); /* absent: all false */
void plan_state_free(struct plan_state *s);
