#include "executor/payload.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs.h"

#define WISH_MAX 128  /* bytes of a variable of ours */
#define TEXT_MAX 4096 /* bytes of a name, a ref or a path; GitLab allows 255 and 1024 */

static int
bad_field(struct err *e, const char *name, const char *found, const char *expected)
{
	AUTO_FREE char *safe = str_safe(found, 100);

	return err_set(e, ERR_REFUSED, "%s: \"%s\" instead of %s", name, safe, expected);
}

/* A field that GitLab's server writes. One that is absent is an error only where nothing can be done without it. */
static int
take_text(const cJSON *o, const char *name, char **to, struct err *e)
{
	const char *s = json_str(o, name);

	if (s && strlen(s) > TEXT_MAX)
		return err_set(e, ERR_REFUSED, "%s: %zu bytes, at most %d are taken", name, strlen(s),
			       TEXT_MAX);
	*to = mem_strdup(s ? s : "");
	return 0;
}

/* A path of names that cannot climb: "group/sub/app". */
static bool
is_project_path(const char *s)
{
	static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/";

	return s[0] != '\0' && s[0] != '/' && s[0] != '.' && strspn(s, chars) == strlen(s) &&
	       !strstr(s, "..") && !strstr(s, "//") && !str_has_suffix(s, "/");
}

/* Predefined variables come first, the user's of the same name later. */
static const char *
first_variable(const cJSON *variables, const char *key)
{
	const cJSON *v;

	cJSON_ArrayForEach(v, variables) if (str_eq(json_str(v, "key"), key))
	{
		const char *value = json_str(v, "value");

		return value ? value : "";
	}
	return "";
}

/* Of a variable that is the user's own: a job's comes behind its project's. At most WISH_MAX bytes; it is asked for, never trusted. */
static char *
last_variable(const cJSON *variables, const char *key)
{
	const char *value = NULL;
	const cJSON *v;

	cJSON_ArrayForEach(v, variables) if (str_eq(json_str(v, "key"), key)) value = json_str(v, "value");
	return mem_strndup(value ? value : "", WISH_MAX);
}

/* Outside of a merge request its variables are the user's to set. CI_PIPELINE_SOURCE is always GitLab's. */
static char *
of_merge_request(const cJSON *variables, const char *name)
{
	if (!str_eq(first_variable(variables, "CI_PIPELINE_SOURCE"), "merge_request_event"))
		return mem_strdup("");
	return mem_strndup(first_variable(variables, name), TEXT_MAX);
}

static bool
is_web_url(const char *s)
{
	return (str_has_prefix(s, "https://") || str_has_prefix(s, "http://")) && strlen(s) <= TEXT_MAX &&
	       !strpbrk(s, " \t\r\n\"'<>\\@");
}

/* An URL without the slashes at its end; "" for anything else. */
static char *
take_url(const char *s)
{
	size_t n = strlen(s);

	if (!is_web_url(s))
		return mem_strdup("");
	while (n > 0 && s[n - 1] == '/')
		n--;
	return mem_strndup(s, n);
}

/*
 * The directory that gitlab-runner appends to builds_dir (its Build.ProjectUniqueDir): the path of git_info.repo_url
 * without .git. Where it is nothing of the kind, the project's path, which is the same for a GitLab at the root of its host.
 */
static char *
repo_path_of(const cJSON *git_info, const char *project_path)
{
	const char *url = json_str(git_info, "repo_url");
	const char *p = url ? strstr(url, "://") : NULL;
	AUTO_FREE char *path = NULL;
	size_t n;

	p = p ? strchr(p + 3, '/') : NULL;
	if (!p || strlen(p) > TEXT_MAX)
		return mem_strdup(project_path);
	p += strspn(p, "/");
	n = strcspn(p, "?#");
	if (n > 4 && strncmp(p + n - 4, ".git", 4) == 0)
		n -= 4;
	path = mem_strndup(p, n);
	return is_project_path(path) ? take_ptr(path) : mem_strdup(project_path);
}

