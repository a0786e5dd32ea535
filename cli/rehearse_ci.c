#include "cli/rehearse_ci.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/rehearse_yaml.h"

#define EXTENDS_MAX 11	 /* levels, GitLab's own limit */
#define REFERENCE_MAX 10 /* levels, GitLab's own limit */
#define LINES_MAX 10000	 /* of one script */
#define NAMES_SHOWN 20

struct ci {
	const char *path;
	const cJSON *top;
	struct strv *notes;
};

/* Words at the top of the file that name no job. */
static const char *const reserved[] = { "after_script", "before_script", "cache",    "default", "image",
					"include",	"pages",	 "services", "spec",	"stages",
					"types",	"variables",	 "workflow" };
/* What of a job cannot be played without GitLab. */
static const char *const unplayed[] = { "rules",     "only",	 "except",  "needs",	  "dependencies",
					"trigger",   "parallel", "secrets", "hooks",	  "release",
					"id_tokens", "run",	 "inherit", "environment" };
/* Taken from default: or, as older files have it, from the top where the job says nothing. */
static const char *const defaults[] = { "after_script", "artifacts", "before_script",
					"cache",	"image",     "services" };

static const struct {
	const char *type, *format;
} report_formats[] = {
	{ "annotations", "gzip" },
	{ "codequality", "raw" },
	{ "container_scanning", "raw" },
	{ "cyclonedx", "gzip" },
	{ "dast", "raw" },
	{ "dependency_scanning", "raw" },
	{ "dotenv", "gzip" },
	{ "junit", "gzip" },
	{ "sarif", "raw" },
	{ "sast", "raw" },
	{ "secret_detection", "raw" },
};

static bool
is_one_of(const char *const *words, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(words[i], word))
			return true;
	return false;
}

static bool
is_job(const cJSON *item)
{
	return cJSON_IsObject(item) && item->string[0] != '.' &&
	       (!is_one_of(reserved, MEM_COUNT(reserved), item->string) || str_eq(item->string, "pages"));
}

/* `base` with `over` laid over it, objects into each other; owned by the caller. */
static cJSON *
laid_over(const cJSON *base, const cJSON *over)
{
	cJSON *out = cJSON_Duplicate(base, true);
	const cJSON *item;

	cJSON_ArrayForEach(item, over)
	{
		const cJSON *old = json_get(out, item->string);
		cJSON *value = cJSON_IsObject(old) && cJSON_IsObject(item) ? laid_over(old, item)
									   : cJSON_Duplicate(item, true);

		cJSON_DeleteItemFromObjectCaseSensitive(out, item->string);
		cJSON_AddItemToObject(out, item->string, value);
	}
	return out;
}

/* The job with what it extends, nearest last; owned by the caller. */
static int
extended(const struct ci *c, const cJSON *job, int depth, cJSON **ret, struct err *e)
{
	const cJSON *extends = json_get(job, "extends");
	AUTO_JSON cJSON *all = cJSON_CreateObject();
	AUTO_JSON cJSON *names = NULL;
	const cJSON *name;

	if (depth > EXTENDS_MAX)
		return err_set(e, ERR_REFUSED, "%s: extends goes deeper than %d levels", c->path, EXTENDS_MAX);
	names = cJSON_IsArray(extends) ? cJSON_Duplicate(extends, true) : cJSON_CreateArray();
	if (cJSON_IsString(extends))
		cJSON_AddItemToArray(names, cJSON_Duplicate(extends, true));
	cJSON_ArrayForEach(name, names)
	{
		const cJSON *base = cJSON_IsString(name) ? json_object(c->top, name->valuestring) : NULL;
		AUTO_JSON cJSON *one = NULL;
		cJSON *merged;

		if (!base) {
			AUTO_FREE char *safe = str_safe(cJSON_IsString(name) ? name->valuestring : "?", 80);

			return err_set(e, ERR_REFUSED, "%s: extends: there is no \"%s\" in this file",
				       c->path, safe);
		}
		if (extended(c, base, depth + 1, &one, e) < 0)
			return -1;
		merged = laid_over(all, one);
		cJSON_Delete(all);
		all = merged;
	}
	*ret = laid_over(all, job);
	return 0;
}

