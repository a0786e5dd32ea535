/*
 * Laws that hold for any policy, report and job: a generator makes hundreds of each for each law from small pools, so that rules,
 * exceptions and findings meet often. A failure prints its number; SEED=n in the environment begins elsewhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "stages/gate.h"
#include "stages/policy.h"

#define ROUNDS 400
#define TODAY INT64_C(1767225600) /* 2026-01-01 */
#define TEXT_MAX 65536
#define FINDINGS_MAX 8
#define RULES_MAX 4
#define EXCEPTIONS_MAX 5

static uint64_t seed;

static unsigned
any(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed % n);
}
#define ONE_OF(list) ((list)[any(MEM_COUNT(list))])

static const char *const ids[] = { "CVE-1", "CVE-2", "CVE-3", "GHSA-4" };
static const char *const packages[] = { "openssl", "curl", "lodash" };
static const char *const versions[] = { "1.0", "1.2", "1.10", "2.0~rc1" };
static const char *const ranges[] = { "<1.2", ">=1.2,<2", "=1.0", "<=2.0", ">9" };
static const char *const projects[] = { "group/app", "group/sub/app", "other/app" };
static const char *const branches[] = { "main", "feature/x", "v1.0" };
static const char *const globs[] = { "**", "group/**", "*", "group/*", "other/app", "main", "feature/*" };
static const char *const dates[] = { "2025-12-31", "2026-01-01", "2026-01-02",
				     "2026-06-29", "2026-07-01", "2027-01-01" };
static const char *const published[] = { "2025-12-31T10:00:00Z", "2025-11-01T00:00:00Z",
					 "2020-01-01T00:00:00Z", "", "later" };
static const char *const times[] = { "2025-12-30T00:00:00Z", "2025-12-31T23:30:00Z", "2026-01-01T01:00:00Z" };
static const char *const modes[] = { "audit", "warn", "enforce" };

struct a_finding {
	const char *id, *package, *version, *published;
	int severity;
	bool is_fixed;
};

struct a_case {
	char *exceptions[EXCEPTIONS_MAX]; /* YAML of each */
	size_t n_exceptions;
	char *head[RULES_MAX], *tail[RULES_MAX]; /* of each rule, around its severity */
	int severity[RULES_MAX];
	unsigned published[RULES_MAX], fixed[RULES_MAX]; /* days of grace */
	size_t n_rules;
	char *break_glass;
	struct a_finding findings[FINDINGS_MAX];
	size_t n_findings;
	struct policy_context c;
	struct policy_ignore ignores[2];
	unsigned accepted_mask; /* of ids, by triage */
	struct policy_accepted accepted;
	unsigned known_mask; /* of ids, in the other branch */
	unsigned dated_mask; /* of ids of which it is known since when there is a fix */
	int64_t fix_since_s[MEM_COUNT(ids)];
};

static size_t
index_of_id(const char *id)
{
	for (size_t k = 0; k < MEM_COUNT(ids); k++)
		if (str_eq(ids[k], id))
			return k;
	return 0;
}

static bool
accepted(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret)
{
	const struct a_case *x = arg;

	*ret = x->accepted;
	return nth == 0 && (x->accepted_mask >> index_of_id(f->id) & 1);
}

static bool
has_baseline(const void *arg, const char *branch)
{
	const struct a_case *x = arg;

	return x->known_mask != 0 && str_eq(branch, "main");
}

static bool
is_known(const void *arg, const char *branch, const struct finding *f)
{
	const struct a_case *x = arg;

	(void)branch;
	return x->known_mask >> index_of_id(f->id) & 1;
}

static bool
fix_since(const void *arg, const struct finding *f, int64_t *ret_s)
{
	const struct a_case *x = arg;

	*ret_s = x->fix_since_s[index_of_id(f->id)];
	return x->dated_mask >> index_of_id(f->id) & 1;
}

static char *
an_exception(void)
{
	AUTO_BUF struct buf b = BUF_INIT(TEXT_MAX);
	bool has_package = any(2);

	buf_printf(&b, "  - {id: %s, expires: %s, reason: why, owner: team", ONE_OF(ids), ONE_OF(dates));
	if (has_package)
		buf_printf(&b, ", package: %s", ONE_OF(packages));
	if (has_package && any(2))
		buf_printf(&b, ", versions: \"%s\"", ONE_OF(ranges));
	if (any(3) == 0)
		buf_printf(&b, ", project: \"%s\"", ONE_OF(globs));
	if (any(3) == 0)
		buf_printf(&b, ", image: \"%s\"", ONE_OF(globs));
	if (any(3) == 0)
		buf_printf(&b, ", aliases: [%s]", ONE_OF(ids));
	buf_add_str(&b, "}\n");
	return buf_take(&b);
}

