/* A policy in an inspection: how the gate goes by it, and what people are shown of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/gate.h"
#include "stages/pipeline.h"
#include "stages/policy.h"
#include "stages/policy_source.h"
#include "stages/render_html.h"
#include "stages/render_json.h"
#include "stages/render_log.h"
#include "stages/report_stage.h"
#include "tests/unit/sample_image.h"

struct place {
	struct sample s;
	struct policy_source source;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	sample_init(&p->s);
	p->source.name = mem_strdup("policy.yml");
	p->source.origin = mem_strdup("file policy.yml");
	p->s.i.policy_source = &p->source;
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	sample_free(&p->s);
	policy_source_free(&p->source);
	free(p);
	return 0;
}

static void
judge(struct place *p, const char *policy)
{
	struct err e = ERR_INIT;

	mem_free_at(&p->source.text);
	p->source.text = mem_strdup(policy);
	p->source.len = strlen(policy);
	strv_free(&p->s.i.reasons);
	assert_int_equal(stage_gate.run(&p->s.i, &e), 0);
}

static char *
day(int in_days)
{
	char date[16];

	policy_format_date(clock_wall_s() + in_days * POLICY_DAY_S, date);
	return mem_strdup(date);
}

/* A part of the job log in one line. Owned by the caller. */
static char *
line_of(const struct place *p, void (*render)(const struct inspection *, struct buf *))
{
	AUTO_BUF struct buf out = BUF_INIT(RENDER_LOG_MAX);
	AUTO_BUF struct buf line = BUF_INIT(RENDER_LOG_MAX);

	render(&p->s.i, &out);
	for (const char *c = buf_str(&out); *c; c++)
		if ((*c != '\n' && *c != ' ') || line.len == 0 || line.data[line.len - 1] != ' ')
			buf_add_char(&line, *c == '\n' ? ' ' : *c);
	return buf_take(&line);
}

static char *
log_of(const struct place *p)
{
	return line_of(p, render_log_verdict);
}

static char *
details_of(const struct place *p)
{
	return line_of(p, render_log_details);
}

static void
assert_has(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" is not in:\n%s", words, text);
}

static void
a_policy_that_is_not_understood_leaves_it_undecided_whatever_the_settings_say(void **state)
{
	struct place *p = *state;

	p->s.opt.gate.severity = SEVERITY_CRITICAL;
	sample_add_image(&p->s, "{\"SchemaVersion\":2,\"Results\":[{\"Packages\":[{}]}]}");
	judge(p, "version: 1\nrules:\n  - {name: a, mod: warn}\n");
	assert_int_equal(p->s.i.verdict, VERDICT_UNDECIDED);
	assert_int_equal(inspection_mode(&p->s.i), GATE_ENFORCE);
	assert_has(p->s.i.reasons.v[0], "policy.yml:3: rules[1].mod is no key of a rule (is mode meant?)");
	assert_int_equal(gate_mode_unread(&p->s.opt, &p->s.job, &p->source), GATE_ENFORCE);
}

static void
a_policy_that_cannot_be_had_leaves_it_undecided_and_says_so_without_images_too(void **state)
{
	struct place *p = *state;

	err_set(&p->source.fault, ERR_FAILED, "policy /x (policy.file): open: no such file");
	judge(p, "version: 1\n");
	assert_int_equal(p->s.i.verdict, VERDICT_UNDECIDED);
	assert_has(p->s.i.reasons.v[0], "policy /x (policy.file)");
}

static void
a_policy_that_is_configured_and_was_not_fetched_is_no_absent_one(void **state)
{
	struct place *p = *state;

	free(p->s.opt.policy.file);
	p->s.opt.policy.file = mem_strdup("/x");
	p->s.i.policy_source = NULL;
	judge(p, "");
	assert_int_equal(p->s.i.verdict, VERDICT_UNDECIDED);
}

static void
each_image_is_under_its_own_rule_and_one_under_a_weaker_mode_stops_nothing(void **state)
{
	struct place *p = *state;
	struct image *weak;

	weak = sample_add_image(&p->s, sample_report);
	free(weak->repository);
	weak->repository = mem_strdup("test/app");
	strv_free(&weak->tags);
	sample_add_image(&p->s,
			 "{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"12\"}},"
			 "\"Results\":[{\"Packages\":[{}]}]}");
	judge(p, "version: 1\nrules:\n  - {name: soft, mode: warn, match: {images: [\"test/*\"]}}\n"
		 "  - {name: hard, mode: enforce}\n");
	assert_int_equal(p->s.i.images[0].verdict, VERDICT_BLOCK);
	assert_int_equal(p->s.i.images[0].mode, GATE_WARN);
	assert_int_equal(p->s.i.images[1].mode, GATE_ENFORCE);
	assert_int_equal(p->s.i.mode, GATE_ENFORCE);
	assert_int_equal(p->s.i.verdict, VERDICT_WARN);
	assert_has(p->s.i.reasons.v[0], "3 findings are CRITICAL (mode warn here)");
}

