#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/rehearse_ci.h"
#include "cli/rehearse_rules.h"

#define SLUG_MAX 63 /* bytes, as in CI_COMMIT_REF_SLUG */
#define PIPELINE_ID "1"
#define PROJECT_ID "1"
#define MERGE_REQUEST "1"

/* Lower case, everything but letters and digits a dash, none at the ends. Owned by the caller. */
static char *
slug_of(const char *text)
{
	char *s = mem_strndup(text, strnlen(text, SLUG_MAX));
	size_t len = strlen(s);
	size_t skip;

	for (size_t i = 0; i < len; i++)
		s[i] = isalnum((unsigned char)s[i]) ? (char)tolower((unsigned char)s[i]) : '-';
	while (len > 0 && s[len - 1] == '-')
		s[--len] = '\0';
	skip = strspn(s, "-");
	memmove(s, s + skip, len - skip + 1);
	return s;
}

static char *
repo_url(const struct rehearse_identity *id)
{
	return mem_printf("http://gitlab-ci-token:%s@%s/%s.git", id->token,
			  &REHEARSE_SERVER[strlen("http://")], id->project_path);
}

static void
set_slug(struct rehearse_values *v, const char *name, const char *text)
{
	AUTO_FREE char *slug = slug_of(text);

	rehearse_values_set(v, name, slug);
}

static void
identity_values(const cJSON *job, const struct rehearse_identity *id, struct rehearse_values *v)
{
	const char *slash = strrchr(id->project_path, '/');
	AUTO_FREE char *namespace =
		mem_strndup(id->project_path, slash ? (size_t)(slash - id->project_path) : 0);
	AUTO_FREE char *root = mem_strndup(id->project_path, strcspn(id->project_path, "/"));
	AUTO_FREE char *job_id = mem_printf("%lld", (long long)id->job_id);
	AUTO_FREE char *short_sha = mem_strndup(id->sha, strnlen(id->sha, 8));
	AUTO_FREE char *url = repo_url(id);
	char started[32];

	clock_format_rfc3339(id->started_at, started);
	rehearse_values_set(v, "SERVER_URL", REHEARSE_SERVER);
	rehearse_values_set(v, "SERVER_FQDN", &REHEARSE_SERVER[strlen("http://")]);
	rehearse_values_set(v, "SERVER_HOST", &REHEARSE_SERVER[strlen("http://")]);
	rehearse_values_set(v, "SERVER_PORT", "80");
	rehearse_values_set(v, "REPO_URL", url);
	rehearse_values_set(v, "TOKEN", id->token);
	rehearse_values_set(v, "COMMIT_SHA", id->sha);
	rehearse_values_set(v, "COMMIT_SHORT_SHA", short_sha);
	rehearse_values_set(v, "PIPELINE_ID", PIPELINE_ID);
	rehearse_values_set(v, "JOB_ID", job_id);
	rehearse_values_set(v, "JOB_NAME", json_str(job, "name"));
	set_slug(v, "JOB_NAME_SLUG", json_str(job, "name"));
	rehearse_values_set(v, "JOB_STAGE", json_str(job, "stage"));
	rehearse_values_set(v, "PROJECT_ID", PROJECT_ID);
	rehearse_values_set(v, "PROJECT_NAME", slash ? slash + 1 : id->project_path);
	rehearse_values_set(v, "PROJECT_PATH", id->project_path);
	set_slug(v, "PROJECT_PATH_SLUG", id->project_path);
	rehearse_values_set(v, "PROJECT_NAMESPACE", namespace);
	rehearse_values_set(v, "PROJECT_ROOT_NAMESPACE", root);
	rehearse_values_set(v, "REF", id->ref);
	set_slug(v, "REF_SLUG", id->ref);
	rehearse_values_set(v, "RUNNER_TAGS", "[\"rehearsal\"]");
	rehearse_values_set(v, "STARTED_AT", started);
}

/* The rules have the variables of a protected branch's pipeline. */
static bool
is_of_another_ref(const struct rehearse_identity *id, const char *key)
{
	if (str_eq(key, "CI_COMMIT_BRANCH"))
		return id->is_tag || id->target_branch;
	if (str_eq(key, "CI_PIPELINE_SOURCE"))
		return id->target_branch;
	if (str_eq(key, "CI_DEFAULT_BRANCH"))
		return id->default_branch;
	return str_eq(key, "CI_COMMIT_REF_PROTECTED") && id->is_unprotected;
}

