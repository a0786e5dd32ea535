#include "cli/policy_case.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stages/ignore_globs.h"

#define ENTRIES_MAX 1000

static const char *const verdict_choices[] = { "pass", "warn", "block", NULL };
static const char *const mode_choices[] = { "any", "audit", "warn", "enforce", NULL };

static bool
is_day(const char *text)
{
	int64_t s;

	return policy_parse_date(text, &s) || clock_parse_rfc3339(text, &s, NULL) == 0;
}

static const struct conf_rule rule_day = { is_day,
					   "a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z",
					   NULL };

#define AT(member) offsetof(struct policy_case_job, member)
static const struct conf_field job_fields[] = {
	{ "project", CONF_STRING, AT(project), "", .help = "", .rule = &conf_rule_text },
	{ "branch", CONF_STRING, AT(branch), "main", .help = "", .rule = &conf_rule_text },
	{ "stage", CONF_STRING, AT(stage), "", .help = "", .rule = &conf_rule_text },
	{ "name", CONF_STRING, AT(name), "", .help = "", .rule = &conf_rule_text },
	{ "default_branch", CONF_STRING, AT(default_branch), "", .help = "", .rule = &conf_rule_text },
	{ "target_branch", CONF_STRING, AT(target_branch), "", .help = "", .rule = &conf_rule_text },
	{ "image", CONF_STRING, AT(image), "", .help = "", .rule = &conf_rule_text },
	{ "tags", CONF_LIST, AT(tags), "[]", .help = "", .rule = &conf_rule_text },
	{ "protected", CONF_BOOL, AT(is_protected), "false", .help = "" },
	{ "tag", CONF_BOOL, AT(is_tag), "false", .help = "" },
	{ "severity", CONF_STRING, AT(severity), "", .help = "", .rule = &conf_rule_text },
	{ "mode", CONF_STRING, AT(mode), "", .help = "", .rule = &conf_rule_text },
	{ "waiver", CONF_STRING, AT(waiver), "", .help = "", .rule = &conf_rule_text },
};
#undef AT
static const char *const job_needed[] = { "project", "image", NULL };
static const struct conf_group job_group = { "a job", job_fields, MEM_COUNT(job_fields), job_needed,
					     .size = sizeof(struct policy_case_job) };

#define AT(member) offsetof(struct policy_case_triage, member)
static const struct conf_field triage_fields[] = {
	{ "id", CONF_STRING, AT(id), "", .help = "", .rule = &conf_rule_text },
	{ "package", CONF_STRING, AT(package), "", .help = "", .rule = &conf_rule_text },
	{ "version", CONF_STRING, AT(version), "", .help = "", .rule = &conf_rule_text },
	{ "kind", CONF_ENUM, AT(kind), "risk_accepted", .choices = accepted_kind_words, .help = "" },
	{ "severity", CONF_ENUM, AT(severity), "CRITICAL", .choices = severity_words, .help = "" },
	{ "branch", CONF_STRING, AT(branch), "", .help = "", .rule = &conf_rule_text },
	{ "product_wide", CONF_BOOL, AT(is_product_wide), "false", .help = "" },
	{ "until", CONF_STRING, AT(until), "", .help = "", .rule = &rule_day },
	{ "by", CONF_STRING, AT(by), "", .help = "", .rule = &conf_rule_text },
};
#undef AT
static const char *const triage_needed[] = { "id", "package", "version", NULL };
static const struct conf_group triage_group = { "an entry of triage", triage_fields, MEM_COUNT(triage_fields),
						triage_needed, .size = sizeof(struct policy_case_triage) };

#define AT(member) offsetof(struct policy_case_ignore, member)
static const struct conf_field ignore_fields[] = {
	{ "file", CONF_ENUM, AT(file), "trivyignore", .choices = ignore_file_words, .help = "" },
	{ "id", CONF_STRING, AT(id), "", .help = "", .rule = &conf_rule_text },
	{ "purls", CONF_LIST, AT(purls), "[]", .help = "", .rule = &conf_rule_text },
	{ "paths", CONF_LIST, AT(paths), "[]", .help = "", .rule = &conf_rule_text },
	{ "until", CONF_STRING, AT(until), "", .help = "", .rule = &rule_day },
	{ "reason", CONF_STRING, AT(reason), "", .help = "", .rule = &conf_rule_text },
};
#undef AT
static const char *const ignore_needed[] = { "id", NULL };
static const struct conf_group ignore_group = { "an entry of an ignore file", ignore_fields,
						MEM_COUNT(ignore_fields), ignore_needed,
						.size = sizeof(struct policy_case_ignore) };