static void
an_archive_that_is_refused_is_under_the_strictest_rule_that_may_be_meant(void **state)
{
	struct place *p = *state;
	struct archive *a = inspection_add_archive(&p->s.i);

	p->s.opt.gate.mode = GATE_AUDIT;
	a->name = mem_strdup("x.tar");
	err_set(&a->fault, ERR_REFUSED, "no image");
	judge(p, "version: 1\nrules:\n  - {name: hard, mode: enforce, match: {images: [\"prod/*\"]}}\n");
	assert_int_equal(p->s.i.verdict, VERDICT_BLOCK);
	assert_int_equal(p->s.i.mode, GATE_ENFORCE);
	assert_int_equal(gate_mode_unread(&p->s.opt, &p->s.job, &p->source), GATE_ENFORCE);
}

static void
a_job_can_ask_for_more_with_and_without_a_policy(void **state)
{
	struct place *p = *state;

	p->s.opt.gate.mode = GATE_WARN;
	p->s.job.wants_mode = mem_strdup("enforce");
	p->s.job.wants_severity = mem_strdup("LOW");
	sample_add_image(&p->s, sample_report);
	p->s.i.policy_source = NULL;
	judge(p, "");
	assert_int_equal(p->s.i.mode, GATE_ENFORCE);
	assert_int_equal(p->s.i.images[0].n_blocking, 5);
	p->s.i.policy_source = &p->source;
	judge(p, "version: 1\nrules: [{name: a, mode: warn}]\n");
	assert_int_equal(p->s.i.mode, GATE_ENFORCE);
	assert_int_equal(p->s.i.images[0].n_blocking, 5);
}

static void
the_log_says_which_rule_what_is_excused_until_when_and_whom_to_ask(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *soon = day(30), *policy = NULL, *text = NULL, *details = NULL, *expected = NULL;
	AUTO_FREE char *sum = mem_printf("Excused: 1 excepted until %s.", soon);

	sample_add_image(&p->s, sample_report);
	policy = mem_printf("version: 1\ncontact: appsec@example.org\nrules:\n  - {name: hard, mode: enforce}\n"
			    "exceptions:\n  - {id: CVE-1, expires: %s, reason: not reachable, owner: team}\n",
			    soon);
	judge(p, policy);
	text = log_of(p);
	expected =
		mem_printf("- CVE-1 in openssl 3.0.1: excepted until %s: exception in line 6 of policy.yml, team: not reachable",
			   soon);
	assert_has(text, "2 findings are CRITICAL");
	assert_has(text, "Judged by rule hard of file policy.yml, mode enforce.");
	assert_has(text, sum);
	details = details_of(p);
	assert_has(details, expected);
	assert_has(text, "- what cannot be fixed now can be excepted: ask appsec@example.org");
}

static void
log_and_page_say_of_what_blocks_which_exception_has_ended(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *ended = day(-3), *policy = NULL, *details = NULL, *expected = NULL;
	AUTO_BUF struct buf page = BUF_INIT(RENDER_HTML_MAX);

	sample_add_image(&p->s, sample_report);
	policy = mem_printf("version: 1\nrules:\n  - {name: hard, mode: enforce}\n"
			    "exceptions:\n  - {id: CVE-1, expires: %s, reason: not reachable, owner: team}\n",
			    ended);
	judge(p, policy);
	expected = mem_printf("the exception in line 5 of policy.yml ended with %s", ended);
	details = details_of(p);
	assert_has(details, expected);
	render_html(&p->s.i, &p->s.i.images[0], &page);
	assert_has(buf_str(&page), expected);
}

static void
the_page_links_to_the_product_that_it_is_delivered_to(void **state)
{
	struct place *p = *state;
	AUTO_BUF struct buf page = BUF_INIT(RENDER_HTML_MAX);
	AUTO_BUF struct buf without = BUF_INIT(RENDER_HTML_MAX);

	sample_add_image(&p->s, sample_report);
	judge(p, "version: 1\nrules: [{name: hard, mode: enforce}]\n");
	free(p->s.opt.defectdojo.url);
	p->s.opt.defectdojo.url = mem_strdup("https://dojo.example.org/api/v2/");
	render_html(&p->s.i, &p->s.i.images[0], &page);
	assert_has(buf_str(&page),
		   "href=\"https://dojo.example.org/product?name_exact=group%2Fapp\">group/app</a>");
	p->s.i.skips_upload = true;
	render_html(&p->s.i, &p->s.i.images[0], &without);
	assert_null(strstr(buf_str(&without), "dojo.example.org"));
}

