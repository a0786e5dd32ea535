#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "stages/image_label.h"
#include "stages/policy_private.h"

#define NAMED_MAX 3	/* findings that an announcement names */
#define ANNOUNCED_MAX 3 /* rules */
#define REFUSED_SHOWN_MAX 5
#define ADDED_SHOWN_MAX 10
#define ADDED_ID_MAX 40

const char *const fate_words[] = { "below", "blocks", "ignored", "excepted", "accepted",
				   "known", "grace",  "waived",	 NULL };
const char *const accepted_kind_words[] = { "risk_accepted", "false_positive", "out_of_scope", NULL };

void
decision_free(struct decision *d)
{
	strv_free(&d->reasons);
	strv_free(&d->notes);
	for (size_t k = 0; k < d->n_findings; k++)
		mem_free_at(&d->fates[k].by);
	mem_free_at(&d->fates);
	*d = (struct decision){ 0 };
}

bool
policy_asks_fixes(const struct policy *p)
{
	for (size_t k = 0; k < p->rules.n; k++)
		if (p->rules.v[k].grace.fixed > 0)
			return true;
	return false;
}

char *
policy_describe(int severity, bool fixable_only)
{
	return mem_printf("%s%s%s", severity_words[severity], severity == SEVERITY_CRITICAL ? "" : " or worse",
			  fixable_only ? " that can be fixed" : "");
}

/* ---- which rule ---- */

/* A job's name is no path: `*` is to match "build/app" whole. */
static bool
matches_whole(const struct strv *globs, const char *name)
{
	AUTO_FREE char *flat = mem_strdup(name ? name : "");

	for (char *c = flat; *c; c++)
		*c = *c == '/' ? '\001' : *c;
	for (size_t k = 0; k < globs->n; k++) {
		AUTO_FREE char *glob = mem_strdup(globs->v[k]);

		for (char *c = glob; *c; c++)
			*c = *c == '/' ? '\001' : *c;
		if (str_glob(glob, flat))
			return true;
	}
	return globs->n == 0;
}

static bool
matches_path(const struct strv *globs, const char *path)
{
	return globs->n == 0 || str_glob_any(globs, path ? path : "");
}

/* A bare tag or digest ("1.0", "@sha256:…") is one of the repository that the image goes by. Owned by the caller. */
static char *
repository_of(const char *tag, const struct policy_context *c)
{
	const char *mark = tag + strcspn(tag, "/:@");

	return *mark == '/' || *mark == ':' ? image_repository(tag) : mem_strdup(c->image);
}

void
policy_repositories(const struct policy_context *c, struct strv *ret)
{
	if (c->image)
		strv_add(ret, c->image);
	for (size_t k = 0; c->image && c->tags && k < c->tags->n; k++) {
		AUTO_FREE char *repository = repository_of(c->tags->v[k], c);

		if (!strv_has(ret, repository))
			strv_add(ret, repository);
	}
}

bool
policy_matches_repository(const struct strv *globs, const struct policy_context *c, const char *repository)
{
	if (str_glob_any(globs, repository))
		return true;
	for (size_t k = 0; c->tags && k < c->tags->n; k++) {
		AUTO_FREE char *own = NULL;

		if (!str_glob_any(globs, c->tags->v[k]))
			continue;
		own = repository_of(c->tags->v[k], c);
		if (str_eq(own, repository))
			return true;
	}
	return false;
}

static bool
matches_image(const struct strv *globs, const struct policy_context *c)
{
	if (globs->n == 0 || !c->image)
		return matches_path(globs, c->image);
	return policy_matches_repository(globs, c, c->image);
}

static bool
matches_flag(int flag, bool is)
{
	return flag == FLAG_ANY || (flag == FLAG_TRUE) == is;
}

static bool
matches_job(const struct policy_match *m, const struct policy_context *c)
{
	return matches_path(&m->projects, c->project) && matches_path(&m->branches, c->branch) &&
	       matches_whole(&m->stages, c->stage) && matches_whole(&m->jobs, c->job) &&
	       matches_flag(m->is_protected, c->is_protected) && matches_flag(m->is_tag, c->is_tag);
}

