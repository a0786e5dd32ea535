/* What excuses a finding by name: exceptions, ignore files, and the waiver of a job. */
#include <string.h>

#include "base/clock.h"
#include "stages/policy_private.h"
#include "stages/purl.h"
#include "stages/version_range.h"

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

/* ---- exceptions ---- */

/* Of an image that is not known nothing is excused by its name; of one that has several, by all of them. */
static bool
is_image(const char *glob, const struct policy_context *c)
{
	AUTO_STRV struct strv globs = { 0 }, names = { 0 };
	size_t n = 0;

	strv_add(&globs, glob);
	policy_repositories(c, &names);
	for (size_t k = 0; k < names.n; k++)
		n += policy_matches_repository(&globs, c, names.v[k]);
	return n > 0 && n == names.n;
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
	if (*x->purl && !purl_matches(x->purl, f->purl))
		return false;
	if (*x->project && !str_glob(x->project, c->project))
		return false;
	return !*x->image || is_image(x->image, c);
}

/* ---- break-glass ---- */

bool
policy_is_ref(const char *ref, const struct policy_context *c)
{
	static const char tags[] = "refs/tags/", heads[] = "refs/heads/", requests[] = "refs/merge-requests/";

	if (str_has_prefix(ref, tags))
		return c->is_tag && str_eq(ref + strlen(tags), c->branch);
	/* Git lets a branch be named so */
	if (str_has_prefix(ref, requests) && str_is_empty(c->target_branch))
		return false;
	if (str_has_prefix(ref, heads))
		ref += strlen(heads);
	return !c->is_tag && str_eq(ref, c->branch);
}

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
		if (!str_eq(b->project, c->project) || !policy_is_ref(b->ref, c))
			*ret_why = mem_printf("the waiver %s is not for this project and %s", safe,
					      c->is_tag ? "tag" : "branch");
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
