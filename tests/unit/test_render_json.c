#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/pipeline.h"
#include "stages/render_json.h"
#include "tests/unit/sample_image.h"

/* Through text and back, as a program gets it. */
static cJSON *
inspection_json(struct sample *s)
{
	AUTO_JSON cJSON *built = NULL;
	AUTO_FREE char *text = NULL;
	cJSON *j;
	struct err e = ERR_INIT;

	strv_free(&s->i.reasons);
	assert_int_equal(stage_gate.run(&s->i, &e), 0);
	built = render_json(&s->i);
	text = json_print_pretty(built);
	if (json_parse(text, strlen(text), 1 << 20, JSON_UNIQUE, &j, &e) < 0)
		fail_msg("%s", e.text);
	return j;
}

static void
a_judged_image_has_every_documented_member(void **state)
{
	static const char *const top[] = { "format", "version", "verdict", "reasons", "mode",  "project",
					   "ref",    "commit",	"job_id",  "gate",    "trivy", "archives",
					   "images", "policy",	"notes",   NULL };
	static const char *const of_image[] = { "name",
						"repository",
						"tags",
						"archive",
						"report",
						"config_digest",
						"manifest_digest",
						"platform",
						"os",
						"architecture",
						"verdict",
						"reasons",
						"fault",
						"layers",
						"distribution",
						"counts",
						"advice",
						"findings",
						"mode",
						"rule",
						"severity",
						"waiver",
						"notes",
						"fixable_only",
						"waiver_until",
						"product_url",
						NULL };
	static const char *const of_finding[] = { "id",	    "package", "installed", "fixed",  "severity",
						  "status", "title",   "url",	    "target", "class",
						  "type",   "path",    "purl",	    "layer",  "is_blocking",
						  "fate",   "by",      "until",	    "lapsed", "line",
						  NULL };
	struct sample s;
	const cJSON *m, *f;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_JSON cJSON *j = inspection_json(&s);
	for (size_t k = 0; top[k]; k++)
		assert_true(cJSON_GetObjectItemCaseSensitive(j, top[k]) != NULL);
	m = cJSON_GetArrayItem(json_array(j, "images"), 0);
	for (size_t k = 0; of_image[k]; k++)
		assert_true(cJSON_GetObjectItemCaseSensitive(m, of_image[k]) != NULL);
	assert_int_equal(cJSON_GetArraySize(m), MEM_COUNT(of_image) - 1);
	f = cJSON_GetArrayItem(json_array(m, "findings"), 0);
	for (size_t k = 0; of_finding[k]; k++)
		assert_true(cJSON_GetObjectItemCaseSensitive(f, of_finding[k]) != NULL);
	assert_int_equal(cJSON_GetArraySize(f), MEM_COUNT(of_finding) - 1);
	sample_free(&s);
}

static void
its_figures_are_those_of_the_report(void **state)
{
	struct sample s;
	const cJSON *m, *counts, *f;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_JSON cJSON *j = inspection_json(&s);
	assert_string_equal(json_str(j, "verdict"), "block");
	m = cJSON_GetArrayItem(json_array(j, "images"), 0);
	counts = json_object(m, "counts");
	assert_int_equal(json_int(counts, "findings", -1), 5);
	assert_int_equal(json_int(counts, "blocking", -1), 3);
	assert_int_equal(json_int(counts, "fixable", -1), 4);
	assert_int_equal(json_int(counts, "packages", -1), 3);
	assert_int_equal(json_int(json_object(counts, "severity"), "CRITICAL", -1), 3);
	assert_int_equal(cJSON_GetArraySize(json_array(m, "findings")), 5);
	assert_string_equal(json_str(json_object(m, "advice"), "text"), "raise lodash to 4.17.9");
	f = cJSON_GetArrayItem(json_array(m, "findings"), 2);
	assert_string_equal(json_str(f, "id"), "CVE-2");
	assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(f, "fixed")));
	assert_int_equal(json_int(f, "layer", -1), 1);
	assert_true(json_bool(f, "is_blocking", false));
	assert_string_equal(json_str(cJSON_GetArrayItem(json_array(m, "layers"), 2), "step"), "RUN npm ci");
	sample_free(&s);
}

static void
a_failed_scan_has_a_fault_and_nulls(void **state)
{
	struct sample s;
	struct image *image;
	const cJSON *m;

	(void)state;
	sample_init(&s);
	image = sample_add_image(&s, NULL);
	err_set(&image->fault, ERR_TIMEOUT, "too slow");
	AUTO_JSON cJSON *j = inspection_json(&s);
	assert_string_equal(json_str(j, "verdict"), "undecided");
	m = cJSON_GetArrayItem(json_array(j, "images"), 0);
	assert_string_equal(json_str(json_object(m, "fault"), "kind"), "timeout");
	assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(m, "findings")));
	assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(m, "counts")));
	sample_free(&s);
}

static void
names_that_are_no_utf_8_do_not_break_it(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	free(s.i.archives[0].name);
	s.i.archives[0].name = mem_strdup("a\xff\"\n.tar");
	AUTO_JSON cJSON *j = inspection_json(&s);
	assert_string_equal(json_str(cJSON_GetArrayItem(json_array(j, "archives"), 0), "name"), "a?\"?.tar");
	sample_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_judged_image_has_every_documented_member),
		cmocka_unit_test(its_figures_are_those_of_the_report),
		cmocka_unit_test(a_failed_scan_has_a_fault_and_nulls),
		cmocka_unit_test(names_that_are_no_utf_8_do_not_break_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