bool
policy_rule_matches(const struct policy_rule *r, const struct policy_context *c)
{
	return matches_job(&r->match, c) && matches_image(&r->match.images, c);
}

bool
policy_rule_matches_all(const struct policy_rule *r)
{
	const struct policy_match *m = &r->match;

	return m->projects.n + m->branches.n + m->images.n + m->stages.n + m->jobs.n == 0 &&
	       m->is_protected == FLAG_ANY && m->is_tag == FLAG_ANY;
}

bool
policy_is_announced(const struct policy_rule *r, int64_t today_s)
{
	return r->enforce_from_s > today_s;
}

const struct policy_rule *
policy_rule_at(const struct policy *p, size_t index)
{
	return index < p->rules.n ? &p->rules.v[index] : &p->otherwise;
}

/* What could not be read may be any image: the strictest mode of those rules that may be meant. */
static size_t
find_for_unknown_image(const struct policy *p, const struct policy_context *c, int64_t today_s)
{
	size_t best = SIZE_MAX;

	for (size_t k = 0; k <= p->rules.n; k++) {
		const struct policy_rule *r = policy_rule_at(p, k);

		if (policy_is_announced(r, today_s) || !matches_job(&r->match, c))
			continue;
		if (best == SIZE_MAX || r->mode > policy_rule_at(p, best)->mode)
			best = k;
		if (r->match.images.n == 0)
			break;
	}
	return best;
}

size_t
policy_find_rule(const struct policy *p, const struct policy_context *c, int64_t today_s)
{
	if (!c->image)
		return find_for_unknown_image(p, c, today_s);
	for (size_t k = 0; k < p->rules.n; k++)
		if (!policy_is_announced(&p->rules.v[k], today_s) && policy_rule_matches(&p->rules.v[k], c))
			return k;
	return p->rules.n;
}

/* ---- what a job wishes ---- */

static int
index_of(const char *const *words, const char *text)
{
	for (int k = 0; words[k]; k++)
		if (strcasecmp(words[k], text) == 0)
			return k;
	return -1;
}

static void
note_refused(struct decision *d, const char *variable, const char *text, const char *because)
{
	AUTO_FREE char *safe = str_safe(text, 40);

	strv_addf(&d->notes, "%s=%s is not followed: %s", variable, safe, because);
}

/* Whoever meets it has to find out why. */
static void
note_followed(struct decision *d, const char *variable, const char *now, const char *before)
{
	strv_addf(&d->notes, "%s=%s of this job makes it stricter, without it it is %s", variable, now,
		  before);
}

/* Stricter only. */
static void
apply_wishes(const struct policy_context *c, struct decision *d)
{
	int mode = str_is_empty(c->wants_mode) ? d->mode : index_of(gate_mode_words, c->wants_mode);
	int severity =
		str_is_empty(c->wants_severity) ? d->severity : index_of(severity_words, c->wants_severity);

	if (mode < 0)
		note_refused(d, "TIDEWAITER_MODE", c->wants_mode, "allowed are audit, warn and enforce");
	else if (mode < d->mode)
		note_refused(d, "TIDEWAITER_MODE", c->wants_mode,
			     "a job can tighten the policy, not loosen it");
	else if (mode > d->mode) {
		note_followed(d, "TIDEWAITER_MODE", gate_mode_words[mode], gate_mode_words[d->mode]);
		d->mode = mode;
	}
	if (severity < 0)
		note_refused(d, "TIDEWAITER_SEVERITY", c->wants_severity,
			     "allowed are UNKNOWN, LOW, MEDIUM, HIGH and CRITICAL");
	else if (severity > d->severity)
		note_refused(d, "TIDEWAITER_SEVERITY", c->wants_severity,
			     "a job can tighten the policy, not loosen it");
	else if (severity < d->severity) {
		note_followed(d, "TIDEWAITER_SEVERITY", severity_words[severity], severity_words[d->severity]);
		d->severity = severity;
	}
}

/* ---- the whole report ---- */

