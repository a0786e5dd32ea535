/*
 * The job payload: JOB_RESPONSE_FILE, GitLab Runner's own structure as JSON (PROTOCOL.md, 2). Only its trusted
 * fields become facts; of a predefined variable the first of its name counts.
 */
#pragma once

#include "base/json.h"
#include "base/mem.h"
#include "stages/job_facts.h"

#define PAYLOAD_MAX (16 * 1024 * 1024) /* bytes: as JSON in memory up to forty times as much */
#define PAYLOAD_LIST_MAX 10000	       /* elements of a list that is looked at */

enum payload_artifact_when { ARTIFACT_ON_SUCCESS, ARTIFACT_ON_FAILURE, ARTIFACT_ALWAYS };

struct payload {
	struct job_facts facts;
	char *token; /* the job token: a secret */
	char *repo_path; /* what the runner appends to builds_dir: "group/app", with GitLab under a path "gitlab/group/app" */
	char *image; /* "" without image: */
	size_t n_services;
	size_t n_user_steps; /* steps[] but after_script */
	struct strv step_stages; /* run stage of each user step in order: "build_script" (= step_script), "step_release" … */
	bool has_after_script;
	bool has_archive;	  /* declares artifacts: of type archive */
	int archive_when;	  /* enum payload_artifact_when of it */
	struct strv report_types; /* artifact types the job declares, archive not among them */
	bool has_cache;
};

int payload_load(const char *path, struct payload **ret, struct err *e);
int payload_parse(const char *text, size_t len, struct payload **ret, struct err *e);
void payload_free(struct payload *p);
MEM_AUTO_DECLARE(payload)
