/*
 * What GitLab Runner makes of a job: payload, variables, stage scripts. All of it follows share/runner-rules.json,
 * which is compiled in and which the tests' stand-in for the runner reads too (docs/reference/runner-rules.md).
 */
#pragma once

#include "base/buf.h"
#include "base/json.h"
#include "base/str.h"

#define REHEARSE_SERVER "http://gitlab.invalid" /* RFC 6761: nobody answers there */
#define REHEARSE_SCRIPT_MAX (16 * 1024 * 1024)	/* bytes */

/* The compiled-in rules. The caller deletes them. */
int rules_load(cJSON **ret, struct err *e);
/* The object of rules[list] whose `key` is `value`, or NULL. */
const cJSON *rules_find(const cJSON *rules, const char *list, const char *key, const char *value);
/* Seconds of rules["times"]. */
int64_t rules_seconds(const cJSON *rules, const char *name);

/* Where a job lies on the host; builds NULL until config has answered. */
struct rehearse_dirs {
	char *builds, *cache, *project;
};
void rehearse_dirs_free(struct rehearse_dirs *d);

/* Who and where the job is. */
struct rehearse_identity {
	const char *project_path, *ref, *sha;
	const char *target_branch; /* the pipeline is that of a merge request of branch `ref` for it; NULL: none */
	const char *default_branch; /* of the project; NULL: that of the rules */
	bool is_tag, is_unprotected;
	int64_t job_id, started_at; /* seconds since the epoch */
	const char *token;	    /* the job token */
	int64_t timeout_s;
};

/* response.json of a job in the form of rehearse_ci.h. The caller deletes it. */
cJSON *rules_payload(const cJSON *rules, const cJSON *job, const struct rehearse_identity *id);

/* One variable as it is exported: expanded, duplicates included, in the runner's order. */
struct rehearse_variable {
	char *key, *value;
	bool is_file;
};
struct rehearse_variables {
	struct rehearse_variable *v;
	size_t n;
};
void rehearse_variables_free(struct rehearse_variables *l);

struct rehearse_context {
	const cJSON *rules, *payload;
	const struct rehearse_dirs *dirs;
	const char *job_status; /* CI_JOB_STATUS */
};

void rules_variables(const struct rehearse_context *c, bool is_for_script, struct rehearse_variables *ret);
/* CUSTOM_ENV_<name>=value, each name once, at its last place. */
void rules_environment(const struct rehearse_context *c, struct strv *ret);

/* Does the job have what a stage needs: "", "script", "steps", "artifact" …? */
bool rules_has(const struct rehearse_context *c, const char *needs, const char *stage);
/* The stages of the user's steps: "build_script", "step_release" … */
void rules_step_stages(const cJSON *payload, struct strv *ret);
/* The text of a stage script; exports is "all", "names" or "none". */
int rules_script(const struct rehearse_context *c, const char *stage, const char *exports, struct buf *out,
		 struct err *e);

/* Placeholders. */
struct rehearse_values {
	struct strv names, texts;
};
void rehearse_values_free(struct rehearse_values *v);
void rehearse_values_set(struct rehearse_values *v, const char *name, const char *text);
/* Appends text with @NAME@ replaced, from `more` (may be NULL) or `v`. Others stay as they are. */
void rules_fill(struct buf *out, const char *text, const struct rehearse_values *v,
		const struct rehearse_values *more);
/* The values that every script may use. */
void rules_values(const struct rehearse_context *c, struct rehearse_values *ret);

/* One word of bash in the runner's form: bare, or $'…' in ASCII. */
void rules_quote(struct buf *out, const char *s, size_t len);
/* $NAME and ${NAME} replaced once, unknown ones by nothing. Owned by the caller. */
char *rules_expand(const char *s, const struct rehearse_values *known);
