#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "executor/payload.h"

#define GOOD_HEAD                                                                                       \
	"{\"id\":7,\"token\":\"t\",\"job_info\":{\"name\":\"build\",\"stage\":\"s\",\"project_id\":42," \
	"\"pipeline_id\":5,\"project_full_path\":\"group/app\"},"
#define GOOD_GIT \
	"\"git_info\":{\"repo_url\":\"https://x:t@git.example.com/group/app.git\",\"ref\":\"main\",\"sha\":\"60e1\"}"

/* A recorded case with the placeholders of its addresses filled in. */
static struct payload *
recorded(const char *name)
{
	AUTO_FREE char *path = mem_printf(SHARED_DIR "/gitlab-runner/19.4.0/%s/response.json", name);
	AUTO_FREE char *text = NULL;
	AUTO_BUF struct buf filled = BUF_INIT(PAYLOAD_MAX);
	struct payload *p = NULL;
	struct err e = ERR_INIT;
	size_t len;

	assert_int_equal(fs_read_max(AT_FDCWD, path, PAYLOAD_MAX, &text, &len, &e), 0);
	for (const char *at = text; *at;) {
		if (str_has_prefix(at, "@SERVER_HOST@")) {
			buf_add_str(&filled, "git.example.com");
			at += strlen("@SERVER_HOST@");
		} else if (str_has_prefix(at, "@SERVER_PORT@")) {
			buf_add_str(&filled, "8080");
			at += strlen("@SERVER_PORT@");
		} else {
			buf_add_char(&filled, *at++);
		}
	}
	if (payload_parse(filled.data, filled.len, &p, &e) < 0)
		fail_msg("%s: %s", name, e.text);
	return p;
}

