#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cli/rehearse_ci.h"

static cJSON *
parse_with(const char *text, const char *name, struct strv *notes)
{
	struct err e = ERR_INIT;
	AUTO_STRV struct strv prefer = { 0 };
	cJSON *job = NULL;

	strv_add(&prefer, "*docker_build*");
	if (ci_parse_job("ci.yml", text, strlen(text), name, &prefer, &job, notes, &e) < 0)
		fail_msg("%s", e.text);
	return job;
}

static cJSON *
parse(const char *text, const char *name)
{
	AUTO_STRV struct strv notes = { 0 };

	return parse_with(text, name, &notes);
}

static void
assert_refused(const char *text, const char *name, const char *words)
{
	struct err e = ERR_INIT;
	AUTO_STRV struct strv prefer = { 0 };
	AUTO_STRV struct strv notes = { 0 };
	cJSON *job = NULL;

	assert_int_equal(ci_parse_job("ci.yml", text, strlen(text), name, &prefer, &job, &notes, &e), -1);
	assert_null(job);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void
assert_lines(const cJSON *job, const char *name, const char *joined)
{
	AUTO_STRV struct strv lines = { 0 };
	AUTO_FREE char *text = NULL;

	json_strv(job, name, &lines);
	text = strv_join(&lines, "|");
	assert_string_equal(text, joined);
}

static void
script_has_before_script_first_and_nested_lists_flat(void **state)
{
	AUTO_JSON cJSON *job =
		parse("a:\n  before_script: [one]\n  script:\n    - two\n    - [three, [true]]\n", "a");

	(void)state;
	assert_lines(job, "script", "one|two|three|true");
	assert_string_equal(json_str(job, "stage"), "test");
}

static void
extends_lays_the_job_over_its_bases_in_order(void **state)
{
	AUTO_JSON cJSON *job = parse(".a:\n  stage: s\n  variables: {X: a, Y: a}\n  script: [a]\n"
				     ".b:\n  extends: .a\n  variables: {Y: b, Z: b}\n"
				     "j:\n  extends: [.b]\n  script: [j]\n  variables: {Z: j}\n",
				     "j");
	AUTO_FREE char *text = json_print(json_array(job, "variables"));

	(void)state;
	assert_string_equal(json_str(job, "stage"), "s");
	assert_lines(job, "script", "j");
	assert_non_null(strstr(text, "{\"key\":\"X\",\"value\":\"a\""));
	assert_non_null(strstr(text, "{\"key\":\"Y\",\"value\":\"b\""));
	assert_non_null(strstr(text, "{\"key\":\"Z\",\"value\":\"j\""));
}

static void
merge_keys_anchors_and_references_are_followed(void **state)
{
	AUTO_JSON cJSON *job =
		parse(".t: &t\n  stage: s\n  image: i:1\n  script: &lines [x, y]\n"
		      ".u:\n  script: [u]\n"
		      "j:\n  <<: *t\n  stage: own\n  script:\n    - *lines\n    - !reference [.u, script]\n",
		      "j");

	(void)state;
	assert_string_equal(json_str(job, "stage"), "own");
	assert_string_equal(json_str(job, "image"), "i:1");
	assert_lines(job, "script", "x|y|u");
}

static void
defaults_stand_in_for_what_the_job_leaves_out(void **state)
{
	AUTO_JSON cJSON *job = parse("image: old\ndefault:\n  before_script: [d]\n  services: [docker:dind]\n"
				     "variables:\n  G: global\n  R: {value: $x, expand: false}\n"
				     "j:\n  script: [s]\n",
				     NULL);
	const cJSON *raw = cJSON_GetArrayItem(json_array(job, "variables"), 1);

	(void)state;
	assert_lines(job, "script", "d|s");
	assert_string_equal(json_str(job, "image"), "old");
	assert_string_equal(json_str(cJSON_GetArrayItem(json_array(job, "services"), 0), "name"),
			    "docker:dind");
	assert_true(json_bool(raw, "raw", false));
}

static void
artifacts_and_reports_get_the_payloads_form(void **state)
{
	AUTO_STRV struct strv notes = { 0 };
	AUTO_JSON cJSON *job =
		parse_with("j:\n  script: [s]\n  needs: [k]\n  artifacts:\n    paths: [tar_images/*.tar]\n"
			   "    expire_in: 1 week\n    when: always\n    untracked: true\n"
			   "    reports: {codequality: q.json, junit: [a.xml, b.xml], terraform: t}\n",
			   NULL, &notes);
	const cJSON *archive = cJSON_GetArrayItem(json_array(job, "artifacts"), 0);
	const cJSON *quality = cJSON_GetArrayItem(json_array(job, "artifacts"), 1);
	const cJSON *junit = cJSON_GetArrayItem(json_array(job, "artifacts"), 2);

	(void)state;
	assert_int_equal(cJSON_GetArraySize(json_array(job, "artifacts")), 3);
	assert_lines(archive, "paths", "tar_images/*.tar");
	assert_string_equal(json_str(archive, "expire_in"), "1 week");
	assert_string_equal(json_str(archive, "when"), "always");
	assert_true(json_bool(archive, "untracked", false));
	assert_string_equal(json_str(quality, "artifact_format"), "raw");
	assert_string_equal(json_str(junit, "artifact_format"), "gzip");
	assert_lines(junit, "paths", "a.xml|b.xml");
	assert_true(strv_has(&notes, "needs: is not played"));
	assert_true(strv_has(&notes, "artifacts:reports:terraform is not played"));
}

static void
without_a_name_the_job_that_would_be_inspected_is_taken(void **state)
{
	AUTO_JSON cJSON *job = parse("stages: [a]\n.hidden: {script: [h]}\nlint: {script: [l]}\n"
				     "my_docker_build: {script: [b]}\n",
				     NULL);

	(void)state;
	assert_string_equal(json_str(job, "name"), "my_docker_build");
}

static void
a_job_that_is_not_there_is_answered_with_those_that_are(void **state)
{
	(void)state;
	assert_refused("lint: {script: [l]}\nunit: {script: [u]}\n", "build", "there are: lint, unit");
	assert_refused("lint: {script: [l]}\nunit: {script: [u]}\n", NULL, "which job?");
	assert_refused("stages: [a]\n", NULL, "no job");
}

static void
what_is_no_sound_file_is_refused_with_its_line(void **state)
{
	(void)state;
	assert_refused("a: [\n", NULL, "ci.yml:2:");
	assert_refused("", NULL, "empty");
	assert_refused("[a]\n", NULL, "not a mapping");
	assert_refused("? [a, b]\n: c\n", NULL, "ci.yml:1: a key that is no word");
	assert_refused("j: {stage: a}\n", NULL, "has no script");
	assert_refused("j: {script: {a: b}}\n", NULL, "a list of strings");
	assert_refused("j: {extends: .k, script: [a]}\n", NULL, "no \".k\"");
	assert_refused("j: {extends: j, script: [a]}\n", NULL, "deeper than");
	assert_refused("j: {script: [!reference [j, script]]}\n", NULL, "nested too deeply");
	assert_refused("j: {script: [!reference [k, script]]}\n", NULL, "not in this file");
}

static void
aliases_of_aliases_do_not_fill_the_memory(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(65536);

	(void)state;
	buf_add_str(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
	for (int i = 1; i < 9; i++) {
		buf_printf(&text, "a%d: &a%d [", i, i);
		for (int k = 0; k < 10; k++)
			buf_printf(&text, "%s*a%d", k ? ", " : "", i - 1);
		buf_add_str(&text, "]\n");
	}
	buf_add_str(&text, "j: {script: [a]}\n");
	assert_refused(buf_str(&text), NULL, "too large");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(script_has_before_script_first_and_nested_lists_flat),
		cmocka_unit_test(extends_lays_the_job_over_its_bases_in_order),
		cmocka_unit_test(merge_keys_anchors_and_references_are_followed),
		cmocka_unit_test(defaults_stand_in_for_what_the_job_leaves_out),
		cmocka_unit_test(artifacts_and_reports_get_the_payloads_form),
		cmocka_unit_test(without_a_name_the_job_that_would_be_inspected_is_taken),
		cmocka_unit_test(a_job_that_is_not_there_is_answered_with_those_that_are),
		cmocka_unit_test(what_is_no_sound_file_is_refused_with_its_line),
		cmocka_unit_test(aliases_of_aliases_do_not_fill_the_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