static void
the_log_says_what_is_announced(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *later = day(10), *policy = NULL, *text = NULL;

	sample_add_image(&p->s, sample_report);
	policy = mem_printf("version: 1\nrules:\n  - {name: hard, mode: enforce, enforce_from: %s}\n"
			    "  - {name: soft, mode: audit, fixable_only: true}\n",
			    later);
	judge(p, policy);
	text = log_of(p);
	assert_has(text, "Judged by rule soft of file policy.yml, mode audit.");
	assert_has(text,
		   "on the rule hard applies here (mode enforce) and would block this image: 3 findings are CRITICAL");
}

static void
assert_has_not(const char *text, const char *words)
{
	if (strstr(text, words))
		fail_msg("\"%s\" is in:\n%s", words, text);
}

/* n findings, of which every `same` were published on one day. */
static void
add_published(struct place *p, int n, int same)
{
	AUTO_BUF struct buf report = BUF_INIT(65536);

	buf_add_str(&report, "{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"t\",\"Vulnerabilities\":[");
	for (int k = 0; k < n; k++)
		buf_printf(&report,
			   "%s{\"VulnerabilityID\":\"CVE-%02d\",\"PkgName\":\"p\",\"Severity\":\"CRITICAL\","
			   "\"PublishedDate\":\"2099-01-%02dT00:00:00Z\"}",
			   k ? "," : "", k, 1 + k / same);
	buf_add_str(&report, "]}]}");
	sample_add_image(&p->s, buf_str(&report));
	p->s.i.today_s = INT64_C(4071859200); /* 2099-01-12 */
}

static void
many_excuses_are_capped_and_those_of_one_cause_share_a_line(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *text = NULL, *details = NULL;

	add_published(p, 30, 3);
	judge(p, "version: 1\nrules:\n  - {name: a, mode: enforce, grace: {published: 30}}\n");
	details = details_of(p);
	assert_has(details, "- CVE-00 in p, CVE-01 in p, CVE-02 in p: in grace until 2099-01-30: ");
	assert_has(details, "- CVE-21 in p, CVE-22 in p, CVE-23 in p: in grace until 2099-02-06: ");
	assert_has(details, "- and 6 more that are excused");
	text = log_of(p);
	assert_has(text, "Excused: 30 in grace, the first until 2099-01-30.");
	assert_has_not(text, "CVE-00");
	assert_int_equal(p->s.i.images[0].n_blocking, 0);
}

static void
of_many_findings_with_one_excuse_the_worst_are_named(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *details = NULL;

	add_published(p, 30, 30);
	judge(p, "version: 1\nrules:\n  - {name: a, mode: enforce, grace: {published: 30}}\n");
	details = details_of(p);
	assert_has(details, "CVE-02 in p and 27 more: in grace until 2099-01-30: ");
}

static void
what_holds_of_all_images_is_said_once(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *text = NULL;

	sample_add_image(&p->s, sample_report);
	sample_add_image(&p->s, sample_report);
	p->s.job.wants_mode = mem_strdup("audit");
	judge(p, "version: 1\nrules:\n  - {name: a, mode: enforce}\n");
	text = log_of(p);
	assert_has(text, "Judged by rule a of file policy.yml, mode enforce.");
	assert_has(text, "TIDEWAITER_MODE=audit is not followed");
	assert_has_not(text, "was judged");
	assert_has_not(strstr(text, "is not followed") + 1, "is not followed");
}

static void
images_under_several_rules_are_named_with_theirs(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *text = NULL;
	struct image *soft;

	sample_add_image(&p->s, sample_report);
	soft = sample_add_image(&p->s, sample_report);
	free(soft->repository);
	soft->repository = mem_strdup("test/app");
	strv_free(&soft->tags);
	judge(p, "version: 1\nrules:\n  - {name: soft, mode: warn, match: {images: [\"test/*\"]}}\n"
		 "  - {name: hard, mode: enforce}\n");
	text = log_of(p);
	assert_has(text, "was judged by rule hard of file policy.yml, mode enforce.");
	assert_has(text, "was judged by rule soft of file policy.yml, mode warn.");
}

static void
a_policy_that_cannot_be_read_is_no_fault_of_the_change(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *text = NULL;

	sample_add_image(&p->s, sample_report);
	judge(p, "version: 2\n");
	text = log_of(p);
	assert_has(text, "Tidewaiter: undecided");
	assert_has(text, "- what could not be decided is no fault of your change");
}

