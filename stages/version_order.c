#include "stages/version_order.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum version_order
version_order_of(const char *type)
{
	static const struct {
		const char *type;
		enum version_order order;
	} table[] = {
		{ "debian", VERSION_DEBIAN },
		{ "ubuntu", VERSION_DEBIAN },
		{ "redhat", VERSION_RPM },
		{ "centos", VERSION_RPM },
		{ "rocky", VERSION_RPM },
		{ "alma", VERSION_RPM },
		{ "oracle", VERSION_RPM },
		{ "fedora", VERSION_RPM },
		{ "amazon", VERSION_RPM },
		{ "photon", VERSION_RPM },
		{ "azurelinux", VERSION_RPM },
		{ "cbl-mariner", VERSION_RPM },
		{ "opensuse", VERSION_RPM },
		{ "suse", VERSION_RPM },
		{ "sles", VERSION_RPM },
		{ "opensuse-leap", VERSION_RPM },
		{ "opensuse-tumbleweed", VERSION_RPM },
		{ "opensuse.leap", VERSION_RPM },
		{ "opensuse.tumbleweed", VERSION_RPM },
		{ "suse linux enterprise server", VERSION_RPM },
		{ "suse linux enterprise micro", VERSION_RPM },
		{ "slem", VERSION_RPM },
		{ "alpine", VERSION_ALPINE },
		{ "wolfi", VERSION_ALPINE },
		{ "chainguard", VERSION_ALPINE },
		{ "minimos", VERSION_ALPINE },
		{ "jar", VERSION_MAVEN },
		{ "pom", VERSION_MAVEN },
		{ "gradle", VERSION_MAVEN },
		{ "sbt", VERSION_MAVEN },
	};

	for (size_t k = 0; k < MEM_COUNT(table); k++)
		if (str_eq(table[k].type, type))
			return table[k].order;
	return VERSION_GENERAL;
}

static int
sign(long n)
{
	return (n > 0) - (n < 0);
}

/* Runs of digits as numbers of any length; both move behind theirs. */
static int
compare_digits(const char **a, const char **b)
{
	size_t n, m;
	int diff;

	*a += strspn(*a, "0");
	*b += strspn(*b, "0");
	n = strspn(*a, "0123456789");
	m = strspn(*b, "0123456789");
	diff = n != m ? (n > m ? 1 : -1) : strncmp(*a, *b, n);
	*a += n;
	*b += m;
	return sign(diff);
}

/* "1:2.3-4": the epoch goes to *ret as text, the rest is returned. */
static const char *
take_epoch(const char *v, const char **ret)
{
	size_t n = strspn(v, "0123456789");

	*ret = n > 0 && v[n] == ':' ? v : "0";
	return n > 0 && v[n] == ':' ? v + n + 1 : v;
}

static int
compare_epochs(const char **a, const char **b)
{
	const char *x, *y;

	*a = take_epoch(*a, &x);
	*b = take_epoch(*b, &y);
	return compare_digits(&x, &y);
}

/* ---- Debian ---- */

static int
debian_rank(char c)
{
	if (c == '~')
		return -1;
	if (c == '\0' || isdigit((unsigned char)c))
		return 0;
	return isalpha((unsigned char)c) ? (unsigned char)c : (unsigned char)c + 256;
}

static int
compare_debian_part(const char *a, const char *b)
{
	while (*a || *b) {
		int diff;

		while ((*a && !isdigit((unsigned char)*a)) || (*b && !isdigit((unsigned char)*b))) {
			if (debian_rank(*a) != debian_rank(*b))
				return sign(debian_rank(*a) - debian_rank(*b));
			a += *a != '\0';
			b += *b != '\0';
		}
		diff = compare_digits(&a, &b);
		if (diff != 0)
			return diff;
	}
	return 0;
}

