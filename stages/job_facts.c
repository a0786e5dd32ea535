#include "stages/job_facts.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define COMMIT_SHORT 8

enum kind { TEXT, NUMBER, BOOL, LIST };

static const struct member {
	const char *key;
	enum kind kind;
	size_t offset;
} members[] = {
	{ "job_id", NUMBER, offsetof(struct job_facts, job_id) },
	{ "pipeline_id", NUMBER, offsetof(struct job_facts, pipeline_id) },
	{ "project_id", NUMBER, offsetof(struct job_facts, project_id) },
	{ "project_path", TEXT, offsetof(struct job_facts, project_path) },
	{ "name", TEXT, offsetof(struct job_facts, name) },
	{ "stage", TEXT, offsetof(struct job_facts, stage) },
	{ "ref", TEXT, offsetof(struct job_facts, ref) },
	{ "is_tag", BOOL, offsetof(struct job_facts, is_tag) },
	{ "is_protected", BOOL, offsetof(struct job_facts, is_protected) },
	{ "sha", TEXT, offsetof(struct job_facts, sha) },
	{ "server_url", TEXT, offsetof(struct job_facts, server_url) },
	{ "project_url", TEXT, offsetof(struct job_facts, project_url) },
	{ "default_branch", TEXT, offsetof(struct job_facts, default_branch) },
	{ "target_branch", TEXT, offsetof(struct job_facts, target_branch) },
	{ "source_branch", TEXT, offsetof(struct job_facts, source_branch) },
	{ "wants_severity", TEXT, offsetof(struct job_facts, wants_severity) },
	{ "wants_mode", TEXT, offsetof(struct job_facts, wants_mode) },
	{ "wants_waiver", TEXT, offsetof(struct job_facts, wants_waiver) },
	{ "artifact_paths", LIST, offsetof(struct job_facts, artifact_paths) },
};

void
job_facts_free(struct job_facts *f)
{
	for (size_t i = 0; i < MEM_COUNT(members); i++) {
		void *at = (char *)f + members[i].offset;

		if (members[i].kind == TEXT)
			mem_free_at(at);
		else if (members[i].kind == LIST)
			strv_free(at);
	}
	*f = (struct job_facts){ 0 };
}

cJSON *
job_facts_to_json(const struct job_facts *f)
{
	cJSON *j = cJSON_CreateObject();

	for (size_t i = 0; i < MEM_COUNT(members); i++) {
		const void *at = (const char *)f + members[i].offset;

		switch (members[i].kind) {
		case TEXT:
			json_add_str(j, members[i].key, *(char *const *)at);
			break;
		case NUMBER:
			json_add_int(j, members[i].key, *(const int64_t *)at);
			break;
		case BOOL:
			json_add_bool(j, members[i].key, *(const bool *)at);
			break;
		case LIST:
			json_add_strv(j, members[i].key, at);
			break;
		}
	}
	return j;
}

int
job_facts_from_json(const cJSON *j, struct job_facts *ret, struct err *e)
{
	struct job_facts f = { 0 };

	if (!cJSON_IsObject(j))
		return err_set(e, ERR_FAILED, "facts of the job are missing");
	for (size_t i = 0; i < MEM_COUNT(members); i++) {
		void *at = (char *)&f + members[i].offset;
		const char *s;

		switch (members[i].kind) {
		case TEXT:
			s = json_str(j, members[i].key);
			*(char **)at = mem_strdup(s ? s : "");
			break;
		case NUMBER:
			*(int64_t *)at = json_int(j, members[i].key, 0);
			break;
		case BOOL:
			*(bool *)at = json_bool(j, members[i].key, false);
			break;
		case LIST:
			json_strv(j, members[i].key, at);
			break;
		}
	}
	job_facts_free(ret);
	*ret = f;
	return 0;
}

/* "group/sub/app": "app" */
static const char *
last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What stands before the ref in DefectDojo. */
static const char *
kind_of_ref(const struct job_facts *f)
{
	const char *ref = f->ref ? f->ref : "";
	bool is_merge_request = !str_is_empty(f->target_branch) && str_has_prefix(ref, "refs/merge-requests/");
	bool looks_like_another = str_has_prefix(ref, "refs/") && !is_merge_request;

	if (!*ref)
		return "";
	return f->is_tag ? "refs/tags/" : looks_like_another ? "refs/heads/" : "";
}

char *
job_facts_branch_tag(const struct job_facts *f)
{
	return mem_printf("%s%s", kind_of_ref(f), f->ref ? f->ref : "");
}

const char *
job_facts_value(const struct job_facts *f, const char *name, char scratch[JOB_FACTS_SCRATCH])
{
	const struct {
		const char *name, *value;
	} texts[] = {
		{ "project_path", f->project_path },
		{ "project_name", f->project_path ? last_part(f->project_path) : NULL },
		{ "ref", f->ref },
		{ "commit", f->sha },
		{ "job_name", f->name },
		{ "job_stage", f->stage },
		{ "server_url", f->server_url },
		{ "default_branch", f->default_branch },
	};
	const struct {
		const char *name;
		int64_t value;
	} numbers[] = {
		{ "job_id", f->job_id },
		{ "pipeline_id", f->pipeline_id },
		{ "project_id", f->project_id },
	};

	for (size_t i = 0; i < MEM_COUNT(texts); i++)
		if (strcmp(texts[i].name, name) == 0)
			return texts[i].value ? texts[i].value : "";
	for (size_t i = 0; i < MEM_COUNT(numbers); i++)
		if (strcmp(numbers[i].name, name) == 0) {
			snprintf(scratch, JOB_FACTS_SCRATCH, "%" PRId64, numbers[i].value);
			return scratch;
		}
	if (strcmp(name, "branch") == 0) {
		snprintf(scratch, JOB_FACTS_SCRATCH, "%s%s", kind_of_ref(f), f->ref ? f->ref : "");
		return scratch;
	}
	if (strcmp(name, "namespace") == 0) {
		const char *path = f->project_path ? f->project_path : "";
		const char *slash = strrchr(path, '/');

		snprintf(scratch, JOB_FACTS_SCRATCH, "%.*s", slash ? (int)(slash - path) : 0, path);
		return scratch;
	}
	if (strcmp(name, "commit_short") == 0) {
		snprintf(scratch, JOB_FACTS_SCRATCH, "%.*s", COMMIT_SHORT, f->sha ? f->sha : "");
		return scratch;
	}
	return NULL;
}

struct values {
	const struct job_facts *job;
	char scratch[JOB_FACTS_SCRATCH];
};

static const char *
value_of(const char *name, void *arg)
{
	struct values *v = arg;

	return job_facts_value(v->job, name, v->scratch);
}

int
job_facts_expand(const struct job_facts *f, const char *tmpl, char **ret, struct err *e)
{
	struct values v = { .job = f };

	return str_expand(tmpl, value_of, &v, ret, e);
}