static void
a_waiver_is_shown_counted_and_becomes_a_tag(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *today = day(0), *policy = NULL, *text = NULL;
	AUTO_DELIVERY struct delivery d = { 0 };
	struct err e = ERR_INIT;

	sample_add_image(&p->s, sample_report);
	p->s.job.wants_waiver = mem_strdup("night");
	policy = mem_printf("version: 1\nrules:\n  - {name: a, mode: enforce}\nbreak_glass:\n"
			    "  - {name: night, project: group/app, ref: main, from: \"%sT00:00:00Z\", hours: 72, who: Ops, "
			    "reason: outage}\n",
			    today);
	judge(p, policy);
	assert_int_equal(p->s.i.verdict, VERDICT_WARN);
	assert_int_equal(p->s.i.images[0].n_blocking, 0);
	text = log_of(p);
	assert_has(text, "break-glass night of Ops lets it go on until ");
	assert_has(text, "Excused: 3 waived until ");
	assert_has(text, " 00:00 UTC.");
	assert_int_equal(report_delivery(&p->s.i, &p->s.i.images[0], 0, &d, &e), 0);
	assert_true(strv_has(&d.tags, "waiver:night"));
	free(p->s.job.ref);
	p->s.job.ref = mem_strdup("other");
	judge(p, policy);
	assert_int_equal(p->s.i.verdict, VERDICT_BLOCK);
	delivery_free(&d);
	d = (struct delivery){ 0 };
	assert_int_equal(report_delivery(&p->s.i, &p->s.i.images[0], 0, &d, &e), 0);
	assert_false(strv_has(&d.tags, "waiver:night"));
}

static void
page_and_json_say_what_became_of_each_finding(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *soon = day(30), *policy = NULL;
	AUTO_BUF struct buf page = BUF_INIT(RENDER_HTML_MAX);
	AUTO_JSON cJSON *j = NULL;
	const cJSON *m, *f;

	sample_add_image(&p->s, sample_report);
	policy = mem_printf("version: 1\nrules:\n  - {name: hard, mode: enforce}\n"
			    "exceptions:\n  - {id: CVE-4, expires: %s, reason: <b>, owner: team}\n",
			    soon);
	judge(p, policy);
	render_html(&p->s.i, &p->s.i.images[0], &page);
	assert_has(buf_str(&page), "Judged by rule hard of file policy.yml, mode enforce.");
	assert_has(buf_str(&page), "line 5 of policy.yml, team: &lt;b&gt;</small>");
	j = render_json(&p->s.i);
	m = cJSON_GetArrayItem(json_array(j, "images"), 0);
	f = cJSON_GetArrayItem(json_array(m, "findings"), 0);
	assert_string_equal(json_str(m, "rule"), "hard");
	assert_string_equal(json_str(m, "mode"), "enforce");
	assert_string_equal(json_str(json_object(j, "policy"), "origin"), "file policy.yml");
	assert_string_equal(json_str(f, "id"), "CVE-4");
	assert_string_equal(json_str(f, "fate"), "excepted");
	assert_false(json_bool(f, "is_blocking", true));
	assert_non_null(json_str(f, "until"));
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_policy_that_is_not_understood_leaves_it_undecided_whatever_the_settings_say),
		TEST(a_policy_that_cannot_be_had_leaves_it_undecided_and_says_so_without_images_too),
		TEST(a_policy_that_is_configured_and_was_not_fetched_is_no_absent_one),
		TEST(each_image_is_under_its_own_rule_and_one_under_a_weaker_mode_stops_nothing),
		TEST(an_archive_that_is_refused_is_under_the_strictest_rule_that_may_be_meant),
		TEST(a_job_can_ask_for_more_with_and_without_a_policy),
		TEST(the_log_says_which_rule_what_is_excused_until_when_and_whom_to_ask),
		TEST(log_and_page_say_of_what_blocks_which_exception_has_ended),
		TEST(the_page_links_to_the_product_that_it_is_delivered_to),
		TEST(the_log_says_what_is_announced),
		TEST(many_excuses_are_capped_and_those_of_one_cause_share_a_line),
		TEST(of_many_findings_with_one_excuse_the_worst_are_named),
		TEST(what_holds_of_all_images_is_said_once),
		TEST(images_under_several_rules_are_named_with_theirs),
		TEST(a_policy_that_cannot_be_read_is_no_fault_of_the_change),
		TEST(a_waiver_is_shown_counted_and_becomes_a_tag),
		TEST(page_and_json_say_what_became_of_each_finding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