static char *
a_rule_tail(void)
{
	static const char *const new_only[] = { "off", "off", "default", "target", "main" };
	static const char *const files[] = { "[]", "[trivyignore]", "[openvex]", "[trivyignore, openvex]" };
	static const char *const lists[] = { "projects", "branches", "images" };
	static const char *const flags[] = { "any", "any", "any", "true", "false" };
	AUTO_BUF struct buf b = BUF_INIT(TEXT_MAX);

	buf_printf(&b, ", mode: %s, fixable_only: %s, new_only: %s, ignore_files: %s", ONE_OF(modes),
		   any(3) ? "false" : "true", ONE_OF(new_only), ONE_OF(files));
	buf_printf(&b, ", on_no_packages: pass, on_unknown_os: %s", any(3) ? "pass" : "fail");
	buf_printf(&b, ", accept: {scope: %s, raised_severity: %s}", any(2) ? "branch" : "product",
		   any(2) ? "ask" : "keep");
	if (any(5) == 0)
		buf_printf(&b, ", enforce_from: %s", ONE_OF(dates));
	if (any(3))
		buf_printf(&b, ", match: {%s: [\"%s\"], protected: %s, tag: %s}", ONE_OF(lists),
			   ONE_OF(globs), ONE_OF(flags), ONE_OF(flags));
	buf_add_str(&b, "}\n");
	return buf_take(&b);
}

static void
make_job(struct a_case *x)
{
	struct policy_context *c = &x->c;

	c->project = ONE_OF(projects);
	c->branch = ONE_OF(branches);
	c->stage = "build";
	c->job = "docker_build";
	c->default_branch = "main";
	c->target_branch = any(2) ? "main" : "";
	c->image = ONE_OF(projects);
	c->is_tag = any(3) == 0;
	c->is_protected = any(2);
	c->wants_waiver = any(2) ? "night" : "";
	c->ignores = x->ignores;
	c->n_ignores = any(3);
	for (size_t k = 0; k < MEM_COUNT(x->ignores); k++)
		x->ignores[k] = (struct policy_ignore){ .file = (int)any(2), .id = (char *)ONE_OF(ids) };
	c->known = (struct policy_known){ x, accepted, has_baseline, is_known, fix_since };
}

static void
make_case(struct a_case *x)
{
	*x = (struct a_case){ 0 };
	x->n_exceptions = any(EXCEPTIONS_MAX);
	for (size_t k = 0; k < x->n_exceptions; k++)
		x->exceptions[k] = an_exception();
	x->n_rules = any(RULES_MAX + 1);
	for (size_t k = 0; k < x->n_rules; k++) {
		x->head[k] = mem_printf("  - {name: rule-%zu, severity: ", k);
		x->severity[k] = (int)any(SEVERITY_COUNT);
		x->published[k] = any(3) ? 0 : 30 * any(4);
		x->fixed[k] = any(2) ? 0 : 10 * any(4);
		x->tail[k] = a_rule_tail();
	}
	x->n_findings = any(FINDINGS_MAX + 1);
	for (size_t k = 0; k < x->n_findings; k++)
		x->findings[k] =
			(struct a_finding){ ONE_OF(ids),       ONE_OF(packages),	 ONE_OF(versions),
					    ONE_OF(published), (int)any(SEVERITY_COUNT), any(2) };
	x->accepted_mask = any(16);
	x->accepted = (struct policy_accepted){ .kind = (enum accepted_kind)any(3),
						.until_s = any(2) ? 0 : TODAY - 100 + any(200),
						.severity = (enum severity)any(SEVERITY_COUNT),
						.branch = any(3) ? ONE_OF(branches) : "",
						.is_product_wide = any(2),
						.by = "finding 1" };
	x->known_mask = any(2) ? 0 : any(16);
	x->dated_mask = any(16);
	for (size_t k = 0; k < MEM_COUNT(ids); k++)
		x->fix_since_s[k] = TODAY + 2 * POLICY_DAY_S - any(40) * POLICY_DAY_S;
	make_job(x);
	x->break_glass =
		mem_printf("  - {name: night, project: %s, ref: %s, from: \"%s\", hours: %u, who: w, reason: r}\n",
			   any(2) ? x->c.project : ONE_OF(projects), any(2) ? x->c.branch : ONE_OF(branches),
			   ONE_OF(times), 1 + any(30));
}

