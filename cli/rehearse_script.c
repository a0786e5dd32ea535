#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "cli/rehearse_rules.h"

#define WORDS_MAX (1024 * 1024) /* bytes of the arguments of one call in a script */

/* Letters that bash's $'…' has for control characters, and what must be escaped in it. */
static char
short_escape(unsigned char c)
{
	static const char from[] = "\a\b\t\n\v\f\r'\\";
	static const char to[] = "abtnvfr'\\";
	const char *p = c ? strchr(from, c) : NULL;

	return p ? to[p - from] : '\0';
}

static bool
is_literal(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr(",-./@_", c));
}

void
rules_quote(struct buf *out, const char *s, size_t len)
{
	bool is_bare = true;

	if (len == 0) {
		buf_add_str(out, "''");
		return;
	}
	for (size_t i = 0; i < len && is_bare; i++)
		is_bare = is_literal((unsigned char)s[i]);
	if (is_bare) {
		buf_add(out, s, len);
		return;
	}
	buf_add_str(out, "$'");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (short_escape(c))
			buf_printf(out, "\\%c", short_escape(c));
		else if (c < 0x20 || c >= 0x7f)
			buf_printf(out, "\\x%02x", c);
		else
			buf_add_char(out, (char)c);
	}
	buf_add_char(out, '\'');
}

static void
add_word(struct buf *out, const char *word)
{
	if (out->len > 0)
		buf_add_char(out, ' ');
	rules_quote(out, word, strlen(word));
}

static void
add_words(struct buf *out, const char *option, const cJSON *list, const struct rehearse_values *known)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		AUTO_FREE char *path = cJSON_IsString(item) ? rules_expand(item->valuestring, known) : NULL;

		if (!path)
			continue;
		add_word(out, option);
		add_word(out, path);
	}
}

/* Items of one kind that a group of lines is repeated for. */
typedef int item_fn(void *arg, const struct rehearse_values *item);

struct walk {
	const struct rehearse_context *c;
	const char *stage;
	struct rehearse_values known; /* all variables, for expanding */
	item_fn *fn;
	void *arg;
};

static bool
is_wanted(const char *when, const char *stage)
{
	const char *outcome = str_has_suffix(stage, "_on_failure") ? "on_failure" : "on_success";

	return str_eq(when, "always") || str_eq(str_is_empty(when) ? "on_success" : when, outcome);
}

