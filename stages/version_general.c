/* Versions of which no more is known than that they are some, and those that are SemVer's or RubyGems'. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/version_private.h"

/* Of a part that is no number: before the end ("rc", "alpha"), or behind it ("post", "Final" is the end itself). */
static int
word_rank(const char *s, size_t n)
{
	static const struct {
		const char *word;
		int rank;
	} words[] = { { "dev", -6 },	  { "a", -5 },	       { "alpha", -5 }, { "b", -4 },
		      { "beta", -4 },	  { "milestone", -3 }, { "m", -3 },	{ "c", -2 },
		      { "rc", -2 },	  { "cr", -2 },	       { "pre", -2 },	{ "preview", -2 },
		      { "snapshot", -1 }, { "final", 0 },      { "ga", 0 },	{ "release", 0 },
		      { "sp", 1 },	  { "post", 1 } };

	for (size_t k = 0; k < MEM_COUNT(words); k++)
		if (strlen(words[k].word) == n && strncasecmp(words[k].word, s, n) == 0)
			return words[k].rank;
	return 2;
}

static const char *
skip_dots(const char *s)
{
	return s + strspn(s, "._");
}

/* The release: numbers between dots. A missing number is 0. */
static int
compare_release(const char **a, const char **b)
{
	int diff = 0;

	while (diff == 0 && (isdigit((unsigned char)**a) || isdigit((unsigned char)**b))) {
		diff = version_compare_digits(a, b);
		if (**a == '.' && isdigit((unsigned char)(*a)[1]))
			(*a)++;
		if (**b == '.' && isdigit((unsigned char)(*b)[1]))
			(*b)++;
	}
	return diff;
}

/* Where the rest stands against a release without one. */
static int
rest_rank(const char *s)
{
	const char *word = *s == '-' ? s + 1 : skip_dots(s);
	size_t n = version_span_alpha(word);
	int rank;

	if (!*s)
		return 0;
	rank = n > 0 ? word_rank(word, n) : 2;
	/* SemVer: all behind "-" comes before the release; words that are known say it themselves */
	return *s == '-' && rank == 2 ? -7 : rank;
}

/* "1.0.Final" is 1.0. */
static const char *
skip_final(const char *s)
{
	const char *word = s + strspn(s, "-._");
	size_t n = version_span_alpha(word);

	return n > 0 && word[n] == '\0' && word_rank(word, n) == 0 ? word + n : s;
}

/* SemVer, 11.4: fields between dots, numbers before words; a word and its number ("rc1") are two fields. */
static int
compare_rest(const char *a, const char *b)
{
	while (*a || *b) {
		size_t n, m;
		int diff;

		a += strspn(a, "-._");
		b += strspn(b, "-._");
		if (!*a || !*b)
			break;
		if (isdigit((unsigned char)*a) != isdigit((unsigned char)*b))
			return isdigit((unsigned char)*a) ? -1 : 1;
		if (isdigit((unsigned char)*a)) {
			diff = version_compare_digits(&a, &b);
		} else {
			n = version_span_alpha(a);
			m = version_span_alpha(b);
			n = n ? n : 1;
			m = m ? m : 1;
			diff = strncmp(a, b, n < m ? n : m);
			diff = diff != 0 ? diff : (n > m) - (n < m);
			a += n;
			b += m;
		}
		if (diff != 0)
			return version_sign(diff);
	}
	return *a ? 1 : *b ? -1 : 0;
}

static char *
general_core(const char *v)
{
	if ((*v == 'v' || *v == 'V') && isdigit((unsigned char)v[1]))
		v++;
	return mem_strndup(v, strcspn(v, "+"));
}

int
version_compare_general(const char *a, const char *b)
{
	AUTO_FREE char *owned_a = general_core(a), *owned_b = general_core(b);
	const char *rest_a = owned_a, *rest_b = owned_b;
	int diff = compare_release(&rest_a, &rest_b);

	rest_a = skip_final(rest_a);
	rest_b = skip_final(rest_b);
	if (diff == 0)
		diff = version_sign(rest_rank(rest_a) - rest_rank(rest_b));
	return diff != 0 ? diff : compare_rest(rest_a, rest_b);
}

/* ---- SemVer ---- */

#define FIELD "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-"

struct semver {
	const char *core;
	const char *pre; /* "": it is a release */
	size_t pre_len;
};

static const char *
skip_fields(const char *s, const char *chars)
{
	for (;; s++) {
		size_t n = strspn(s, chars);

		if (n == 0)
			return NULL;
		s += n;
		if (*s != '.')
			return s;
	}
}

