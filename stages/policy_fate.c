/* What becomes of one finding: the first of the excuses that holds, or it blocks. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stages/policy_private.h"
#include "stages/purl.h"

#define GRACE_TOLD_S (30 * POLICY_DAY_S) /* for so long after its end it is told of */

/* ---- exceptions by id ---- */

static int
compare_ids(const void *a, const void *b)
{
	const struct policy_id *x = a, *y = b;
	int diff = strcmp(x->id, y->id);

	return diff != 0 ? diff : (x->entry > y->entry) - (x->entry < y->entry);
}

void
policy_index_make(const struct policy *p, int64_t now_s, struct policy_index *ret)
{
	size_t n = 0;

	for (size_t k = 0; k < p->exceptions.n; k++)
		n += 1 + p->exceptions.v[k].aliases.n;
	ret->states = mem_array(p->exceptions.n + 1, sizeof(*ret->states));
	ret->ids = mem_array(n + 1, sizeof(*ret->ids));
	for (size_t k = 0; k < p->exceptions.n; k++) {
		const struct policy_exception *x = &p->exceptions.v[k];

		ret->states[k] = policy_exception_state(p, x, now_s);
		ret->ids[ret->n_ids++] = (struct policy_id){ x->id, k };
		for (size_t a = 0; a < x->aliases.n; a++)
			ret->ids[ret->n_ids++] = (struct policy_id){ x->aliases.v[a], k };
	}
	qsort(ret->ids, ret->n_ids, sizeof(*ret->ids), compare_ids);
}

void
policy_index_free(struct policy_index *x)
{
	mem_free_at(&x->states);
	mem_free_at(&x->ids);
}

/* ---- what excuses ---- */

static bool
takes_file(const struct policy_rule *r, int file)
{
	return strv_has(&r->ignore_files, ignore_file_words[file]);
}

static bool
is_called(const char *repository, const char *name)
{
	const char *last = strrchr(repository, '/');

	return str_eq(name, repository) || (last && str_eq(name, last + 1));
}

/* By all its names: a job can give it another one. */
static bool
is_of_image(const struct policy_ignore *g, const struct policy_context *c, const char *arch)
{
	AUTO_STRV struct strv names = { 0 };
	size_t n = 0;

	if (g->arch && !str_eq(g->arch, arch))
		return false;
	if (!g->image)
		return true;
	policy_repositories(c, &names);
	for (size_t k = 0; k < names.n; k++)
		n += is_called(names.v[k], g->image);
	return n > 0 && n == names.n;
}

/* As Trivy: the path of a package, or the target that it stands in ("Java"). */
static bool
is_below(const struct strv *paths, const struct finding *f)
{
	return (*f->path && str_glob_any(paths, f->path)) || str_glob_any(paths, f->target);
}

static bool
ignore_matches(const struct policy_judge *j, const struct policy_ignore *g, const struct finding *f)
{
	bool is_package = g->purls.n == 0;

	if (!str_eq(g->id, f->id) || !is_of_image(g, j->c, j->arch))
		return false;
	for (size_t k = 0; k < g->purls.n && !is_package; k++)
		is_package = purl_matches(g->purls.v[k], f->purl);
	return is_package && (g->paths.n == 0 || is_below(&g->paths, f));
}

static bool
is_ignored(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	for (size_t k = 0; k < j->c->n_ignores; k++) {
		const struct policy_ignore *g = &j->c->ignores[k];
		AUTO_FREE char *why = NULL;

		if (!takes_file(j->rule, g->file) || (g->until_s != 0 && j->now_s >= g->until_s) ||
		    !ignore_matches(j, g, f))
			continue;
		why = str_safe(g->reason ? g->reason : "", LINE_MAX_LEN);
		*ret = (struct finding_fate){ FATE_IGNORED, g->until_s,
					      mem_printf("%s of the commit%s%s",
							 g->file == IGNORE_OPENVEX ? "OpenVEX" : ".trivyignore",
							 *why ? ": " : "", why),
					      k };
		return true;
	}
	return false;
}

static char *
exception_words(const struct policy *p, const struct policy_exception *x)
{
	AUTO_FREE char *reason = str_safe(x->reason, LINE_MAX_LEN), *owner = str_safe(x->owner, LINE_MAX_LEN);
	AUTO_FREE char *ticket = str_safe(x->ticket, LINE_MAX_LEN);

	return mem_printf("exception in line %zu of %s, %s%s%s: %s", x->line, p->name, owner,
			  *ticket ? ", " : "", ticket, reason);
}