static void
judge_oddity(struct decision *d, bool is_so, int reaction, const char *reason)
{
	if (!is_so || reaction == REACT_PASS)
		return;
	d->verdict = verdict_worse(d->verdict, verdict_of_reaction(reaction));
	strv_add(&d->reasons, reason);
}

const char *
policy_new_only_branch(const struct policy_rule *r, const struct policy_context *c)
{
	const char *branch = r->new_only;

	if (str_eq(branch, "off"))
		return NULL;
	if (str_eq(branch, "target"))
		branch = c->target_branch;
	else if (str_eq(branch, "default"))
		branch = c->default_branch;
	return str_is_empty(branch) ? NULL : branch;
}

void
policy_other_branches(const struct policy *p, const struct policy_context *c, struct strv *ret)
{
	for (size_t k = 0; k <= p->rules.n; k++) {
		const struct policy_rule *r = policy_rule_at(p, k);
		const char *branch = policy_new_only_branch(r, c);

		if (!matches_job(&r->match, c))
			continue;
		if (branch && !strv_has(ret, branch))
			strv_add(ret, branch);
		/* nothing gets past a rule that takes every image, from today on */
		if (r->match.images.n == 0 && r->enforce_from_s == 0)
			return;
	}
}

/* What is new, by name; an id once, whatever number of packages has it. */
static void
say_added(const struct policy_judge *j, const struct report *r, struct decision *d, const char *what)
{
	AUTO_FREE char *branch = str_safe(j->baseline, LINE_MAX_LEN), *names = NULL;
	AUTO_STRV struct strv all = { 0 };
	AUTO_STRV struct strv ids = { 0 };
	size_t n = d->n_of_fate[FATE_BLOCKS];

	for (size_t k = 0; k < r->n_findings; k++)
		if (d->fates[k].fate == FATE_BLOCKS)
			strv_take(&all, str_safe(r->findings[k].id, ADDED_ID_MAX));
	strv_sort(&all);
	for (size_t k = 0; k < all.n && ids.n <= ADDED_SHOWN_MAX; k++)
		if (k == 0 || !str_eq(all.v[k], all.v[k - 1]))
			strv_add(&ids, ids.n < ADDED_SHOWN_MAX ? all.v[k] : "…");
	names = strv_join(&ids, ", ");
	if (str_eq(j->baseline, j->c->branch) && !j->c->is_tag && str_is_empty(j->c->target_branch))
		strv_addf(&d->reasons, "%zu %s %s and new on %s: %s", n,
			  n == 1 ? "finding is" : "findings are", what, branch, names);
	else
		strv_addf(&d->reasons, "it adds %zu %s %s to what %s has: %s", n,
			  n == 1 ? "finding that is" : "findings that are", what, branch, names);
}

static void
judge_findings(const struct policy_judge *j, const struct report *r, struct decision *d)
{
	AUTO_FREE char *what = policy_describe(d->severity, d->fixable_only);
	size_t n, n_undated = 0;

	if (r->n_findings > 0)
		d->fates = mem_array(r->n_findings, sizeof(*d->fates));
	d->n_findings = r->n_findings;
	for (size_t k = 0; k < r->n_findings; k++) {
		policy_judge_finding(j, &r->findings[k], &d->fates[k]);
		d->n_of_fate[d->fates[k].fate]++;
		n_undated += d->fates[k].fate == FATE_BLOCKS && policy_lacks_fix_date(j, &r->findings[k]);
	}
	n = d->n_of_fate[FATE_BLOCKS];
	if (n_undated > 0)
		strv_addf(&d->notes,
			  "no grace (grace.fixed) for %zu %s: it is not known since when there is a fix",
			  n_undated, n_undated == 1 ? "finding" : "findings");
	if (n == 0)
		return;
	if (j->has_baseline)
		say_added(j, r, d, what);
	else
		strv_addf(&d->reasons, "%zu %s %s", n, n == 1 ? "finding is" : "findings are", what);
	d->verdict = VERDICT_BLOCK;
}

