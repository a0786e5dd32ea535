#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/job_facts.h"

static void
fill(struct job_facts *f)
{
	*f = (struct job_facts){
		.job_id = 9007199254740991,
		.pipeline_id = 5,
		.project_id = 42,
		.project_path = mem_strdup("group/sub/app"),
		.name = mem_strdup("docker_build: [\"amd64\"]"),
		.stage = mem_strdup("build"),
		.ref = mem_strdup("feature/x"),
		.is_protected = true,
		.sha = mem_strdup("60e138186b7a29a56fa04d6bed0a8b3bebd4c0f1"),
		.server_url = mem_strdup("https://gitlab.example.com"),
		.project_url = mem_strdup(""),
		.default_branch = mem_strdup("main"),
	};
	strv_add(&f->artifact_paths, "tar_images/*.tar");
	strv_add(&f->artifact_paths, "");
}

static cJSON *
parsed(const cJSON *j)
{
	AUTO_FREE char *text = json_print(j);
	cJSON *back = NULL;

	assert_int_equal(json_parse(text, strlen(text), 100000, JSON_UNIQUE, &back, NULL), 0);
	return back;
}

static void
facts_survive_json(void **state)
{
	struct job_facts f, back = { 0 };
	AUTO_JSON cJSON *j = NULL;
	AUTO_JSON cJSON *again = NULL;

	(void)state;
	fill(&f);
	j = job_facts_to_json(&f);
	again = parsed(j);
	assert_int_equal(job_facts_from_json(again, &back, NULL), 0);
	assert_true(back.job_id == f.job_id);
	assert_int_equal(back.pipeline_id, 5);
	assert_int_equal(back.project_id, 42);
	assert_string_equal(back.project_path, f.project_path);
	assert_string_equal(back.name, f.name);
	assert_string_equal(back.stage, f.stage);
	assert_string_equal(back.ref, f.ref);
	assert_false(back.is_tag);
	assert_true(back.is_protected);
	assert_string_equal(back.sha, f.sha);
	assert_string_equal(back.server_url, f.server_url);
	assert_string_equal(back.project_url, "");
	assert_string_equal(back.default_branch, "main");
	assert_int_equal(back.artifact_paths.n, 2);
	assert_string_equal(back.artifact_paths.v[0], "tar_images/*.tar");
	assert_string_equal(back.artifact_paths.v[1], "");
	job_facts_free(&f);
	job_facts_free(&back);
}

static void
what_is_not_there_is_empty_and_never_null(void **state)
{
	struct job_facts f;
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	char scratch[JOB_FACTS_SCRATCH];

	(void)state;
	fill(&f);
	json_add_int(j, "sha", 7);
	json_add_str(j, "job_id", "7");
	assert_int_equal(job_facts_from_json(j, &f, NULL), 0);
	assert_string_equal(f.sha, "");
	assert_string_equal(f.project_path, "");
	assert_int_equal(f.job_id, 0);
	assert_int_equal(f.artifact_paths.n, 0);
	assert_string_equal(job_facts_value(&f, "namespace", scratch), "");
	assert_string_equal(job_facts_value(&f, "commit_short", scratch), "");
	job_facts_free(&f);
}

static void
what_is_no_object_is_an_error_and_changes_nothing(void **state)
{
	struct job_facts f;
	AUTO_JSON cJSON *j = cJSON_CreateArray();
	struct err e = ERR_INIT;

	(void)state;
	fill(&f);
	assert_int_equal(job_facts_from_json(NULL, &f, &e), -1);
	assert_int_equal(job_facts_from_json(j, &f, &e), -1);
	assert_string_equal(f.stage, "build");
	job_facts_free(&f);
	assert_null(f.stage);
	job_facts_free(&f);
}

