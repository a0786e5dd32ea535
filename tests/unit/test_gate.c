#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/gate.h"
#include "stages/pipeline.h"
#include "stages/policy.h"
#include "tests/unit/sample_image.h"

static struct options_gate
a_gate(enum severity severity, bool fixable_only)
{
	return (struct options_gate){ .mode = GATE_ENFORCE,
				      .severity = (int)severity,
				      .fixable_only = fixable_only,
				      .on_no_packages = REACT_WARN,
				      .on_unknown_os = REACT_WARN,
				      .on_eol_os = REACT_WARN,
				      .on_error = ON_ERROR_FAIL };
}

/* By the section gate alone. */
static void
decide(const struct options_gate *g, const struct report *r, struct decision *ret)
{
	const struct options o = { .gate = *g };
	const struct policy_context c = { .project = "group/app", .branch = "main", .image = "group/app" };
	AUTO(policy) struct policy *p = NULL;

	policy_from_options(&o, &p);
	policy_decide(p, r, &c, 0, ret);
	ret->rule = NULL;
}

static size_t
blocking(const struct options_gate *g)
{
	struct sample s;
	AUTO_DECISION struct decision d = { 0 };

	sample_init(&s);
	decide(g, sample_add_image(&s, sample_report)->report, &d);
	sample_free(&s);
	assert_int_equal(d.verdict, d.n_of_fate[FATE_BLOCKS] > 0 ? VERDICT_BLOCK : VERDICT_PASS);
	return d.n_of_fate[FATE_BLOCKS];
}

static void
findings_of_the_severity_and_worse_block(void **state)
{
	static const size_t expected[] = {
		[SEVERITY_UNKNOWN] = 5, [SEVERITY_LOW] = 5, [SEVERITY_MEDIUM] = 4, [SEVERITY_HIGH] = 4, [SEVERITY_CRITICAL] = 3
	};

	(void)state;
	for (int k = 0; k < SEVERITY_COUNT; k++) {
		struct options_gate g = a_gate((enum severity)k, false);

		assert_int_equal(blocking(&g), expected[k]);
	}
}

static void
fixable_only_leaves_out_what_has_no_fix(void **state)
{
	struct options_gate g = a_gate(SEVERITY_CRITICAL, true);

	(void)state;
	assert_int_equal(blocking(&g), 2);
}

static enum verdict
judge(const char *text, const struct options_gate *g, size_t *ret_reasons)
{
	AUTO(report) struct report *r = NULL;
	AUTO_DECISION struct decision j = { 0 };
	struct err e = ERR_INIT;

	assert_int_equal(report_parse(text, strlen(text), 4096, &r, &e), 0);
	decide(g, r, &j);
	*ret_reasons = j.reasons.n;
	return j.verdict;
}

static void
odd_images_are_judged_by_a_setting_each(void **state)
{
	static const char nothing[] = "{\"SchemaVersion\":2}";
	static const char no_os[] = "{\"SchemaVersion\":2,\"Results\":[{\"Packages\":[{}]}]}";
	static const char eol[] =
		"{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"9\",\"EOSL\":true}},"
		"\"Results\":[{\"Class\":\"os-pkgs\",\"Packages\":[{}]}]}";
	static const char hidden[] =
		"{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"12\"}}}";
	static const enum verdict of[] = {
		[REACT_PASS] = VERDICT_PASS, [REACT_WARN] = VERDICT_WARN, [REACT_FAIL] = VERDICT_BLOCK
	};
	size_t n;

	(void)state;
	for (int reaction = REACT_PASS; reaction <= REACT_FAIL; reaction++) {
		struct options_gate g = a_gate(SEVERITY_CRITICAL, false);

		g.on_no_packages = reaction;
		assert_int_equal(judge(hidden, &g, &n), of[reaction]);
		assert_int_equal(n, reaction == REACT_PASS ? 0 : 1);
		g = a_gate(SEVERITY_CRITICAL, false);
		g.on_unknown_os = reaction;
		assert_int_equal(judge(no_os, &g, &n), of[reaction]);
		g = a_gate(SEVERITY_CRITICAL, false);
		g.on_eol_os = reaction;
		assert_int_equal(judge(eol, &g, &n), of[reaction]);
	}
	struct options_gate g = a_gate(SEVERITY_CRITICAL, false);
	assert_int_equal(judge(nothing, &g, &n), VERDICT_WARN);
	assert_int_equal(n, 2);
}

static void
only_enforce_stops_a_job(void **state)
{
	static const struct {
		enum verdict v;
		int on_error;
		enum gate_end end;
	} table[] = {
		{ VERDICT_PASS, ON_ERROR_FAIL, GATE_GO_ON },
		{ VERDICT_WARN, ON_ERROR_FAIL, GATE_GO_ON },
		{ VERDICT_UNDECIDED, ON_ERROR_FAIL, GATE_STUCK },
		{ VERDICT_UNDECIDED, ON_ERROR_WARN, GATE_GO_ON },
		{ VERDICT_BLOCK, ON_ERROR_FAIL, GATE_BLOCKED },
		{ VERDICT_BLOCK, ON_ERROR_WARN, GATE_BLOCKED },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		assert_int_equal(gate_end(table[k].v, GATE_ENFORCE, table[k].on_error), table[k].end);
		for (int mode = GATE_OFF; mode < GATE_ENFORCE; mode++)
			assert_int_equal(gate_end(table[k].v, mode, table[k].on_error), GATE_GO_ON);
	}
}

