/* PEP 440, Version Identification. */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "stages/version_private.h"

/* Numbers are text, of any length; "" is 0. Ranks say where it stands against one without that part. */
struct pypi {
	const char *epoch, *release;
	int pre_rank; /* dev of a release, a, b, rc; the release */
	const char *pre;
	bool is_post, is_dev;
	const char *post, *dev;
	const char *local; /* behind "+", "": none */
};

enum { RANK_DEV, RANK_A, RANK_B, RANK_RC, RANK_RELEASE };

/* One of the words at *s, with a separator before it or none; then its number, for which *s stays. */
static bool
take_word(const char **s, const char *const *words, size_t n, const char **ret_number, size_t *ret_word)
{
	const char *p = *s + (**s && strchr("-_.", **s) != NULL);

	for (size_t k = 0; k < n; k++) {
		size_t len = strlen(words[k]);

		if (strncasecmp(p, words[k], len) != 0)
			continue;
		p += len;
		if (*p && strchr("-_.", *p) && isdigit((unsigned char)p[1]))
			p++;
		*ret_number = p;
		*s = p + strspn(p, DIGITS);
		*ret_word = k;
		return true;
	}
	return false;
}

static const char *
skip_release(const char *s)
{
	for (;;) {
		size_t n = strspn(s, DIGITS);

		if (n == 0)
			return NULL;
		s += n;
		if (*s != '.' || !isdigit((unsigned char)s[1]))
			return s;
		s++;
	}
}

static const char *
skip_local(const char *s)
{
	const char *p = s;

	while (isalnum((unsigned char)*p) ||
	       (p > s && *p && strchr("-_.", *p) && isalnum((unsigned char)p[1])))
		p++;
	return p;
}

static bool
read_pypi(const char *s, struct pypi *ret)
{
	/* longer ones before those that they begin with */
	static const char *const pre[] = { "alpha", "a", "beta", "b", "preview", "pre", "rc", "c" },
				 *const post[] = { "post", "rev", "r" }, *const dev[] = { "dev" };
	static const int ranks[] = { RANK_A, RANK_A, RANK_B, RANK_B, RANK_RC, RANK_RC, RANK_RC, RANK_RC };
	size_t n, word;

	*ret = (struct pypi){ .epoch = "", .pre = "", .post = "", .dev = "", .local = "" };
	s += *s == 'v' || *s == 'V';
	n = strspn(s, DIGITS);
	if (n > 0 && s[n] == '!') {
		ret->epoch = s;
		s += n + 1;
	}
	ret->release = s;
	s = skip_release(s);
	if (!s)
		return false;
	ret->pre_rank = RANK_RELEASE;
	if (take_word(&s, pre, sizeof(pre) / sizeof(*pre), &ret->pre, &word))
		ret->pre_rank = ranks[word];
	if (*s == '-' && isdigit((unsigned char)s[1])) {
		ret->is_post = true;
		ret->post = s + 1;
		s += 1 + strspn(s + 1, DIGITS);
	} else if (take_word(&s, post, sizeof(post) / sizeof(*post), &ret->post, &word)) {
		ret->is_post = true;
	}
	ret->is_dev = take_word(&s, dev, 1, &ret->dev, &word);
	if (ret->is_dev && !ret->is_post && ret->pre_rank == RANK_RELEASE)
		ret->pre_rank = RANK_DEV;
	if (*s == '+') {
		ret->local = s + 1;
		s = skip_local(s + 1);
	}
	return !*s && (!ret->local[0] || s > ret->local);
}

static int
compare_numbers(const char *a, const char *b)
{
	return version_compare_digits(&a, &b);
}

static int
compare_release(const char *a, const char *b)
{
	int diff = 0;

	while (diff == 0 && (isdigit((unsigned char)*a) || isdigit((unsigned char)*b))) {
		diff = version_compare_digits(&a, &b);
		a += *a == '.' && isdigit((unsigned char)a[1]);
		b += *b == '.' && isdigit((unsigned char)b[1]);
	}
	return diff;
}

/* Numbers behind words, and more of them behind fewer. Where one has none, any is the same: so it is in a range. */
static int
compare_local(const char *a, const char *b)
{
	if (!*a || !*b)
		return 0;
	while (*a && *b) {
		size_t n = strcspn(a, "-_."), m = strcspn(b, "-_.");
		bool is_number = strspn(a, DIGITS) >= n, is_other_number = strspn(b, DIGITS) >= m;
		int diff = is_number && is_other_number	  ? compare_numbers(a, b)
			   : is_number != is_other_number ? (is_number ? 1 : -1)
							  : strncasecmp(a, b, n < m ? n : m);

		if (diff == 0 && !is_number)
			diff = (n > m) - (n < m);
		if (diff != 0)
			return version_sign(diff);
		a += n + (a[n] != '\0');
		b += m + (b[m] != '\0');
	}
	return (*a != '\0') - (*b != '\0');
}

int
version_compare_pypi(const char *a, const char *b)
{
	struct pypi x, y;
	int diff;

	if (!read_pypi(a, &x) || !read_pypi(b, &y))
		return version_compare_general(a, b);
	diff = compare_numbers(x.epoch, y.epoch);
	if (diff == 0)
		diff = compare_release(x.release, y.release);
	if (diff == 0)
		diff = x.pre_rank - y.pre_rank;
	if (diff == 0)
		diff = compare_numbers(x.pre, y.pre);
	if (diff == 0)
		diff = x.is_post - y.is_post;
	if (diff == 0)
		diff = compare_numbers(x.post, y.post);
	if (diff == 0)
		diff = y.is_dev - x.is_dev;
	if (diff == 0)
		diff = compare_numbers(x.dev, y.dev);
	return diff != 0 ? version_sign(diff) : compare_local(x.local, y.local);
}
