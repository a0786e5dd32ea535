#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"

#define NUMBER_MAX 64			 /* bytes with a NUL, as in cJSON */
#define INT_EXACT_MAX 9007199254740991.0 /* 2^53 - 1: from 2^53 on, two integers share a double */

/* Walks the text by the grammar of RFC 8259; cJSON is only asked when all of it was right. */
struct scan {
	const char *text, *p, *end;
	unsigned depth, depth_max;
	const char *fault;
};

static bool
fail(struct scan *s, const char *fault)
{
	if (!s->fault)
		s->fault = fault;
	return false;
}

static void
skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool
scan_hex4(struct scan *s, unsigned *ret)
{
	*ret = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		char c = s->p < s->end ? *s->p : '\0';
		unsigned digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			digit = (unsigned)((c | 0x20) - 'a' + 10);
		else
			return fail(s, "bad \\u escape");
		*ret = *ret << 4 | digit;
	}
	return true;
}

/* Behind "\u". */
static bool
scan_unicode(struct scan *s)
{
	unsigned code, low;

	if (!scan_hex4(s, &code))
		return false;
	if (code == 0)
		return fail(s, "\\u0000 in a string");
	if (code >= 0xdc00 && code <= 0xdfff)
		return fail(s, "lone surrogate in a string");
	if (code < 0xd800 || code > 0xdbff)
		return true;
	if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
		return fail(s, "lone surrogate in a string");
	s->p += 2;
	if (!scan_hex4(s, &low))
		return false;
	return (low >= 0xdc00 && low <= 0xdfff) || fail(s, "lone surrogate in a string");
}

static bool
scan_string(struct scan *s)
{
	for (s->p++; s->p < s->end; s->p++) {
		unsigned char c = (unsigned char)*s->p;

		if (c == '"') {
			s->p++;
			return true;
		}
		if (c < 0x20)
			return fail(s, "control character in a string");
		if (c != '\\')
			continue;
		if (++s->p == s->end)
			break;
		if (*s->p == 'u') {
			s->p++;
			if (!scan_unicode(s))
				return false;
			s->p--;
		} else if (!memchr("\"\\/bfnrt", *s->p, 8)) {
			return fail(s, "unknown escape in a string");
		}
	}
	return fail(s, "string without an end");
}

static size_t
scan_digits(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - from);
}

static bool
scan_number(struct scan *s)
{
	const char *from = s->p, *first;
	char copy[NUMBER_MAX];

	if (*s->p == '-')
		s->p++;
	first = s->p;
	if (scan_digits(s) == 0 || (*first == '0' && s->p - first > 1))
		return fail(s, "bad number");
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (scan_digits(s) == 0)
			return fail(s, "bad number");
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (scan_digits(s) == 0)
			return fail(s, "bad number");
	}
	/* cJSON makes infinity of 1e999, and prints infinity as null. */
	if ((size_t)(s->p - from) >= sizeof(copy))
		return fail(s, "number too long");
	memcpy(copy, from, (size_t)(s->p - from));
	copy[s->p - from] = '\0';
	if (!isfinite(strtod(copy, NULL)))
		return fail(s, "number too large");
	return true;
}

static bool
scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return fail(s, "unexpected character");
	s->p += n;
	return true;
}

static bool scan_value(struct scan *s);

/* Members or elements, from behind the opening bracket to behind the closing one. */
static bool
scan_items(struct scan *s, char close, bool has_names)
{
	bool ok = false;

	if (++s->depth > s->depth_max)
		return fail(s, "nested too deeply");
	s->p++;
	skip_space(s);
	if (s->p < s->end && *s->p == close) {
		s->p++;
		s->depth--;
		return true;
	}
	for (;;) {
		skip_space(s);
		if (has_names) {
			if (s->p == s->end || *s->p != '"')
				return fail(s, "a name was expected");
			if (!scan_string(s))
				return false;
			skip_space(s);
			if (s->p == s->end || *s->p++ != ':')
				return fail(s, "':' was expected");
		}
		if (!scan_value(s))
			return false;
		skip_space(s);
		if (s->p == s->end)
			return fail(s, "text without an end");
		ok = *s->p == close;
		if (!ok && *s->p != ',')
			return fail(s, "',' was expected");
		s->p++;
		if (ok)
			break;
	}
	s->depth--;
	return true;
}

