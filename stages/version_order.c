#include "stages/version_private.h"

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
		{ "echo", VERSION_DEBIAN },
		{ "redhat", VERSION_RPM },
		{ "centos", VERSION_RPM },
		{ "centos-stream", VERSION_RPM },
		{ "coreos", VERSION_RPM },
		{ "bottlerocket", VERSION_RPM },
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
		{ "npm", VERSION_SEMVER },
		{ "yarn", VERSION_SEMVER },
		{ "pnpm", VERSION_SEMVER },
		{ "bun", VERSION_SEMVER },
		{ "node-pkg", VERSION_SEMVER },
		{ "javascript", VERSION_SEMVER },
		{ "gomod", VERSION_SEMVER },
		{ "gobinary", VERSION_SEMVER },
		{ "cargo", VERSION_SEMVER },
		{ "rustbinary", VERSION_SEMVER },
		{ "nuget", VERSION_SEMVER },
		{ "dotnet-core", VERSION_SEMVER },
		{ "packages-props", VERSION_SEMVER },
		{ "swift", VERSION_SEMVER },
		{ "pub", VERSION_SEMVER },
		{ "hex", VERSION_SEMVER },
		{ "julia", VERSION_SEMVER },
		{ "pip", VERSION_PYPI },
		{ "pipenv", VERSION_PYPI },
		{ "poetry", VERSION_PYPI },
		{ "uv", VERSION_PYPI },
		{ "pylock", VERSION_PYPI },
		{ "python-pkg", VERSION_PYPI },
		{ "bundler", VERSION_GEM },
		{ "gemspec", VERSION_GEM },
		{ "cocoapods", VERSION_GEM },
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

int
version_compare_digits(const char **a, const char **b)
{
	size_t n, m;
	int diff;

	*a += strspn(*a, "0");
	*b += strspn(*b, "0");
	n = strspn(*a, DIGITS);
	m = strspn(*b, DIGITS);
	diff = n != m ? (n > m ? 1 : -1) : strncmp(*a, *b, n);
	*a += n;
	*b += m;
	return version_sign(diff);
}

size_t
version_span_alpha(const char *s)
{
	size_t n = 0;

	while (isalpha((unsigned char)s[n]))
		n++;
	return n;
}

/* "1:2.3-4": the epoch goes to *ret as text, the rest is returned. */
static const char *
take_epoch(const char *v, const char **ret)
{
	size_t n = strspn(v, DIGITS);

	*ret = n > 0 && v[n] == ':' ? v : "0";
	return n > 0 && v[n] == ':' ? v + n + 1 : v;
}

static int
compare_epochs(const char **a, const char **b)
{
	const char *x, *y;

	*a = take_epoch(*a, &x);
	*b = take_epoch(*b, &y);
	return version_compare_digits(&x, &y);
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
				return version_sign(debian_rank(*a) - debian_rank(*b));
			a += *a != '\0';
			b += *b != '\0';
		}
		diff = version_compare_digits(&a, &b);
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
			diff = version_compare_digits(&a, &b);
		} else {
			n = version_span_alpha(a);
			m = version_span_alpha(b);
			diff = version_sign(strncmp(a, b, n < m ? n : m));
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
	n = version_span_alpha(*s + 1);
	rank = alpine_suffix(*s + 1, n);
	*s += 1 + n;
	*number = *s;
	*s += strspn(*s, DIGITS);
	return rank;
}

/* A number behind a dot: with a leading zero it is a fraction, as in Perl's 1.05, which is before 1.5. */
static int
compare_alpine_digits(const char **a, const char **b)
{
	size_t n = strspn(*a, DIGITS), m = strspn(*b, DIGITS);
	int diff;

	if (**a != '0' && **b != '0')
		return version_compare_digits(a, b);
	diff = strncmp(*a, *b, n < m ? n : m);
	*a += n;
	*b += m;
	return diff != 0 ? version_sign(diff) : (n > m) - (n < m);
}

static int
compare_alpine(const char *a, const char *b)
{
	int diff = version_compare_digits(&a, &b);

	while (diff == 0 && (*a == '.' || *b == '.')) {
		/* a number more is newer than a letter, a suffix or the end */
		if (*a != *b)
			return *a == '.' ? 1 : -1;
		a++;
		b++;
		diff = compare_alpine_digits(&a, &b);
	}
	if (diff == 0 && (isalpha((unsigned char)*a) || isalpha((unsigned char)*b))) {
		char x = isalpha((unsigned char)*a) ? *a++ : '\0',
		     y = isalpha((unsigned char)*b) ? *b++ : '\0';

		diff = version_sign(x - y);
	}
	while (diff == 0 && (*a == '_' || *b == '_')) {
		const char *x, *y;
		int rank_a = take_suffix(&a, &x), rank_b = take_suffix(&b, &y);

		diff = rank_a != rank_b ? version_sign(rank_a - rank_b) : version_compare_digits(&x, &y);
	}
	if (diff != 0)
		return diff;
	a += str_has_prefix(a, "-r") ? 2 : 0;
	b += str_has_prefix(b, "-r") ? 2 : 0;
	diff = version_compare_digits(&a, &b);
	return diff != 0 ? diff : version_sign(strcmp(a, b));
}

/* ---- */

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
	case VERSION_SEMVER:
		return version_compare_semver(a, b);
	case VERSION_PYPI:
		return version_compare_pypi(a, b);
	case VERSION_GEM:
		return version_compare_gem(a, b);
	case VERSION_MAVEN:
		return version_compare_maven(a, b);
	case VERSION_GENERAL:
		return version_compare_general(a, b);
	}
	return 0;
}