static void
free_case(struct a_case *x)
{
	for (size_t k = 0; k < EXCEPTIONS_MAX; k++)
		free(x->exceptions[k]);
	for (size_t k = 0; k < RULES_MAX; k++) {
		free(x->head[k]);
		free(x->tail[k]);
	}
	free(x->break_glass);
}
#define AUTO_CASE __attribute__((cleanup(free_case)))

static struct policy *
policy_of(const struct a_case *x)
{
	AUTO_BUF struct buf b = BUF_INIT(TEXT_MAX);
	struct policy *p = NULL;
	struct err e = ERR_INIT;

	buf_add_str(&b, "version: 1\nrules:\n");
	for (size_t k = 0; k < x->n_rules; k++)
		buf_printf(&b, "%s%s, grace: {published: %u, fixed: %u}%s", x->head[k],
			   severity_words[x->severity[k]], x->published[k], x->fixed[k], x->tail[k]);
	buf_add_str(&b, "exceptions:\n");
	for (size_t k = 0; k < x->n_exceptions; k++)
		buf_add_str(&b, x->exceptions[k]);
	buf_printf(&b, "break_glass:\n%s", x->break_glass);
	if (policy_parse("policy.yml", buf_str(&b), b.len, NULL, &p, &e) < 0)
		fail_msg("%s\n%s", e.text, buf_str(&b));
	return p;
}

static struct report *
report_of(const struct a_case *x)
{
	AUTO_BUF struct buf b = BUF_INIT(TEXT_MAX);
	struct report *r = NULL;
	struct err e = ERR_INIT;

	buf_add_str(&b,
		    "{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"t\",\"Type\":\"debian\",\"Vulnerabilities\":[");
	for (size_t k = 0; k < x->n_findings; k++) {
		const struct a_finding *f = &x->findings[k];

		buf_printf(&b,
			   "%s{\"VulnerabilityID\":\"%s\",\"PkgName\":\"%s\",\"InstalledVersion\":\"%s\",\"Severity\":\"%s\","
			   "\"FixedVersion\":\"%s\",\"PublishedDate\":\"%s\"}",
			   k ? "," : "", f->id, f->package, f->version, severity_words[f->severity],
			   f->is_fixed ? "9" : "", f->published);
	}
	buf_add_str(&b, "]}]}");
	if (report_parse(buf_str(&b), b.len, TEXT_MAX, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

struct answer {
	enum verdict verdict;
	int mode;
	enum gate_end end;
	enum fate fates[FINDINGS_MAX];
	bool has_waiver;
};

static struct answer
decide(const struct a_case *x)
{
	AUTO(policy) struct policy *p = policy_of(x);
	AUTO(report) struct report *r = report_of(x);
	AUTO_DECISION struct decision d = { 0 };
	struct answer a = { 0 };

	policy_decide(p, r, &x->c, TODAY, &d);
	assert_int_equal(d.n_findings, x->n_findings);
	for (size_t k = 0; k < d.n_findings; k++)
		a.fates[k] = d.fates[k].fate;
	a.verdict = d.verdict;
	a.mode = d.mode;
	a.end = gate_end(d.verdict, d.mode, ON_ERROR_FAIL);
	a.has_waiver = d.waiver != NULL;
	assert_true((d.n_of_fate[FATE_BLOCKS] > 0) <= (d.verdict == VERDICT_BLOCK));
	return a;
}

/* What `more` blocks, `less` blocks, too, and the job is not better off. */
static void
assert_never_blocks_more(const struct answer *more, const struct answer *less, size_t n, unsigned round)
{
	for (size_t k = 0; k < n; k++)
		if (more->fates[k] == FATE_BLOCKS && less->fates[k] != FATE_BLOCKS)
			fail_msg("round %u: finding %zu blocks now", round, k);
	if (more->verdict > less->verdict || more->end > less->end)
		fail_msg("round %u: verdict %s instead of %s", round, verdict_words[more->verdict],
			 verdict_words[less->verdict]);
}

static void
an_exception_more_never_blocks_more(void **state)
{
	unsigned n_excused = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer before, after;

		make_case(&x);
		before = decide(&x);
		x.exceptions[x.n_exceptions++] = an_exception();
		after = decide(&x);
		assert_never_blocks_more(&after, &before, x.n_findings, round);
		for (size_t k = 0; k < x.n_findings; k++)
			n_excused += before.fates[k] == FATE_BLOCKS && after.fates[k] == FATE_EXCEPTED;
	}
	assert_true(n_excused > 0);
}

static void
a_higher_threshold_never_blocks_more(void **state)
{
	unsigned n_changed = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer before, after;
		size_t rule;

		make_case(&x);
		if (x.n_rules == 0)
			continue;
		rule = any((unsigned)x.n_rules);
		before = decide(&x);
		x.severity[rule] += (int)any((unsigned)(SEVERITY_COUNT - x.severity[rule]));
		after = decide(&x);
		assert_never_blocks_more(&after, &before, x.n_findings, round);
		n_changed += memcmp(before.fates, after.fates, sizeof(before.fates)) != 0;
	}
	assert_true(n_changed > 5);
}

static void
more_grace_never_blocks_more(void **state)
{
	unsigned n_changed = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer before, after;
		size_t rule;

		make_case(&x);
		if (x.n_rules == 0)
			continue;
		rule = any((unsigned)x.n_rules);
		before = decide(&x);
		*(any(2) ? &x.published[rule] : &x.fixed[rule]) += 1 + any(90);
		after = decide(&x);
		assert_never_blocks_more(&after, &before, x.n_findings, round);
		n_changed += memcmp(before.fates, after.fates, sizeof(before.fates)) != 0;
	}
	assert_true(n_changed > 5);
}