static bool
scan_value(struct scan *s)
{
	skip_space(s);
	if (s->p == s->end)
		return fail(s, "text without an end");
	switch (*s->p) {
	case '{':
		return scan_items(s, '}', true);
	case '[':
		return scan_items(s, ']', false);
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
			return scan_number(s);
		return fail(s, "unexpected character");
	}
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A name that occurs twice in an object of the tree, or NULL. */
static const char *
find_duplicate(const cJSON *j)
{
	AUTO_FREE const char **names = NULL;
	const char *found = NULL;
	const cJSON *child;
	size_t n = 0;

	cJSON_ArrayForEach(child, j) n++;
	if (n == 0)
		return NULL;
	if (cJSON_IsObject(j)) {
		names = mem_array(n, sizeof(*names));
		n = 0;
		cJSON_ArrayForEach(child, j) names[n++] = child->string;
		qsort(names, n, sizeof(*names), compare_names);
		for (size_t i = 1; i < n; i++)
			if (strcmp(names[i - 1], names[i]) == 0)
				return names[i];
	}
	cJSON_ArrayForEach(child, j) if (!found && child->child) found = find_duplicate(child);
	return found;
}

int
json_parse(const char *text, size_t len, size_t max, unsigned flags, cJSON **ret, struct err *e)
{
	return json_parse_deep(text, len, max, JSON_DEPTH_MAX, flags, ret, e);
}

int
json_parse_deep(const char *text, size_t len, size_t max, unsigned depth_max, unsigned flags, cJSON **ret,
		struct err *e)
{
	struct scan s = { .text = text, .p = text, .end = text + len, .depth_max = depth_max };
	AUTO_JSON cJSON *j = NULL;

	if (len > max)
		return err_set(e, ERR_REFUSED, "JSON of %zu bytes, at most %zu are allowed", len, max);
	if (!str_is_utf8(text, len))
		return err_set(e, ERR_REFUSED, "JSON is not valid UTF-8");
	if (scan_value(&s)) {
		skip_space(&s);
		if (s.p != s.end)
			fail(&s, "text behind the value");
	}
	if (s.fault)
		return err_set(e, ERR_REFUSED, "JSON: %s at byte %td", s.fault, s.p - text);
	j = cJSON_ParseWithLength(text, len);
	if (!j)
		return err_set(e, ERR_REFUSED, "JSON is not understood");
	if (flags & JSON_UNIQUE) {
		const char *name = find_duplicate(j);

		if (name)
			return err_set(e, ERR_REFUSED, "JSON: the name \"%.64s\" stands twice in one object",
				       name);
	}
	*ret = take_ptr(j);
	return 0;
}

int
json_load(int dirfd, const char *path, size_t max, unsigned flags, cJSON **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (fs_read_max(dirfd, path, max, &text, &len, e) < 0)
		return -1;
	if (json_parse(text, len, max, flags, ret, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}

const cJSON *
json_get(const cJSON *o, const char *name)
{
	const cJSON *child;

	if (!cJSON_IsObject(o))
		return NULL;
	cJSON_ArrayForEach(child, o) if (strcmp(child->string, name) == 0) return cJSON_IsNull(child) ? NULL
												      : child;
	return NULL;
}

const char *
json_str(const cJSON *o, const char *name)
{
	return cJSON_GetStringValue(json_get(o, name));
}

const cJSON *
json_array(const cJSON *o, const char *name)
{
	const cJSON *v = json_get(o, name);

	return cJSON_IsArray(v) ? v : NULL;
}

const cJSON *
json_object(const cJSON *o, const char *name)
{
	const cJSON *v = json_get(o, name);

	return cJSON_IsObject(v) ? v : NULL;
}

bool
json_bool(const cJSON *o, const char *name, bool fallback)
{
	const cJSON *v = json_get(o, name);

	return cJSON_IsBool(v) ? cJSON_IsTrue(v) : fallback;
}

static bool
is_exact(const cJSON *v)
{
	return cJSON_IsNumber(v) && fabs(v->valuedouble) <= INT_EXACT_MAX &&
	       v->valuedouble == (double)(int64_t)v->valuedouble;
}

int64_t
json_int(const cJSON *o, const char *name, int64_t fallback)
{
	const cJSON *v = json_get(o, name);

	return v && is_exact(v) ? (int64_t)v->valuedouble : fallback;
}

void
json_strv(const cJSON *o, const char *name, struct strv *ret)
{
	struct strv l = { 0 };
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(o, name)) if (cJSON_IsString(item))
		strv_add(&l, item->valuestring);
	strv_free(ret);
	*ret = l;
}

int
json_need_str(const cJSON *o, const char *name, const char **ret, struct err *e)
{
	const char *s = json_str(o, name);

	if (!s)
		return err_set(e, ERR_FAILED, "\"%s\" is missing or no string", name);
	*ret = s;
	return 0;
}

int
json_need_int(const cJSON *o, const char *name, int64_t *ret, struct err *e)
{
	const cJSON *v = json_get(o, name);

	if (!v || !is_exact(v))
		return err_set(e, ERR_FAILED, "\"%s\" is missing or no whole number", name);
	*ret = (int64_t)v->valuedouble;
	return 0;
}

static cJSON *
add(cJSON *o, const char *name, cJSON *item)
{
	if (!item || !(name ? cJSON_AddItemToObject(o, name, item) : cJSON_AddItemToArray(o, item)))
		abort(); /* only out of memory */
	return item;
}

void
json_add_str(cJSON *o, const char *name, const char *s)
{
	add(o, name, s ? cJSON_CreateString(s) : cJSON_CreateNull());
}

void
json_add_int(cJSON *o, const char *name, int64_t n)
{
	char text[32];

	/* cJSON prints doubles with 15 digits at first: write integers as they are */
	snprintf(text, sizeof(text), "%" PRId64, n);
	add(o, name, n > INT32_MAX || n < INT32_MIN ? cJSON_CreateRaw(text) : cJSON_CreateNumber((double)n));
}

void
json_add_bool(cJSON *o, const char *name, bool b)
{
	add(o, name, cJSON_CreateBool(b));
}

void
json_add_strv(cJSON *o, const char *name, const struct strv *l)
{
	cJSON *a = json_add_array(o, name);

	for (size_t i = 0; i < l->n; i++)
		add(a, NULL, cJSON_CreateString(l->v[i]));
}

void
json_add_safe_str(cJSON *o, const char *name, const char *s)
{
	AUTO_FREE char *safe = s ? str_safe(s, SIZE_MAX) : NULL;

	json_add_str(o, name, safe);
}

void
json_add_safe_strv(cJSON *o, const char *name, const struct strv *l)
{
	AUTO_STRV struct strv safe = { 0 };

	for (size_t i = 0; i < l->n; i++)
		strv_take(&safe, str_safe(l->v[i], SIZE_MAX));
	json_add_strv(o, name, &safe);
}

void
json_add_time(cJSON *o, const char *name, int64_t s)
{
	char text[32];

	if (s > 0)
		clock_format_rfc3339(s, text);
	json_add_str(o, name, s > 0 ? text : NULL);
}

cJSON *
json_add_object(cJSON *o, const char *name)
{
	return add(o, name, cJSON_CreateObject());
}

cJSON *
json_add_array(cJSON *o, const char *name)
{
	return add(o, name, cJSON_CreateArray());
}

static char *
printed(char *s)
{
	if (!s)
		abort();
	return s;
}

char *
json_print(const cJSON *j)
{
	return printed(cJSON_PrintUnformatted(j));
}

/* cJSON indents with tabs; two spaces are what people read on a phone. */
char *
json_print_pretty(const cJSON *j)
{
	AUTO_FREE char *tabs = printed(cJSON_Print(j));
	struct buf out = BUF_INIT(SIZE_MAX / 2);

	for (const char *line = tabs; *line;) {
		const char *end = strchrnul(line, '\n');

		while (*line == '\t') {
			buf_add_str(&out, "  ");
			line++;
		}
		/* `"name":\tvalue`: a tab in a string is an escape, so a bare one is cJSON's */
		for (; line < end; line++)
			buf_add_char(&out, *line == '\t' ? ' ' : *line);
		buf_add_char(&out, '\n');
		line = *end ? end + 1 : end;
	}
	return buf_take(&out);
}