static void
judge_image(const struct policy_judge *j, const struct report *r, struct decision *d)
{
	const struct policy_rule *rule = j->rule;
	AUTO_FREE char *eol =
		mem_printf("%s %s is past its end of life and gets no fixes", r->os_family, r->os_name);
	AUTO_FREE char *os = str_safe(r->os_name, LINE_MAX_LEN);
	AUTO_FREE char *release =
		mem_printf("Trivy's database knows nothing of %s %s, so nothing of the system can be found in it",
			   r->os_family, os);
	AUTO_FREE char *secrets =
		mem_printf("%zu %s in it", r->n_secrets, r->n_secrets == 1 ? "secret is" : "secrets are");
	size_t n = 0;

	judge_oddity(d, report_lacks_packages(r), rule->on_no_packages,
		     r->n_packages == 0
			     ? "Trivy found no packages in it, so it can say nothing about them"
			     : "Trivy found no packages of its operating system, so it can say nothing about them");
	judge_oddity(d, !*r->os_family, rule->on_unknown_os, "it has no operating system that Trivy knows");
	judge_oddity(d, r->is_release_unknown, rule->on_unknown_os, release);
	judge_oddity(d, r->is_os_eol, rule->on_eol_os, eol);
	judge_oddity(d, r->n_secrets > 0, rule->secrets, secrets);
	for (int s = 0; s < SEVERITY_COUNT; s++)
		n += rule->misconfigurations != MISCONFIGURATIONS_OFF && s + 1 >= rule->misconfigurations
			     ? r->n_misconfigurations_of[s]
			     : 0;
	if (n > 0) {
		AUTO_FREE char *what = policy_describe(rule->misconfigurations - 1, false);

		d->verdict = VERDICT_BLOCK;
		strv_addf(&d->reasons, "%zu %s %s", n,
			  n == 1 ? "misconfiguration is" : "misconfigurations are", what);
	}
}

/* What Trivy could not see, by what it said of the rest: a scan that found nothing is no answer to that. */
static void
judge_hidden(const struct policy *p, const struct policy_context *c, const struct policy_rule *r,
	     struct decision *d)
{
	for (size_t k = 0; c->hidden && k < c->hidden->n; k++) {
		AUTO_FREE char *reason =
			mem_printf("hidden packages: %s (%s)", c->hidden->v[k],
				   r == &p->otherwise ? "images.on_hidden_packages" : "on_hidden_packages");

		judge_oddity(d, true, r->on_hidden_packages, reason);
	}
}

/* ---- rules that are announced ---- */

static void
name_findings(const struct report *r, const struct decision *d, struct buf *out)
{
	size_t n = 0;

	for (size_t k = 0; k < d->n_findings; k++) {
		AUTO_FREE char *id = str_safe(r->findings[k].id, 40),
			       *package = str_safe(r->findings[k].package, 40);

		if (d->fates[k].fate != FATE_BLOCKS || ++n > NAMED_MAX)
			continue;
		buf_printf(out, "%s%s in %s", n > 1 ? ", " : "", id, package);
	}
	if (n > NAMED_MAX)
		buf_printf(out, " and %zu more", n - NAMED_MAX);
}

static void decide_by(const struct policy *p, size_t index, const struct report *report,
		      const struct policy_context *c, int64_t now_s, const struct policy_index *exceptions,
		      struct decision *d);

static void
announce(const struct policy *p, size_t index, const struct report *report, const struct policy_context *c,
	 int64_t now_s, const struct policy_index *exceptions, struct decision *d)
{
	AUTO_DECISION struct decision would = { 0 };
	AUTO_BUF struct buf names = BUF_INIT(1024);
	const struct policy_rule *r = &p->rules.v[index];
	AUTO_FREE char *why = NULL;

	decide_by(p, index, report, c, now_s, exceptions, &would);
	if (would.verdict != VERDICT_BLOCK) {
		strv_addf(&d->notes,
			  "from %s on the rule %s applies here (mode %s): as it is, this image would pass it",
			  r->enforce_from, r->name, gate_mode_words[would.mode]);
		return;
	}
	name_findings(report, &would, &names);
	why = strv_join(&would.reasons, "; ");
	strv_addf(&d->notes,
		  "from %s on the rule %s applies here (mode %s) and would block this image: %s%s%s%s",
		  r->enforce_from, r->name, gate_mode_words[would.mode], why, names.len > 0 ? " (" : "",
		  buf_str(&names), names.len > 0 ? ")" : "");
}