static int
compare_debian(const char *a, const char *b)
{
	int diff = compare_epochs(&a, &b);
	const char *dash_a = strrchr(a, '-'), *dash_b = strrchr(b, '-');
	AUTO_FREE char *upstream_a = mem_strndup(a, dash_a ? (size_t)(dash_a - a) : strlen(a));
	AUTO_FREE char *upstream_b = mem_strndup(b, dash_b ? (size_t)(dash_b - b) : strlen(b));

	if (diff == 0)
		diff = compare_debian_part(upstream_a, upstream_b);
	return diff != 0 ? diff : compare_debian_part(dash_a ? dash_a + 1 : "", dash_b ? dash_b + 1 : "");
}

/* ---- RPM ---- */

static size_t
span_alpha(const char *s)
{
	size_t n = 0;

	while (isalpha((unsigned char)s[n]))
		n++;
	return n;
}

static const char *
skip_rpm_separators(const char *s)
{
	while (*s && !isalnum((unsigned char)*s) && *s != '~' && *s != '^')
		s++;
	return s;
}

static int
compare_rpm_part(const char *a, const char *b)
{
	while (*a || *b) {
		size_t n, m;
		int diff;

		a = skip_rpm_separators(a);
		b = skip_rpm_separators(b);
		if (*a == '~' || *b == '~') {
			if (*a != *b)
				return *a == '~' ? -1 : 1;
			a++;
			b++;
			continue;
		}
		if (*a == '^' || *b == '^') {
			if (*a != *b)
				return *a == '^' ? (*b ? -1 : 1) : (*a ? 1 : -1);
			a++;
			b++;
			continue;
		}
		if (!*a || !*b)
			break;
		/* what begins with a digit is newer than what begins with a letter */
		if (isdigit((unsigned char)*a) != isdigit((unsigned char)*b))
			return isdigit((unsigned char)*a) ? 1 : -1;
		if (isdigit((unsigned char)*a)) {
			diff = compare_digits(&a, &b);
		} else {
			n = span_alpha(a);
			m = span_alpha(b);
			diff = sign(strncmp(a, b, n < m ? n : m));
			diff = diff != 0 ? diff : (n > m) - (n < m);
			a += n;
			b += m;
		}
		if (diff != 0)
			return diff;
	}
	return *a ? 1 : *b ? -1 : 0;
}

static int
compare_rpm(const char *a, const char *b)
{
	int diff = compare_epochs(&a, &b);
	const char *dash_a = strrchr(a, '-'), *dash_b = strrchr(b, '-');
	AUTO_FREE char *version_a = mem_strndup(a, dash_a ? (size_t)(dash_a - a) : strlen(a));
	AUTO_FREE char *version_b = mem_strndup(b, dash_b ? (size_t)(dash_b - b) : strlen(b));

	if (diff == 0)
		diff = compare_rpm_part(version_a, version_b);
	/* "1.2" without a release is any release of it */
	if (diff != 0 || !dash_a || !dash_b)
		return diff;
	return compare_rpm_part(dash_a + 1, dash_b + 1);
}

/* ---- Alpine ---- */

/* Where a suffix stands against the end, which is 0. */
static int
alpine_suffix(const char *s, size_t n)
{
	static const struct {
		const char *word;
		int rank;
	} words[] = { { "alpha", -4 }, { "beta", -3 }, { "pre", -2 }, { "rc", -1 }, { "cvs", 1 },
		      { "svn", 2 },    { "git", 3 },   { "hg", 4 },   { "p", 5 } };

	for (size_t k = 0; k < MEM_COUNT(words); k++)
		if (strlen(words[k].word) == n && strncmp(words[k].word, s, n) == 0)
			return words[k].rank;
	return 6;
}

/* "_rc1_p2": rank and number of the first, *s moves behind it. No suffix: rank 0. */
static int
take_suffix(const char **s, const char **number)
{
	size_t n;
	int rank;

	*number = "";
	if (**s != '_')
		return 0;
	n = span_alpha(*s + 1);
	rank = alpine_suffix(*s + 1, n);
	*s += 1 + n;
	*number = *s;
	*s += strspn(*s, "0123456789");
	return rank;
}