/* Earlier: a date that is earlier, a fix where there was none, a date that is not known any more. */
static void
a_fix_that_is_there_earlier_never_blocks_less(void **state)
{
	unsigned n_changed = 0;

	(void)state;
	for (unsigned round = 0; round < 3 * ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer before, after;
		unsigned id = any(MEM_COUNT(ids));

		make_case(&x);
		before = decide(&x);
		switch (any(3)) {
		case 0:
			x.fix_since_s[id] -= (1 + any(40)) * POLICY_DAY_S;
			break;
		case 1:
			x.dated_mask &= ~(1U << id);
			break;
		default:
			/* where only findings with a fix count, one more of them counts, as it has to */
			for (size_t k = 0; k < x.n_findings; k++)
				x.findings[k].is_fixed = true;
		}
		after = decide(&x);
		assert_never_blocks_more(&before, &after, x.n_findings, round);
		n_changed += memcmp(before.fates, after.fates, sizeof(before.fates)) != 0;
	}
	assert_true(n_changed > 5);
}

/* What a clock that was ahead has put down is a date of today, and gives no more. */
static void
a_fix_of_tomorrow_has_the_grace_of_one_of_today(void **state)
{
	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer ahead, today;

		make_case(&x);
		for (size_t k = 0; k < MEM_COUNT(ids); k++)
			x.fix_since_s[k] = TODAY + (1 + any(4000)) * POLICY_DAY_S;
		ahead = decide(&x);
		for (size_t k = 0; k < MEM_COUNT(ids); k++)
			x.fix_since_s[k] = TODAY;
		today = decide(&x);
		assert_memory_equal(&ahead, &today, sizeof(ahead));
	}
}

static void
a_stricter_wish_of_the_job_never_blocks_less_and_a_looser_one_changes_nothing(void **state)
{
	static const char *const wishes[] = { "off", "audit", "warn", "enforce", "Enforce", "nonsense", "" };
	static const char *const severities[] = { "UNKNOWN", "LOW", "medium", "HIGH", "CRITICAL", "NONE", "" };
	unsigned n_changed = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer before, after;

		make_case(&x);
		before = decide(&x);
		x.c.wants_mode = ONE_OF(wishes);
		x.c.wants_severity = ONE_OF(severities);
		after = decide(&x);
		assert_never_blocks_more(&before, &after, x.n_findings, round);
		assert_true(after.mode >= before.mode);
		n_changed += after.end != before.end;
		if (str_eq(x.c.wants_mode, "off") && str_eq(x.c.wants_severity, "CRITICAL"))
			assert_memory_equal(&before, &after, sizeof(before));
	}
	assert_true(n_changed > 5);
}

/* By triage, or of the other branch. */
static void
what_is_known_more_never_blocks_more(void **state)
{
	unsigned n_accepted = 0, n_known = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer before, after;

		make_case(&x);
		before = decide(&x);
		x.accepted_mask |= 1U << any(MEM_COUNT(ids));
		x.known_mask |= 1U << any(MEM_COUNT(ids));
		after = decide(&x);
		assert_never_blocks_more(&after, &before, x.n_findings, round);
		for (size_t k = 0; k < x.n_findings; k++) {
			n_accepted += before.fates[k] == FATE_BLOCKS && after.fates[k] == FATE_ACCEPTED;
			n_known += before.fates[k] == FATE_BLOCKS && after.fates[k] == FATE_KNOWN;
		}
	}
	assert_true(n_accepted > 0 && n_known > 0);
}

