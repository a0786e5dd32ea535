#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/rehearse_log.h"
#include "cli/rehearse_options.h"
#include "cli/rehearse_rules.h"

#define CASES SHARED_DIR "/gitlab-runner/19.4.0/"
#define TEXT_MAX (1024 * 1024)

/* `text` with every `from` as `to`; owned by the caller. */
static char *
replaced(const char *text, const char *from, const char *to)
{
	struct buf out = BUF_INIT(TEXT_MAX);
	const char *p;

	while ((p = strstr(text, from)) != NULL) {
		buf_add(&out, text, (size_t)(p - text));
		buf_add_str(&out, to);
		text = p + strlen(from);
	}
	buf_add_str(&out, text);
	return buf_take(&out);
}

/* A file of a recorded case, as if our server had been the recorded one. */
static char *
load(const char *name, const char *file)
{
	struct err e = ERR_INIT;
	AUTO_FREE char *path = mem_printf(CASES "%s/%s", name, file);
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *server = NULL;
	AUTO_FREE char *token = NULL;
	AUTO_FREE char *builds = NULL;
	size_t len;

	if (fs_read_max(AT_FDCWD, path, TEXT_MAX, &text, &len, &e) < 0)
		fail_msg("%s", e.text);
	server = replaced(text, "http://@SERVER_HOST@:@SERVER_PORT@", REHEARSE_SERVER);
	token = replaced(server, "loopback-", "rehearsal");
	builds = replaced(token, "@BUILDS_DIR@", "/b");
	return replaced(builds, "@CACHE_DIR@", "/cache");
}

static const char *
exports_of(const cJSON *rules, const char *stage)
{
	const cJSON *rule = rules_find(rules, "stages", "name", stage);

	if (!rule)
		rule = rules_find(rules, "retry_stages", "name", stage);
	return rule ? json_str(rule, "exports") : "all";
}

/* Every script of a case but those that rehearse does not generate. */
static void
compare_case(const cJSON *rules, const char *name, const char *const *left_out, const char *after_status)
{
	struct err e = ERR_INIT;
	AUTO_FREE char *response = load(name, "response.json");
	AUTO_FREE char *calls = load(name, "calls.jsonl");
	AUTO_JSON cJSON *payload = NULL;
	struct rehearse_dirs dirs = { (char *)"/b", (char *)"/cache", (char *)"/b/group/app" };
	size_t n_compared = 0;
	char *save = NULL;

	if (json_parse(response, strlen(response), TEXT_MAX, 0, &payload, &e) < 0)
		fail_msg("%s: %s", name, e.text);
	for (char *line = strtok_r(calls, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		AUTO_JSON cJSON *call = NULL;
		AUTO_FREE char *expected = NULL;
		AUTO_BUF struct buf got = BUF_INIT(TEXT_MAX);
		struct rehearse_context c = { rules, payload, &dirs, "running" };
		const char *stage, *status;
		bool is_left_out = false;

		assert_int_equal(json_parse(line, strlen(line), TEXT_MAX, 0, &call, &e), 0);
		if (!json_str(call, "script"))
			continue;
		stage = cJSON_GetArrayItem(json_array(call, "argv"), 1)->valuestring;
		for (size_t i = 0; left_out[i]; i++)
			is_left_out = is_left_out || str_eq(left_out[i], stage);
		if (is_left_out)
			continue;
		status = json_str(json_object(call, "env"), "CUSTOM_ENV_CI_JOB_STATUS");
		c.job_status = status					 ? status
			       : str_eq(stage, "cleanup_file_variables") ? after_status
									 : "running";
		if (rules_script(&c, stage, exports_of(rules, stage), &got, &e) < 0)
			fail_msg("%s", e.text);
		expected = load(name, json_str(call, "script"));
		if (strcmp(expected, buf_str(&got)) != 0)
			fail_msg("%s: %s differs:\n%s\n%s", name, stage, expected, buf_str(&got));
		n_compared++;
	}
	assert_true(n_compared > 0);
}

static void
scripts_equal_the_recorded_ones_to_the_byte(void **state)
{
	static const char *const all[] = { NULL };
	static const char *const not_cloned[] = { "get_sources", "cleanup_file_variables", NULL };
	static const char *const not_cached[] = { "restore_cache", "archive_cache", NULL };
	static const char *const not_downloaded[] = { "download_artifacts", NULL };
	struct err e = ERR_INIT;
	AUTO_JSON cJSON *rules = NULL;

	(void)state;
	if (rules_load(&rules, &e) < 0)
		fail_msg("%s", e.text);
	compare_case(rules, "after_script", all, "");
	compare_case(rules, "cache", not_cached, "");
	compare_case(rules, "canceled", all, "");
	compare_case(rules, "clone", not_cloned, "");
	compare_case(rules, "dependencies", not_downloaded, "");
	compare_case(rules, "docker_build", all, "");
	compare_case(rules, "failing_script", all, "");
	compare_case(rules, "get_sources_retry", all, "");
	compare_case(rules, "multi_step", all, "");
	compare_case(rules, "reports", all, "");
	compare_case(rules, "services_and_image", all, "");
	compare_case(rules, "variables", all, "success");
}

static void
environment_equals_the_recorded_one(void **state)
{
	struct err e = ERR_INIT;
	AUTO_JSON cJSON *rules = NULL;
	AUTO_JSON cJSON *payload = NULL;
	AUTO_JSON cJSON *recorded = NULL;
	AUTO_FREE char *response = load("variables", "response.json");
	AUTO_FREE char *env = load("variables", "env.json");
	AUTO_STRV struct strv got = { 0 };
	struct rehearse_dirs dirs = { (char *)"/b", (char *)"/cache", (char *)"/b/group/app" };
	struct rehearse_context c = { NULL, NULL, &dirs, "running" };
	const cJSON *item;
	size_t n = 0;

	(void)state;
	assert_int_equal(rules_load(&rules, &e), 0);
	assert_int_equal(json_parse(response, strlen(response), TEXT_MAX, 0, &payload, &e), 0);
	assert_int_equal(json_parse(env, strlen(env), TEXT_MAX, 0, &recorded, &e), 0);
	c.rules = rules;
	c.payload = payload;
	rules_environment(&c, &got);
	cJSON_ArrayForEach(item, recorded)
	{
		AUTO_FREE char *pair = mem_printf("%s=%s", item->string, item->valuestring);

		if (!str_has_prefix(pair, "CUSTOM_ENV_") ||
		    str_has_prefix(pair, "CUSTOM_ENV_CI_SERVER_HOST=") || strstr(pair, "@SERVER_"))
			continue;
		if (!strv_has(&got, pair))
			fail_msg("missing: %s", pair);
		n++;
	}
	assert_true(n > 100);
}

static void
words_are_quoted_as_the_runner_does(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = { { "", "''" },
		      { "a/b-c.d,e@f_9", "a/b-c.d,e@f_9" },
		      { "a b", "$'a b'" },
		      { "a:b", "$'a:b'" },
		      { "\xc3\xa9", "$'\\xc3\\xa9'" },
		      { "a'b\\\n", "$'a\\'b\\\\\\n'" },
		      { "\033\177", "$'\\x1b\\x7f'" } };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(table); i++) {
		AUTO_BUF struct buf out = BUF_INIT(1000);

		rules_quote(&out, table[i].in, strlen(table[i].in));
		assert_string_equal(buf_str(&out), table[i].out);
	}
}

