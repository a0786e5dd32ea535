#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "stages/identity.h"
#include "stages/pipeline.h"
#include "stages/policy.h"
#include "stages/render_quality.h"
#include "tests/unit/sample_image.h"

/* Judged, through text and back, as GitLab gets it. */
static cJSON *
quality_of(struct sample *s)
{
	AUTO_JSON cJSON *built = NULL;
	AUTO_FREE char *text = NULL;
	cJSON *j;
	struct err e = ERR_INIT;

	strv_free(&s->i.reasons);
	assert_int_equal(stage_gate.run(&s->i, &e), 0);
	built = render_quality(&s->i);
	text = json_print(built);
	if (json_parse(text, strlen(text), 1 << 20, JSON_UNIQUE, &j, &e) < 0)
		fail_msg("%s", e.text);
	return j;
}

static void
every_finding_has_what_gitlab_wants_worst_first(void **state)
{
	static const char *const severities[] = { "blocker", "blocker", "blocker", "major", "info" };
	struct sample s;
	const cJSON *one;
	size_t n = 0;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_JSON cJSON *j = quality_of(&s);
	assert_int_equal(cJSON_GetArraySize(j), MEM_COUNT(severities));
	cJSON_ArrayForEach(one, j)
	{
		const cJSON *location = json_object(one, "location");

		assert_string_equal(json_str(one, "severity"), severities[n++]);
		assert_string_equal(json_str(location, "path"), "tar_images/app.tar");
		assert_int_equal(json_int(json_object(location, "lines"), "begin", 0), 1);
		assert_non_null(strstr(json_str(one, "description"), json_str(one, "check_name")));
		assert_non_null(strstr(json_str(one, "description"), "group/app"));
	}
	sample_free(&s);
}

static void
a_fingerprint_is_the_identity_of_the_finding(void **state)
{
	struct sample s;
	const struct image *m;
	char key[IDENTITY_KEY_SIZE];

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_JSON cJSON *before = quality_of(&s);
	m = &s.i.images[0];
	for (int k = 0; k < cJSON_GetArraySize(before); k++) {
		const cJSON *one = cJSON_GetArrayItem(before, k);
		bool is_there = false;

		for (size_t n = 0; n < m->report->n_findings; n++) {
			identity_key(s.job.project_path, "group/app", m->report, &m->report->findings[n], key);
			is_there =
				is_there || (str_eq(key, json_str(one, "fingerprint")) &&
					     str_eq(m->report->findings[n].id, json_str(one, "check_name")));
		}
		assert_true(is_there);
	}
	/* reworded, with a fix, less severe than others now: the same */
	m->report->findings[0].title = "reworded";
	m->report->findings[0].fixed = "99";
	identity_key(s.job.project_path, "group/app", m->report, &m->report->findings[0], key);
	AUTO_JSON cJSON *after = quality_of(&s);
	bool is_there = false;
	for (int k = 0; k < cJSON_GetArraySize(after); k++)
		is_there = is_there || str_eq(json_str(cJSON_GetArrayItem(after, k), "fingerprint"), key);
	assert_true(is_there);
	sample_free(&s);
}

static void
what_is_excused_is_left_out(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_JSON cJSON *before = quality_of(&s);
	s.i.images[0].decision->fates[0].fate = FATE_ACCEPTED;
	s.i.images[0].decision->fates[1].fate = FATE_EXCEPTED;
	s.i.images[0].decision->fates[2].fate = FATE_GRACE;
	AUTO_JSON cJSON *after = render_quality(&s.i);
	assert_int_equal(cJSON_GetArraySize(after), cJSON_GetArraySize(before) - 2);
	sample_free(&s);
}

static void
an_inspection_without_reports_has_an_empty_list(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, NULL);
	AUTO_JSON cJSON *j = render_quality(&s.i);
	assert_true(cJSON_IsArray(j));
	assert_int_equal(cJSON_GetArraySize(j), 0);
	sample_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_finding_has_what_gitlab_wants_worst_first),
		cmocka_unit_test(a_fingerprint_is_the_identity_of_the_finding),
		cmocka_unit_test(what_is_excused_is_left_out),
		cmocka_unit_test(an_inspection_without_reports_has_an_empty_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
