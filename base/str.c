#include "base/str.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void
strv_free(struct strv *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strv){ 0 };
}

void
strv_take(struct strv *l, char *s)
{
	/* grows at powers of two; the NULL at the end counts */
	if (((l->n + 1) & l->n) == 0 || !l->v)
		l->v = mem_resize(l->v, (l->n + 1) * 2, sizeof(*l->v));
	l->v[l->n++] = s;
	l->v[l->n] = NULL;
}

void
strv_add(struct strv *l, const char *s)
{
	strv_take(l, mem_strdup(s));
}

void
strv_addf(struct strv *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_take(l, mem_vprintf(fmt, ap));
	va_end(ap);
}

void
strv_copy(struct strv *to, const struct strv *from)
{
	struct strv copy = { 0 };

	for (size_t i = 0; i < from->n; i++)
		strv_add(&copy, from->v[i]);
	strv_free(to);
	*to = copy;
}

bool
strv_has(const struct strv *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i], s) == 0)
			return true;
	return false;
}

static int
compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void
strv_sort(struct strv *l)
{
	if (l->n > 1)
		qsort(l->v, l->n, sizeof(*l->v), compare);
}

char *
strv_join(const struct strv *l, const char *sep)
{
	struct buf b = BUF_INIT(SIZE_MAX / 2);

	for (size_t i = 0; i < l->n; i++) {
		if (i > 0)
			buf_add_str(&b, sep);
		buf_add_str(&b, l->v[i]);
	}
	return buf_take(&b);
}

bool
str_eq(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(a, b) == 0;
}

bool
str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool
str_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool
str_is_empty(const char *s)
{
	return !s || !*s;
}

bool
str_is_hex(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return true;
}

/* Length of one valid UTF-8 sequence at s (Unicode 15, table 3-7), 0 if there is none; *ret_code its code point. */
static size_t
utf8_step(const unsigned char *s, size_t left, uint32_t *ret_code)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t min;
	} forms[] = { { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

	for (size_t n = 1; n <= 4; n++) {
		uint32_t code;

		if ((s[0] & forms[n - 1].mask) != forms[n - 1].lead)
			continue;
		if (n > left)
			return 0;
		code = n == 1 ? s[0] : s[0] & (0x7fU >> n);
		for (size_t i = 1; i < n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (s[i] & 0x3f);
		}
		if (code < forms[n - 1].min || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
			return 0;
		*ret_code = code;
		return n;
	}
	return 0;
}

size_t
str_code_point(const char *s, size_t left, uint32_t *ret)
{
	size_t n = utf8_step((const unsigned char *)s, left, ret);

	if (n == 0)
		*ret = STR_NO_UTF8 + (unsigned char)*s;
	return n ? n : 1;
}

bool
str_is_utf8(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	uint32_t code;

	while (len > 0) {
		size_t n = 1;

		if (*p >= 0x80 && (n = utf8_step(p, len, &code)) == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

/* Controls, and what turns text around or hides it: https://trojansource.codes, Unicode TR 36. */
static bool
is_unsafe(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c == 0x061c ||
	       (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

void
str_add_safe(struct buf *out, const char *s, size_t max)
{
	size_t left = strlen(s), columns = 0, last_start = out->len;

	while (left > 0) {
		uint32_t code = 0;
		size_t n = utf8_step((const unsigned char *)s, left, &code);

		if (columns == max) {
			if (max > 0) { /* the last one makes room */
				out->len = last_start;
				if (out->data)
					out->data[last_start] = '\0';
				buf_add_str(out, "…");
			}
			return;
		}
		last_start = out->len;
		if (n == 0 || is_unsafe(code))
			buf_add_char(out, '?');
		else
			buf_add(out, s, n);
		columns++;
		s += n ? n : 1;
		left -= n ? n : 1;
	}
}

char *
str_safe(const char *s, size_t max)
{
	struct buf b = BUF_INIT(SIZE_MAX / 2);

	str_add_safe(&b, s, max);
	return buf_take(&b);
}

int
str_expand(const char *tmpl, const char *(*value)(const char *name, void *arg), void *arg, char **ret,
	   struct err *e)
{
	AUTO_BUF struct buf out = BUF_INIT(64 * 1024);

	for (const char *p = tmpl; *p;) {
		AUTO_FREE char *name = NULL;
		const char *end, *v;

		if (*p != '{' || p[1] == '{') {
			buf_add_char(&out, *p);
			p += *p == '{' ? 2 : 1;
			continue;
		}
		end = strchr(p, '}');
		if (!end)
			return err_set(e, ERR_SETTINGS, "template \"%s\": '{' without '}'", tmpl);
		name = mem_strndup(p + 1, (size_t)(end - p - 1));
		v = value(name, arg);
		if (!v)
			return err_set(e, ERR_SETTINGS, "template \"%s\": unknown placeholder {%s}", tmpl,
				       name);
		buf_add_str(&out, v);
		p = end + 1;
	}
	if (out.is_full)
		return err_set(e, ERR_SETTINGS, "template \"%s\": result over 64 KiB", tmpl);
	*ret = buf_take(&out);
	return 0;
}

char *
str_clean_path(const char *path, bool *ret_climbs)
{
	char *out = mem_alloc(strlen(path) + 1);
	bool climbs = false;
	size_t len = 0;

	while (*(path += strspn(path, "/"))) {
		size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0) {
			climbs = climbs || len == 0;
			while (len > 0 && out[--len] != '/')
				;
		} else if (n != 1 || *path != '.') {
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, path, n);
			len += n;
		}
		path += n;
	}
	out[len] = '\0';
	if (ret_climbs)
		*ret_climbs = climbs;
	return out;
}