/* Lines of a script: strings, lists in lists, references. */
static int
add_lines(const struct ci *c, const cJSON *from, int depth, cJSON *lines, struct err *e)
{
	const cJSON *reference = cJSON_IsObject(from) ? json_array(from, "!reference") : NULL;
	const cJSON *item;

	if (depth > REFERENCE_MAX || cJSON_GetArraySize(lines) > LINES_MAX)
		return err_set(e, ERR_REFUSED, "%s: a script that is nested too deeply or too long", c->path);
	if (cJSON_IsString(from)) {
		cJSON_AddItemToArray(lines, cJSON_Duplicate(from, true));
		return 0;
	}
	if (reference) {
		const cJSON *to = c->top;

		cJSON_ArrayForEach(item, reference)
		{
			to = cJSON_IsString(item) ? json_get(to, item->valuestring) : NULL;
		}
		if (!to)
			return err_set(e, ERR_REFUSED, "%s: !reference to something that is not in this file",
				       c->path);
		return add_lines(c, to, depth + 1, lines, e);
	}
	if (from && !cJSON_IsArray(from))
		return err_set(e, ERR_REFUSED, "%s: a script is a list of strings", c->path);
	cJSON_ArrayForEach(item, from)
	{
		if (add_lines(c, item, depth + 1, lines, e) < 0)
			return -1;
	}
	return 0;
}

void
ci_add_variable(cJSON *variables, const char *key, const char *value, bool is_raw)
{
	cJSON *v = cJSON_CreateObject();

	json_add_str(v, "key", key);
	json_add_str(v, "value", value);
	json_add_bool(v, "public", true);
	json_add_bool(v, "file", false);
	json_add_bool(v, "masked", false);
	json_add_bool(v, "raw", is_raw);
	cJSON_AddItemToArray(variables, v);
}

static void
add_variables(const cJSON *from, cJSON *variables)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, from)
	{
		const char *value = cJSON_IsString(item) ? item->valuestring : json_str(item, "value");

		ci_add_variable(variables, item->string, value ? value : "",
				str_eq(json_str(item, "expand"), "false"));
	}
}

/* A string or a list of strings, as a list. */
static cJSON *
as_list(const cJSON *from)
{
	cJSON *list = cJSON_CreateArray();
	const cJSON *item;

	if (cJSON_IsString(from))
		cJSON_AddItemToArray(list, cJSON_Duplicate(from, true));
	else if (cJSON_IsArray(from))
		cJSON_ArrayForEach(item, from)
		{
			if (cJSON_IsString(item))
				cJSON_AddItemToArray(list, cJSON_Duplicate(item, true));
		}
	return list;
}

static void
set_list(cJSON *o, const char *name, const cJSON *from)
{
	cJSON_DeleteItemFromObjectCaseSensitive(o, name);
	cJSON_AddItemToObject(o, name, as_list(from));
}

static void
set_str(cJSON *o, const char *name, const char *value)
{
	if (!value)
		return;
	cJSON_DeleteItemFromObjectCaseSensitive(o, name);
	json_add_str(o, name, value);
}

cJSON *
ci_add_archive(cJSON *artifacts)
{
	cJSON *a = cJSON_CreateObject();

	json_add_str(a, "name", "");
	json_add_bool(a, "untracked", false);
	json_add_array(a, "paths");
	json_add_array(a, "exclude");
	json_add_str(a, "when", "on_success");
	json_add_str(a, "artifact_type", "archive");
	json_add_str(a, "artifact_format", "zip");
	json_add_str(a, "expire_in", "");
	cJSON_AddItemToArray(artifacts, a);
	return a;
}

