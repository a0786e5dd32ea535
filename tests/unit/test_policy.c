#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/policy.h"

#define TODAY INT64_C(1767225600) /* 2026-01-01 */

static struct policy *
parse(const char *text)
{
	struct policy *p = NULL;
	struct err e = ERR_INIT;

	if (policy_parse("p.yml", text, strlen(text), NULL, &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static void
assert_refused(const char *text, const char *message)
{
	struct policy *p = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(policy_parse("p.yml", text, strlen(text), NULL, &p, &e), -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	if (!strstr(e.text, message))
		fail_msg("\"%s\" is not in: %s", message, e.text);
}

static void
a_rule_has_what_stands_in_it_and_defaults_for_the_rest(void **state)
{
	AUTO(policy)
	struct policy *p = parse(
		"version: 1\nmax_days: 90\ncontact: appsec@example.org\nrules:\n"
		"  - name: prod\n    match: {projects: [\"group/**\"], protected: true}\n    mode: enforce\n"
		"    severity: HIGH\n    grace: {published: 14}\n    new_only: default\n    misconfigurations: HIGH\n"
		"    enforce_from: 2026-02-01\n  - {name: rest, mode: warn}\n");
	const struct policy_rule *r = &p->rules.v[0];

	(void)state;
	assert_int_equal(p->max_days, 90);
	assert_int_equal(p->rules.n, 2);
	assert_int_equal(r->mode, GATE_ENFORCE);
	assert_int_equal(r->severity, SEVERITY_HIGH);
	assert_int_equal(r->grace.published, 14);
	assert_int_equal(r->match.is_protected, FLAG_TRUE);
	assert_int_equal(r->match.is_tag, FLAG_ANY);
	assert_int_equal(r->misconfigurations, 1 + SEVERITY_HIGH);
	assert_int_equal(r->enforce_from_s, TODAY + 31 * POLICY_DAY_S);
	assert_int_equal(r->line, 5);
	assert_int_equal(r->on_hidden_packages, REACT_FAIL);
	assert_int_equal(p->rules.v[1].mode, GATE_WARN);
	assert_int_equal(p->rules.v[1].severity, SEVERITY_CRITICAL);
	assert_true(policy_rule_matches_all(&p->rules.v[1]));
	assert_false(policy_rule_matches_all(r));
}

static void
a_policy_that_is_not_understood_is_refused_with_line_key_found_and_allowed(void **state)
{
	static const struct {
		const char *text, *message;
	} table[] = {
		{ "", "p.yml:1: an empty file, allowed is a policy" },
		{ "rules: []\n",
		  "p.yml:1: version is missing in a policy, allowed is a whole number from 1 to 1" },
		{ "version: 2\n", "p.yml:1: version: \"2\" is not possible" },
		{ "version: 1\nrule: []\n",
		  "p.yml:2: rule is no key of a policy (is rules meant?), allowed are version" },
		{ "version: 1\nrules: {}\n",
		  "p.yml:2: rules: a group of settings, allowed is a list, each entry a rule" },
		{ "version: 1\nrules:\n - mode: warn\n", "p.yml:3: rules[1].name is missing in a rule" },
		{ "version: 1\nrules:\n - {name: a}\n",
		  "rules[1].mode is missing in a rule, allowed is one of audit" },
		{ "version: 1\nrules:\n - {name: a, mode: \"off\"}\n",
		  "p.yml:3: rules[1].mode: \"off\" is not possible, allowed is one of audit, warn, enforce" },
		{ "version: 1\nrules:\n - {name: a, mode: warn}\n - {name: a, mode: warn}\n",
		  "p.yml:4: rules[2].name: \"a\" is not possible, allowed is a name of its own: line 3 has this one" },
		{ "version: 1\nrules:\n - {name: a, mode: warn, mode: warn}\n", "rules[1].mode stands twice" },
		{ "version: 1\nrules:\n - {name: a b, mode: warn}\n",
		  "rules[1].name: \"a b\" is not possible" },
		{ "version: 1\nrules:\n - {name: a, mode: warn, match: {project: x}}\n",
		  "rules[1].match.project is no key of what a rule matches (is projects meant?)" },
		{ "version: 1\nrules:\n - {name: a, mode: warn, match: {projects: x}}\n",
		  "rules[1].match.projects: a single value, allowed is a list of globs" },
		{ "version: 1\nrules:\n - {name: a, mode: warn, enforce_from: 2026-02-30}\n",
		  "rules[1].enforce_from: \"2026-02-30\" is not possible, allowed is a date such as 2026-03-31" },
		{ "version: 1\nrules:\n - {name: a, mode: warn, grace: {published: -1}}\n",
		  "rules[1].grace.published: \"-1\" is not possible" },
		{ "version: 1\nexceptions:\n - {id: CVE-1, reason: r, owner: o}\n",
		  "p.yml:3: exceptions[1].expires is missing in an exception, allowed is a date" },
		{ "version: 1\nexceptions:\n - {id: CVE-1*, expires: 2026-01-01, reason: r, owner: o}\n",
		  "exceptions[1].id: \"CVE-1*\" is not possible, allowed is the whole id" },
		{ "version: 1\nexceptions:\n - {id: CVE-1, expires: never, reason: r, owner: o}\n",
		  "exceptions[1].expires: \"never\" is not possible" },
		{ "version: 1\nexceptions:\n - {id: CVE-1, expires: 2026-01-01, reason: r, owner: o, package: p, versions: 3.0}\n",
		  "exceptions[1].versions: \"3.0\" is not possible, allowed is a range of versions" },
		{ "version: 1\nexceptions:\n - id: CVE-1\n   expires: 2026-01-01\n   reason: r\n   owner: o\n   versions: <3\n",
		  "p.yml:7: exceptions[1].versions: \"<3\" is not possible, allowed is a range with package or purl beside it" },
		{ "version: 1\nexceptions:\n - {id: CVE-1, expires: 2026-01-01, reason: r, owner: o, purl: \"npm/x\"}\n",
		  "exceptions[1].purl: \"npm/x\" is not possible, allowed is a package URL" },
		{ "version: 1\nbreak_glass:\n - {name: n, project: p, ref: r, from: today, hours: 1, who: w, reason: r}\n",
		  "break_glass[1].from: \"today\" is not possible, allowed is a time" },
		{ "version: 1\nbreak_glass:\n - {name: n, project: p, ref: r, from: 2026-01-01T00:00:00Z, hours: 73, who: w, reason: r}\n",
		  "break_glass[1].hours: \"73\" is not possible, allowed is a whole number from 1 to 72" },
		{ "version: 1\nrules: &x []\nexceptions: *x\n", "alias" },
		{ "version: 1\nrules:\n - {name: a, mode: warn\n", "no YAML" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++)
		assert_refused(table[k].text, table[k].message);
}

static void
a_long_list_is_refused_and_not_read(void **state)
{
	AUTO_BUF struct buf b = BUF_INIT(POLICY_MAX);

	(void)state;
	buf_add_str(&b, "version: 1\nrules:\n");
	for (int k = 0; k < 1001; k++)
		buf_printf(&b, " - {name: r%d, mode: warn}\n", k);
	assert_refused(buf_str(&b), "p.yml:3: rules: 1001 entries, allowed are 1000");
}

static void
an_exception_counts_to_the_end_of_its_day_and_not_longer_than_max_days(void **state)
{
	AUTO(policy)
	struct policy *p = parse("version: 1\nmax_days: 10\nexceptions:\n"
				 " - {id: A, expires: 2026-01-01, reason: r, owner: o}\n"
				 " - {id: A, expires: 2026-01-11, reason: r, owner: o}\n"
				 " - {id: A, expires: 2026-01-12, reason: r, owner: o}\n");
	const struct policy_exception *x = p->exceptions.v;

	(void)state;
	assert_int_equal(policy_exception_state(p, &x[0], TODAY), EXCEPTION_COUNTS);
	assert_int_equal(policy_exception_state(p, &x[0], TODAY + POLICY_DAY_S - 1), EXCEPTION_COUNTS);
	assert_int_equal(policy_exception_state(p, &x[0], TODAY + POLICY_DAY_S), EXCEPTION_EXPIRED);
	assert_int_equal(policy_exception_state(p, &x[1], TODAY), EXCEPTION_COUNTS);
	assert_int_equal(policy_exception_state(p, &x[1], TODAY + POLICY_DAY_S - 1), EXCEPTION_COUNTS);
	assert_int_equal(policy_exception_state(p, &x[2], TODAY + POLICY_DAY_S - 1), EXCEPTION_TOO_LONG);
	assert_int_equal(policy_exception_state(p, &x[2], TODAY + POLICY_DAY_S), EXCEPTION_COUNTS);
}

static struct report *
a_report(void)
{
	static const char text[] =
		"{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"12\"}},\"Results\":[{\"Target\":\"t\",\"Class\":\"os-pkgs\",\"Type\":\"debian\","
		"\"Packages\":[{}],\"Secrets\":[{}],\"Misconfigurations\":[{\"Severity\":\"HIGH\",\"Status\":\"FAIL\"},{\"Severity\":\"HIGH\",\"Status\":\"PASS\"}],"
		"\"Vulnerabilities\":[{\"VulnerabilityID\":\"CVE-1\",\"PkgName\":\"openssl\",\"InstalledVersion\":\"3.0.11-1\",\"Severity\":\"CRITICAL\","
		"\"PublishedDate\":\"2025-12-20T00:00:00Z\"}]}]}";
	struct report *r = NULL;
	struct err e = ERR_INIT;

	if (report_parse(text, strlen(text), 65536, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

static const struct policy_context a_job = {
	.project = "group/app", .branch = "main", .stage = "build", .job = "build/app", .image = "group/app"
};

static void
assert_decides(const char *policy, const struct policy_context *c, enum verdict verdict, enum fate fate,
	       const char *said)
{
	AUTO(policy) struct policy *p = parse(policy);
	AUTO(report) struct report *r = a_report();
	AUTO_DECISION struct decision d = { 0 };
	AUTO_STRV struct strv all = { 0 };
	AUTO_FREE char *text = NULL;

	policy_decide(p, r, c, TODAY, &d);
	for (size_t k = 0; k < d.reasons.n; k++)
		strv_add(&all, d.reasons.v[k]);
	for (size_t k = 0; k < d.notes.n; k++)
		strv_add(&all, d.notes.v[k]);
	strv_add(&all, d.fates[0].by);
	text = strv_join(&all, "\n");
	assert_int_equal(d.fates[0].fate, fate);
	assert_int_equal(d.verdict, verdict);
	if (!strstr(text, said))
		fail_msg("\"%s\" is not in: %s", said, text);
}

static void
what_excuses_a_finding_is_named(void **state)
{
	(void)state;
	assert_decides("version: 1\nrules:\n - {name: a, mode: enforce}\n", &a_job, VERDICT_BLOCK,
		       FATE_BLOCKS, "1 finding is CRITICAL");
	assert_decides("version: 1\nrules:\n - {name: a, mode: enforce, grace: {published: 13}}\n", &a_job,
		       VERDICT_PASS, FATE_GRACE, "published on 2025-12-20, 13 days of grace");
	assert_decides("version: 1\nrules:\n - {name: a, mode: enforce, grace: {published: 12}}\n", &a_job,
		       VERDICT_BLOCK, FATE_BLOCKS, "");
	assert_decides("version: 1\nexceptions:\n - {id: CVE-1, package: openssl, versions: \"<3.0.15\", expires: 2026-02-01, "
		       "reason: not reachable, owner: team, ticket: OPS-1}\n",
		       &a_job, VERDICT_PASS, FATE_EXCEPTED,
		       "exception in line 3 of p.yml, team, OPS-1: not reachable");
	assert_decides("version: 1\nexceptions:\n - {id: CVE-1, expires: 2028-02-01, reason: r, owner: o}\n",
		       &a_job, VERDICT_BLOCK, FATE_BLOCKS,
		       "p.yml:3: the exception of CVE-1 does not count: it expires on 2028-02-01, allowed are 180 days");
	assert_decides("version: 1\nrules:\n - {name: a, mode: warn, fixable_only: true}\n", &a_job,
		       VERDICT_PASS, FATE_BELOW, "it has no fix yet");
}

static void
what_a_commit_says_counts_for_the_image_that_it_names(void **state)
{
	static const char *const policy =
		"version: 1\nrules:\n - {name: a, mode: enforce, ignore_files: [openvex]}\n";
	static const struct {
		const char *image;
		enum fate fate;
	} cases[] = { { NULL, FATE_IGNORED },	{ "group/app", FATE_IGNORED }, { "app", FATE_IGNORED },
		      { "group", FATE_BLOCKS }, { "other/app", FATE_BLOCKS },  { "pp", FATE_BLOCKS } };
	char id[] = "CVE-1", reason[] = "not reached";

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_FREE char *image = mem_strdup(cases[k].image);
		const struct policy_ignore ignore = {
			.file = IGNORE_OPENVEX, .id = id, .reason = reason, .image = image
		};
		struct policy_context c = a_job;

		c.ignores = &ignore;
		c.n_ignores = 1;
		assert_decides(policy, &c, cases[k].fate == FATE_BLOCKS ? VERDICT_BLOCK : VERDICT_PASS,
			       cases[k].fate,
			       cases[k].fate == FATE_BLOCKS ? "" : "OpenVEX of the commit: not reached");
	}
}

static void
a_rule_that_is_announced_says_what_it_would_do_and_the_next_one_judges(void **state)
{
	(void)state;
	assert_decides("version: 1\nrules:\n - {name: hard, mode: enforce, enforce_from: 2026-02-01}\n"
		       " - {name: soft, mode: audit, fixable_only: true}\n",
		       &a_job, VERDICT_PASS, FATE_BELOW,
		       "from 2026-02-01 on the rule hard applies here (mode enforce) and would block this image: 1 finding is "
		       "CRITICAL (CVE-1 in openssl)");
	assert_decides("version: 1\nrules:\n - {name: hard, mode: enforce, enforce_from: 2026-01-01}\n"
		       " - {name: soft, mode: audit, fixable_only: true}\n",
		       &a_job, VERDICT_BLOCK, FATE_BLOCKS, "");
}

static void
secrets_and_misconfigurations_count_as_the_rule_says(void **state)
{
	static const char quiet[] = "version: 1\nrules:\n - {name: a, mode: warn, fixable_only: true, ";
	static const struct {
		const char *more, *said;
		enum verdict verdict;
	} table[] = {
		{ "secrets: pass}\n", "", VERDICT_PASS },
		{ "secrets: warn}\n", "1 secret is in it", VERDICT_WARN },
		{ "secrets: fail}\n", "1 secret is in it", VERDICT_BLOCK },
		{ "misconfigurations: HIGH}\n", "1 misconfiguration is HIGH or worse", VERDICT_BLOCK },
		{ "misconfigurations: CRITICAL}\n", "", VERDICT_PASS },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *text = mem_printf("%s%s", quiet, table[k].more);

		assert_decides(text, &a_job, table[k].verdict, FATE_BELOW, table[k].said);
	}
}

static void
a_job_that_asks_for_less_is_told_so(void **state)
{
	struct policy_context c = a_job;

	(void)state;
	c.wants_severity = "LOW\x1b";
	c.wants_mode = "audit";
	assert_decides("version: 1\nrules:\n - {name: a, mode: enforce}\n", &c, VERDICT_BLOCK, FATE_BLOCKS,
		       "TIDEWAITER_MODE=audit is not followed: a job can tighten the policy, not loosen it");
	assert_decides("version: 1\nrules:\n - {name: a, mode: enforce}\n", &c, VERDICT_BLOCK, FATE_BLOCKS,
		       "TIDEWAITER_SEVERITY=LOW? is not followed: allowed are UNKNOWN");
	c.wants_waiver = "none";
	assert_decides("version: 1\nrules:\n - {name: a, mode: enforce}\n", &c, VERDICT_BLOCK, FATE_BLOCKS,
		       "no break-glass: the policy has no waiver none (TIDEWAITER_WAIVER)");
}

static void
odd_wishes_of_a_job_change_nothing_and_are_told_in_one_line(void **state)
{
	AUTO_FREE char *long_text = mem_alloc(1000001);
	const char *const odd[] = { long_text,	   "enf\xc3\xb6rce", "enforce\n",
				    " enforce",	   "\xff\xfe",	     "off",
				    "0",	   "enforce\x1b[2J", "%s%n",
				    "\xe2\x80\xae" };
	AUTO(policy)
	struct policy *p = parse("version: 1\nrules:\n - {name: a, mode: warn, severity: HIGH}\n");
	AUTO(report) struct report *r = a_report();

	(void)state;
	memset(long_text, 'E', 1000000);
	for (size_t k = 0; k < MEM_COUNT(odd); k++) {
		AUTO_DECISION struct decision d = { 0 };
		struct policy_context c = a_job;

		c.wants_mode = c.wants_severity = c.wants_waiver = odd[k];
		policy_decide(p, r, &c, TODAY, &d);
		assert_int_equal(d.mode, GATE_WARN);
		assert_int_equal(d.severity, SEVERITY_HIGH);
		assert_null(d.waiver);
		assert_int_equal(d.notes.n, 3);
		for (size_t n = 0; n < d.notes.n; n++) {
			assert_true(strlen(d.notes.v[n]) < 400);
			assert_true(str_is_utf8(d.notes.v[n], strlen(d.notes.v[n])));
			assert_true(conf_is_plain_text(d.notes.v[n]));
			assert_null(strstr(d.notes.v[n], "\xe2\x80\xae")); /* right to left */
		}
	}
	for (size_t k = 0; k < 2; k++) {
		AUTO_DECISION struct decision d = { 0 };
		struct policy_context c = a_job;

		c.wants_mode = k ? "ENFORCE" : "enforce";
		c.wants_severity = k ? "low" : "LOW";
		policy_decide(p, r, &c, TODAY, &d);
		assert_int_equal(d.mode, GATE_ENFORCE);
		assert_int_equal(d.severity, SEVERITY_LOW);
		/* whoever meets it has to find out why */
		assert_int_equal(d.notes.n, 2);
		assert_string_equal(d.notes.v[0],
				    "TIDEWAITER_MODE=enforce of this job makes it stricter, without it it is warn");
		assert_string_equal(d.notes.v[1],
				    "TIDEWAITER_SEVERITY=LOW of this job makes it stricter, without it it is HIGH");
	}
}

static void
a_waiver_of_a_branch_is_none_of_a_tag_of_that_name(void **state)
{
	static const struct {
		const char *ref, *branch;
		bool is_tag, is_given;
		const char *target;
	} table[] = {
		{ "main", "main", false, true },
		{ "main", "main", true, false },
		{ "refs/heads/main", "main", false, true },
		{ "refs/heads/main", "main", true, false },
		{ "refs/tags/v1", "v1", true, true },
		{ "refs/tags/v1", "v1", false, false },
		{ "refs/tags/v1", "refs/tags/v1", false, false },
		{ "main", "Main", false, false },
		{ "refs/merge-requests/7/head", "refs/merge-requests/7/head", false, true, "main" },
		/* a branch can be named so */
		{ "refs/merge-requests/7/head", "refs/merge-requests/7/head", false, false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *text =
			mem_printf("version: 1\nrules:\n - {name: a, mode: enforce}\nbreak_glass:\n - {name: night, project: group/app, ref: %s, "
				   "from: 2026-01-01T00:00:00Z, hours: 1, who: w, reason: r}\n",
				   table[k].ref);
		struct policy_context c = a_job;

		c.branch = table[k].branch;
		c.is_tag = table[k].is_tag;
		c.target_branch = table[k].target;
		c.wants_waiver = "night";
		assert_decides(text, &c, table[k].is_given ? VERDICT_WARN : VERDICT_BLOCK,
			       table[k].is_given ? FATE_WAIVED : FATE_BLOCKS,
			       table[k].is_given ? "break-glass night of w"
			       : c.is_tag	 ? "is not for this project and tag"
						 : "is not for this project and branch");
		c.wants_waiver = "nigh";
		assert_decides(text, &c, VERDICT_BLOCK, FATE_BLOCKS, "the policy has no waiver nigh");
	}
}

static size_t
rule_for(const char *policy, const struct policy_context *c)
{
	AUTO(policy) struct policy *p = parse(policy);

	return policy_find_rule(p, c, TODAY);
}

static void
the_first_rule_that_matches_judges(void **state)
{
	static const char text[] =
		"version: 1\nrules:\n"
		" - {name: a, mode: warn, match: {projects: [\"other/**\"]}}\n"
		" - {name: b, mode: warn, match: {jobs: [\"build*\"], branches: [\"release/*\"]}}\n"
		" - {name: c, mode: warn, match: {jobs: [\"build*\"], protected: false, tag: false}}\n"
		" - {name: d, mode: warn, match: {images: [\"group/*\"]}}\n";
	struct policy_context c = a_job;

	(void)state;
	assert_int_equal(rule_for(text, &c), 2);
	c.branch = "release/1";
	assert_int_equal(rule_for(text, &c), 1);
	c.branch = "main";
	c.is_protected = true;
	assert_int_equal(rule_for(text, &c), 3);
	c.image = "app";
	assert_int_equal(rule_for(text, &c), 4);
	c.project = "other/x/y";
	assert_int_equal(rule_for(text, &c), 0);
}

static void
what_could_not_be_read_is_under_the_strictest_rule_that_may_be_meant(void **state)
{
	static const char text[] = "version: 1\nrules:\n"
				   " - {name: a, mode: audit, match: {images: [\"test/*\"]}}\n"
				   " - {name: b, mode: enforce, match: {images: [\"prod/*\"]}}\n"
				   " - {name: c, mode: warn}\n"
				   " - {name: d, mode: enforce}\n";
	struct policy_context c = a_job;

	(void)state;
	assert_int_equal(rule_for(text, &c), 2);
	c.image = NULL;
	assert_int_equal(rule_for(text, &c), 1);
	/* behind a rule for all images no other is meant */
	assert_int_equal(rule_for("version: 1\nrules:\n - {name: c, mode: warn}\n - {name: d, mode: enforce}\n",
				  &c),
			 0);
}

static char *
branches_of(const char *rules, const struct policy_context *c)
{
	AUTO_FREE char *text = mem_printf("version: 1\nrules:\n%s", rules);
	AUTO(policy) struct policy *p = parse(text);
	AUTO_STRV struct strv l = { 0 };

	policy_other_branches(p, c, &l);
	return strv_join(&l, " ");
}

static void
the_branches_that_a_job_is_compared_with_are_those_of_rules_that_may_judge_it(void **state)
{
	static const struct {
		const char *rules, *branches;
	} table[] = {
		{ " - {name: a, mode: warn}\n", "" },
		{ " - {name: a, mode: warn, new_only: default}\n", "trunk" },
		{ " - {name: a, mode: warn, new_only: target}\n", "" },
		{ " - {name: a, mode: warn, new_only: release/1.x}\n", "release/1.x" },
		/* another project's, and what comes behind a rule for all images */
		{ " - {name: a, mode: warn, match: {projects: [x/y]}, new_only: b1}\n"
		  " - {name: b, mode: warn, match: {images: [i]}, new_only: b2}\n"
		  " - {name: c, mode: warn, match: {images: [j]}, new_only: b2}\n"
		  " - {name: d, mode: warn, new_only: b3}\n"
		  " - {name: e, mode: warn, new_only: b4}\n",
		  "b2 b3" },
		/* one that is announced judges nothing yet, and says what it would do */
		{ " - {name: a, mode: warn, new_only: b1, enforce_from: 2099-01-01}\n"
		  " - {name: b, mode: warn, new_only: b2}\n",
		  "b1 b2" },
	};
	struct policy_context c = a_job;

	(void)state;
	c.default_branch = "trunk";
	c.target_branch = "";
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *branches = branches_of(table[k].rules, &c);

		assert_string_equal(branches, table[k].branches);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rule_has_what_stands_in_it_and_defaults_for_the_rest),
		cmocka_unit_test(a_policy_that_is_not_understood_is_refused_with_line_key_found_and_allowed),
		cmocka_unit_test(a_long_list_is_refused_and_not_read),
		cmocka_unit_test(an_exception_counts_to_the_end_of_its_day_and_not_longer_than_max_days),
		cmocka_unit_test(what_excuses_a_finding_is_named),
		cmocka_unit_test(what_a_commit_says_counts_for_the_image_that_it_names),
		cmocka_unit_test(a_rule_that_is_announced_says_what_it_would_do_and_the_next_one_judges),
		cmocka_unit_test(secrets_and_misconfigurations_count_as_the_rule_says),
		cmocka_unit_test(a_job_that_asks_for_less_is_told_so),
		cmocka_unit_test(odd_wishes_of_a_job_change_nothing_and_are_told_in_one_line),
		cmocka_unit_test(a_waiver_of_a_branch_is_none_of_a_tag_of_that_name),
		cmocka_unit_test(the_first_rule_that_matches_judges),
		cmocka_unit_test(what_could_not_be_read_is_under_the_strictest_rule_that_may_be_meant),
		cmocka_unit_test(the_branches_that_a_job_is_compared_with_are_those_of_rules_that_may_judge_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
