/* Options that say for which job something is judged by hand: one table for the verbs that foretell what a job would meet. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "cli/options.h"
#include "stages/job_facts.h"

struct job_options {
	const char *project, *branch, *target_branch, *default_branch, *stage, *job,
		*waiver; /* NULL: not said */
	const char *repository, *commit;
	bool is_tag, is_protected;
};

/* Rows of a table for `type`, whose member `at` is a struct job_options. */
#define JOB_OPTIONS_ROW(type, at, member) offsetof(struct type, at.member)
#define JOB_OPTIONS(type, at)                                                                                    \
	{ "project",                                                                                             \
	  "PATH",                                                                                                \
	  OPTION_TEXT,                                                                                           \
	  JOB_OPTIONS_ROW(type, at, project),                                                                    \
	  "the job's project, such as group/app: its settings, rules, triage",                                   \
	  NULL },                                                                                                \
		{ "branch", "NAME", OPTION_TEXT, JOB_OPTIONS_ROW(type, at, branch), "its branch or tag", NULL }, \
		{ "tag", NULL, OPTION_FLAG, JOB_OPTIONS_ROW(type, at, is_tag), "that is a tag", NULL },          \
		{ "protected",	   NULL, OPTION_FLAG, JOB_OPTIONS_ROW(type, at, is_protected),                   \
		  "and protected", NULL },                                                                       \
		{ "target-branch",                                                                               \
		  "NAME",                                                                                        \
		  OPTION_TEXT,                                                                                   \
		  JOB_OPTIONS_ROW(type, at, target_branch),                                                      \
		  "the branch that its merge request is for (new_only: target)",                                 \
		  NULL },                                                                                        \
		{ "default-branch",                                                                              \
		  "NAME",                                                                                        \
		  OPTION_TEXT,                                                                                   \
		  JOB_OPTIONS_ROW(type, at, default_branch),                                                     \
		  "the project's (new_only: default)",                                                           \
		  NULL },                                                                                        \
		{ "stage", "NAME", OPTION_TEXT, JOB_OPTIONS_ROW(type, at, stage), "the job's stage", NULL },     \
		{ "job", "NAME", OPTION_TEXT, JOB_OPTIONS_ROW(type, at, job), "its name", NULL },                \
		{ "waiver", "NAME", OPTION_TEXT, JOB_OPTIONS_ROW(type, at, waiver), "its TIDEWAITER_WAIVER",     \
		  NULL },                                                                                        \
		{ "commit",                                                                                      \
		  "SHA",                                                                                         \
		  OPTION_TEXT,                                                                                   \
		  JOB_OPTIONS_ROW(type, at, commit),                                                             \
		  "its commit, all 40 digits: ignore files in it count where the rule\ntakes them",              \
		  NULL },                                                                                        \
	{                                                                                                        \
		"repository", "DIR", OPTION_TEXT, JOB_OPTIONS_ROW(type, at, repository),                         \
			"where that commit is: a clone of the project; default: here", NULL                      \
	}

/*
 * Checks what was said, and opens the repository's objects where a commit was named: *ret_objects_fd is as inspection.objects_fd, 0 without a
 * commit. ERR_USAGE.
 */
int job_options_open(const struct job_options *o, int *ret_objects_fd, struct err *e);

/* `severity` and `mode`: what the job asks for, NULL nothing. `ret` is to be freed with job_facts_free(). */
void job_options_facts(const struct job_options *o, const char *severity, const char *mode,
		       struct job_facts *ret);