static void
add_reports(const struct ci *c, const cJSON *from, cJSON *artifacts)
{
	const cJSON *reports = json_object(from, "reports");
	const cJSON *item;

	cJSON_ArrayForEach(item, reports)
	{
		const char *format = NULL;
		const char *first;
		cJSON *a;

		for (size_t i = 0; i < MEM_COUNT(report_formats); i++)
			if (str_eq(report_formats[i].type, item->string))
				format = report_formats[i].format;
		if (!format) {
			AUTO_FREE char *safe = str_safe(item->string, 40);

			strv_addf(c->notes, "artifacts:reports:%s is not played", safe);
			continue;
		}
		a = ci_add_archive(artifacts);
		set_list(a, "paths", item);
		first = cJSON_GetStringValue(cJSON_GetArrayItem(json_array(a, "paths"), 0));
		set_str(a, "name", first);
		set_str(a, "when", "always");
		set_str(a, "artifact_type", item->string);
		set_str(a, "artifact_format", format);
		set_str(a, "expire_in", json_str(from, "expire_in"));
	}
}

static void
add_artifacts(const struct ci *c, const cJSON *from, cJSON *artifacts)
{
	bool is_untracked = str_eq(json_str(from, "untracked"), "true");

	if (json_get(from, "paths") || is_untracked) {
		cJSON *a = ci_add_archive(artifacts);

		set_list(a, "paths", json_get(from, "paths"));
		set_list(a, "exclude", json_get(from, "exclude"));
		set_str(a, "name", json_str(from, "name"));
		set_str(a, "when", json_str(from, "when"));
		set_str(a, "expire_in", json_str(from, "expire_in"));
		if (is_untracked)
			cJSON_ReplaceItemInObjectCaseSensitive(a, "untracked", cJSON_CreateTrue());
	}
	add_reports(c, from, artifacts);
}

static void
add_cache(const struct ci *c, const cJSON *from, cJSON *list)
{
	const char *key = json_str(from, "key");
	const cJSON *item;
	cJSON *one;

	if (cJSON_IsArray(from)) {
		cJSON_ArrayForEach(item, from)
		{
			if (cJSON_IsObject(item))
				add_cache(c, item, list);
		}
		return;
	}
	if (!cJSON_IsObject(from) || !json_get(from, "paths"))
		return;
	if (json_object(from, "key"))
		strv_add(c->notes, "cache:key:files is not played; the key is \"default\"");
	one = cJSON_CreateObject();
	json_add_str(one, "key", key ? key : "default");
	json_add_bool(one, "untracked", str_eq(json_str(from, "untracked"), "true"));
	json_add_str(one, "policy", json_str(from, "policy") ? json_str(from, "policy") : "pull-push");
	set_list(one, "paths", json_get(from, "paths"));
	json_add_str(one, "when", json_str(from, "when") ? json_str(from, "when") : "on_success");
	cJSON_AddItemToArray(list, one);
}

static void
add_services(const cJSON *from, cJSON *services)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, from)
	{
		const char *name = cJSON_IsString(item) ? item->valuestring : json_str(item, "name");
		cJSON *s;

		if (!name)
			continue;
		s = cJSON_CreateObject();
		json_add_str(s, "name", name);
		if (json_str(item, "alias"))
			json_add_str(s, "alias", json_str(item, "alias"));
		cJSON_AddItemToArray(services, s);
	}
}

static const char *
image_name(const cJSON *job)
{
	const cJSON *image = json_get(job, "image");
	const char *name = cJSON_IsString(image) ? image->valuestring : json_str(image, "name");

	return name ? name : "";
}

/* The job with the defaults of the file under it; owned by the caller. */
static cJSON *
with_defaults(const struct ci *c, const cJSON *job)
{
	cJSON *all = cJSON_Duplicate(job, true);

	for (size_t i = 0; i < MEM_COUNT(defaults); i++) {
		const cJSON *value = json_get(json_object(c->top, "default"), defaults[i]);

		if (!value)
			value = json_get(c->top, defaults[i]);
		if (value && !json_get(all, defaults[i]))
			cJSON_AddItemToObject(all, defaults[i], cJSON_Duplicate(value, true));
	}
	return all;
}

static void
note_unplayed(const struct ci *c, const cJSON *job)
{
	if (json_get(c->top, "include"))
		strv_add(c->notes, "include: is not read; what the job has from there is missing");
	for (size_t i = 0; i < MEM_COUNT(unplayed); i++)
		if (json_get(job, unplayed[i]))
			strv_addf(c->notes, "%s: is not played", unplayed[i]);
}