#define AT(member) offsetof(struct policy_case_known, member)
static const struct conf_field known_fields[] = {
	{ "id", CONF_STRING, AT(id), "", .help = "", .rule = &conf_rule_text },
	{ "package", CONF_STRING, AT(package), "", .help = "", .rule = &conf_rule_text },
};
#undef AT
static const char *const known_needed[] = { "id", "package", NULL };
static const struct conf_group known_group = { "a finding of the other branch", known_fields,
					       MEM_COUNT(known_fields), known_needed,
					       .size = sizeof(struct policy_case_known) };

#define AT(member) offsetof(struct policy_case_fix, member)
static const struct conf_field fix_fields[] = {
	{ "id", CONF_STRING, AT(id), "", .help = "", .rule = &conf_rule_text },
	{ "package", CONF_STRING, AT(package), "", .help = "", .rule = &conf_rule_text },
	{ "since", CONF_STRING, AT(since), "", .help = "", .rule = &rule_day },
};
#undef AT
static const char *const fix_needed[] = { "id", "package", "since", NULL };
static const struct conf_group fix_group = { "a fix that was seen before", fix_fields, MEM_COUNT(fix_fields),
					     fix_needed, .size = sizeof(struct policy_case_fix) };

#define AT(member) offsetof(struct policy_case_expect, member)
#define FATE(name, fate)                                                                                 \
	{                                                                                                \
		name, CONF_LIST, AT(fates) + (fate) * sizeof(struct strv), "[]", .help = "",             \
										 .rule = &conf_rule_text \
	}
static const struct conf_field expect_fields[] = {
	{ "verdict", CONF_ENUM, AT(verdict), "pass", .choices = verdict_choices, .help = "" },
	{ "mode", CONF_ENUM, AT(mode), "any", .choices = mode_choices, .help = "" },
	{ "rule", CONF_STRING, AT(rule), "", .help = "", .rule = &conf_rule_text },
	FATE("below", FATE_BELOW),
	FATE("blocking", FATE_BLOCKS),
	FATE("ignored", FATE_IGNORED),
	FATE("excepted", FATE_EXCEPTED),
	FATE("accepted", FATE_ACCEPTED),
	FATE("known", FATE_KNOWN),
	FATE("grace", FATE_GRACE),
	FATE("waived", FATE_WAIVED),
	{ "says", CONF_LIST, AT(says), "[]", .help = "", .rule = &conf_rule_text },
};
#undef AT
static const char *const expect_needed[] = { "verdict", NULL };
static const struct conf_group expect_group = { "what is expected", expect_fields, MEM_COUNT(expect_fields),
						expect_needed, .size = sizeof(struct policy_case_expect) };

#define AT(member) offsetof(struct policy_case, member)
static const struct conf_field case_fields[] = {
	{ "report", CONF_STRING, AT(report), "", .help = "", .rule = &conf_rule_text },
	{ "today", CONF_STRING, AT(today), "", .help = "", .rule = &rule_day },
	{ "hidden", CONF_LIST, AT(hidden), "[]", .help = "", .rule = &conf_rule_text },
	{ "unknown_release", CONF_BOOL, AT(is_release_unknown), "false", .help = "" },
	{ "baseline_branch", CONF_STRING, AT(baseline_branch), "", .help = "", .rule = &conf_rule_text },
};
static const struct conf_child case_children[] = {
	{ "job", &job_group, AT(job), 0 },
	{ "triage", &triage_group, AT(triage), ENTRIES_MAX },
	{ "ignores", &ignore_group, AT(ignores), ENTRIES_MAX },
	{ "baseline", &known_group, AT(baseline), ENTRIES_MAX },
	{ "fixes", &fix_group, AT(fixes), ENTRIES_MAX },
	{ "expect", &expect_group, AT(expect), 0 },
};
#undef AT
static const char *const case_needed[] = { "report", "today", "job", "expect", NULL };
static const struct conf_group case_group = { "a case",
					      case_fields,
					      MEM_COUNT(case_fields),
					      case_needed,
					      case_children,
					      MEM_COUNT(case_children),
					      sizeof(struct policy_case),
					      0 };