static void
refused_input_blocks_and_all_other_faults_are_undecided(void **state)
{
	static const enum err_kind others[] = { ERR_FAILED,	 ERR_USAGE,   ERR_SETTINGS,
						ERR_UNSUPPORTED, ERR_TIMEOUT, ERR_NO_SPACE };
	struct err e = { .kind = ERR_REFUSED };

	(void)state;
	assert_int_equal(gate_judge_fault(&e), VERDICT_BLOCK);
	for (size_t k = 0; k < MEM_COUNT(others); k++) {
		e.kind = others[k];
		assert_int_equal(gate_judge_fault(&e), VERDICT_UNDECIDED);
	}
}

static enum verdict
run(struct sample *s)
{
	struct err e = ERR_INIT;

	assert_int_equal(stage_gate.run(&s->i, &e), 0);
	return s->i.verdict;
}

static void
an_image_that_was_not_scanned_is_undecided(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, NULL);
	assert_int_equal(run(&s), VERDICT_UNDECIDED);
	assert_non_null(strstr(s.i.reasons.v[0], "was not scanned"));
	sample_free(&s);
}

static void
a_fault_outweighs_a_report(void **state)
{
	struct sample s;
	struct image *m;

	(void)state;
	sample_init(&s);
	m = sample_add_image(&s, sample_report);
	err_set(&m->fault, ERR_FAILED, "no database");
	assert_int_equal(run(&s), VERDICT_UNDECIDED);
	assert_int_equal(m->n_blocking, 0);
	sample_free(&s);
}

static void
an_archive_without_image_and_without_fault_is_undecided(void **state)
{
	struct sample s;
	struct archive *a;

	(void)state;
	sample_init(&s);
	a = inspection_add_archive(&s.i);
	a->name = mem_strdup("tar_images/x.tar");
	a->fd = -1;
	assert_int_equal(run(&s), VERDICT_UNDECIDED);
	s.i.archives[0].fault.kind = ERR_UNSUPPORTED;
	strv_free(&s.i.reasons);
	assert_int_equal(run(&s), VERDICT_UNDECIDED);
	s.i.archives[0].fault.kind = ERR_REFUSED;
	strv_free(&s.i.reasons);
	assert_int_equal(run(&s), VERDICT_BLOCK);
	sample_free(&s);
}

static void
a_job_without_images_is_judged_by_its_setting_even_when_it_left_other_tars(void **state)
{
	static const enum verdict of[] = {
		[REACT_PASS] = VERDICT_PASS, [REACT_WARN] = VERDICT_WARN, [REACT_FAIL] = VERDICT_BLOCK
	};

	(void)state;
	for (int reaction = REACT_PASS; reaction <= REACT_FAIL; reaction++) {
		struct sample s;
		struct archive *a;

		sample_init(&s);
		s.opt.inject.on_no_image = reaction;
		a = inspection_add_archive(&s.i);
		a->name = mem_strdup("backup.tar");
		a->fd = -1;
		a->is_ignored = true;
		assert_int_equal(run(&s), of[reaction]);
		sample_free(&s);
	}
}

static void
a_block_outweighs_what_is_undecided_and_its_reason_comes_first(void **state)
{
	struct sample s;
	struct image *m;

	(void)state;
	sample_init(&s);
	m = sample_add_image(&s, NULL);
	err_set(&m->fault, ERR_TIMEOUT, "too slow");
	sample_add_image(&s, sample_report);
	assert_int_equal(run(&s), VERDICT_BLOCK);
	assert_int_equal(s.i.reasons.n, 2);
	assert_non_null(strstr(s.i.reasons.v[0], "3 findings are CRITICAL"));
	assert_non_null(strstr(s.i.reasons.v[1], "too slow"));
	sample_free(&s);
}

static void
hidden_packages_are_judged_by_their_setting_whatever_the_scan_found(void **state)
{
	static const enum verdict of[] = {
		[REACT_PASS] = VERDICT_PASS, [REACT_WARN] = VERDICT_WARN, [REACT_FAIL] = VERDICT_BLOCK
	};

	(void)state;
	for (int reaction = REACT_PASS; reaction <= REACT_FAIL; reaction++) {
		struct sample s;
		struct image *m;

		sample_init(&s);
		m = sample_add_image(&s, sample_report);
		m->report->n_findings = 0;
		strv_add(&m->hidden, "the package list var/lib/dpkg/status is behind a link");
		s.opt.images.on_hidden_packages = reaction;
		assert_int_equal(run(&s), of[reaction]);
		if (reaction != REACT_PASS) {
			assert_int_equal(s.i.images[0].reasons.n, 1);
			assert_string_equal(
				s.i.images[0].reasons.v[0],
				"hidden packages: the package list var/lib/dpkg/status is behind a link (images.on_hidden_packages)");
		}
		sample_free(&s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(findings_of_the_severity_and_worse_block),
		cmocka_unit_test(fixable_only_leaves_out_what_has_no_fix),
		cmocka_unit_test(odd_images_are_judged_by_a_setting_each),
		cmocka_unit_test(only_enforce_stops_a_job),
		cmocka_unit_test(refused_input_blocks_and_all_other_faults_are_undecided),
		cmocka_unit_test(an_image_that_was_not_scanned_is_undecided),
		cmocka_unit_test(a_fault_outweighs_a_report),
		cmocka_unit_test(an_archive_without_image_and_without_fault_is_undecided),
		cmocka_unit_test(a_job_without_images_is_judged_by_its_setting_even_when_it_left_other_tars),
		cmocka_unit_test(hidden_packages_are_judged_by_their_setting_whatever_the_scan_found),
		cmocka_unit_test(a_block_outweighs_what_is_undecided_and_its_reason_comes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