/* The first entry of the index with this id, n_ids when there is none. */
static size_t
find_id(const struct policy_index *x, const char *id)
{
	size_t low = 0, high = x->n_ids;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(x->ids[middle].id, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Of several that match the one that lasts longest. */
static bool
is_excepted(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	const struct policy_exceptions *l = &j->policy->exceptions;
	const struct policy_index *x = j->index;
	size_t best = SIZE_MAX;

	for (size_t at = find_id(x, f->id); at < x->n_ids && str_eq(x->ids[at].id, f->id); at++) {
		size_t k = x->ids[at].entry;

		if (x->states[k] == EXCEPTION_COUNTS && policy_exception_matches(&l->v[k], j->c, f) &&
		    (best == SIZE_MAX || l->v[k].end_s > l->v[best].end_s))
			best = k;
	}
	if (best == SIZE_MAX)
		return false;
	*ret = (struct finding_fate){ FATE_EXCEPTED, l->v[best].end_s,
				      exception_words(j->policy, &l->v[best]), best };
	return true;
}

static bool
is_for_us(const struct policy_judge *j, const struct policy_accepted *a)
{
	const struct policy_accept *rule = &j->rule->accept;

	if (a->is_product_wide && rule->scope == ACCEPT_PRODUCT)
		return true;
	return !str_is_empty(a->branch) && (rule->scope == ACCEPT_PRODUCT || policy_is_ref(a->branch, j->c));
}

static bool
has_ended(const struct policy_judge *j, const struct policy_accepted *a)
{
	return a->until_s != 0 && j->now_s >= a->until_s;
}

/* Who accepted a HIGH was not asked about a CRITICAL. */
static bool
was_lower(const struct policy_judge *j, const struct finding *f, const struct policy_accepted *a)
{
	return a->kind == ACCEPTED_RISK && j->rule->accept.raised_severity == RAISED_ASK &&
	       f->severity > a->severity;
}

static const char *const accepted_for_people[] = {
	[ACCEPTED_RISK] = "risk accepted", [ACCEPTED_FALSE_POSITIVE] = "false positive", [ACCEPTED_OUT_OF_SCOPE] = "out of scope"
};

static bool
is_accepted(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	const struct policy_known *known = &j->c->known;
	struct policy_accepted a = { 0 };

	for (size_t nth = 0; known->accepted && known->accepted(known->arg, f, nth, &a); nth++) {
		AUTO_FREE char *by = str_safe(a.by ? a.by : "", LINE_MAX_LEN);

		if (is_for_us(j, &a) && !has_ended(j, &a) && !was_lower(j, f, &a)) {
			*ret = (struct finding_fate){
				FATE_ACCEPTED, a.until_s,
				mem_printf("%s%s%s", accepted_for_people[a.kind], *by ? ", " : "", by), 0
			};
			return true;
		}
	}
	return false;
}

static bool
is_known(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	const struct policy_known *known = &j->c->known;
	AUTO_FREE char *branch = NULL;

	if (!j->has_baseline || !known->is_known || !known->is_known(known->arg, j->baseline, f))
		return false;
	branch = str_safe(j->baseline, LINE_MAX_LEN);
	*ret = (struct finding_fate){ FATE_KNOWN, 0, mem_printf("%s has it, too", branch), 0 };
	return true;
}

/* Not on a day that has not come, either (a day for time zones): then its age is not known. */
static bool
is_dated(const struct policy_judge *j, const struct finding *f)
{
	return f->published_s > 0 && f->published_s <= j->now_s + POLICY_DAY_S;
}

/* A flaw whose age is not known gets no time. */
static bool
has_grace_published(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	int64_t days = j->rule->grace.published, until_s = f->published_s + days * POLICY_DAY_S;
	char date[16];

	if (days == 0 || !is_dated(j, f) || j->now_s >= until_s)
		return false;
	policy_format_date(f->published_s, date);
	*ret = (struct finding_fate){ FATE_GRACE, until_s,
				      mem_printf("published on %s, %" PRId64 " days of grace", date, days),
				      0 };
	return true;
}

static bool
find_fix_date(const struct policy_judge *j, const struct finding *f, int64_t *ret_s)
{
	const struct policy_known *known = &j->c->known;

	if (!known->fix_since || !known->fix_since(known->arg, f, ret_s))
		return false;
	/* the report has it, so there is one by now, whatever a clock that was ahead has put down */
	if (*ret_s > j->now_s)
		*ret_s = j->now_s;
	return true;
}

bool
policy_lacks_fix_date(const struct policy_judge *j, const struct finding *f)
{
	int64_t since_s;

	return j->rule->grace.fixed > 0 && *f->fixed && !find_fix_date(j, f, &since_s);
}

/* Until there is a fix its time does not begin, so an earlier fix never blocks less. */
static bool
has_grace_fixed(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	int64_t days = j->rule->grace.fixed, since_s;
	char date[16];

	if (days == 0)
		return false;
	if (!*f->fixed) {
		*ret = (struct finding_fate){
			FATE_GRACE, 0,
			mem_printf("no fix yet, %" PRId64 " days of grace from when there is one", days), 0
		};
		return true;
	}
	if (!find_fix_date(j, f, &since_s) || j->now_s >= since_s + days * POLICY_DAY_S)
		return false;
	policy_format_date(since_s, date);
	*ret = (struct finding_fate){
		FATE_GRACE, since_s + days * POLICY_DAY_S,
		mem_printf("a fix was first seen here on %s, %" PRId64 " days of grace", date, days), 0
	};
	return true;
}

static bool
outlasts(const struct finding_fate *a, const struct finding_fate *b)
{
	return b->until_s != 0 && (a->until_s == 0 || a->until_s > b->until_s);
}

/* Either is enough; of both the one that lasts longer. */
static bool
is_in_grace(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	struct finding_fate published = { 0 }, fixed = { 0 };
	bool is_published = has_grace_published(j, f, &published), is_fixed = has_grace_fixed(j, f, &fixed);
	bool takes_fixed = is_fixed && (!is_published || !outlasts(&published, &fixed));

	if (!is_published && !is_fixed)
		return false;
	*ret = takes_fixed ? fixed : published;
	mem_free_at(takes_fixed ? &published.by : &fixed.by);
	return true;
}

/* ---- what excused once ---- */

static char *
lapsed_exception(const struct policy_judge *j, const struct finding *f)
{
	const struct policy_index *x = j->index;

	for (size_t at = find_id(x, f->id); at < x->n_ids && str_eq(x->ids[at].id, f->id); at++) {
		const struct policy_exception *l = &j->policy->exceptions.v[x->ids[at].entry];

		if (x->states[x->ids[at].entry] == EXCEPTION_EXPIRED && policy_exception_matches(l, j->c, f))
			return mem_printf("the exception in line %zu of %s ended with %s", l->line,
					  j->policy->name, l->expires);
	}
	return NULL;
}

static char *
lapsed_acceptance(const struct policy_judge *j, const struct finding *f)
{
	const struct policy_known *known = &j->c->known;
	struct policy_accepted a = { 0 };

	for (size_t nth = 0; known->accepted && known->accepted(known->arg, f, nth, &a); nth++) {
		AUTO_FREE char *by = str_safe(a.by ? a.by : "", LINE_MAX_LEN);
		char end[32];

		if (is_for_us(j, &a) && has_ended(j, &a)) {
			clock_format_rfc3339(a.until_s, end);
			return mem_printf("the acceptance of %s ended at %s", by, end);
		}
		if (is_for_us(j, &a) && was_lower(j, f, &a))
			return mem_printf("%s was accepted as %s and is %s now: ask again", by,
					  severity_words[a.severity], severity_words[f->severity]);
	}
	return NULL;
}

/* Of the two that which ended last; nobody wonders for ever. */
static char *
lapsed_grace(const struct policy_judge *j, const struct finding *f)
{
	const struct policy_grace *g = &j->rule->grace;
	int64_t end_s = 0, fixed_end_s = 0, since_s;
	char end[32];

	if (g->published > 0 && is_dated(j, f))
		end_s = f->published_s + g->published * POLICY_DAY_S;
	if (g->fixed > 0 && find_fix_date(j, f, &since_s))
		fixed_end_s = since_s + g->fixed * POLICY_DAY_S;
	if (fixed_end_s > end_s)
		end_s = fixed_end_s;
	if (end_s == 0 || j->now_s - end_s > GRACE_TOLD_S)
		return NULL;
	clock_format_rfc3339(end_s, end);
	return mem_printf("its grace, %" PRId64 " days since %s, ended at %s",
			  end_s == fixed_end_s ? g->fixed : g->published,
			  end_s == fixed_end_s ? "a fix was first seen here" : "it was published", end);
}

static void
block(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	AUTO_FREE char *what = policy_describe(j->severity, j->rule->fixable_only);
	AUTO_FREE char *lapsed = lapsed_exception(j, f);

	if (!lapsed)
		lapsed = lapsed_acceptance(j, f);
	if (!lapsed)
		lapsed = lapsed_grace(j, f);
	*ret = (struct finding_fate){ .fate = FATE_BLOCKS };
	ret->by = lapsed ? mem_printf("%s; %s", what, lapsed) : take_ptr(what);
	ret->lapsed = lapsed ? ret->by + strlen(what) + strlen("; ") : NULL;
}

void
policy_judge_finding(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret)
{
	if ((int)f->severity < j->severity || (j->rule->fixable_only && !*f->fixed)) {
		*ret = (struct finding_fate){ FATE_BELOW, 0,
					      mem_strdup((int)f->severity < j->severity
								 ? "below the severity that blocks"
								 : "it has no fix yet"),
					      0 };
		return;
	}
	if (is_ignored(j, f, ret) || is_excepted(j, f, ret) || is_accepted(j, f, ret) ||
	    is_known(j, f, ret) || is_in_grace(j, f, ret))
		return;
	block(j, f, ret);
}