static void
the_order_of_findings_does_not_matter(void **state)
{
	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		size_t place[FINDINGS_MAX];
		struct a_finding moved[FINDINGS_MAX];
		struct answer before, after;

		make_case(&x);
		before = decide(&x);
		for (size_t k = 0; k < x.n_findings; k++) {
			size_t other = any((unsigned)k + 1);

			place[k] = k;
			if (other != k) {
				place[k] = place[other];
				place[other] = k;
			}
		}
		for (size_t k = 0; k < x.n_findings; k++)
			moved[k] = x.findings[place[k]];
		memcpy(x.findings, moved, sizeof(moved[0]) * x.n_findings);
		after = decide(&x);
		assert_int_equal(before.verdict, after.verdict);
		for (size_t k = 0; k < x.n_findings; k++)
			assert_int_equal(after.fates[k], before.fates[place[k]]);
	}
}

/* The date of an exception is moved to one that is past, or too far away: as if it were not there. */
static void
an_exception_that_expired_or_runs_too_long_is_as_one_that_is_absent(void **state)
{
	static const char *const gone[] = { "2025-12-31", "2020-02-29", "2026-07-01", "2030-01-01" };

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		struct answer with, without;
		char *text, *date;

		make_case(&x);
		without = decide(&x);
		text = x.exceptions[x.n_exceptions++] = an_exception();
		date = strstr(text, "expires: ") + strlen("expires: ");
		memcpy(date, ONE_OF(gone), strlen("2025-12-31"));
		with = decide(&x);
		assert_memory_equal(&with, &without, sizeof(with));
	}
}

static void
a_waiver_counts_for_its_project_ref_and_hours_alone(void **state)
{
	unsigned n_waived = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		AUTO(policy) struct policy *p = NULL;
		const struct policy_break_glass *b;
		struct answer with, without;
		bool is_meant;

		make_case(&x);
		x.c.wants_waiver = "night";
		p = policy_of(&x);
		b = &p->break_glass.v[0];
		is_meant = str_eq(b->project, x.c.project) && str_eq(b->ref, x.c.branch) && !x.c.is_tag &&
			   b->from_s <= TODAY && TODAY < b->from_s + b->hours * 3600;
		with = decide(&x);
		x.c.wants_waiver = "";
		without = decide(&x);
		assert_int_equal(with.has_waiver, is_meant && without.verdict == VERDICT_BLOCK);
		if (!with.has_waiver)
			assert_memory_equal(&with, &without, sizeof(with));
		else
			assert_int_equal(with.end, GATE_GO_ON);
		n_waived += with.has_waiver;
	}
	assert_true(n_waived > 5);
}

static void
ignore_files_change_nothing_where_the_rule_does_not_take_them(void **state)
{
	unsigned n_ignored = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		AUTO_CASE struct a_case x = { 0 };
		AUTO(policy) struct policy *p = NULL;
		const struct policy_rule *r;
		struct answer with, without;
		bool takes_any = false;

		make_case(&x);
		x.c.n_ignores = 2;
		p = policy_of(&x);
		r = policy_rule_at(p, policy_find_rule(p, &x.c, TODAY));
		for (size_t k = 0; k < 2; k++)
			takes_any =
				takes_any || strv_has(&r->ignore_files, ignore_file_words[x.ignores[k].file]);
		with = decide(&x);
		x.c.n_ignores = 0;
		without = decide(&x);
		assert_never_blocks_more(&with, &without, x.n_findings, round);
		if (!takes_any)
			assert_memory_equal(&with, &without, sizeof(with));
		for (size_t k = 0; k < x.n_findings; k++)
			n_ignored += with.fates[k] == FATE_IGNORED;
	}
	assert_true(n_ignored > 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exception_more_never_blocks_more),
		cmocka_unit_test(a_higher_threshold_never_blocks_more),
		cmocka_unit_test(more_grace_never_blocks_more),
		cmocka_unit_test(a_fix_that_is_there_earlier_never_blocks_less),
		cmocka_unit_test(a_fix_of_tomorrow_has_the_grace_of_one_of_today),
		cmocka_unit_test(a_stricter_wish_of_the_job_never_blocks_less_and_a_looser_one_changes_nothing),
		cmocka_unit_test(what_is_known_more_never_blocks_more),
		cmocka_unit_test(the_order_of_findings_does_not_matter),
		cmocka_unit_test(an_exception_that_expired_or_runs_too_long_is_as_one_that_is_absent),
		cmocka_unit_test(a_waiver_counts_for_its_project_ref_and_hours_alone),
		cmocka_unit_test(ignore_files_change_nothing_where_the_rule_does_not_take_them),
	};
	const char *start = getenv("SEED");

	seed = start ? strtoull(start, NULL, 10) : 0;
	seed = seed ? seed : 88172645463325252U;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
