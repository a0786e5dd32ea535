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
	const char *at; /* EL_CHAR: the character; EL_SET: behind its '[' */
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

static bool
set_has(const char *p, char c)
{
	bool is_negated = *p == '!' || *p == '^', is_in = false;
	const char *first;

	if (is_negated)
		p++;
	first = p;
	while (*p != ']' || p == first) {
		unsigned char low, high;

		if (*p == '\\' && p[1])
			p++;
		low = high = (unsigned char)*p++;
		if (*p == '-' && p[1] != ']') {
			p++;
			if (*p == '\\' && p[1])
				p++;
			high = (unsigned char)*p++;
		}
		if ((unsigned char)c >= low && (unsigned char)c <= high)
			is_in = true;
	}
	return is_in != is_negated && c != '/';
}

/* Elements of the pattern; 0 and *ret_n, or -1 when there are too many. */
static int
compile(const char *p, struct element *el, size_t *ret_n)
{
	size_t n = 0;

	while (*p) {
		const char *end;

		if (n + 3 > ELEMENTS_MAX)
			return -1;
		if (p[0] == '*' && p[1] == '*') {
			while (*p == '*')
				p++;
			/* a slash behind it belongs to it: it may match nothing, and then there is none */
			if (*p == '/') {
				el[n++] = (struct element){ EL_OPTIONAL, p };
				el[n++] = (struct element){ EL_DEEP, p };
				el[n++] = (struct element){ EL_CHAR, p++ };
			} else {
				el[n++] = (struct element){ EL_DEEP, p };
			}
		} else if (*p == '*') {
			el[n++] = (struct element){ EL_STAR, p++ };
		} else if (*p == '?') {
			el[n++] = (struct element){ EL_ANY, p++ };
		} else if (*p == '[' && (end = set_end(p + 1))) {
			el[n++] = (struct element){ EL_SET, p + 1 };
			p = end;
		} else {
			if (*p == '\\' && p[1])
				p++;
			el[n++] = (struct element){ EL_CHAR, p++ };
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
eats(const struct element *el, char c)
{
	switch (el->kind) {
	case EL_CHAR:
		return *el->at == c;
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
	AUTO_FREE struct element *el = mem_array(strnlen(pattern, ELEMENTS_MAX) + 3, sizeof(*el));
	AUTO_FREE unsigned char *now = NULL, *next = NULL;
	size_t n;

	if (strlen(pattern) >= ELEMENTS_MAX || compile(pattern, el, &n) < 0)
		return false;
	now = mem_alloc(n + 4);
	next = mem_alloc(n + 4);
	now[0] = 1;
	close_over(el, n, now);
	for (; *s; s++) {
		unsigned char *swap = now;

		memset(next, 0, n + 1);
		for (size_t i = 0; i < n; i++) {
			if (!now[i] || !eats(&el[i], *s))
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
str_glob_any(const struct strv *patterns, const char *s)
{
	for (size_t i = 0; i < patterns->n; i++)
		if (str_glob(patterns->v[i], s))
			return true;
	return false;
}
