#include "cli/rehearse_rules.h"

#include <ctype.h>
#include <string.h>

#include "base/mem.h"

#define VALUE_MAX (1024 * 1024) /* bytes of one filled text */

/* Made by the build from share/runner-rules.json. */
extern const char runner_rules_text[];

int
rules_load(cJSON **ret, struct err *e)
{
	size_t len = strlen(runner_rules_text);

	if (json_parse(runner_rules_text, len, len, JSON_UNIQUE, ret, e) < 0)
		return err_wrap(e, "runner-rules.json");
	return 0;
}

const cJSON *
rules_find(const cJSON *rules, const char *list, const char *key, const char *value)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(rules, list))
	{
		if (str_eq(json_str(item, key), value))
			return item;
	}
	return NULL;
}

int64_t
rules_seconds(const cJSON *rules, const char *name)
{
	return json_int(rules_find(rules, "times", "name", name), "seconds", 0);
}

void
rehearse_dirs_free(struct rehearse_dirs *d)
{
	mem_free_at(&d->builds);
	mem_free_at(&d->cache);
	mem_free_at(&d->project);
}

void
rehearse_variables_free(struct rehearse_variables *l)
{
	for (size_t i = 0; i < l->n; i++) {
		mem_free_at(&l->v[i].key);
		mem_free_at(&l->v[i].value);
	}
	mem_free_at(&l->v);
	l->n = 0;
}

void
rehearse_values_free(struct rehearse_values *v)
{
	strv_free(&v->names);
	strv_free(&v->texts);
}

void
rehearse_values_set(struct rehearse_values *v, const char *name, const char *text)
{
	for (size_t i = 0; i < v->names.n; i++) {
		if (str_eq(v->names.v[i], name)) {
			mem_free_at(&v->texts.v[i]);
			v->texts.v[i] = mem_strdup(text);
			return;
		}
	}
	strv_add(&v->names, name);
	strv_add(&v->texts, text);
}

/* n bytes of a name. */
static const char *
value_of(const struct rehearse_values *v, const char *name, size_t n)
{
	for (size_t i = 0; v && i < v->names.n; i++)
		if (strncmp(v->names.v[i], name, n) == 0 && v->names.v[i][n] == '\0')
			return v->texts.v[i];
	return NULL;
}

void
rules_fill(struct buf *out, const char *text, const struct rehearse_values *v,
	   const struct rehearse_values *more)
{
	while (*text) {
		size_t n = *text == '@' ? strspn(text + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") : 0;
		const char *value = NULL;

		if (n > 0 && text[n + 1] == '@') {
			value = value_of(more, text + 1, n);
			if (!value)
				value = value_of(v, text + 1, n);
		}
		if (value) {
			buf_add_str(out, value);
			text += n + 2;
		} else {
			buf_add_char(out, *text++);
		}
	}
}

char *
rules_expand(const char *s, const struct rehearse_values *known)
{
	struct buf out = BUF_INIT(VALUE_MAX);

	while (*s) {
		bool is_braced = s[0] == '$' && s[1] == '{';
		const char *name = s + (is_braced ? 2 : 1);
		size_t n = 0;

		while (s[0] == '$' && (isalnum((unsigned char)name[n]) || name[n] == '_'))
			n++;
		if (n == 0 || (is_braced && name[n] != '}')) {
			buf_add_char(&out, *s++);
			continue;
		}
		buf_add_str(&out, value_of(known, name, n) ? value_of(known, name, n) : "");
		s = name + n + (is_braced ? 1 : 0);
	}
	buf_add_str(&out, "");
	return out.data ? buf_take(&out) : mem_strdup("");
}

/* CI_JOB_SERVICES: what a driver with services would start. Owned by the caller. */
static char *
services_text(const struct rehearse_context *c)
{
	AUTO_JSON cJSON *list = cJSON_CreateArray();
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(c->payload, "services"))
	{
		cJSON *one = cJSON_CreateObject();

		json_add_str(one, "name", json_str(item, "name"));
		json_add_str(one, "alias", json_str(item, "alias") ? json_str(item, "alias") : "");
		cJSON_AddNullToObject(one, "entrypoint");
		cJSON_AddNullToObject(one, "command");
		cJSON_AddItemToArray(list, one);
	}
	return cJSON_GetArraySize(list) > 0 ? json_print(list) : mem_strdup("");
}