static void
add_ref_variables(const struct rehearse_identity *id, cJSON *list)
{
	if (id->default_branch)
		ci_add_variable(list, "CI_DEFAULT_BRANCH", id->default_branch, false);
	if (id->is_unprotected)
		ci_add_variable(list, "CI_COMMIT_REF_PROTECTED", "false", false);
	if (id->is_tag)
		ci_add_variable(list, "CI_COMMIT_TAG", id->ref, false);
	if (!id->target_branch)
		return;
	ci_add_variable(list, "CI_PIPELINE_SOURCE", "merge_request_event", false);
	ci_add_variable(list, "CI_MERGE_REQUEST_IID", MERGE_REQUEST, false);
	ci_add_variable(list, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", id->ref, false);
	ci_add_variable(list, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", id->target_branch, false);
}

static void
add_variables(const cJSON *rules, const cJSON *job, const struct rehearse_identity *id, cJSON *payload)
{
	struct rehearse_values v = { 0 };
	cJSON *list = json_add_array(payload, "variables");
	const cJSON *item;

	identity_values(job, id, &v);
	cJSON_ArrayForEach(item, json_array(rules, "job_variables"))
	{
		AUTO_BUF struct buf value = BUF_INIT(REHEARSE_SCRIPT_MAX);
		cJSON *one;

		if (is_of_another_ref(id, json_str(item, "key")))
			continue;
		one = cJSON_CreateObject();
		rules_fill(&value, json_str(item, "value"), &v, NULL);
		json_add_str(one, "key", json_str(item, "key"));
		json_add_str(one, "value", buf_str(&value));
		json_add_bool(one, "public", json_bool(item, "public", true));
		json_add_bool(one, "file", false);
		json_add_bool(one, "masked", json_bool(item, "masked", false));
		json_add_bool(one, "raw", false);
		cJSON_AddItemToArray(list, one);
	}
	rehearse_values_free(&v);
	add_ref_variables(id, list);
	if (!str_is_empty(json_str(job, "image")))
		ci_add_variable(list, "CI_JOB_IMAGE", json_str(job, "image"), false);
	cJSON_ArrayForEach(item, json_array(job, "variables"))
	{
		cJSON_AddItemToArray(list, cJSON_Duplicate(item, true));
	}
	ci_add_variable(list, "GIT_STRATEGY", "none", false);
}

static void
add_step(cJSON *steps, const char *name, const cJSON *lines, int64_t timeout_s)
{
	bool is_after = str_eq(name, "after_script");
	cJSON *step;

	if (cJSON_GetArraySize(lines) == 0)
		return;
	step = cJSON_CreateObject();
	json_add_str(step, "name", name);
	cJSON_AddItemToObject(step, "script", cJSON_Duplicate(lines, true));
	json_add_int(step, "timeout", timeout_s);
	json_add_str(step, "when", is_after ? "always" : "on_success");
	json_add_bool(step, "allow_failure", is_after);
	cJSON_AddItemToArray(steps, step);
}

static void
add_job_info(const cJSON *job, const struct rehearse_identity *id, cJSON *payload)
{
	const char *slash = strrchr(id->project_path, '/');
	cJSON *info = json_add_object(payload, "job_info");

	json_add_str(info, "name", json_str(job, "name"));
	json_add_str(info, "stage", json_str(job, "stage"));
	json_add_int(info, "pipeline_id", 1);
	json_add_int(info, "project_id", 1);
	json_add_str(info, "project_name", slash ? slash + 1 : id->project_path);
	json_add_str(info, "project_full_path", id->project_path);
	json_add_int(info, "namespace_id", 1);
	json_add_int(info, "root_namespace_id", 1);
	json_add_int(info, "user_id", 1);
	json_add_int(info, "time_in_queue_seconds", 0);
	json_add_str(info, "project_jobs_running_on_instance_runners_count", "0");
}

/* What is fetched, as GitLab writes it. Owned by the caller. */
static char *
refspec_of(const struct rehearse_identity *id)
{
	if (id->target_branch)
		return mem_strdup("+refs/pipelines/" PIPELINE_ID ":refs/pipelines/" PIPELINE_ID);
	return id->is_tag ? mem_printf("+refs/tags/%s:refs/tags/%s", id->ref, id->ref)
			  : mem_printf("+refs/heads/%s:refs/remotes/origin/%s", id->ref, id->ref);
}

static void
add_git_info(const struct rehearse_identity *id, cJSON *payload)
{
	cJSON *git = json_add_object(payload, "git_info");
	AUTO_FREE char *url = repo_url(id);
	AUTO_FREE char *refspec = refspec_of(id);
	cJSON *refspecs;

	json_add_str(git, "repo_url", url);
	json_add_str(git, "repo_object_format", "sha1");
	json_add_str(git, "ref", id->target_branch ? "refs/merge-requests/" MERGE_REQUEST "/head" : id->ref);
	json_add_str(git, "sha", id->sha);
	json_add_str(git, "before_sha", "0000000000000000000000000000000000000000");
	json_add_str(git, "ref_type", id->is_tag ? "tag" : "branch");
	refspecs = json_add_array(git, "refspecs");
	cJSON_AddItemToArray(refspecs, cJSON_CreateString(refspec));
	json_add_int(git, "depth", 20);
	json_add_bool(git, "protected", !id->is_unprotected);
}

cJSON *
rules_payload(const cJSON *rules, const cJSON *job, const struct rehearse_identity *id)
{
	cJSON *p = cJSON_CreateObject();
	cJSON *steps;

	json_add_int(p, "id", id->job_id);
	json_add_str(p, "token", id->token);
	json_add_bool(p, "allow_git_fetch", true);
	add_job_info(job, id, p);
	add_git_info(id, p);
	json_add_int(json_add_object(p, "runner_info"), "timeout", id->timeout_s);
	json_add_object(p, "inputs");
	add_variables(rules, job, id, p);
	steps = json_add_array(p, "steps");
	add_step(steps, "script", json_array(job, "script"), id->timeout_s);
	add_step(steps, "after_script", json_array(job, "after_script"), id->timeout_s);
	json_add_str(json_add_object(p, "image"), "name", json_str(job, "image"));
	cJSON_AddItemToObject(p, "services", cJSON_Duplicate(json_array(job, "services"), true));
	cJSON_AddItemToObject(p, "artifacts", cJSON_Duplicate(json_array(job, "artifacts"), true));
	cJSON_AddItemToObject(p, "cache", cJSON_Duplicate(json_array(job, "cache"), true));
	json_add_array(p, "credentials");
	json_add_array(p, "dependencies");
	json_add_bool(json_add_object(p, "features"), "trace_sections", true);
	return p;
}
