#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "executor/guard.h"

static void
the_last_of_the_users_steps_is_known(void **state)
{
	struct plan p = { 0 };

	(void)state;
	strv_add(&p.step_stages, "build_script");
	assert_int_equal(guard_kind_of(&p, "build_script"), GUARD_LAST_STEP);
	assert_int_equal(guard_kind_of(&p, "step_script"), GUARD_LAST_STEP);
	strv_add(&p.step_stages, "step_release");
	assert_int_equal(guard_kind_of(&p, "build_script"), GUARD_USER);
	assert_int_equal(guard_kind_of(&p, "step_script"), GUARD_USER);
	assert_int_equal(guard_kind_of(&p, "step_release"), GUARD_LAST_STEP);
	strv_free(&p.step_stages);
}

static void
a_script_without_steps_in_the_payload_is_the_last_step(void **state)
{
	struct plan p = { 0 };

	(void)state;
	assert_int_equal(guard_kind_of(&p, "build_script"), GUARD_LAST_STEP);
	assert_int_equal(guard_kind_of(&p, "step_unknown"), GUARD_USER);
}

static void
stages_of_the_runner_are_told_apart(void **state)
{
	struct plan p = { 0 };

	(void)state;
	strv_add(&p.step_stages, "build_script");
	assert_int_equal(guard_kind_of(&p, "get_sources"), GUARD_PLAIN);
	assert_int_equal(guard_kind_of(&p, "a_stage_of_tomorrow"), GUARD_PLAIN);
	assert_int_equal(guard_kind_of(&p, "after_script"), GUARD_USER);
	assert_int_equal(guard_kind_of(&p, "archive_cache"), GUARD_CACHE);
	assert_int_equal(guard_kind_of(&p, "archive_cache_on_failure"), GUARD_CACHE);
	assert_int_equal(guard_kind_of(&p, "upload_artifacts_on_success"), GUARD_UPLOAD);
	assert_int_equal(guard_kind_of(&p, "upload_artifacts_on_failure"), GUARD_UPLOAD);
	assert_int_equal(guard_kind_of(&p, "upload_artifacts_tomorrow"), GUARD_UPLOAD);
	assert_int_equal(guard_kind_of(&p, "cleanup_file_variables"), GUARD_CLEANUP_VARS);
	strv_free(&p.step_stages);
}

static void
the_upload_is_carried_only_where_an_inspected_job_stores_an_archive(void **state)
{
	struct plan p = { .is_matching = true, .has_archive = true };
	struct plan_state s = { .is_inspected = true };
	struct guard g = {
		.plan = &p, .state = &s, .kind = GUARD_UPLOAD, .stage = "upload_artifacts_on_success"
	};

	(void)state;
	assert_true(guard_needs_upload(&g));
	g.kind = GUARD_CACHE;
	assert_false(guard_needs_upload(&g));
	g.kind = GUARD_UPLOAD;
	p.has_archive = false;
	assert_false(guard_needs_upload(&g));
	p.has_archive = true;
	s.is_inspected = false;
	assert_false(guard_needs_upload(&g));
	s.is_inspected = true;
	p.is_matching = false;
	assert_false(guard_needs_upload(&g));
}

/* A job that is not inspected is left alone: no program is started, whatever the stage. */
static void
a_job_that_does_not_match_is_left_alone(void **state)
{
	static const char *const stages[] = { "get_sources", "build_script", "archive_cache",
					      "upload_artifacts_on_success", "cleanup_file_variables" };
	struct plan p = { .is_matching = false, .has_archive = true, .opt.gate.mode = GATE_ENFORCE };
	struct plan_state s = { 0 };
	struct env_result script = { .code = 0 };
	size_t i;

	(void)state;
	strv_add(&p.step_stages, "build_script");
	for (i = 0; i < MEM_COUNT(stages); i++) {
		struct guard g = { .plan = &p, .state = &s, .stage = stages[i] };
		struct phase_result result = { .end = PHASE_OK };
		bool is_skipped = true;

		g.kind = guard_kind_of(&p, stages[i]);
		assert_int_equal(guard_before(&g, &is_skipped, &result, NULL), 0);
		assert_false(is_skipped);
		assert_int_equal(guard_after(&g, &script, &result, NULL), 0);
		assert_int_equal(result.end, PHASE_OK);
	}
	assert_false(s.job_failed);
	strv_free(&p.step_stages);
}

static void
a_failed_step_of_the_user_is_remembered_and_a_failed_after_script_is_not(void **state)
{
	struct plan p = { .is_matching = true };
	struct plan_state s = { 0 };
	struct guard g = { .plan = &p, .state = &s, .kind = GUARD_USER, .stage = "after_script" };
	struct env_result script = { .code = 1 };
	struct phase_result result = { .end = PHASE_JOB_FAILED, .job_code = 1 };

	(void)state;
	assert_int_equal(guard_after(&g, &script, &result, NULL), 0);
	assert_false(s.job_failed);
	g.stage = "build_script";
	g.kind = GUARD_LAST_STEP;
	assert_int_equal(guard_after(&g, &script, &result, NULL), 0);
	assert_true(s.job_failed);
	assert_false(s.is_inspected);
	assert_int_equal(result.job_code, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_of_the_users_steps_is_known),
		cmocka_unit_test(a_script_without_steps_in_the_payload_is_the_last_step),
		cmocka_unit_test(stages_of_the_runner_are_told_apart),
		cmocka_unit_test(the_upload_is_carried_only_where_an_inspected_job_stores_an_archive),
		cmocka_unit_test(a_job_that_does_not_match_is_left_alone),
		cmocka_unit_test(a_failed_step_of_the_user_is_remembered_and_a_failed_after_script_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