/* Any number of numbers, for NuGet has four and many write two. */
static bool
read_semver(const char *s, struct semver *ret)
{
	const char *end;

	ret->core = s += *s == 'v';
	end = skip_fields(s, DIGITS);
	ret->pre = "";
	ret->pre_len = 0;
	if (end && *end == '-') {
		ret->pre = end + 1;
		end = skip_fields(ret->pre, FIELD);
		ret->pre_len = end ? (size_t)(end - ret->pre) : 0;
	}
	if (end && *end == '+')
		end = skip_fields(end + 1, FIELD);
	return end && !*end;
}

static int
compare_field(const char *a, size_t n, const char *b, size_t m)
{
	bool is_number = strspn(a, DIGITS) >= n, is_other_number = strspn(b, DIGITS) >= m;
	int diff;

	if (is_number != is_other_number)
		return is_number ? -1 : 1;
	if (is_number)
		return version_compare_digits(&a, &b);
	diff = strncmp(a, b, n < m ? n : m);
	return diff != 0 ? version_sign(diff) : (n > m) - (n < m);
}

static int
compare_pre(const struct semver *x, const struct semver *y)
{
	const char *a = x->pre, *b = y->pre, *a_end = a + x->pre_len, *b_end = b + y->pre_len;

	if (a == a_end || b == b_end)
		return (a == a_end) - (b == b_end);
	while (a < a_end && b < b_end) {
		size_t n = strspn(a, FIELD), m = strspn(b, FIELD);
		int diff = compare_field(a, n, b, m);

		if (diff != 0)
			return diff;
		a += n + 1;
		b += m + 1;
	}
	return (a < a_end) - (b < b_end);
}

int
version_compare_semver(const char *a, const char *b)
{
	struct semver x, y;
	int diff;

	if (!read_semver(a, &x) || !read_semver(b, &y))
		return version_compare_general(a, b);
	diff = compare_release(&x.core, &y.core);
	return diff != 0 ? diff : compare_pre(&x, &y);
}

/* ---- RubyGems ---- */

/* Numbers and words between whatever is neither; "-" is a word that says that it comes before ("1.0-java" is 1.0.pre.java). */
struct gem {
	struct gem_part {
		const char *at;
		size_t len;
	} * parts;
	size_t n;
};

static void
gem_free(struct gem *g)
{
	mem_free_at(&g->parts);
}
#define AUTO_GEM __attribute__((cleanup(gem_free)))

static bool
is_word(const struct gem_part *part)
{
	return isalpha((unsigned char)*part->at) != 0;
}

static bool
is_zero(const struct gem_part *part)
{
	return strspn(part->at, "0") >= part->len;
}

static void
drop_zeros(struct gem *g)
{
	while (g->n > 0 && is_zero(&g->parts[g->n - 1]))
		g->n--;
}

/* Zeros at the end and before the first word are none. */
static void
read_gem(const char *s, struct gem *ret)
{
	bool has_word = false;

	ret->parts = mem_array(strlen(s) + 1, sizeof(*ret->parts));
	ret->n = 0;
	while (*s) {
		size_t n = isdigit((unsigned char)*s) ? strspn(s, DIGITS) : version_span_alpha(s);
		struct gem_part part = { n == 0 && *s == '-' ? "pre" : s, n == 0 && *s == '-' ? 3 : n };

		if (part.len > 0 && is_word(&part) && !has_word) {
			drop_zeros(ret);
			has_word = true;
		}
		if (part.len > 0)
			ret->parts[ret->n++] = part;
		s += n > 0 ? n : 1;
	}
	drop_zeros(ret);
}

static int
compare_gem_parts(const struct gem_part *x, const struct gem_part *y)
{
	const char *a = x->at, *b = y->at;
	int diff;

	if (is_word(x) != is_word(y))
		return is_word(x) ? -1 : 1;
	if (!is_word(x))
		return version_compare_digits(&a, &b);
	diff = strncmp(a, b, x->len < y->len ? x->len : y->len);
	return diff != 0 ? version_sign(diff) : (x->len > y->len) - (x->len < y->len);
}

int
version_compare_gem(const char *a, const char *b)
{
	static const struct gem_part none = { "0", 1 };
	AUTO_GEM struct gem x = { 0 }, y = { 0 };
	int diff = 0;

	read_gem(a, &x);
	read_gem(b, &y);
	for (size_t k = 0; diff == 0 && (k < x.n || k < y.n); k++)
		diff = compare_gem_parts(k < x.n ? &x.parts[k] : &none, k < y.n ? &y.parts[k] : &none);
	return diff;
}