static void
templates_have_their_values(void **state)
{
	static const struct {
		const char *name, *value;
	} cases[] = {
		{ "project_path", "group/sub/app" },
		{ "project_name", "app" },
		{ "namespace", "group/sub" },
		{ "branch", "feature/x" },
		{ "ref", "feature/x" },
		{ "commit", "60e138186b7a29a56fa04d6bed0a8b3bebd4c0f1" },
		{ "commit_short", "60e13818" },
		{ "job_id", "9007199254740991" },
		{ "job_name", "docker_build: [\"amd64\"]" },
		{ "job_stage", "build" },
		{ "pipeline_id", "5" },
		{ "project_id", "42" },
		{ "server_url", "https://gitlab.example.com" },
		{ "default_branch", "main" },
	};
	char scratch[JOB_FACTS_SCRATCH];
	struct job_facts f;

	(void)state;
	fill(&f);
	for (size_t i = 0; i < MEM_COUNT(cases); i++)
		assert_string_equal(job_facts_value(&f, cases[i].name, scratch), cases[i].value);
	assert_null(job_facts_value(&f, "token", scratch));
	assert_null(job_facts_value(&f, "", scratch));
	assert_null(job_facts_value(&f, "Branch", scratch));
	job_facts_free(&f);
}

static void
a_project_without_a_group_has_no_namespace(void **state)
{
	char scratch[JOB_FACTS_SCRATCH];
	struct job_facts f = { .project_path = mem_strdup("app") };

	(void)state;
	assert_string_equal(job_facts_value(&f, "namespace", scratch), "");
	assert_string_equal(job_facts_value(&f, "project_name", scratch), "app");
	job_facts_free(&f);
}

static void
facts_that_nobody_filled_give_empty_values(void **state)
{
	static const char *const names[] = { "project_path", "project_name", "namespace", "branch",
					     "commit",	     "commit_short", "job_name" };
	char scratch[JOB_FACTS_SCRATCH];
	struct job_facts f = { 0 };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(names); i++)
		assert_string_equal(job_facts_value(&f, names[i], scratch), "");
	assert_string_equal(job_facts_value(&f, "job_id", scratch), "0");
}

/* Git lets a branch be named so, and what is triaged there is to count there alone. */
static void
no_branch_has_the_name_in_defectdojo_that_another_ref_has(void **state)
{
	static const struct {
		const char *ref;
		bool is_tag;
		const char *expected;
	} cases[] = {
		{ "main", false, "main" },
		{ "main", true, "refs/tags/main" },
		{ "refs/heads/main", false, "refs/heads/refs/heads/main" },
		{ "refs/tags/main", false, "refs/heads/refs/tags/main" },
		{ "refs/tags/main", true, "refs/tags/refs/tags/main" },
		{ "refs/merge-requests/7/head", false, "refs/heads/refs/merge-requests/7/head" },
		{ "refs/x", false, "refs/heads/refs/x" },
		{ NULL, false, "" },
		{ NULL, true, "" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_FREE char *ref = cases[k].ref ? mem_strdup(cases[k].ref) : NULL;
		const struct job_facts f = { .ref = ref, .is_tag = cases[k].is_tag };
		AUTO_FREE char *is = job_facts_branch_tag(&f);
		char scratch[JOB_FACTS_SCRATCH];

		assert_string_equal(is, cases[k].expected);
		assert_string_equal(job_facts_value(&f, "branch", scratch), cases[k].expected);
		assert_string_equal(job_facts_value(&f, "ref", scratch), ref ? ref : "");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(facts_survive_json),
		cmocka_unit_test(what_is_not_there_is_empty_and_never_null),
		cmocka_unit_test(what_is_no_object_is_an_error_and_changes_nothing),
		cmocka_unit_test(templates_have_their_values),
		cmocka_unit_test(a_project_without_a_group_has_no_namespace),
		cmocka_unit_test(facts_that_nobody_filled_give_empty_values),
		cmocka_unit_test(no_branch_has_the_name_in_defectdojo_that_another_ref_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