static int
walk_lines(const struct walk *w, const cJSON *lines)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, lines)
	{
		struct rehearse_values v = { 0 };
		AUTO_BUF struct buf echoed = BUF_INIT(WORDS_MAX);
		const char *line = cJSON_IsString(item) ? item->valuestring : "";
		const char *newline = strchr(line, '\n');
		AUTO_FREE char *first = mem_strndup(line, newline ? (size_t)(newline - line) : strlen(line));
		AUTO_FREE char *text = mem_printf("\033[32;1m$ %s%s\033[0;m", first,
						  newline ? " # collapsed multi-line command" : "");
		int rc;

		rules_quote(&echoed, text, strlen(text));
		rehearse_values_set(&v, "LINE", line);
		rehearse_values_set(&v, "ECHOED_LINE", buf_str(&echoed));
		rc = w->fn(w->arg, &v);
		rehearse_values_free(&v);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* The lines of the step that a stage runs. */
static const cJSON *
step_lines(const cJSON *payload, const char *stage)
{
	const cJSON *step;

	cJSON_ArrayForEach(step, json_array(payload, "steps"))
	{
		const char *name = json_str(step, "name");
		AUTO_FREE char *own = str_eq(name, "script")	     ? mem_strdup("build_script")
				      : str_eq(name, "after_script") ? mem_strdup(name)
								     : mem_printf("step_%s", name);

		if (strcasecmp(own, stage) == 0)
			return json_array(step, "script");
	}
	return NULL;
}

static int
walk_artifacts(const struct walk *w)
{
	static const char *const options[][2] = { { "--name", "name" },
						  { "--expire-in", "expire_in" },
						  { "--artifact-format", "artifact_format" },
						  { "--artifact-type", "artifact_type" } };
	AUTO_FREE char *id = mem_printf("%lld", (long long)json_int(w->c->payload, "id", 0));
	const cJSON *a;

	cJSON_ArrayForEach(a, json_array(w->c->payload, "artifacts"))
	{
		struct rehearse_values v = { 0 };
		AUTO_BUF struct buf words = BUF_INIT(WORDS_MAX);
		const char *const head[] = {
			"--url", REHEARSE_SERVER, "--token", json_str(w->c->payload, "token"), "--id",
			id,	 "--timeout",	  "1h0m0s",  "--response-header-timeout",      "10m0s"
		};
		int rc;

		if (!is_wanted(json_str(a, "when"), w->stage))
			continue;
		for (size_t i = 0; i < MEM_COUNT(head); i++)
			add_word(&words, head[i]);
		add_words(&words, "--path", json_array(a, "paths"), &w->known);
		add_words(&words, "--exclude", json_array(a, "exclude"), &w->known);
		if (json_bool(a, "untracked", false))
			add_word(&words, "--untracked");
		for (size_t i = 0; i < MEM_COUNT(options); i++) {
			if (!str_is_empty(json_str(a, options[i][1]))) {
				add_word(&words, options[i][0]);
				add_word(&words, json_str(a, options[i][1]));
			}
		}
		rehearse_values_set(&v, "UPLOAD_ARGS", buf_str(&words));
		rc = w->fn(w->arg, &v);
		rehearse_values_free(&v);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
walk_caches(const struct walk *w, bool is_restored)
{
	const char *project = json_str(json_object(w->c->payload, "job_info"), "project_full_path");
	const cJSON *cache;

	cJSON_ArrayForEach(cache, json_array(w->c->payload, "cache"))
	{
		struct rehearse_values v = { 0 };
		AUTO_FREE char *key = rules_expand(json_str(cache, "key"), &w->known);
		AUTO_BUF struct buf words = BUF_INIT(WORDS_MAX);
		AUTO_BUF struct buf file = BUF_INIT(WORDS_MAX);
		AUTO_BUF struct buf other = BUF_INIT(WORDS_MAX);
		AUTO_FREE char *name = NULL, *other_name = NULL;
		char digest[HASH_DIGEST_MAX];
		int rc;

		if (str_eq(json_str(cache, "policy"), is_restored ? "push" : "pull") ||
		    (!is_restored && !is_wanted(json_str(cache, "when"), w->stage)))
			continue;
		hash_of(HASH_SHA256, key, strlen(key), digest);
		name = mem_printf("%s/%s/%s/cache.zip", w->c->dirs->cache, project, key);
		other_name = mem_printf("%s/%s/%s/cache.zip", w->c->dirs->cache, project,
					digest + strlen("sha256:"));
		add_word(&file, name);
		add_word(&other, other_name);
		add_words(&words, "--path", json_array(cache, "paths"), &w->known);
		if (json_bool(cache, "untracked", false))
			add_word(&words, "--untracked");
		rehearse_values_set(&v, "CACHE_KEY", key);
		rehearse_values_set(&v, "CACHE_FILE", buf_str(&file));
		rehearse_values_set(&v, "CACHE_ALTERNATE_FILE", buf_str(&other));
		rehearse_values_set(&v, "CACHE_ARGS", buf_str(&words));
		rc = w->fn(w->arg, &v);
		rehearse_values_free(&v);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
walk_files(const struct walk *w)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(w->c->payload, "variables"))
	{
		struct rehearse_values v = { 0 };
		int rc;

		if (!json_bool(item, "file", false))
			continue;
		rehearse_values_set(&v, "FILE_VARIABLE", json_str(item, "key"));
		rc = w->fn(w->arg, &v);
		rehearse_values_free(&v);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Calls fn for every item of the kind `repeat`, until it gives something else than 0. A rehearsed job has no dependencies. */
static int
walk_items(const struct rehearse_context *c, const char *repeat, const char *stage, item_fn *fn, void *arg)
{
	struct walk w = { .c = c, .stage = stage, .fn = fn, .arg = arg };
	struct rehearse_variables all;
	int rc = 0;

	rules_variables(c, true, &all);
	for (size_t i = 0; i < all.n; i++)
		rehearse_values_set(&w.known, all.v[i].key, all.v[i].value);
	rehearse_variables_free(&all);
	if (str_eq(repeat, "script_line"))
		rc = walk_lines(&w, step_lines(c->payload, stage));
	else if (str_eq(repeat, "artifact"))
		rc = walk_artifacts(&w);
	else if (str_eq(repeat, "cache_to_restore") || str_eq(repeat, "cache_to_store"))
		rc = walk_caches(&w, str_eq(repeat, "cache_to_restore"));
	else if (str_eq(repeat, "file_variable"))
		rc = walk_files(&w);
	rehearse_values_free(&w.known);
	return rc;
}

static int
found(void *arg, const struct rehearse_values *item)
{
	(void)arg;
	(void)item;
	return 1;
}

bool
rules_has(const struct rehearse_context *c, const char *needs, const char *stage)
{
	if (str_eq(needs, ""))
		return true;
	if (str_eq(needs, "after_script"))
		return cJSON_GetArraySize(step_lines(c->payload, "after_script")) > 0;
	return walk_items(c, needs, stage, found, NULL) == 1;
}

void
rules_step_stages(const cJSON *payload, struct strv *ret)
{
	const cJSON *step;

	cJSON_ArrayForEach(step, json_array(payload, "steps"))
	{
		const char *name = json_str(step, "name");

		if (str_eq(name, "script"))
			strv_add(ret, "build_script");
		else if (!str_eq(name, "after_script"))
			strv_addf(ret, "step_%s", name);
	}
}

struct lines {
	struct buf *out;
	const cJSON *group;
	const struct rehearse_values *values;
};

static int
add_group(void *arg, const struct rehearse_values *item)
{
	const struct lines *l = arg;
	const cJSON *line;

	cJSON_ArrayForEach(line, json_array(l->group, "lines"))
	{
		rules_fill(l->out, line->valuestring, l->values, item);
		buf_add_char(l->out, '\n');
	}
	return 0;
}

static void
add_exports(const struct rehearse_context *c, const char *exports, const struct rehearse_values *values,
	    struct buf *out)
{
	struct rehearse_variables all;
	const cJSON *line;

	if (str_eq(exports, "none"))
		return;
	rules_variables(c, true, &all);
	for (size_t i = 0; i < all.n; i++) {
		const struct rehearse_variable *v = &all.v[i];
		AUTO_FREE char *path = mem_printf("%s.tmp/%s", c->dirs->project, v->key);

		if (v->is_file && str_eq(exports, "all")) {
			buf_printf(out, "mkdir -p \"%s.tmp\"\nprintf '%%s' ", c->dirs->project);
			rules_quote(out, v->value, strlen(v->value));
			buf_printf(out, " > \"%s\"\nexport %s=\"%s\"\n", path, v->key, path);
		} else {
			const char *value = v->is_file ? path : v->value;

			buf_printf(out, "export %s=", v->key);
			rules_quote(out, value, strlen(value));
			buf_add_char(out, '\n');
		}
	}
	rehearse_variables_free(&all);
	cJSON_ArrayForEach(line, json_array(c->rules, "exports_tail"))
	{
		rules_fill(out, line->valuestring, values, NULL);
		buf_add_char(out, '\n');
	}
}

int
rules_script(const struct rehearse_context *c, const char *stage, const char *exports, struct buf *out,
	     struct err *e)
{
	AUTO_BUF struct buf body = BUF_INIT(REHEARSE_SCRIPT_MAX);
	struct rehearse_values values = { 0 };
	const char *group = rules_find(c->rules, "scripts", "stage", stage) ? stage : "step_*";
	const cJSON *item;

	rules_values(c, &values);
	add_exports(c, exports, &values, &body);
	cJSON_ArrayForEach(item, json_array(c->rules, "scripts"))
	{
		struct lines l = { .out = &body, .group = item, .values = &values };

		if (!str_eq(json_str(item, "stage"), group))
			continue;
		if (str_is_empty(json_str(item, "repeat")))
			add_group(&l, NULL);
		else
			walk_items(c, json_str(item, "repeat"), stage, add_group, &l);
	}
	rehearse_values_free(&values);
	cJSON_ArrayForEach(item, json_array(c->rules, "script_head"))
	{
		buf_printf(out, "%s\n", item->valuestring);
	}
	buf_add_str(out, "(trap 'exit 1' TERM; eval ");
	rules_quote(out, buf_str(&body), body.len);
	buf_add_str(out, ") < /dev/null\nexit 0\n");
	if (body.is_full || out->is_full)
		return err_set(e, ERR_REFUSED, "%s: the script is larger than %d bytes", stage,
			       REHEARSE_SCRIPT_MAX);
	return 0;
}
