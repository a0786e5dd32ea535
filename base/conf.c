#include "base/conf.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf_private.h"
#include "base/mem.h"

#define SHOWN_MAX 80 /* columns of a value in a message */

static void *
at(const struct conf_section *section, const struct conf_field *f, void *whole)
{
	return (char *)whole + section->offset + f->offset;
}

static const void *
at_const(const struct conf_field *f, const void *section)
{
	return (const char *)section + f->offset;
}

void
conf_value_free(enum conf_type type, void *value)
{
	switch (type) {
	case CONF_STRING:
	case CONF_PATH:
		mem_free_at(value);
		*(char **)value = NULL;
		return;
	case CONF_LIST:
		strv_free(value);
		return;
	case CONF_BOOL:
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION:
	case CONF_ENUM:
		return;
	}
}

/* Copies a value, freeing what was there. */
static void
value_copy(enum conf_type type, void *to, const void *from)
{
	switch (type) {
	case CONF_BOOL:
		*(bool *)to = *(const bool *)from;
		return;
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION:
		*(int64_t *)to = *(const int64_t *)from;
		return;
	case CONF_ENUM:
		*(int *)to = *(const int *)from;
		return;
	case CONF_STRING:
	case CONF_PATH:
		conf_value_free(type, to);
		*(char **)to = mem_strdup(*(char *const *)from);
		return;
	case CONF_LIST:
		strv_copy(to, from);
		return;
	}
}