static struct payload *
parsed(const char *text)
{
	struct payload *p = NULL;
	struct err e = ERR_INIT;

	if (payload_parse(text, strlen(text), &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static void
assert_refused(const char *text, const char *words)
{
	struct payload *p = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(payload_parse(text, strlen(text), &p, &e), -1);
	assert_null(p);
	assert_int_equal(e.kind, ERR_REFUSED);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void
facts_come_from_the_fields_that_gitlab_writes(void **state)
{
	AUTO(payload) struct payload *p = recorded("docker_build");

	(void)state;
	assert_int_equal(p->facts.job_id, 1000);
	assert_int_equal(p->facts.project_id, 42);
	assert_int_equal(p->facts.pipeline_id, 500);
	assert_string_equal(p->facts.project_path, "group/app");
	assert_string_equal(p->facts.name, "docker_build");
	assert_string_equal(p->facts.stage, "build");
	assert_string_equal(p->facts.ref, "main");
	assert_false(p->facts.is_tag);
	assert_true(p->facts.is_protected);
	assert_string_equal(p->facts.sha, "60e138186b7a29a56fa04d6bed0a8b3bebd4c0f1");
	assert_string_equal(p->facts.server_url, "http://git.example.com:8080");
	assert_string_equal(p->facts.project_url, "http://git.example.com:8080/group/app");
	assert_string_equal(p->facts.default_branch, "main");
	assert_string_equal(p->token, "glcbt-64_00000000000000001000");
	assert_string_equal(p->repo_path, "group/app");
	assert_int_equal(p->facts.artifact_paths.n, 1);
	assert_string_equal(p->facts.artifact_paths.v[0], "tar_images/*.tar");
	assert_true(p->has_archive);
	assert_int_equal(p->archive_when, ARTIFACT_ON_SUCCESS);
	assert_false(p->has_cache);
}

static void
of_a_predefined_variable_the_first_of_its_name_counts(void **state)
{
	AUTO(payload) struct payload *p = recorded("variables");

	(void)state;
	/* The user's CI_SERVER_URL=http://elsewhere.example.com, CI_PROJECT_ID=666, CI_JOB_ID=1 come later. */
	assert_string_equal(p->facts.server_url, "http://git.example.com:8080");
	assert_int_equal(p->facts.project_id, 42);
	assert_int_not_equal(p->facts.job_id, 1);
}

static void
steps_become_the_runners_stages_in_order(void **state)
{
	AUTO(payload) struct payload *p = recorded("multi_step");

	(void)state;
	assert_int_equal(p->n_user_steps, 3);
	assert_int_equal(p->step_stages.n, 3);
	assert_string_equal(p->step_stages.v[0], "build_script");
	assert_string_equal(p->step_stages.v[1], "step_release");
	assert_string_equal(p->step_stages.v[2], "step_extra");
	assert_true(p->has_after_script);
}

static void
reports_are_not_taken_for_the_archive(void **state)
{
	AUTO(payload) struct payload *p = recorded("reports");

	(void)state;
	assert_true(p->has_archive);
	assert_int_equal(p->report_types.n, 2);
	assert_true(strv_has(&p->report_types, "codequality"));
	assert_true(strv_has(&p->report_types, "container_scanning"));
	assert_int_equal(p->facts.artifact_paths.n, 1);
	assert_string_equal(p->facts.artifact_paths.v[0], "*.json");
}

static void
when_of_the_archive_is_read(void **state)
{
	AUTO(payload) struct payload *on_failure = recorded("failing_script");
	AUTO(payload) struct payload *always = recorded("canceled");

	(void)state;
	assert_int_equal(on_failure->archive_when, ARTIFACT_ON_FAILURE);
	assert_int_equal(always->archive_when, ARTIFACT_ALWAYS);
}

static void
image_services_and_cache_are_seen(void **state)
{
	AUTO(payload) struct payload *p = recorded("services_and_image");
	AUTO(payload) struct payload *cached = recorded("cache");
	AUTO(payload) struct payload *plain = recorded("after_script");

	(void)state;
	assert_true(p->image[0] != '\0');
	assert_true(p->n_services > 0);
	assert_true(cached->has_cache);
	assert_string_equal(plain->image, "");
	assert_int_equal(plain->n_services, 0);
}

static void
with_gitlab_below_a_path_the_project_lies_below_it_too(void **state)
{
	AUTO(payload)
	struct payload *p = parsed(
		GOOD_HEAD
		"\"git_info\":{\"repo_url\":\"https://gitlab-ci-token:t@example.com/gitlab/group/app.git\","
		"\"ref\":\"v1\",\"ref_type\":\"tag\",\"sha\":\"60e1\"}}");

	(void)state;
	assert_string_equal(p->repo_path, "gitlab/group/app");
	assert_true(p->facts.is_tag);
	assert_false(p->facts.is_protected);
}

static void
a_repository_address_that_climbs_is_not_followed(void **state)
{
	AUTO(payload)
	struct payload *p = parsed(
		GOOD_HEAD
		"\"git_info\":{\"repo_url\":\"https://example.com/../../etc.git\",\"ref\":\"m\",\"sha\":\"60e1\"}}");
	AUTO(payload)
	struct payload *none = parsed(GOOD_HEAD "\"git_info\":{\"ref\":\"m\",\"sha\":\"60e1\"}}");

	(void)state;
	assert_string_equal(p->repo_path, "group/app");
	assert_string_equal(none->repo_path, "group/app");
}

static void
an_address_that_is_no_web_address_is_left_out(void **state)
{
	AUTO(payload)
	struct payload *p = parsed(GOOD_HEAD GOOD_GIT
				   ",\"variables\":[{\"key\":\"CI_SERVER_URL\",\"value\":\"file:///etc\"},"
				   "{\"key\":\"CI_PROJECT_URL\",\"value\":\"https://a.example.com/x/\"}]}");

	(void)state;
	assert_string_equal(p->facts.server_url, "");
	assert_string_equal(p->facts.project_url, "https://a.example.com/x");
}

static void
null_lists_and_unknown_keys_are_accepted(void **state)
{
	AUTO(payload)
	struct payload *p = parsed(GOOD_HEAD GOOD_GIT
				   ",\"steps\":null,\"artifacts\":null,\"services\":null,\"cache\":null,"
				   "\"variables\":null,\"image\":null,\"newer\":{\"a\":[1]}}");

	(void)state;
	assert_int_equal(p->n_user_steps, 0);
	assert_false(p->has_archive);
	assert_false(p->has_cache);
	assert_string_equal(p->image, "");
}

static void
what_is_missing_or_of_another_type_is_named(void **state)
{
	(void)state;
	assert_refused("{\"id\":7,\"token\":\"t\"}", "job_info");
	assert_refused("[]", "object");
	assert_refused(GOOD_HEAD "\"git_info\":{\"sha\":\"not a commit\"}}", "sha");
	assert_refused(GOOD_HEAD GOOD_GIT ",\"steps\":[{\"script\":[]}]}", "steps");
	assert_refused("{\"id\":0,\"token\":\"t\",\"job_info\":{\"project_id\":1,\"project_full_path\":\"a/b\"}}",
		       "positive");
}

static void
a_project_path_that_climbs_is_refused(void **state)
{
	static const char *const paths[] = { "../etc",	"/etc", "a/../../b", "a//b", "a b",
					     "a/b\\nc", "",	".git/x",    "a/" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(paths); i++) {
		AUTO_FREE char *text =
			mem_printf("{\"id\":7,\"token\":\"t\",\"job_info\":{\"project_id\":1,\"project_full_path\":\"%s\"}," GOOD_GIT
				   "}",
				   paths[i]);

		assert_refused(text, "project_full_path");
	}
}

static void
a_list_without_end_is_refused(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(PAYLOAD_MAX);

	(void)state;
	buf_add_str(&text, GOOD_HEAD GOOD_GIT ",\"steps\":[");
	for (int i = 0; i <= PAYLOAD_LIST_MAX; i++)
		buf_printf(&text, "%s{\"name\":\"s%d\"}", i ? "," : "", i);
	buf_add_str(&text, "]}");
	assert_refused(buf_str(&text), "steps: 10001 elements");
}

static void
a_name_without_end_is_refused(void **state)
{
	AUTO_FREE char *name = mem_alloc(5000);
	AUTO_FREE char *text = NULL;

	(void)state;
	memset(name, 'a', 4999);
	text = mem_printf("{\"id\":7,\"token\":\"t\",\"job_info\":{\"name\":\"%s\",\"project_id\":1,"
			  "\"project_full_path\":\"a/b\"}," GOOD_GIT "}",
			  name);
	assert_refused(text, "name: 4999 bytes");
}

static void
untracked_artifacts_mean_all_of_the_project_directory(void **state)
{
	struct payload *p =
		parsed(GOOD_HEAD GOOD_GIT ",\"artifacts\":[{\"paths\":[\"x\"],\"untracked\":true}]}");
	(void)state;

	assert_int_equal(p->facts.artifact_paths.n, 2);
	assert_string_equal(p->facts.artifact_paths.v[1], ".");
	payload_free(p);
}

static void
what_a_job_asks_for_is_the_last_of_its_name_and_short(void **state)
{
	AUTO_FREE char *text =
		mem_printf("%s%s,\"variables\":[{\"key\":\"TIDEWAITER_MODE\",\"value\":\"warn\"},{\"key\":\"TIDEWAITER_MODE\",\"value\":\"enforce\"},"
			   "{\"key\":\"TIDEWAITER_WAIVER\",\"value\":\"%0500d\"}]}",
			   GOOD_HEAD, GOOD_GIT, 1);
	AUTO(payload) struct payload *p = parsed(text);

	(void)state;
	assert_string_equal(p->facts.wants_mode, "enforce");
	assert_string_equal(p->facts.wants_severity, "");
	assert_int_equal(strlen(p->facts.wants_waiver), 128);
}

/* Outside of a merge request the variable is the user's, who would choose what counts as known. */
static void
the_target_branch_is_gitlabs_word_or_none(void **state)
{
	static const char head[] =
		GOOD_HEAD GOOD_GIT ",\"variables\":[{\"key\":\"CI_PIPELINE_SOURCE\",\"value\":\"";
	static const char tail[] = "\"},{\"key\":\"CI_PIPELINE_SOURCE\",\"value\":\"merge_request_event\"},"
				   "{\"key\":\"CI_MERGE_REQUEST_TARGET_BRANCH_NAME\",\"value\":\"main\"},"
				   "{\"key\":\"CI_MERGE_REQUEST_TARGET_BRANCH_NAME\",\"value\":\"mine\"},"
				   "{\"key\":\"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME\",\"value\":\"fix\"},"
				   "{\"key\":\"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME\",\"value\":\"mine\"}]}";
	AUTO_FREE char *of_push = mem_printf("%spush%s", head, tail);
	AUTO_FREE char *of_request = mem_printf("%smerge_request_event%s", head, tail);
	AUTO(payload) struct payload *push = parsed(of_push);
	AUTO(payload) struct payload *request = parsed(of_request);

	(void)state;
	assert_string_equal(push->facts.target_branch, "");
	assert_string_equal(request->facts.target_branch, "main");
	assert_string_equal(push->facts.source_branch, "");
	assert_string_equal(request->facts.source_branch, "fix");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(facts_come_from_the_fields_that_gitlab_writes),
		cmocka_unit_test(of_a_predefined_variable_the_first_of_its_name_counts),
		cmocka_unit_test(steps_become_the_runners_stages_in_order),
		cmocka_unit_test(reports_are_not_taken_for_the_archive),
		cmocka_unit_test(when_of_the_archive_is_read),
		cmocka_unit_test(image_services_and_cache_are_seen),
		cmocka_unit_test(with_gitlab_below_a_path_the_project_lies_below_it_too),
		cmocka_unit_test(a_repository_address_that_climbs_is_not_followed),
		cmocka_unit_test(an_address_that_is_no_web_address_is_left_out),
		cmocka_unit_test(null_lists_and_unknown_keys_are_accepted),
		cmocka_unit_test(what_is_missing_or_of_another_type_is_named),
		cmocka_unit_test(a_project_path_that_climbs_is_refused),
		cmocka_unit_test(a_list_without_end_is_refused),
		cmocka_unit_test(a_name_without_end_is_refused),
		cmocka_unit_test(what_a_job_asks_for_is_the_last_of_its_name_and_short),
		cmocka_unit_test(the_target_branch_is_gitlabs_word_or_none),
		cmocka_unit_test(untracked_artifacts_mean_all_of_the_project_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