static void
add_announcements(const struct policy *p, const struct report *report, const struct policy_context *c,
		  int64_t now_s, const struct policy_index *exceptions, struct decision *d)
{
	size_t n = 0;

	for (size_t k = 0; k < d->rule_index && k < p->rules.n && n < ANNOUNCED_MAX; k++)
		if (policy_is_announced(&p->rules.v[k], now_s) && policy_rule_matches(&p->rules.v[k], c)) {
			announce(p, k, report, c, now_s, exceptions, d);
			n++;
		}
}

/* ---- break-glass ---- */

/* What the policy would stop goes on; what could not be read or decided does not. */
static void
apply_waiver(const struct policy *p, const struct policy_context *c, int64_t now_s, struct decision *d)
{
	AUTO_FREE char *why = NULL, *who = NULL, *reason = NULL;
	const struct policy_break_glass *b = policy_find_waiver(p, c, now_s, &why);
	char end[32];

	if (why)
		strv_addf(&d->notes, "no break-glass: %s", why);
	if (!b || d->verdict != VERDICT_BLOCK)
		return;
	d->waiver = b;
	d->waiver_until_s = b->from_s + b->hours * 3600;
	d->verdict = VERDICT_WARN;
	for (size_t k = 0; k < d->n_findings; k++) {
		struct finding_fate *f = &d->fates[k];

		if (f->fate != FATE_BLOCKS)
			continue;
		mem_free_at(&f->by);
		*f = (struct finding_fate){ FATE_WAIVED, d->waiver_until_s,
					    mem_printf("break-glass %s", b->name), 0 };
		d->n_of_fate[FATE_BLOCKS]--;
		d->n_of_fate[FATE_WAIVED]++;
	}
	who = str_safe(b->who, LINE_MAX_LEN);
	reason = str_safe(b->reason, LINE_MAX_LEN);
	clock_format_rfc3339(d->waiver_until_s, end);
	strv_addf(&d->reasons, "break-glass %s of %s lets it go on until %s: %s", b->name, who, end, reason);
}

/* ---- the decision ---- */

static bool
is_new_only(const struct policy_rule *r)
{
	return !str_eq(r->new_only, "off");
}

static void
judge_report(struct policy_judge *j, const struct report *report, struct decision *d)
{
	const struct policy_known *known = &j->c->known;

	j->severity = d->severity;
	j->arch = report->architecture;
	j->baseline = policy_new_only_branch(j->rule, j->c);
	j->has_baseline = j->baseline && known->has_baseline && known->has_baseline(known->arg, j->baseline);
	d->has_baseline = j->has_baseline;
	if (is_new_only(j->rule) && !j->has_baseline) {
		AUTO_FREE char *branch = str_safe(j->baseline ? j->baseline : j->rule->new_only, LINE_MAX_LEN);

		strv_addf(&d->notes, "no inspection of %s is known (new_only): all findings count as new",
			  branch);
	}
	judge_findings(j, report, d);
	judge_image(j, report, d);
}

static void
decide_by(const struct policy *p, size_t index, const struct report *report, const struct policy_context *c,
	  int64_t now_s, const struct policy_index *exceptions, struct decision *d)
{
	const struct policy_rule *r = policy_rule_at(p, index);
	struct policy_judge j = { .policy = p, .rule = r, .c = c, .now_s = now_s, .index = exceptions };

	d->rule = r;
	d->rule_index = index;
	d->mode = r->mode;
	d->severity = r->severity;
	d->fixable_only = r->fixable_only;
	apply_wishes(c, d);
	if (report)
		judge_report(&j, report, d);
	judge_hidden(p, c, r, d);
}
/* Entries that somebody relies on and that do not count. */
static void
note_too_long(const struct policy *p, const struct report *report, const struct policy_context *c,
	      const struct policy_index *exceptions, struct decision *d)
{
	size_t n = 0;

	for (size_t k = 0; k < p->exceptions.n && n < REFUSED_SHOWN_MAX; k++) {
		const struct policy_exception *x = &p->exceptions.v[k];

		for (size_t f = 0; exceptions->states[k] == EXCEPTION_TOO_LONG && f < report->n_findings; f++)
			if (policy_exception_matches(x, c, &report->findings[f])) {
				strv_addf(&d->notes,
					  "%s:%zu: the exception of %s does not count: it expires on %s, allowed are %" PRId64
					  " days (max_days)",
					  p->name, x->line, x->id, x->expires, p->max_days);
				n++;
				break;
			}
	}
}