void
rules_values(const struct rehearse_context *c, struct rehearse_values *ret)
{
	const struct rehearse_dirs *d = c->dirs;
	AUTO_FREE char *temp = mem_printf("%s.tmp", d->builds ? d->project : "");
	AUTO_FREE char *services = services_text(c);
	AUTO_FREE char *timeout =
		mem_printf("%lld", (long long)json_int(json_object(c->payload, "runner_info"), "timeout", 0));
	AUTO_BUF struct buf url = BUF_INIT(VALUE_MAX);

	rules_quote(&url, REHEARSE_SERVER, strlen(REHEARSE_SERVER));
	rehearse_values_set(ret, "BUILDS_DIR", d->builds ? d->builds : "");
	rehearse_values_set(ret, "PROJECT_DIR", d->builds ? d->project : "");
	rehearse_values_set(ret, "TEMP_DIR", temp);
	rehearse_values_set(ret, "CACHE_DIR", d->builds ? d->cache : "");
	rehearse_values_set(ret, "PROJECT_PATH",
			    json_str(json_object(c->payload, "job_info"), "project_full_path"));
	rehearse_values_set(ret, "JOB_STATUS", c->job_status);
	rehearse_values_set(ret, "JOB_TIMEOUT", timeout);
	rehearse_values_set(ret, "IMAGE", json_str(json_object(c->payload, "image"), "name"));
	rehearse_values_set(ret, "RUNNER_SHORT_TOKEN", "rehearsal");
	rehearse_values_set(ret, "SERVER_URL", REHEARSE_SERVER);
	rehearse_values_set(ret, "SERVER_URL_QUOTED", buf_str(&url));
	rehearse_values_set(ret, "SERVICES", services);
}

struct collected {
	struct rehearse_variables *list;
	struct strv raw; /* "raw" or "" per variable */
};

static void
collect(struct collected *to, const char *key, const char *value, bool is_file, bool is_raw)
{
	struct rehearse_variables *l = to->list;

	l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = (struct rehearse_variable){ mem_strdup(key), mem_strdup(value), is_file };
	strv_add(&to->raw, is_raw ? "raw" : "");
}

static void
collect_own(struct collected *to, const struct rehearse_context *c, const char *list,
	    const struct rehearse_values *values, bool is_for_script)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(c->rules, list))
	{
		AUTO_BUF struct buf text = BUF_INIT(VALUE_MAX);

		if (is_for_script && !json_bool(item, "in_scripts", false))
			continue;
		if (str_eq(json_str(item, "if"), "image") && str_is_empty(value_of(values, "IMAGE", 5)))
			continue;
		rules_fill(&text, json_str(item, "value"), values, NULL);
		collect(to, json_str(item, "key"), buf_str(&text), false, true);
	}
}

void
rules_variables(const struct rehearse_context *c, bool is_for_script, struct rehearse_variables *ret)
{
	struct rehearse_values values = { 0 };
	struct rehearse_values known = { 0 };
	struct collected all = { .list = ret };
	const cJSON *item;

	*ret = (struct rehearse_variables){ 0 };
	rules_values(c, &values);
	collect_own(&all, c, "variables_before", &values, is_for_script);
	cJSON_ArrayForEach(item, json_array(c->payload, "variables"))
	{
		collect(&all, json_str(item, "key"), json_str(item, "value"), json_bool(item, "file", false),
			json_bool(item, "raw", false));
	}
	collect_own(&all, c, "variables_after", &values, is_for_script);
	for (size_t i = 0; i < ret->n; i++)
		rehearse_values_set(&known, ret->v[i].key, ret->v[i].value);
	for (size_t i = 0; i < ret->n; i++) {
		if (str_is_empty(all.raw.v[i])) {
			char *expanded = rules_expand(ret->v[i].value, &known);

			mem_free_at(&ret->v[i].value);
			ret->v[i].value = expanded;
		}
	}
	strv_free(&all.raw);
	rehearse_values_free(&values);
	rehearse_values_free(&known);
}

void
rules_environment(const struct rehearse_context *c, struct strv *ret)
{
	struct rehearse_variables all;

	rules_variables(c, false, &all);
	for (size_t i = 0; i < all.n; i++) {
		const char *value = all.v[i].value;
		bool is_last = true;

		for (size_t k = i + 1; k < all.n && is_last; k++)
			is_last = !str_eq(all.v[i].key, all.v[k].key);
		if (is_last)
			strv_addf(ret, "CUSTOM_ENV_%s=%s", all.v[i].key, value);
	}
	rehearse_variables_free(&all);
}