static int64_t
day_of(const char *text)
{
	int64_t s = 0;

	if (*text && !policy_parse_date(text, &s))
		(void)clock_parse_rfc3339(text, &s, NULL);
	return s;
}

/* Globs as those of the files: alternatives become globs of their own. */
static int
expand_paths(struct strv *paths, struct err *e)
{
	AUTO_STRV struct strv all = { 0 };

	for (size_t k = 0; k < paths->n; k++)
		if (ignore_globs_add(paths->v[k], &all, e) < 0)
			return -1;
	strv_copy(paths, &all);
	return 0;
}

static int
finish(struct policy_case *c, const char *name, const struct conf_places *places, struct err *e)
{
	static const char *const keys[FATE_COUNT] = {
		[FATE_BELOW] = "below",	      [FATE_BLOCKS] = "blocking",   [FATE_IGNORED] = "ignored",
		[FATE_EXCEPTED] = "excepted", [FATE_ACCEPTED] = "accepted", [FATE_KNOWN] = "known",
		[FATE_GRACE] = "grace",	      [FATE_WAIVED] = "waived",
	};
	struct policy_case_triage *triage = c->triage.v;
	struct policy_case_fix *fixes = c->fixes.v;
	struct policy_case_ignore *ignores = c->ignores.v;

	c->today_s = day_of(c->today);
	for (int k = 0; k < FATE_COUNT; k++) {
		AUTO_FREE char *path = mem_printf("expect.%s", keys[k]);

		c->expect.has_fate[k] = conf_line_of(places, path) > 0;
	}
	for (size_t k = 0; k < c->triage.n; k++)
		triage[k].until_s = day_of(triage[k].until);
	for (size_t k = 0; k < c->fixes.n; k++)
		fixes[k].since_s = day_of(fixes[k].since);
	c->given = mem_array(c->ignores.n + 1, sizeof(*c->given));
	for (size_t k = 0; k < c->ignores.n; k++) {
		AUTO_FREE char *path = mem_printf("ignores[%zu].paths", k + 1);

		if (expand_paths(&ignores[k].paths, e) < 0) {
			e->kind = ERR_SETTINGS;
			return err_wrap(e, "%s:%zu: %s", name, conf_line_of(places, path), path);
		}
		c->given[k] = (struct policy_ignore){ ignores[k].file,		ignores[k].id,
						      ignores[k].purls,		ignores[k].paths,
						      day_of(ignores[k].until), ignores[k].reason };
	}
	return 0;
}

int
policy_case_read(const char *name, const char *text, size_t len, struct policy_case **ret, struct err *e)
{
	struct policy_case *c = mem_alloc(sizeof(*c));
	struct conf_places places = { 0 };
	int rc;

	if (conf_tree_read(&case_group, name, text, len, c, &places, e) < 0) {
		free(c);
		return -1;
	}
	rc = finish(c, name, &places, e);
	conf_places_free(&places);
	if (rc < 0) {
		policy_case_free(c);
		return -1;
	}
	*ret = c;
	return 0;
}

void
policy_case_free(struct policy_case *c)
{
	if (!c)
		return;
	conf_tree_free(&case_group, c);
	free(c->given);
	free(c);
}

/* ---- running one ---- */

static bool
accepted(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret)
{
	const struct policy_case *c = arg;
	const struct policy_case_triage *l = c->triage.v;

	for (size_t k = 0; k < c->triage.n; k++) {
		if (!str_eq(l[k].id, f->id) || !str_eq(l[k].package, f->package) ||
		    !str_eq(l[k].version, f->installed) || nth-- > 0)
			continue;
		*ret = (struct policy_accepted){ .kind = (enum accepted_kind)l[k].kind,
						 .until_s = l[k].until_s,
						 .severity = (enum severity)l[k].severity,
						 .branch = l[k].branch,
						 .is_product_wide = l[k].is_product_wide,
						 .by = l[k].by };
		return true;
	}
	return false;
}

static bool
has_baseline(const void *arg, const char *branch)
{
	const struct policy_case *c = arg;

	return *c->baseline_branch && str_eq(c->baseline_branch, branch);
}

static bool
is_known(const void *arg, const char *branch, const struct finding *f)
{
	const struct policy_case *c = arg;
	const struct policy_case_known *l = c->baseline.v;

	(void)branch;
	for (size_t k = 0; k < c->baseline.n; k++)
		if (str_eq(l[k].id, f->id) && str_eq(l[k].package, f->package))
			return true;
	return false;
}

