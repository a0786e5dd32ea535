/* Grace since a flaw was published and since there is a fix: which holds, until when, what is said of it. */
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
#define DAY POLICY_DAY_S

/* What is known of the one finding of a report. */
struct facts {
	bool is_fixed, is_dated;
	int64_t fix_since_s;
	int64_t published_s; /* 0: not known */
};

static bool
fix_since(const void *arg, const struct finding *f, int64_t *ret_s)
{
	const struct facts *x = arg;

	(void)f;
	*ret_s = x->fix_since_s;
	return x->is_dated;
}

static struct report *
report_of(const struct facts *x)
{
	char published[32] = "";
	AUTO_FREE char *text = NULL;
	struct report *r = NULL;
	struct err e = ERR_INIT;

	if (x->published_s > 0)
		clock_format_rfc3339(x->published_s, published);
	text = mem_printf(
		"{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"t\",\"Vulnerabilities\":[{\"VulnerabilityID\":\"CVE-1\","
		"\"PkgName\":\"p\",\"InstalledVersion\":\"1\",\"FixedVersion\":\"%s\",\"Severity\":\"CRITICAL\",\"PublishedDate\":\"%s\"}]}]}",
		x->is_fixed ? "2" : "", published);
	if (report_parse(text, strlen(text), 65536, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

static void
decide(const char *grace, const struct facts *x, struct decision *ret)
{
	AUTO_FREE char *text =
		mem_printf("version: 1\nrules:\n  - {name: a, mode: enforce, on_no_packages: pass, on_unknown_os: pass, grace: {%s}}\n",
			   grace);
	const struct policy_context c = { .project = "g/a",
					  .branch = "main",
					  .image = "g/a",
					  .known = { .arg = x, .fix_since = fix_since } };
	AUTO(policy) struct policy *p = NULL;
	AUTO(report) struct report *r = report_of(x);
	struct err e = ERR_INIT;

	if (policy_parse("p.yml", text, strlen(text), NULL, &p, &e) < 0)
		fail_msg("%s", e.text);
	policy_decide(p, r, &c, TODAY, ret);
	/* both go with this scope */
	ret->rule = NULL;
}

static void
a_finding_has_the_grace_that_lasts_longer(void **state)
{
	static const struct {
		const char *grace;
		struct facts x;
		enum fate fate;
		int64_t until_s;
		const char *by;
	} table[] = {
		/* since a fix */
		{ "fixed: 14",
		  { true, true, TODAY, 0 },
		  FATE_GRACE,
		  TODAY + 14 * DAY,
		  "a fix was first seen here on 2026-01-01, 14 days of grace" },
		{ "fixed: 14", { true, true, TODAY - 14 * DAY + 1, 0 }, FATE_GRACE, TODAY + 1, "2025-12-18" },
		{ "fixed: 14", { true, true, TODAY - 14 * DAY, 0 }, FATE_BLOCKS, 0, "CRITICAL" },
		{ "fixed: 14",
		  { true, true, TODAY + 99 * DAY, 0 },
		  FATE_GRACE,
		  TODAY + 14 * DAY,
		  "on 2026-01-01" },
		{ "fixed: 14", { true, false, TODAY, 0 }, FATE_BLOCKS, 0, "CRITICAL" },
		{ "fixed: 14", { true, true, TODAY - 20 * DAY, TODAY }, FATE_BLOCKS, 0, "CRITICAL" },
		/* until there is one */
		{ "fixed: 14",
		  { false, false, 0, TODAY - 999 * DAY },
		  FATE_GRACE,
		  0,
		  "no fix yet, 14 days of grace from when there is one" },
		{ "fixed: 14, published: 9", { false, false, 0, TODAY - DAY }, FATE_GRACE, 0, "no fix yet" },
		{ "published: 9", { false, false, 0, TODAY - 9 * DAY }, FATE_BLOCKS, 0, "CRITICAL" },
		{ "published: 9", { false, false, 0, TODAY + DAY }, FATE_GRACE, TODAY + 10 * DAY, "published on" },
		/* a day that has not come is none */
		{ "published: 9", { false, false, 0, TODAY + DAY + 1 }, FATE_BLOCKS, 0, "CRITICAL" },
		{ "fixed: 0", { false, false, 0, 0 }, FATE_BLOCKS, 0, "CRITICAL" },
		{ "fixed: 0", { true, true, TODAY, 0 }, FATE_BLOCKS, 0, "CRITICAL" },
		/* either is enough */
		{ "fixed: 14, published: 30",
		  { true, true, TODAY - 20 * DAY, TODAY - 25 * DAY },
		  FATE_GRACE,
		  TODAY + 5 * DAY,
		  "published on 2025-12-07, 30 days of grace" },
		{ "fixed: 14, published: 30",
		  { true, true, TODAY - 2 * DAY, TODAY - 40 * DAY },
		  FATE_GRACE,
		  TODAY + 12 * DAY,
		  "a fix was first seen here on 2025-12-30" },
		{ "fixed: 14, published: 30",
		  { true, true, TODAY - 2 * DAY, TODAY - 25 * DAY },
		  FATE_GRACE,
		  TODAY + 12 * DAY,
		  "a fix was first seen here" },
		{ "fixed: 14, published: 30",
		  { true, true, TODAY - 10 * DAY, TODAY - 25 * DAY },
		  FATE_GRACE,
		  TODAY + 5 * DAY,
		  "published on" },
		{ "fixed: 14, published: 30",
		  { true, false, 0, TODAY - 25 * DAY },
		  FATE_GRACE,
		  TODAY + 5 * DAY,
		  "published on" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_DECISION struct decision d = { 0 };
		const struct finding_fate *f;

		decide(table[k].grace, &table[k].x, &d);
		f = &d.fates[0];
		if (f->fate != table[k].fate || f->until_s != table[k].until_s || !strstr(f->by, table[k].by))
			fail_msg("%zu: %s until %jd: %s", k, fate_words[f->fate], (intmax_t)f->until_s, f->by);
	}
}

static void
where_a_date_is_not_known_a_note_says_so_and_where_none_is_needed_none_does(void **state)
{
	static const struct {
		const char *grace;
		struct facts x;
		bool is_said;
	} table[] = {
		{ "fixed: 14", { true, false, 0, 0 }, true },
		{ "fixed: 14", { true, true, TODAY - 20 * DAY, 0 }, false },
		{ "fixed: 14", { false, false, 0, 0 }, false },
		{ "fixed: 0, published: 9", { true, false, 0, 0 }, false },
		{ "fixed: 14, published: 9", { true, false, 0, TODAY }, false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_DECISION struct decision d = { 0 };

		decide(table[k].grace, &table[k].x, &d);
		if (table[k].is_said != (d.notes.n == 1))
			fail_msg("%zu: %zu notes", k, d.notes.n);
		if (table[k].is_said)
			assert_string_equal(
				d.notes.v[0],
				"no grace (grace.fixed) for 1 finding: it is not known since when there is a fix");
	}
}

static void
what_blocks_says_for_a_month_which_grace_it_had(void **state)
{
	static const struct {
		const char *grace;
		struct facts x;
		const char *lapsed;
	} table[] = {
		{ "fixed: 14",
		  { true, true, TODAY - 14 * DAY, 0 },
		  "its grace, 14 days since a fix was first seen here, ended at 2026-01-01T00:00:00Z" },
		{ "published: 9",
		  { true, false, 0, TODAY - 10 * DAY },
		  "its grace, 9 days since it was published, ended at 2025-12-31T00:00:00Z" },
		{ "fixed: 14, published: 9",
		  { true, true, TODAY - 20 * DAY, TODAY - 10 * DAY },
		  "its grace, 9 days since it was published, ended at 2025-12-31T00:00:00Z" },
		{ "fixed: 14, published: 9",
		  { true, true, TODAY - 14 * DAY, TODAY - 10 * DAY },
		  "its grace, 14 days since a fix was first seen here, ended at 2026-01-01T00:00:00Z" },
		{ "fixed: 14", { true, true, TODAY - 45 * DAY, 0 }, NULL },
		{ "fixed: 14", { true, false, 0, TODAY }, NULL },
		{ "published: 0", { true, true, TODAY, TODAY }, NULL },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_DECISION struct decision d = { 0 };

		decide(table[k].grace, &table[k].x, &d);
		assert_int_equal(d.fates[0].fate, FATE_BLOCKS);
		if (!str_eq(d.fates[0].lapsed, table[k].lapsed))
			fail_msg("%zu: %s", k, d.fates[0].lapsed ? d.fates[0].lapsed : "(nothing)");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_finding_has_the_grace_that_lasts_longer),
		cmocka_unit_test(where_a_date_is_not_known_a_note_says_so_and_where_none_is_needed_none_does),
		cmocka_unit_test(what_blocks_says_for_a_month_which_grace_it_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