bool
conf_is_plain_text(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static bool
is_text_of_one_line(const char *text)
{
	return *text && conf_is_plain_text(text);
}

static bool
is_glob(const char *text)
{
	return is_text_of_one_line(text) && str_is_glob(text);
}

const struct conf_rule conf_rule_text = { is_text_of_one_line, "a text of one line, not empty", NULL };
const struct conf_rule conf_rule_glob = { is_glob, "globs, none empty and each [ with its ], such as \"*\"",
					  NULL };

static char *
choices_text(const struct conf_field *f)
{
	struct buf b = BUF_INIT(4096);

	for (size_t i = 0; f->choices && f->choices[i]; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", f->choices[i]);
	return buf_take(&b);
}

/* Where the default is "", "" is what switches a setting off: no rule is asked. */
static bool
is_off(const struct conf_field *f, const char *text)
{
	return *text == '\0' && *f->fallback == '\0';
}

static bool
keeps_rule(const struct conf_field *f, const char *text)
{
	return !f->rule || f->rule->holds(text);
}

static char *
allowed_text(const struct conf_field *f, const char *otherwise)
{
	return mem_printf("%s%s", f->rule ? f->rule->allowed : otherwise,
			  *f->fallback == '\0' && (f->rule || f->type == CONF_PATH) ? ", or \"\" for none"
										    : "");
}

char *
conf_shown(const struct conf_field *f, const char *text)
{
	AUTO_FREE char *masked = f->rule && f->rule->shown ? f->rule->shown(text) : NULL;
	AUTO_FREE char *safe = str_safe(masked ? masked : text, SHOWN_MAX);

	return mem_printf("\"%s\"", safe);
}

static int
parse_number(const struct conf_field *f, const char *text, int64_t *ret)
{
	int64_t v;
	int rc;

	if (f->type == CONF_SIZE)
		rc = str_parse_size(text, &v, NULL);
	else if (f->type == CONF_DURATION)
		rc = str_parse_duration(text, &v, NULL);
	else
		rc = str_parse_int(text, INT64_MIN, INT64_MAX, &v, NULL);
	if (rc < 0 || v < f->min || (f->max != 0 && v > f->max))
		return -1;
	*ret = v;
	return 0;
}

/* ", such as 30s, 15m or 48h": those of a list, NULL at its end, that are within the bounds of the field. */
static char *
examples(const struct conf_field *f, const char *const *list)
{
	AUTO_STRV struct strv fit = { 0 };
	AUTO_FREE char *last = NULL, *others = NULL;
	int64_t ignored;

	for (; *list; list++)
		if (parse_number(f, *list, &ignored) == 0)
			strv_add(&fit, *list);
	if (fit.n == 0)
		return mem_strdup("");
	fit.n--;
	last = take_ptr(fit.v[fit.n]);
	others = strv_join(&fit, ", ");
	return mem_printf(", such as %s%s%s", others, fit.n > 0 ? " or " : "", last);
}

char *
conf_allowed(const struct conf_field *f)
{
	bool is_bounded = f->min != 0 || f->max != 0;
	static const char *const sizes[] = { "64KiB", "512MiB", "4GiB", NULL };
	static const char *const durations[] = { "30s", "15m", "48h", NULL };
	AUTO_FREE char *low = NULL, *high = NULL, *choices = NULL, *such_as = NULL;

	switch (f->type) {
	case CONF_BOOL:
		return mem_strdup("true or false");
	case CONF_INT:
		return is_bounded ? mem_printf("a whole number from %" PRId64 " to %" PRId64, f->min, f->max)
				  : mem_strdup("a whole number, 0 or more");
	case CONF_SIZE:
		low = str_format_size(f->min);
		high = str_format_size(f->max);
		such_as = examples(f, sizes);
		return is_bounded ? mem_printf("a size from %s to %s%s", low, high, such_as)
				  : mem_strdup("a size such as 512MiB or 4GiB");
	case CONF_DURATION:
		low = str_format_duration(f->min);
		high = str_format_duration(f->max);
		such_as = examples(f, durations);
		return is_bounded ? mem_printf("a duration from %s to %s%s", low, high, such_as)
				  : mem_strdup("a duration such as 90s, 15m or 48h");
	case CONF_STRING:
		return allowed_text(f, "a text");
	case CONF_PATH:
		return allowed_text(f, "an absolute path");
	case CONF_ENUM:
		choices = choices_text(f);
		return mem_printf("one of %s", choices);
	case CONF_LIST:
		choices = choices_text(f);
		return mem_printf("a list of %s", f->choices ? choices
						  : f->rule  ? f->rule->allowed
							     : "texts");
	}
	return NULL;
}

static int
parse_enum(const struct conf_field *f, const char *text, int *ret)
{
	for (int i = 0; f->choices[i]; i++) {
		if (strcmp(f->choices[i], text) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -1;
}

static int
parse_bool(const char *text, bool *ret)
{
	*ret = strcmp(text, "true") == 0;
	return *ret || strcmp(text, "false") == 0 ? 0 : -1;
}

int
conf_parse_scalar(const struct conf_field *f, const char *text, void *value)
{
	int choice;

	switch (f->type) {
	case CONF_BOOL:
		return parse_bool(text, value);
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION:
		return parse_number(f, text, value);
	case CONF_ENUM:
		if (parse_enum(f, text, &choice) < 0)
			return -1;
		*(int *)value = choice;
		return 0;
	case CONF_PATH:
		if (!is_off(f, text) && (*text != '/' || strlen(text) >= PATH_MAX || !conf_is_plain_text(text)))
			return -1;
		__attribute__((fallthrough));
	case CONF_STRING:
		if (!is_off(f, text) && !keeps_rule(f, text))
			return -1;
		conf_value_free(f->type, value);
		*(char **)value = mem_strdup(text);
		return 0;
	case CONF_LIST:
		return -1;
	}
	return -1;
}

int
conf_parse_item(const struct conf_field *f, const char *text, struct strv *value)
{
	int choice;

	if ((f->choices && parse_enum(f, text, &choice) < 0) || !keeps_rule(f, text))
		return -1;
	strv_add(value, text);
	return 0;
}

/* `["a", "b"]`, as tables have their defaults: texts without escapes. */
static void
default_list(const struct conf_field *f, struct strv *value)
{
	for (const char *p = f->fallback; (p = strchr(p, '"'));) {
		const char *end = strchr(p + 1, '"');
		AUTO_FREE char *item = mem_strndup(p + 1, (size_t)(end - p - 1));

		if (conf_parse_item(f, item, value) < 0)
			abort(); /* the table contradicts itself */
		p = end + 1;
	}
}

static void
set_default(const struct conf_field *f, void *value)
{
	if (f->type == CONF_LIST)
		default_list(f, value);
	else if (conf_parse_scalar(f, f->fallback, value) < 0)
		abort(); /* the table contradicts itself */
}

void
conf_set_defaults(const struct conf_schema *schema, void *whole)
{
	conf_free(schema, whole);
	for (size_t i = 0; i < schema->n_sections; i++)
		for (size_t k = 0; k < schema->sections[i].n_fields; k++)
			set_default(&schema->sections[i].fields[k],
				    at(&schema->sections[i], &schema->sections[i].fields[k], whole));
}

void
conf_copy(const struct conf_schema *schema, void *to, const void *from)
{
	for (size_t i = 0; i < schema->n_sections; i++)
		for (size_t k = 0; k < schema->sections[i].n_fields; k++) {
			const struct conf_section *s = &schema->sections[i];

			value_copy(s->fields[k].type, at(s, &s->fields[k], to),
				   at_const(&s->fields[k], (const char *)from + s->offset));
		}
}

void
conf_free(const struct conf_schema *schema, void *whole)
{
	for (size_t i = 0; i < schema->n_sections; i++)
		for (size_t k = 0; k < schema->sections[i].n_fields; k++) {
			const struct conf_field *f = &schema->sections[i].fields[k];

			conf_value_free(f->type, at(&schema->sections[i], f, whole));
		}
}

void
conf_patch_free(struct conf_patch *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		conf_value_free(p->v[i].field->type, &p->v[i].value);
	free(p->v);
	free(p);
}

void
conf_overrides_free(struct conf_overrides *o)
{
	for (size_t i = 0; i < o->n; i++) {
		free(o->v[i].match);
		conf_patch_free(o->v[i].patch);
	}
	free(o->v);
	*o = (struct conf_overrides){ 0 };
}

void
conf_places_free(struct conf_places *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i].path);
	free(p->v);
	*p = (struct conf_places){ 0 };
}

size_t
conf_line_of(const struct conf_places *p, const char *path)
{
	for (size_t i = 0; i < p->n; i++)
		if (str_eq(p->v[i].path, path))
			return p->v[i].line;
	return 0;
}

const struct conf_override *
conf_apply_overrides(const struct conf_schema *schema, const struct conf_overrides *o, const char *project,
		     void *whole)
{
	for (size_t i = 0; i < o->n; i++) {
		const struct conf_patch *p = o->v[i].patch;

		if (!str_glob(o->v[i].match, project))
			continue;
		for (size_t k = 0; k < p->n; k++)
			value_copy(p->v[k].field->type,
				   at(&schema->sections[p->v[k].section], p->v[k].field, whole),
				   &p->v[k].value);
		return &o->v[i];
	}
	return NULL;
}

static void
value_to_json(const struct conf_field *f, const void *value, cJSON *o)
{
	switch (f->type) {
	case CONF_BOOL:
		json_add_bool(o, f->key, *(const bool *)value);
		return;
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION:
		json_add_int(o, f->key, *(const int64_t *)value);
		return;
	case CONF_STRING:
	case CONF_PATH:
		json_add_str(o, f->key, *(char *const *)value);
		return;
	case CONF_ENUM:
		json_add_str(o, f->key, f->choices[*(const int *)value]);
		return;
	case CONF_LIST:
		json_add_strv(o, f->key, value);
		return;
	}
}

cJSON *
conf_to_json(const struct conf_schema *schema, const void *whole)
{
	cJSON *j = cJSON_CreateObject();

	for (size_t i = 0; i < schema->n_sections; i++) {
		const struct conf_section *s = &schema->sections[i];
		cJSON *o = s->key ? json_add_object(j, s->key) : j;

		for (size_t k = 0; k < s->n_fields; k++)
			value_to_json(&s->fields[k], at_const(&s->fields[k], (const char *)whole + s->offset),
				      o);
	}
	return j;
}

static int
list_from_json(const struct conf_field *f, const cJSON *j, struct strv *value)
{
	AUTO_STRV struct strv list = { 0 };
	const cJSON *item;

	if (!cJSON_IsArray(j))
		return -1;
	cJSON_ArrayForEach(item, j)
	{
		if (!cJSON_IsString(item) || conf_parse_item(f, item->valuestring, &list) < 0)
			return -1;
	}
	strv_free(value);
	*value = list;
	list = (struct strv){ 0 };
	return 0;
}

static int
value_from_json(const struct conf_field *f, const cJSON *o, void *value)
{
	const cJSON *j = json_get(o, f->key);
	int64_t n;

	switch (f->type) {
	case CONF_BOOL:
		if (!cJSON_IsBool(j))
			return -1;
		*(bool *)value = cJSON_IsTrue(j);
		return 0;
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION:
		if (json_need_int(o, f->key, &n, NULL) < 0 || n < f->min || (f->max != 0 && n > f->max))
			return -1;
		*(int64_t *)value = n;
		return 0;
	case CONF_STRING:
	case CONF_PATH:
	case CONF_ENUM:
		return cJSON_IsString(j) ? conf_parse_scalar(f, j->valuestring, value) : -1;
	case CONF_LIST:
		return list_from_json(f, j, value);
	}
	return -1;
}

int
conf_from_json(const struct conf_schema *schema, const cJSON *j, void *whole, struct err *e)
{
	for (size_t i = 0; i < schema->n_sections; i++) {
		const struct conf_section *s = &schema->sections[i];
		const cJSON *o = s->key ? json_object(j, s->key) : j;

		for (size_t k = 0; k < s->n_fields; k++)
			if (value_from_json(&s->fields[k], o, at(s, &s->fields[k], whole)) < 0)
				return err_set(e, ERR_FAILED, "%s%s%s is missing or of another kind",
					       s->key ? s->key : "", s->key ? "." : "", s->fields[k].key);
	}
	return 0;
}

/* The character at s where YAML does not take it as it is, or takes it for the end of a line; else 0. */
static unsigned
needs_escape(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	unsigned c = *p;

	if (c < 0x20 || c == 0x7f)
		return c;
	if (c == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
		return p[1];
	if ((c == 0xe2 || c == 0xef) && p[1] && p[2]) {
		c = (c & 0xf) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
		if (c == 0x2028 || c == 0x2029 || c == 0xfeff || c >= 0xfffe)
			return c;
	}
	return 0;
}

/* Texts that YAML would take for something else, or that hold its signs, stand in quotes. */
static void
add_text(struct buf *out, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ :";
	bool is_plain = *s && strspn(s, plain) == strlen(s) && !strchr(" -.:", s[0]) && !strstr(s, ": ") &&
			s[strlen(s) - 1] != ':' && s[strlen(s) - 1] != ' ' && strcmp(s, "true") != 0 &&
			strcmp(s, "false") != 0 && strcasecmp(s, "null") != 0;

	if (is_plain) {
		buf_add_str(out, s);
		return;
	}
	buf_add_char(out, '"');
	for (; *s; s++) {
		unsigned special = needs_escape(s);

		if (*s == '"' || *s == '\\')
			buf_add_char(out, '\\');
		if (special > 0) {
			buf_printf(out, "\\u%04x", special);
			s += special < 0x80 ? 0 : special < 0x800 ? 1 : 2;
		} else {
			buf_add_char(out, *s);
		}
	}
	buf_add_char(out, '"');
}

char *
conf_value_text(const struct conf_field *f, const void *section)
{
	const void *value = at_const(f, section);
	const struct strv *list;
	struct buf out = BUF_INIT(SIZE_MAX / 2);

	switch (f->type) {
	case CONF_BOOL:
		return mem_strdup(*(const bool *)value ? "true" : "false");
	case CONF_INT:
		return mem_printf("%" PRId64, *(const int64_t *)value);
	case CONF_SIZE:
		return str_format_size(*(const int64_t *)value);
	case CONF_DURATION:
		return str_format_duration(*(const int64_t *)value);
	case CONF_ENUM:
		return mem_strdup(f->choices[*(const int *)value]);
	case CONF_STRING:
	case CONF_PATH:
		add_text(&out, *(char *const *)value);
		return buf_take(&out);
	case CONF_LIST:
		list = value;
		buf_add_char(&out, '[');
		for (size_t i = 0; i < list->n; i++) {
			buf_add_str(&out, i ? ", " : "");
			add_text(&out, list->v[i]);
		}
		buf_add_char(&out, ']');
		return buf_take(&out);
	}
	return NULL;
}

static void
print_field(const struct conf_section *s, const struct conf_field *f, const void *section, bool with_help,
	    struct buf *out)
{
	AUTO_FREE char *value = section ? conf_value_text(f, section) : NULL;
	AUTO_FREE char *allowed = conf_allowed(f);
	const char *indent = s->key ? "  " : "";
	bool is_quoted = f->type == CONF_STRING || f->type == CONF_PATH;

	if (with_help) {
		buf_printf(out, "%s# %s", indent, f->help);
		if (f->type != CONF_BOOL && f->type != CONF_STRING && f->type != CONF_PATH &&
		    (f->type != CONF_LIST || f->choices))
			buf_printf(out, " (%s)", allowed);
		buf_add_char(out, '\n');
	}
	buf_printf(out, "%s%s: ", indent, f->key);
	if (value)
		buf_add_str(out, value);
	else if (is_quoted)
		add_text(out, f->fallback);
	else
		buf_add_str(out, f->fallback);
	buf_add_char(out, '\n');
}

void
conf_print(const struct conf_schema *schema, const void *whole, bool with_help, struct buf *out)
{
	for (size_t i = 0; i < schema->n_sections; i++) {
		const struct conf_section *s = &schema->sections[i];

		if (s->key) {
			if (with_help)
				buf_printf(out, "\n# %s\n", s->help);
			buf_printf(out, "%s:\n", s->key);
		}
		for (size_t k = 0; k < s->n_fields; k++)
			print_field(s, &s->fields[k], whole ? (const char *)whole + s->offset : NULL,
				    with_help, out);
	}
}
