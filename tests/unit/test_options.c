#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "stages/options.h"

static void
defaults_are_those_of_the_design(void **state)
{
	struct options o = { 0 };

	(void)state;
	conf_set_defaults(&options_schema, &o);
	assert_int_equal(o.inject.jobs.n, 1);
	assert_string_equal(o.inject.jobs.v[0], "*docker_build*");
	assert_int_equal(o.inject.on_no_image, REACT_WARN);
	assert_true(strv_has(&o.images.archives, "tar_images/*"));
	assert_true(o.images.declared_artifacts);
	assert_true(o.images.withhold);
	assert_true(o.images.max_size == INT64_C(20) << 30);
	assert_int_equal(o.trivy.db_max_age, 48 * 3600 * 1000);
	assert_int_equal(o.trivy.timeout, 15 * 60 * 1000);
	assert_int_equal(o.trivy.scanners.n, 1);
	assert_int_equal(o.gate.mode, GATE_AUDIT);
	assert_int_equal(o.gate.severity, SEVERITY_CRITICAL);
	assert_false(o.gate.fixable_only);
	assert_int_equal(o.gate.on_no_packages, REACT_WARN);
	assert_int_equal(o.gate.on_error, ON_ERROR_FAIL);
	assert_string_equal(o.report.dir, "scan_result");
	assert_string_equal(o.report.expire_in, "1 month");
	assert_string_equal(o.defectdojo.url, "");
	assert_int_equal(o.defectdojo.active, TRI_UNSET);
	assert_int_equal(o.defectdojo.verified, TRI_UNSET);
	assert_int_equal(o.defectdojo.minimum_severity, 0);
	assert_int_equal(o.defectdojo.wait, 5000);
	options_free(&o);
}

static const struct conf_field *
find(const char *section, const char *key)
{
	for (size_t i = 0; i < options_schema.n_sections; i++) {
		const struct conf_section *s = &options_schema.sections[i];

		for (size_t k = 0; strcmp(s->key, section) == 0 && k < s->n_fields; k++)
			if (strcmp(s->fields[k].key, key) == 0)
				return &s->fields[k];
	}
	fail_msg("%s.%s", section, key);
	return NULL;
}

static void
words_stand_in_the_order_of_their_enums(void **state)
{
	(void)state;
	assert_string_equal(severity_words[SEVERITY_UNKNOWN], "UNKNOWN");
	assert_string_equal(severity_words[SEVERITY_LOW], "LOW");
	assert_string_equal(severity_words[SEVERITY_MEDIUM], "MEDIUM");
	assert_string_equal(severity_words[SEVERITY_HIGH], "HIGH");
	assert_string_equal(severity_words[SEVERITY_CRITICAL], "CRITICAL");
	assert_null(severity_words[SEVERITY_COUNT]);
	assert_string_equal(gate_mode_words[GATE_OFF], "off");
	assert_string_equal(gate_mode_words[GATE_AUDIT], "audit");
	assert_string_equal(gate_mode_words[GATE_WARN], "warn");
	assert_string_equal(gate_mode_words[GATE_ENFORCE], "enforce");
	assert_string_equal(reaction_words[REACT_PASS], "pass");
	assert_string_equal(reaction_words[REACT_WARN], "warn");
	assert_string_equal(reaction_words[REACT_FAIL], "fail");
	assert_string_equal(find("gate", "on_error")->choices[ON_ERROR_FAIL], "fail");
	assert_string_equal(find("gate", "on_error")->choices[ON_ERROR_WARN], "warn");
	assert_string_equal(find("defectdojo", "active")->choices[TRI_UNSET], "unset");
	assert_string_equal(find("defectdojo", "active")->choices[TRI_TRUE], "true");
	assert_string_equal(find("defectdojo", "active")->choices[TRI_FALSE], "false");
	for (int v = SEVERITY_LOW; v <= SEVERITY_CRITICAL; v++)
		assert_int_equal(strcasecmp(find("defectdojo", "minimum_severity")->choices[v + 1],
					    severity_words[v]),
				 0);
}

/* A line that was copied and not finished would show here. */
static void
every_setting_has_a_place_and_a_help_of_its_own(void **state)
{
	(void)state;
	for (size_t i = 0; i < options_schema.n_sections; i++) {
		const struct conf_section *s = &options_schema.sections[i];

		assert_true(s->is_overridable && s->help && *s->help);
		for (size_t k = 0; k < s->n_fields; k++) {
			const struct conf_field *f = &s->fields[k];

			assert_true(f->help && strlen(f->help) > 10);
			for (size_t m = 0; m < k; m++)
				if (f->offset == s->fields[m].offset || strcmp(f->key, s->fields[m].key) == 0 ||
				    strcmp(f->help, s->fields[m].help) == 0)
					fail_msg("%s.%s is like %s", s->key, f->key, s->fields[m].key);
		}
	}
}

