#include "stages/ignore_globs.h"

#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

/* Of one that is closed: what stands in a quote or a set is no brace, comma or star. NULL: not closed. */
static const char *
step(const char *p)
{
	const char *first;

	if (*p == '\\')
		return p[1] ? p + 2 : NULL;
	if (*p != '[')
		return p + 1;
	p++;
	if (*p == '!' || *p == '^')
		p++;
	for (first = p; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (*p == ']' && p != first)
			return p + 1;
	}
	return NULL;
}

static bool
is_good(const char *p)
{
	size_t depth = 0, n = 0;

	if (strlen(p) > IGNORE_GLOB_MAX)
		return false;
	while (p && *p) {
		if (*p == '{' && (depth++, ++n > IGNORE_GLOB_BRACES))
			return false;
		if (*p == '}' && depth-- == 0)
			return false;
		p = step(p);
	}
	return p && depth == 0;
}

/* Of an alternative that starts at p: its comma, or the brace that closes all of them. */
static const char *
alternative_end(const char *p)
{
	for (size_t depth = 0; depth > 0 || (*p != ',' && *p != '}'); p = step(p)) {
		if (*p == '{')
			depth++;
		if (*p == '}')
			depth--;
	}
	return p;
}

/* Of the last alternative of those that start at p. */
static const char *
alternatives_end(const char *p)
{
	const char *end = alternative_end(p);

	while (*end == ',')
		end = alternative_end(end + 1);
	return end;
}

static char *
with_plain_stars(const char *glob)
{
	AUTO_BUF struct buf b = BUF_INIT(IGNORE_GLOB_MAX + 1);

	for (const char *p = glob, *next; *p; p = next) {
		bool is_start = p == glob || p[-1] == '/';

		next = step(p);
		if (*p == '*') {
			size_t n = strspn(p, "*");

			next = p + n;
			buf_add(&b, p, n == 2 && is_start && (*next == '/' || !*next) ? 2 : 1);
		} else {
			buf_add(&b, p, (size_t)(next - p));
		}
	}
	return mem_strdup(buf_str(&b));
}

static int
add(const char *glob, struct strv *ret)
{
	AUTO_FREE char *plain = with_plain_stars(glob);

	if (ret->n >= IGNORE_GLOB_ALTERNATIVES)
		return -1;
	strv_add(ret, plain);
	if (str_has_suffix(plain, "/**")) {
		plain[strlen(plain) - strlen("/**")] = '\0';
		strv_add(ret, plain);
	}
	return 0;
}

static int
expand(const char *glob, struct strv *ret)
{
	const char *open = glob, *last, *end;

	while (*open && *open != '{')
		open = step(open);
	if (!*open)
		return add(glob, ret);
	last = alternatives_end(open + 1);
	for (const char *from = open + 1; from <= last; from = end + 1) {
		end = alternative_end(from);
		AUTO_FREE char *one =
			mem_printf("%.*s%.*s%s", (int)(open - glob), glob, (int)(end - from), from, last + 1);

		if (expand(one, ret) < 0)
			return -1;
	}
	return 0;
}

int
ignore_globs_add(const char *glob, struct strv *ret, struct err *e)
{
	AUTO_STRV struct strv found = { 0 };

	if (!is_good(glob) || expand(glob, &found) < 0)
		return err_set(e, ERR_REFUSED,
			       "this is no glob of at most %d bytes, %d braces and %d alternatives",
			       IGNORE_GLOB_MAX, IGNORE_GLOB_BRACES, IGNORE_GLOB_ALTERNATIVES);
	for (size_t k = 0; k < found.n; k++)
		strv_add(ret, found.v[k]);
	return 0;
}
