/*
 * A pattern is a small automaton: one state per element, all states are
 * followed at once. The work is bounded by the product of the two lengths
 * whatever the pattern says; patterns come from jobs, too (artifacts: paths:).
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define ELEMENTS_MAX 4096

enum element_kind { EL_CHAR, EL_ANY, EL_SET, EL_STAR, EL_DEEP, EL_OPTIONAL };

struct element {
	enum element_kind kind;
	const char *at; /* EL_SET: behind its '[' */
	uint32_t code;	/* EL_CHAR */
};

/* Where the set that starts at p (behind the '[') ends, behind its ']'; NULL when it is not closed. */
static const char *
set_end(const char *p)
{
	if (*p == '!' || *p == '^')
		p++;
	for (const char *first = p; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (*p == ']' && p != first)
			return p + 1;
	}
	return NULL;
}

/* The code point at *p, quoted or not; *p moves behind it. */
static uint32_t
take_code(const char **p)
{
	uint32_t code;

	if (**p == '\\' && (*p)[1])
		(*p)++;
	*p += str_code_point(*p, strnlen(*p, 4), &code);
	return code;
}

static bool
set_has(const char *p, uint32_t c)
{
	bool is_negated = *p == '!' || *p == '^', is_in = false;
	const char *first;

	if (is_negated)
		p++;
	first = p;
	while (*p != ']' || p == first) {
		uint32_t low = take_code(&p), high = low;

		if (*p == '-' && p[1] != ']') {
			p++;
			high = take_code(&p);
		}
		if (c >= low && c <= high)
			is_in = true;
	}
	return is_in != is_negated && c != '/';
}

/* Elements of the pattern; 0 and *ret_n, or -1 when there are too many. */
static int
compile(const char *p, struct element *el, size_t *ret_n)
{
	const char *start = p;
	size_t n = 0;

	while (*p) {
		const char *end;

		if (n + 3 > ELEMENTS_MAX)
			return -1;
		if (p[0] == '*' && p[1] == '*') {
			bool is_part = p == start || p[-1] == '/';

			while (*p == '*')
				p++;
			/* between slashes the second belongs to it: it may match nothing, and then there is none */
			if (*p == '/' && is_part) {
				el[n++] = (struct element){ .kind = EL_OPTIONAL };
				el[n++] = (struct element){ .kind = EL_DEEP };
				el[n++] = (struct element){ .kind = EL_CHAR, .code = '/' };
				p++;
			} else {
				el[n++] = (struct element){ .kind = EL_DEEP };
			}
		} else if (*p == '*') {
			el[n++] = (struct element){ .kind = EL_STAR };
			p++;
		} else if (*p == '?') {
			el[n++] = (struct element){ .kind = EL_ANY };
			p++;
		} else if (*p == '[' && (end = set_end(p + 1))) {
			el[n++] = (struct element){ .kind = EL_SET, .at = p + 1 };
			p = end;
		} else {
			el[n++] = (struct element){ .kind = EL_CHAR, .code = take_code(&p) };
		}
	}
	*ret_n = n;
	return 0;
}

/* Adds what is reached without a character. One pass is enough: such steps lead forward only. */
static void
close_over(const struct element *el, size_t n, unsigned char *is_on)
{
	for (size_t i = 0; i < n; i++) {
		if (!is_on[i])
			continue;
		if (el[i].kind == EL_STAR || el[i].kind == EL_DEEP || el[i].kind == EL_OPTIONAL)
			is_on[i + 1] = 1;
		if (el[i].kind == EL_OPTIONAL)
			is_on[i + 3] = 1;
	}
}

static bool
eats(const struct element *el, uint32_t c)
{
	switch (el->kind) {
	case EL_CHAR:
		return el->code == c;
	case EL_ANY:
	case EL_STAR:
		return c != '/';
	case EL_SET:
		return set_has(el->at, c);
	case EL_DEEP:
		return true;
	case EL_OPTIONAL:
		return false;
	}
	return false;
}

bool
str_glob(const char *pattern, const char *s)
{
	AUTO_FREE struct element *el = NULL;
	AUTO_FREE unsigned char *now = NULL, *next = NULL;
	size_t n = strlen(pattern), left = strlen(s);

	if (n >= ELEMENTS_MAX)
		return false;
	el = mem_array(n + 3, sizeof(*el));
	if (compile(pattern, el, &n) < 0)
		return false;
	now = mem_alloc(n + 4);
	next = mem_alloc(n + 4);
	now[0] = 1;
	close_over(el, n, now);
	while (left > 0) {
		unsigned char *swap = now;
		uint32_t code;
		size_t step = str_code_point(s, left, &code);

		s += step;
		left -= step;
		memset(next, 0, n + 1);
		for (size_t i = 0; i < n; i++) {
			if (!now[i] || !eats(&el[i], code))
				continue;
			next[el[i].kind == EL_STAR || el[i].kind == EL_DEEP ? i : i + 1] = 1;
		}
		close_over(el, n, next);
		now = next;
		next = swap;
	}
	return now[n] != 0;
}

bool
str_is_glob(const char *pattern)
{
	const char *p = pattern;

	while (*p) {
		const char *end = *p == '[' ? set_end(p + 1) : p + (p[0] == '\\' && p[1] ? 2 : 1);

		if (!end)
			return false;
		p = end;
	}
	return (size_t)(p - pattern) + 3 <= ELEMENTS_MAX;
}

bool
str_glob_any(const struct strv *patterns, const char *s)
{
	for (size_t i = 0; i < patterns->n; i++)
		if (str_glob(patterns->v[i], s))
			return true;
	return false;
}

static size_t
plain_len(const char *glob)
{
	return strcspn(glob, "*?[\\");
}

bool
str_glob_covers(const char *a, const char *b)
{
	size_t n = plain_len(a), m = plain_len(b);

	if (str_eq(a, b))
		return true;
	if (b[m] == '\0')
		return str_glob(a, b);
	if (str_eq(a + n, "**"))
		return m >= n && strncmp(a, b, n) == 0;
	/* one part of a path, whatever stands for it */
	return str_eq(a + n, "*") && m >= n && strncmp(a, b, n) == 0 && !strpbrk(b + n, "/\\") &&
	       !strstr(b + n, "**");
}