/* By one of the names that the image has; what is said beside comes when the strictest is known. */
static void
decide_as(const struct policy *p, size_t rule, const struct report *report, const struct policy_context *c,
	  int64_t today_s, const struct policy_index *exceptions, struct decision *ret)
{
	decide_by(p, rule, report, c, today_s, exceptions, ret);
	if (report)
		apply_waiver(p, c, today_s, ret);
}

/* What it does to a job first, then what it says. */
static bool
is_stricter(const struct decision *a, const struct decision *b)
{
	int end_a = a->verdict >= VERDICT_UNDECIDED ? a->mode : 0;
	int end_b = b->verdict >= VERDICT_UNDECIDED ? b->mode : 0;

	if (end_a != end_b)
		return end_a > end_b;
	return a->verdict != b->verdict ? a->verdict > b->verdict : a->mode > b->mode;
}

static void
keep_notes(const struct strv *from, struct strv *to)
{
	for (size_t k = 0; k < from->n; k++)
		if (!strv_has(to, from->v[k]))
			strv_add(to, from->v[k]);
}

/* What will apply to any name of the image is announced, whichever name judges today. */
static void
announce_for_name(const struct policy *p, size_t rule, const struct report *report,
		  const struct policy_context *c, int64_t today_s, const struct policy_index *exceptions,
		  struct strv *ret)
{
	AUTO_DECISION struct decision d = { .rule_index = rule };

	if (report)
		add_announcements(p, report, c, today_s, exceptions, &d);
	keep_notes(&d.notes, ret);
}

static void
say_name(const char *name, struct decision *d)
{
	AUTO_FREE char *safe = str_safe(name, LINE_MAX_LEN);

	strv_addf(&d->notes, "judged as %s, the strictest of its names", safe);
}

void
policy_decide(const struct policy *p, const struct report *report, const struct policy_context *c,
	      int64_t today_s, struct decision *ret)
{
	AUTO_POLICY_INDEX struct policy_index exceptions = { 0 };
	AUTO_STRV struct strv names = { 0 }, announced = { 0 };
	struct policy_context as = *c, judged = *c;
	size_t rule = policy_find_rule(p, c, today_s);
	bool asks_baseline = is_new_only(policy_rule_at(p, rule));

	policy_index_make(p, today_s, &exceptions);
	policy_repositories(c, &names);
	decide_as(p, rule, report, c, today_s, &exceptions, ret);
	announce_for_name(p, rule, report, c, today_s, &exceptions, &announced);
	for (size_t k = 1; k < names.n; k++) {
		AUTO_DECISION struct decision d = { 0 };

		as.image = names.v[k];
		rule = policy_find_rule(p, &as, today_s);
		asks_baseline = asks_baseline || is_new_only(policy_rule_at(p, rule));
		announce_for_name(p, rule, report, &as, today_s, &exceptions, &announced);
		if (rule == ret->rule_index)
			continue;
		decide_as(p, rule, report, &as, today_s, &exceptions, &d);
		if (!is_stricter(&d, ret))
			continue;
		decision_free(ret);
		*ret = d;
		d = (struct decision){ 0 };
		judged = as;
	}
	ret->asks_baseline = asks_baseline;
	keep_notes(&announced, &ret->notes);
	if (report)
		note_too_long(p, report, &judged, &exceptions, ret);
	if (judged.image != c->image)
		say_name(judged.image, ret);
}
