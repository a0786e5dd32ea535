/*
 * What is known of the job. Only `name`, `stage`, `artifact_paths` and `wants_*` are the
 * job's own words; all else comes from the trusted fields of GitLab's payload
 * (DESIGN.md, Trust) or, for `tidewaiter scan`, from the command line.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/str.h"

struct job_facts {
	int64_t job_id, pipeline_id, project_id;
	char *project_path; /* "group/app" */
	char *name, *stage;
	char *ref; /* branch or tag */
	bool is_tag, is_protected;
	char *sha;
	char *server_url;  /* "" when not known; no trailing slash */
	char *project_url; /* "" when not known */
	char *default_branch;
	char *target_branch, *source_branch; /* of a merge request, "" outside of one */
	/* TIDEWAITER_SEVERITY, TIDEWAITER_MODE, TIDEWAITER_WAIVER: a job can ask for more than the policy, or for a waiver of it. */
	char *wants_severity, *wants_mode, *wants_waiver;
	struct strv artifact_paths; /* of artifacts: of type archive, as written */
};

void job_facts_free(struct job_facts *f); /* what it owns */
cJSON *job_facts_to_json(const struct job_facts *f);
int job_facts_from_json(const cJSON *j, struct job_facts *ret, struct err *e);

/*
 * What DefectDojo has of the ref: a branch's name, of a tag "refs/tags/v1", since that may have the name of a branch; of a merge request
 * "refs/merge-requests/5/head"; of a branch that is named like any of these "refs/heads/refs/tags/v1". Owned by the caller.
 */
char *job_facts_branch_tag(const struct job_facts *f);

/*
 * Values for templates: project_path, project_name, namespace, branch (job_facts_branch_tag()), ref (its bare name, branch or tag), commit (sha),
 * commit_short, job_id, job_name, job_stage, pipeline_id, server_url, project_id. NULL for an unknown name. `scratch` holds what is made up
 * on the way.
 */
#define JOB_FACTS_SCRATCH 4224 /* bytes: a ref or a path may have 4096 (executor/payload.c) */
const char *job_facts_value(const struct job_facts *f, const char *name, char scratch[JOB_FACTS_SCRATCH]);
/* A template of these alone: *ret is owned by the caller. */
int job_facts_expand(const struct job_facts *f, const char *tmpl, char **ret, struct err *e);