static void
log_loses_section_markers_colours_and_secrets(void **state)
{
	static const char text[] =
		"\033[0Ksection_start:1:x[collapsed=true]\r\033[0KTitle\nplain \033[31;1mred\033[0;m "
		"s3cret!\n\033[0Ksection_end:1:x\r\033[0K\nno section_end here";
	struct rehearse_log l;
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	(void)state;
	rehearse_log_init(&l, f, false);
	strv_add(&l.secrets, "s3cret");
	for (const char *p = text; *p; p++)
		rehearse_log_write(&l, p, 1);
	rehearse_log_end_line(&l);
	rehearse_log_free(&l);
	fclose(f);
	assert_string_equal(out, "Title\nplain red [MASKED]!\nno section_end here\n");
	free(out);
}

static void
assert_usage(const char *words, int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct rehearse_options o = { 0 };

	assert_int_equal(rehearse_options_parse(argc, argv, &o, &e), -1);
	assert_int_equal(e.kind, ERR_USAGE);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
	rehearse_options_free(&o);
}

#define USAGE(words, ...)                                            \
	do {                                                         \
		char *argv_[] = { (char *)"rehearse", __VA_ARGS__ }; \
		assert_usage(words, (int)MEM_COUNT(argv_), argv_);   \
	} while (0)
#define S(s) ((char *)(s))

static void
options_that_make_no_sense_are_named(void **state)
{
	(void)state;
	USAGE("--frob", S("--frob"), S("x"));
	USAGE("--job", S("--job"));
	USAGE("--timeout", S("--timeout"), S("10"));
	USAGE("--variable", S("--variable"), S("1A=x"));
	USAGE("--variable", S("--variable"), S("A"));
	USAGE("GROUP/PROJECT", S("--project-path"), S("alone"));
	USAGE("GROUP/PROJECT", S("--project-path"), S("a/../b"));
	USAGE("GROUP/PROJECT", S("--project-path"), S("a//b"));
	USAGE("GROUP/PROJECT", S("--project-path"), S("/a/b"));
	USAGE("GROUP/PROJECT", S("--project-path"), S("a/b/"));
	USAGE("do not go together", S("--script"), S("true"), S("--file"), S("f"));
	USAGE("--artifact", S("--artifact"), S("x"));
}

static void
options_have_defaults(void **state)
{
	char *argv[] = { S("rehearse"), S("--file=/some/where/ci.yml"), S("--variable"), S("A=b=c"),
			 S("--keep") };
	struct err e = ERR_INIT;
	struct rehearse_options o = { 0 };

	(void)state;
	if (rehearse_options_parse((int)MEM_COUNT(argv), argv, &o, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(o.project, "/some/where");
	assert_string_equal(o.file, "/some/where/ci.yml");
	assert_string_equal(o.variables.v[0], "A=b=c");
	assert_int_equal(o.timeout_ms, 3600 * 1000);
	assert_true(o.keep);
	assert_false(rehearse_options_has_own_job(&o));
	rehearse_options_free(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scripts_equal_the_recorded_ones_to_the_byte),
		cmocka_unit_test(environment_equals_the_recorded_one),
		cmocka_unit_test(words_are_quoted_as_the_runner_does),
		cmocka_unit_test(log_loses_section_markers_colours_and_secrets),
		cmocka_unit_test(options_that_make_no_sense_are_named),
		cmocka_unit_test(options_have_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
