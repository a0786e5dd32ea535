/* Maven, https://maven.apache.org/pom.html#version-order-specification */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "stages/version_private.h"

struct token {
	const char *at;
	size_t len;
	bool is_dashed; /* behind "-", or where digits and letters meet; else behind "." */
	bool is_number;
	bool is_before_number; /* "a1" is alpha-1 */
};

struct tokens {
	struct token *v;
	size_t n;
};

static void
tokens_free(struct tokens *t)
{
	mem_free_at(&t->v);
}
#define AUTO_TOKENS __attribute__((cleanup(tokens_free)))

#define RANK_RELEASE 5
#define RANK_OTHER 7

/* Of a word; those that are not known come last, by their letters. */
static int
rank_of(const struct token *t)
{
	static const struct {
		const char *word;
		int rank;
		bool needs_number;
	} words[] = { { "alpha", 0, false },
		      { "a", 0, true },
		      { "beta", 1, false },
		      { "b", 1, true },
		      { "milestone", 2, false },
		      { "m", 2, true },
		      { "rc", 3, false },
		      { "cr", 3, false },
		      { "snapshot", 4, false },
		      { "final", RANK_RELEASE, false },
		      { "ga", RANK_RELEASE, false },
		      { "release", RANK_RELEASE, false },
		      { "sp", 6, false } };

	for (size_t k = 0; k < MEM_COUNT(words); k++)
		if (strlen(words[k].word) == t->len && strncasecmp(words[k].word, t->at, t->len) == 0 &&
		    (!words[k].needs_number || t->is_before_number))
			return words[k].rank;
	return RANK_OTHER;
}

static bool
is_null(const struct token *t)
{
	return t->is_number ? strspn(t->at, "0") >= t->len : rank_of(t) == RANK_RELEASE;
}

/* Nulls at the end, and before each dash and each word, are none. */
static void
trim(struct tokens *t)
{
	while (t->n > 1 && is_null(&t->v[t->n - 1]))
		t->n--;
}

static void
add(struct tokens *t, struct token one)
{
	if (one.is_dashed || !one.is_number)
		trim(t);
	t->v[t->n++] = one;
}

static void
read_tokens(const char *s, struct tokens *ret)
{
	bool is_dashed = false;

	/* each token has a character, or a separator, of its own */
	ret->v = mem_array(strlen(s) + 1, sizeof(*ret->v));
	ret->n = 0;
	while (*s) {
		bool is_number = isdigit((unsigned char)*s) != 0;
		size_t n = is_number ? strspn(s, DIGITS) : strcspn(s, DIGITS ".-");
		struct token one = { n > 0 ? s : "0", n > 0 ? n : 1, is_dashed, is_number || n == 0, false };

		s += n;
		one.is_before_number = !one.is_number && isdigit((unsigned char)*s);
		add(ret, one);
		is_dashed = *s != '.';
		s += *s == '.' || *s == '-';
	}
	trim(ret);
}

static int
compare_tokens(const struct token *x, const struct token *y)
{
	const char *a = x->at, *b = y->at;
	int diff, rank = x->is_number ? 0 : rank_of(x);

	if (x->is_number != y->is_number)
		return x->is_number ? 1 : -1;
	if (x->is_number && x->is_dashed != y->is_dashed)
		return x->is_dashed ? -1 : 1;
	if (x->is_number)
		return version_compare_digits(&a, &b);
	if (rank != rank_of(y))
		return rank - rank_of(y);
	if (rank != RANK_OTHER)
		return 0;
	diff = strncasecmp(a, b, x->len < y->len ? x->len : y->len);
	return diff != 0 ? diff : (x->len > y->len) - (x->len < y->len);
}

static int
compare_with_none(const struct token *x)
{
	if (is_null(x))
		return 0;
	return x->is_number ? 1 : rank_of(x) - RANK_RELEASE;
}

int
version_compare_maven(const char *a, const char *b)
{
	AUTO_TOKENS struct tokens x = { 0 };
	AUTO_TOKENS struct tokens y = { 0 };
	int diff = 0;

	read_tokens(a, &x);
	read_tokens(b, &y);
	for (size_t k = 0; diff == 0 && (k < x.n || k < y.n); k++)
		diff = k >= y.n	  ? compare_with_none(&x.v[k])
		       : k >= x.n ? -compare_with_none(&y.v[k])
				  : compare_tokens(&x.v[k], &y.v[k]);
	return version_sign(diff);
}
