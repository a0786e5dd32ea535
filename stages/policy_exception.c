/* What excuses a finding by name: exceptions, ignore files, and the waiver of a job. */
#include <string.h>

#include "base/clock.h"
#include "stages/policy.h"
#include "stages/version_order.h"

#define HOUR_S INT64_C(3600)

enum exception_state
policy_exception_state(const struct policy *p, const struct policy_exception *x, int64_t today_s)
{
	/* the last day of max_days is still allowed, whatever the hour is now */
	int64_t midnight_s = today_s - today_s % POLICY_DAY_S;

	if (today_s >= x->end_s)
		return EXCEPTION_EXPIRED;
	return x->end_s - POLICY_DAY_S - midnight_s > p->max_days * POLICY_DAY_S ? EXCEPTION_TOO_LONG
										 : EXCEPTION_COUNTS;
}

/* ---- package URLs ---- */

/* Parts of "pkg:type/namespace/name@version?qualifiers#subpath"; lengths, nothing is copied. */
struct purl {
	const char *path; /* type/namespace/name */
	size_t path_len;
	const char *version; /* NULL: none */
	size_t version_len;
	const char *qualifiers; /* "" without */
	size_t qualifiers_len;
};

static bool
split_purl(const char *text, struct purl *ret)
{
	size_t len;
	const char *at;

	if (!str_has_prefix(text, "pkg:"))
		return false;
	ret->path = text + strlen("pkg:");
	len = strcspn(ret->path, "?#");
	ret->qualifiers = ret->path[len] == '?' ? ret->path + len + 1 : "";
	ret->qualifiers_len = strcspn(ret->qualifiers, "#");
	/* "@" of an npm scope is written %40, or stands at the beginning of a part */
	at = NULL;
	for (size_t k = 1; k < len; k++)
		if (ret->path[k] == '@' && ret->path[k - 1] != '/')
			at = ret->path + k;
	ret->path_len = at ? (size_t)(at - ret->path) : len;
	ret->version = at ? at + 1 : NULL;
	ret->version_len = at ? len - ret->path_len - 1 : 0;
	return true;
}

static int
hex_of(char c)
{
	const char *digits = "0123456789abcdef", *at;

	if (c >= 'A' && c <= 'F')
		c = (char)(c - 'A' + 'a');
	at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* The next character, %XX taken for what it means. */
static int
take_char(const char **s, const char *end)
{
	int c = (unsigned char)*(*s)++;

	if (c == '%' && end - *s >= 2 && hex_of((*s)[0]) >= 0 && hex_of((*s)[1]) >= 0) {
		c = hex_of((*s)[0]) * 16 + hex_of((*s)[1]);
		*s += 2;
	}
	return c;
}

static bool
is_same_part(const char *a, size_t a_len, const char *b, size_t b_len)
{
	const char *a_end = a + a_len, *b_end = b + b_len;

	while (a < a_end && b < b_end)
		if (take_char(&a, a_end) != take_char(&b, b_end))
			return false;
	return a == a_end && b == b_end;
}

static bool
has_qualifier(const struct purl *p, const char *pair, size_t len)
{
	const char *s = p->qualifiers, *end = s + p->qualifiers_len;

	while (s < end) {
		size_t n = strcspn(s, "&");

		n = n < (size_t)(end - s) ? n : (size_t)(end - s);
		if (is_same_part(s, n, pair, len))
			return true;
		s += n + 1;
	}
	return false;
}

bool
policy_purl_matches(const char *pattern, const char *purl)
{
	struct purl want, is;
	const char *s, *end;

	if (!split_purl(pattern, &want) || !split_purl(purl, &is) ||
	    !is_same_part(want.path, want.path_len, is.path, is.path_len))
		return false;
	if (want.version &&
	    (!is.version || !is_same_part(want.version, want.version_len, is.version, is.version_len)))
		return false;
	end = want.qualifiers + want.qualifiers_len;
	for (s = want.qualifiers; s < end;) {
		size_t n = strcspn(s, "&");

		n = n < (size_t)(end - s) ? n : (size_t)(end - s);
		if (n > 0 && !has_qualifier(&is, s, n))
			return false;
		s += n + 1;
	}
	return true;
}

/* ---- exceptions ---- */

/* Of an image that is not known nothing is excused by its name. */
static bool
is_image(const char *glob, const struct policy_context *c)
{
	if (!c->image)
		return false;
	if (str_glob(glob, c->image))
		return true;
	for (size_t k = 0; c->tags && k < c->tags->n; k++)
		if (str_glob(glob, c->tags->v[k]))
			return true;
	return false;
}

bool
policy_exception_matches(const struct policy_exception *x, const struct policy_context *c,
			 const struct finding *f)
{
	if (!str_eq(x->id, f->id) && !strv_has(&x->aliases, f->id))
		return false;
	if (*x->package && !str_eq(x->package, f->package))
		return false;
	if (*x->versions && !version_in_range(version_order_of(f->type), f->installed, x->versions))
		return false;
	if (*x->purl && !policy_purl_matches(x->purl, f->purl))
		return false;
	if (*x->project && !str_glob(x->project, c->project))
		return false;
	return !*x->image || is_image(x->image, c);
}

/* ---- break-glass ---- */

const struct policy_break_glass *
policy_find_waiver(const struct policy *p, const struct policy_context *c, int64_t now_s, char **ret_why)
{
	AUTO_FREE char *safe = NULL;
	char end[32];

	*ret_why = NULL;
	if (str_is_empty(c->wants_waiver))
		return NULL;
	safe = str_safe(c->wants_waiver, 64);
	for (size_t k = 0; k < p->break_glass.n; k++) {
		const struct policy_break_glass *b = &p->break_glass.v[k];
		int64_t end_s = b->from_s + b->hours * HOUR_S;

		if (!str_eq(b->name, c->wants_waiver))
			continue;
		if (!str_eq(b->project, c->project) || !str_eq(b->ref, c->branch))
			*ret_why = mem_printf("the waiver %s is not for this project and ref", safe);
		else if (now_s < b->from_s)
			*ret_why = mem_printf("the waiver %s begins later, at %s", safe, b->from);
		else if (now_s >= end_s) {
			clock_format_rfc3339(end_s, end);
			*ret_why = mem_printf("the waiver %s ended at %s", safe, end);
		}
		return *ret_why ? NULL : b;
	}
	*ret_why = mem_printf("the policy has no waiver %s (TIDEWAITER_WAIVER)", safe);
	return NULL;
}