/* As in a job: a fix that nobody has seen before is first seen today. */
static bool
fix_since(const void *arg, const struct finding *f, int64_t *ret_s)
{
	const struct policy_case *c = arg;
	const struct policy_case_fix *l = c->fixes.v;

	*ret_s = c->today_s;
	for (size_t k = 0; k < c->fixes.n; k++)
		if (str_eq(l[k].id, f->id) && str_eq(l[k].package, f->package) && l[k].since_s < *ret_s)
			*ret_s = l[k].since_s;
	return true;
}

static struct policy_context
context_of(const struct policy_case *c)
{
	const struct policy_case_job *j = &c->job;

	return (struct policy_context){
		.project = j->project,
		.branch = j->branch,
		.stage = j->stage,
		.job = j->name,
		.default_branch = j->default_branch,
		.target_branch = j->target_branch,
		.is_tag = j->is_tag,
		.is_protected = j->is_protected,
		.image = j->image,
		.tags = &j->tags,
		.hidden = &c->hidden,
		.wants_severity = j->severity,
		.wants_mode = j->mode,
		.wants_waiver = j->waiver,
		.ignores = c->given,
		.n_ignores = c->ignores.n,
		.known = { c, accepted, has_baseline, is_known, fix_since },
	};
}

/* The ids of this fate, each once, in order; owned by the caller. */
static char *
ids_of(const struct report *r, const struct decision *d, enum fate fate)
{
	AUTO_STRV struct strv ids = { 0 };

	for (size_t k = 0; k < d->n_findings; k++)
		if (d->fates[k].fate == fate && !strv_has(&ids, r->findings[k].id))
			strv_add(&ids, r->findings[k].id);
	strv_sort(&ids);
	return strv_join(&ids, ", ");
}

static void
compare_fates(const struct policy_case_expect *x, const struct report *r, const struct decision *d,
	      struct strv *ret)
{
	for (int k = 0; k < FATE_COUNT; k++) {
		AUTO_STRV struct strv expected = { 0 };
		AUTO_FREE char *is = ids_of(r, d, (enum fate)k), *wanted = NULL;

		if (!x->has_fate[k])
			continue;
		strv_copy(&expected, &x->fates[k]);
		strv_sort(&expected);
		wanted = strv_join(&expected, ", ");
		if (!str_eq(wanted, is))
			strv_addf(ret, "%s: expected [%s], found [%s]", fate_words[k], wanted, is);
	}
}

static bool
is_said(const struct decision *d, const char *text)
{
	for (size_t k = 0; k < d->reasons.n; k++)
		if (strstr(d->reasons.v[k], text))
			return true;
	for (size_t k = 0; k < d->notes.n; k++)
		if (strstr(d->notes.v[k], text))
			return true;
	return false;
}

void
policy_case_run(const struct policy_case *c, const struct policy *p, const struct report *r, struct strv *ret)
{
	static const enum verdict verdicts[] = { VERDICT_PASS, VERDICT_WARN, VERDICT_BLOCK };
	const struct policy_case_expect *x = &c->expect;
	struct policy_context context = context_of(c);
	AUTO_DECISION struct decision d = { 0 };
	const char *rule;

	policy_decide(p, r, &context, c->today_s, &d);
	rule = d.rule_index < p->rules.n ? d.rule->name : "(settings)";
	if (d.verdict != verdicts[x->verdict]) {
		AUTO_FREE char *why = strv_join(&d.reasons, "; ");

		strv_addf(ret, "verdict: expected %s, found %s%s%s%s", verdict_choices[x->verdict],
			  verdict_words[d.verdict], *why ? " (" : "", why, *why ? ")" : "");
	}
	if (x->mode != 0 && d.mode != x->mode)
		strv_addf(ret, "mode: expected %s, found %s", mode_choices[x->mode], gate_mode_words[d.mode]);
	if (*x->rule && !str_eq(x->rule, rule))
		strv_addf(ret, "rule: expected %s, found %s", x->rule, rule);
	compare_fates(x, r, &d, ret);
	for (size_t k = 0; k < x->says.n; k++)
		if (!is_said(&d, x->says.v[k]))
			strv_addf(ret, "says: \"%s\" is in no reason and no note", x->says.v[k]);
}