static int
compare_alpine(const char *a, const char *b)
{
	int diff = compare_digits(&a, &b);

	while (diff == 0 && (*a == '.' || *b == '.')) {
		/* a number more is newer than a letter, a suffix or the end */
		if (*a != *b)
			return *a == '.' ? 1 : -1;
		a++;
		b++;
		diff = compare_digits(&a, &b);
	}
	if (diff == 0 && (isalpha((unsigned char)*a) || isalpha((unsigned char)*b))) {
		char x = isalpha((unsigned char)*a) ? *a++ : '\0',
		     y = isalpha((unsigned char)*b) ? *b++ : '\0';

		diff = sign(x - y);
	}
	while (diff == 0 && (*a == '_' || *b == '_')) {
		const char *x, *y;
		int rank_a = take_suffix(&a, &x), rank_b = take_suffix(&b, &y);

		diff = rank_a != rank_b ? sign(rank_a - rank_b) : compare_digits(&x, &y);
	}
	if (diff != 0)
		return diff;
	a += str_has_prefix(a, "-r") ? 2 : 0;
	b += str_has_prefix(b, "-r") ? 2 : 0;
	diff = compare_digits(&a, &b);
	return diff != 0 ? diff : sign(strcmp(a, b));
}

/* ---- general ---- */

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
		diff = compare_digits(a, b);
		if (**a == '.' && isdigit((unsigned char)(*a)[1]))
			(*a)++;
		if (**b == '.' && isdigit((unsigned char)(*b)[1]))
			(*b)++;
	}
	return diff;
}

/* Where the rest stands against a release without one. */
static int
rest_rank(const char *s, enum version_order order)
{
	const char *word = *s == '-' ? s + 1 : skip_dots(s);
	size_t n = span_alpha(word);
	int rank;

	if (!*s)
		return 0;
	rank = n > 0 ? word_rank(word, n) : 2;
	/* SemVer: all behind "-" comes before the release; words that are known say it themselves. In Maven "32.0-jre" is no less than 32.0 */
	if (*s == '-' && rank == 2 && order != VERSION_MAVEN)
		return -7;
	return rank;
}

/* "1.0.Final" is 1.0. */
static const char *
skip_final(const char *s)
{
	const char *word = s + strspn(s, "-._");
	size_t n = span_alpha(word);

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
			diff = compare_digits(&a, &b);
		} else {
			n = span_alpha(a);
			m = span_alpha(b);
			n = n ? n : 1;
			m = m ? m : 1;
			diff = strncmp(a, b, n < m ? n : m);
			diff = diff != 0 ? diff : (n > m) - (n < m);
			a += n;
			b += m;
		}
		if (diff != 0)
			return sign(diff);
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

static int
compare_general(enum version_order order, const char *x, const char *y)
{
	AUTO_FREE char *owned_a = general_core(x), *owned_b = general_core(y);
	const char *a = owned_a, *b = owned_b, *epoch_a, *epoch_b;
	int diff;

	/* PEP 440 has epochs, too */
	epoch_a = strchr(a, '!') ? a : "0";
	epoch_b = strchr(b, '!') ? b : "0";
	a = strchr(a, '!') ? strchr(a, '!') + 1 : a;
	b = strchr(b, '!') ? strchr(b, '!') + 1 : b;
	diff = compare_digits(&epoch_a, &epoch_b);
	if (diff == 0)
		diff = compare_release(&a, &b);
	a = skip_final(a);
	b = skip_final(b);
	if (diff == 0)
		diff = sign(rest_rank(a, order) - rest_rank(b, order));
	return diff != 0 ? diff : compare_rest(a, b);
}

int
version_compare(enum version_order order, const char *a, const char *b)
{
	switch (order) {
	case VERSION_DEBIAN:
		return compare_debian(a, b);
	case VERSION_RPM:
		return compare_rpm(a, b);
	case VERSION_ALPINE:
		return compare_alpine(a, b);
	case VERSION_GENERAL:
	case VERSION_MAVEN:
		return compare_general(order, a, b);
	}
	return 0;
}

/* Epochs apart, that is Debian's order of one part. */
int
version_compare_loose(const char *a, const char *b)
{
	return compare_debian_part(a, b);
}