static int
read_git(struct payload *p, const cJSON *git, struct err *e)
{
	const char *type = json_str(git, "ref_type");
	struct job_facts *f = &p->facts;

	if (take_text(git, "ref", &f->ref, e) < 0 || take_text(git, "sha", &f->sha, e) < 0)
		return -1;
	if (!str_is_hex(f->sha, strlen(f->sha)) || strlen(f->sha) > 64)
		return bad_field(e, "sha", f->sha, "a commit");
	f->is_tag = str_eq(type, "tag");
	f->is_protected = json_bool(git, "protected", false);
	return 0;
}

static int
read_job(struct payload *p, const cJSON *j, struct err *e)
{
	const cJSON *info = json_object(j, "job_info");
	const cJSON *variables = json_array(j, "variables");
	struct job_facts *f = &p->facts;
	const char *token;

	if (!info)
		return err_set(e, ERR_REFUSED, "job_info is missing");
	if (json_need_int(j, "id", &f->job_id, e) < 0 || json_need_str(j, "token", &token, e) < 0 ||
	    json_need_int(info, "project_id", &f->project_id, e) < 0)
		return -1;
	if (f->job_id <= 0 || f->project_id <= 0)
		return err_set(e, ERR_REFUSED, "id and project_id must be positive");
	p->token = mem_strdup(token);
	f->pipeline_id = json_int(info, "pipeline_id", 0);
	if (take_text(info, "name", &f->name, e) < 0 || take_text(info, "stage", &f->stage, e) < 0 ||
	    take_text(info, "project_full_path", &f->project_path, e) < 0)
		return -1;
	if (f->project_path[0] == '\0') {
		mem_free_at(&f->project_path);
		f->project_path = mem_strdup(first_variable(variables, "CI_PROJECT_PATH"));
	}
	if (!is_project_path(f->project_path))
		return bad_field(e, "project_full_path", f->project_path, "group/project");
	f->server_url = take_url(first_variable(variables, "CI_SERVER_URL"));
	f->project_url = take_url(first_variable(variables, "CI_PROJECT_URL"));
	f->default_branch = mem_strndup(first_variable(variables, "CI_DEFAULT_BRANCH"), TEXT_MAX);
	f->target_branch = of_merge_request(variables, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME");
	f->source_branch = of_merge_request(variables, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME");
	f->wants_severity = last_variable(variables, "TIDEWAITER_SEVERITY");
	f->wants_mode = last_variable(variables, "TIDEWAITER_MODE");
	f->wants_waiver = last_variable(variables, "TIDEWAITER_WAIVER");
	p->repo_path = repo_path_of(json_object(j, "git_info"), f->project_path);
	return 0;
}

static int
read_list(const cJSON *o, const char *name, const cJSON **ret, struct err *e)
{
	*ret = json_array(o, name);
	if (*ret && cJSON_GetArraySize(*ret) > PAYLOAD_LIST_MAX)
		return err_set(e, ERR_REFUSED, "%s: %d elements, at most %d are taken", name,
			       cJSON_GetArraySize(*ret), PAYLOAD_LIST_MAX);
	return 0;
}

/* The run stage of a step: build_script for `script`, step_<name in lower case> for the others (PROTOCOL.md, 1). */
static char *
stage_of_step(const char *name)
{
	char *stage = str_eq(name, "script") ? mem_strdup("build_script") : mem_printf("step_%s", name);

	for (char *c = stage; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return stage;
}

static int
read_steps(struct payload *p, const cJSON *j, struct err *e)
{
	const cJSON *steps, *step;

	if (read_list(j, "steps", &steps, e) < 0)
		return -1;
	cJSON_ArrayForEach(step, steps)
	{
		const char *name = json_str(step, "name");

		if (!name || strlen(name) > TEXT_MAX)
			return err_set(e, ERR_REFUSED, "steps: a step without a name");
		if (str_eq(name, "after_script")) {
			p->has_after_script = true;
			continue;
		}
		strv_take(&p->step_stages, stage_of_step(name));
		p->n_user_steps++;
	}
	return 0;
}

static int
artifact_when_of(const char *when)
{
	if (str_eq(when, "on_failure"))
		return ARTIFACT_ON_FAILURE;
	if (str_eq(when, "always"))
		return ARTIFACT_ALWAYS;
	return ARTIFACT_ON_SUCCESS;
}

static int
read_artifact(struct payload *p, const cJSON *a, struct err *e)
{
	const char *type = json_str(a, "artifact_type");
	const cJSON *paths, *path;
	int when = artifact_when_of(json_str(a, "when"));

	if (!str_is_empty(type) && !str_eq(type, "archive")) {
		if (strlen(type) <= TEXT_MAX && !strv_has(&p->report_types, type))
			strv_add(&p->report_types, type);
		return 0;
	}
	p->archive_when = p->has_archive && p->archive_when != when ? ARTIFACT_ALWAYS : when;
	p->has_archive = true;
	if (read_list(a, "paths", &paths, e) < 0)
		return -1;
	/* "." is all of the project directory: what git does not track lies anywhere in it, and so may an overlong path. */
	cJSON_ArrayForEach(path, paths) if (cJSON_IsString(path))
		strv_add(&p->facts.artifact_paths,
			 strlen(path->valuestring) <= TEXT_MAX ? path->valuestring : ".");
	if (json_bool(a, "untracked", false))
		strv_add(&p->facts.artifact_paths, ".");
	return 0;
}

static int
read_artifacts(struct payload *p, const cJSON *j, struct err *e)
{
	const cJSON *artifacts, *a;

	if (read_list(j, "artifacts", &artifacts, e) < 0)
		return -1;
	cJSON_ArrayForEach(a, artifacts) if (read_artifact(p, a, e) < 0) return err_wrap(e, "artifacts");
	return 0;
}

static int
read_payload(struct payload *p, const cJSON *j, struct err *e)
{
	const cJSON *services, *cache;

	if (!cJSON_IsObject(j))
		return err_set(e, ERR_REFUSED, "not an object");
	if (read_job(p, j, e) < 0 || read_git(p, json_object(j, "git_info"), e) < 0 ||
	    read_steps(p, j, e) < 0 || read_artifacts(p, j, e) < 0 ||
	    take_text(json_object(j, "image"), "name", &p->image, e) < 0)
		return -1;
	services = json_array(j, "services");
	p->n_services = services ? (size_t)cJSON_GetArraySize(services) : 0;
	cache = json_array(j, "cache");
	p->has_cache = cache && cJSON_GetArraySize(cache) > 0;
	return 0;
}

int
payload_parse(const char *text, size_t len, struct payload **ret, struct err *e)
{
	AUTO(payload) struct payload *p = mem_alloc(sizeof(*p));
	AUTO_JSON cJSON *j = NULL;

	if (json_parse(text, len, PAYLOAD_MAX, 0, &j, e) < 0 || read_payload(p, j, e) < 0)
		return err_wrap(e, "job payload");
	*ret = take_ptr(p);
	return 0;
}

int
payload_load(const char *path, struct payload **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (fs_read_max(AT_FDCWD, path, PAYLOAD_MAX, &text, &len, e) < 0)
		return err_wrap(e, "job payload");
	return payload_parse(text, len, ret, e);
}

void
payload_free(struct payload *p)
{
	if (!p)
		return;
	job_facts_free(&p->facts);
	/* The token is not left behind in memory that is handed out again. */
	if (p->token)
		explicit_bzero(p->token, strlen(p->token));
	mem_free_at(&p->token);
	mem_free_at(&p->repo_path);
	mem_free_at(&p->image);
	strv_free(&p->step_stages);
	strv_free(&p->report_types);
	mem_free_at(&p);
}