static int
build(const struct ci *c, const char *name, const cJSON *found, cJSON **ret, struct err *e)
{
	AUTO_JSON cJSON *own = NULL;
	AUTO_JSON cJSON *job = NULL;
	AUTO_JSON cJSON *out = cJSON_CreateObject();
	cJSON *script;

	if (extended(c, found, 0, &own, e) < 0)
		return -1;
	job = with_defaults(c, own);
	note_unplayed(c, job);
	json_add_str(out, "name", name);
	json_add_str(out, "stage", json_str(job, "stage") ? json_str(job, "stage") : "test");
	json_add_str(out, "image", image_name(job));
	script = json_add_array(out, "script");
	if (add_lines(c, json_get(job, "before_script"), 0, script, e) < 0 ||
	    add_lines(c, json_get(job, "script"), 0, script, e) < 0 ||
	    add_lines(c, json_get(job, "after_script"), 0, json_add_array(out, "after_script"), e) < 0)
		return err_wrap(e, "job %s", name);
	if (cJSON_GetArraySize(script) == 0)
		return err_set(e, ERR_REFUSED, "%s: job %s has no script", c->path, name);
	add_variables(json_object(c->top, "variables"), json_add_array(out, "variables"));
	add_variables(json_object(job, "variables"), cJSON_GetObjectItemCaseSensitive(out, "variables"));
	add_artifacts(c, json_object(job, "artifacts"), json_add_array(out, "artifacts"));
	add_cache(c, json_get(job, "cache"), json_add_array(out, "cache"));
	add_services(json_array(job, "services"), json_add_array(out, "services"));
	*ret = take_ptr(out);
	return 0;
}

/* The names of the jobs, for a message; owned by the caller. */
static char *
job_names(const cJSON *top)
{
	AUTO_STRV struct strv names = { 0 };
	const cJSON *item;

	cJSON_ArrayForEach(item, top)
	{
		if (is_job(item) && names.n < NAMES_SHOWN)
			strv_take(&names, str_safe(item->string, 60));
	}
	return strv_join(&names, ", ");
}

static int
find_job(const struct ci *c, const char *name, const struct strv *prefer, const cJSON **ret, struct err *e)
{
	const cJSON *item;
	const cJSON *preferred = NULL;
	const cJSON *only = NULL;
	size_t n = 0;
	AUTO_FREE char *names = job_names(c->top);

	cJSON_ArrayForEach(item, c->top)
	{
		if (!is_job(item))
			continue;
		n++;
		only = item;
		if (!preferred && (name ? str_eq(name, item->string) : str_glob_any(prefer, item->string)))
			preferred = item;
	}
	if (!name && !preferred && n == 1)
		preferred = only;
	if (preferred) {
		*ret = preferred;
		return 0;
	}
	if (n == 0)
		return err_set(e, ERR_REFUSED, "%s: there is no job in it", c->path);
	if (!name)
		return err_set(e, ERR_USAGE, "%s: which job? --job NAME, one of: %s", c->path, names);
	return err_set(e, ERR_USAGE, "%s: there is no job \"%s\"; there are: %s", c->path, name, names);
}

int
ci_parse_job(const char *path, const char *text, size_t len, const char *name, const struct strv *prefer,
	     cJSON **ret_job, struct strv *ret_notes, struct err *e)
{
	AUTO_JSON cJSON *top = NULL;
	struct ci c = { .path = path, .notes = ret_notes };
	const cJSON *found;

	if (rehearse_yaml_parse(path, text, len, CI_NODES_MAX, &top, e) < 0)
		return -1;
	if (!cJSON_IsObject(top))
		return err_set(e, ERR_REFUSED, "%s: not a mapping of jobs", path);
	c.top = top;
	if (find_job(&c, name, prefer, &found, e) < 0)
		return -1;
	return build(&c, found->string, found, ret_job, e);
}

int
ci_load_job(const char *path, const char *name, const struct strv *prefer, cJSON **ret_job,
	    struct strv *ret_notes, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (fs_read_named(path, CI_FILE_MAX, &text, &len, e) < 0)
		return -1;
	return ci_parse_job(path, text, len, name, prefer, ret_job, ret_notes, e);
}