static void
what_all_scans_of_a_host_share_is_not_a_project_s_to_change(void **state)
{
	(void)state;
	assert_true(find("trivy", "parallel")->flags & CONF_NO_OVERRIDE);
	assert_true(find("defectdojo", "spool_count_max")->flags & CONF_NO_OVERRIDE);
	assert_true(find("defectdojo", "spool_size_max")->flags & CONF_NO_OVERRIDE);
	assert_true(find("defectdojo", "token_file")->flags & CONF_SECRET_FILE);
}

static void
options_survive_json_by_text(void **state)
{
	struct options o = { 0 }, back = { 0 };
	AUTO_JSON cJSON *j = NULL;
	AUTO_JSON cJSON *parsed = NULL;
	AUTO_JSON cJSON *again = NULL;
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *second = NULL;

	(void)state;
	conf_set_defaults(&options_schema, &o);
	o.gate.mode = GATE_ENFORCE;
	o.gate.fixable_only = true;
	o.images.max_size = INT64_C(1) << 40;
	j = conf_to_json(&options_schema, &o);
	text = json_print(j);
	assert_int_equal(json_parse(text, strlen(text), 1 << 20, JSON_UNIQUE, &parsed, NULL), 0);
	assert_int_equal(conf_from_json(&options_schema, parsed, &back, NULL), 0);
	assert_int_equal(back.gate.mode, GATE_ENFORCE);
	assert_true(back.images.max_size == INT64_C(1) << 40);
	again = conf_to_json(&options_schema, &back);
	second = json_print(again);
	assert_string_equal(text, second);
	options_free(&o);
	options_free(&back);
	options_free(&back);
}

static void
assert_rule(const char *key, const char *const *good, const char *const *bad)
{
	const struct conf_rule *rule = find("policy", key)->rule;

	for (; *good; good++)
		if (!rule->holds(*good))
			fail_msg("policy.%s: \"%s\" is refused", key, *good);
	for (; *bad; bad++)
		if (rule->holds(*bad))
			fail_msg("policy.%s: \"%s\" is taken", key, *bad);
}

static void
where_a_policy_is_holds_no_password_no_option_and_no_way_out(void **state)
{
	static const char *const urls[] = { "https://gitlab.example.com/platform/policies.git",
					    "ssh://git@gitlab.example.com:2222/policies.git",
					    "ssh://gitlab.example.com/policies.git",
					    "git@gitlab.example.com:platform/policies.git",
					    "file:///srv/policies",
					    NULL };
	static const char *const no_urls[] = { "https://user:secret@gitlab.example.com/p.git",
					       "ssh://git:secret@gitlab.example.com/p.git",
					       "ssh://-oProxyCommand=x/p",
					       "ssh://git@-oProxyCommand=x:p",
					       "-u@host:path",
					       "git@-host:path",
					       "git@host:",
					       "ext::sh -c x",
					       "git://gitlab.example.com/p.git",
					       "file://relative",
					       "/srv/policies",
					       "https://",
					       NULL };
	static const char *const refs[] = { "main",
					    "release/1.2",
					    "refs/tags/v1",
					    "v1.0-rc.1",
					    "60e138186b7a29a56fa04d6bed0a8b3bebd4c0f1",
					    NULL };
	static const char *const no_refs[] = { "",	   "-x",     "a..b", "main~1", "main^", "a:b", "a b",
					       "main@{1}", "x.lock", "/x",   "x/",     "a//b",	"*",   NULL };
	static const char *const paths[] = { "policy.yml", "gates/policy.yml", ".tidewaiter/policy.yml",
					     NULL };
	static const char *const no_paths[] = { "",	"/etc/passwd", "../x", "a/../../x", "a/..",
						"a//b", "a/./b",       "a/",   "a\nb",	    NULL };

	(void)state;
	assert_rule("url", urls, no_urls);
	assert_rule("ref", refs, no_refs);
	assert_rule("path", paths, no_paths);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_design),
		cmocka_unit_test(words_stand_in_the_order_of_their_enums),
		cmocka_unit_test(every_setting_has_a_place_and_a_help_of_its_own),
		cmocka_unit_test(what_all_scans_of_a_host_share_is_not_a_project_s_to_change),
		cmocka_unit_test(options_survive_json_by_text),
		cmocka_unit_test(where_a_policy_is_holds_no_password_no_option_and_no_way_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
