#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>

#include "base/conf_private.h"
#include "base/fs.h"
#include "base/mem.h"
#include "executor/settings.h"

static struct settings *
parsed(const char *text)
{
	struct settings *s = NULL;
	struct err e = ERR_INIT;

	if (settings_parse("t.yml", text, strlen(text), &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static void
assert_refused(const char *text, const char *words)
{
	struct settings *s = NULL;
	struct err e = ERR_INIT;

	if (settings_parse("t.yml", text, strlen(text), &s, &e) == 0)
		fail_msg("accepted: %s", text);
	assert_null(s);
	assert_int_equal(e.kind, ERR_SETTINGS);
	if (!strstr(e.text, "t.yml") || !strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void
the_defaults_are_possible_settings(void **state)
{
	AUTO(settings) struct settings *s = parsed("{}\n");

	(void)state;
	assert_string_equal(s->state_dir, "/var/lib/tidewaiter");
	assert_string_equal(s->job.user_prefix, "tidewaiter-job-");
	assert_int_equal(s->job.slots, 8);
	assert_int_equal(s->job.slot_wait, 60000);
	assert_int_equal(s->job.on_image, ON_IMAGE_WARN);
	assert_true(s->job.private_tmp);
	assert_int_equal(s->opt.gate.mode, GATE_AUDIT);
	assert_int_equal(s->opt.gate.severity, SEVERITY_CRITICAL);
	assert_int_equal(s->projects.n, 0);
}

static void
options_land_where_the_pipeline_reads_them(void **state)
{
	AUTO(settings)
	struct settings *s = parsed("inject: { jobs: [\"a*\", \"b\"] }\n"
				    "gate: { mode: enforce, severity: HIGH }\n"
				    "trivy: { timeout: 3m }\n"
				    "defectdojo: { wait: 7s }\n"
				    "job: { slots: 3 }\n");

	(void)state;
	assert_int_equal(s->opt.inject.jobs.n, 2);
	assert_string_equal(s->opt.inject.jobs.v[1], "b");
	assert_int_equal(s->opt.gate.mode, GATE_ENFORCE);
	assert_int_equal(s->opt.gate.severity, SEVERITY_HIGH);
	assert_int_equal(s->opt.trivy.timeout, 180000);
	assert_int_equal(s->opt.defectdojo.wait, 7000);
	assert_int_equal(s->job.slots, 3);
}

static void
directories_of_jobs_follow_the_state_and_cache_directories(void **state)
{
	AUTO(settings) struct settings *s = parsed("state_dir: /srv/tw\ncache_dir: /srv/c\n");
	AUTO(settings) struct settings *own = parsed("job: { builds_dir: /srv/b, cache_dir: /srv/jc }\n");

	(void)state;
	assert_string_equal(s->job.builds_dir, "/srv/tw/builds");
	assert_string_equal(s->job.cache_dir, "/srv/c/jobs");
	assert_string_equal(own->job.builds_dir, "/srv/b");
	assert_string_equal(own->job.cache_dir, "/srv/jc");
}

static void
what_is_not_possible_is_refused_with_its_key(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{ "job: { user_prefix: \"\" }\n", "job.user_prefix" },
		{ "job: { user_prefix: Root }\n", "job.user_prefix" },
		{ "job: { user_prefix: \"a:b\" }\n", "job.user_prefix" },
		{ "job: { user_prefix: a-name-of-far-too-many-bytes }\n", "job.user_prefix" },
		{ "job: { slots: 0 }\n", "slots" },
		{ "job: { slots: 513 }\n", "slots" },
		{ "job: { slots: many }\n", "slots" },
		{ "job: { slot_wait: 60 }\n", "slot_wait" },
		{ "job: { on_image: pass }\n", "on_image" },
		{ "job: { builds_dir: relative }\n", "builds_dir" },
		{ "job: { builds_dir: / }\n", "job.builds_dir" },
		{ "job: { builds_dir: /a/../b }\n", "job.builds_dir" },
		{ "job: { builds_dir: \"/a b\" }\n", "job.builds_dir" },
		{ "job: { builds_dir: /a/b, cache_dir: /a/b/c }\n", "job.builds_dir" },
		{ "job: { builds_dir: /var/lib/tidewaiter }\n", "of its own" },
		{ "job: { path: \"/bin:\" }\n", "job.path" },
		{ "job: { path: \"/bin:.:/usr/bin\" }\n", "job.path" },
		{ "job: { path: \"\" }\n", "job.path" },
		{ "job: { env_pass: [\"A=B\"] }\n", "job.env_pass" },
		{ "job: { env_pass: [CUSTOM_ENV_CI_JOB_TOKEN] }\n", "job.env_pass" },
		{ "job: { env_set: [\"1A=B\"] }\n", "job.env_set" },
		{ "job: { runner_path: bin/gitlab-runner }\n", "job.runner_path" },
		{ "scan_user: tidewaiter\n", "a user other than courier_user" },
		{ "scan_user: \"\"\n", "scan_user" },
		{ "state_dir: /\n", "state_dir" },
		{ "report: { dir: ../out }\n", "report.dir" },
		{ "images: { archives: [\"../x.tar\"] }\n", "images.archives" },
		{ "images: { archives: [\"a/../../x\"] }\n", "images.archives" },
		{ "images: { archives: [\"/x.tar\"] }\n", "images.archives" },
		{ "trivy: { sha256: abc }\n", "trivy.sha256" },
		{ "defectdojo: { url: \"ftp://x\" }\n", "defectdojo.url" },
		{ "report: { dir: /etc }\n", "report.dir" },
		{ "report: { dir: a/.. }\n", "report.dir" },
		{ "report: { dir: \"\" }\n", "report.dir" },
		{ "unknown: 1\n", "unknown" },
		{ "job: { colour: red }\n", "colour" },
		{ "job: { slots: 1, slots: 2 }\n", "slots" },
		{ "projects: [ { match: \"a/*\", job: { slots: 1 } } ]\n", "job" },
		{ "policy:\n  file: /etc/tidewaiter/policy.yml\n  url: https://git.example.com/p.git\n",
		  "t.yml:3: policy.url: \"https://git.example.com/p.git\" is not possible, allowed is nothing beside policy.file" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++)
		assert_refused(bad[i].text, bad[i].words);
}

/* ---- every key of the table, so that a new one cannot be forgotten ---- */

struct spot {
	const struct conf_section *section;
	const struct conf_field *field;
	bool in_project;
};

/* The value stands in line 4, or in line 6 of an entry of projects[]. */
static char *
text_with(const struct spot *p, const char *value)
{
	if (p->in_project)
		return mem_printf("#\nprojects:\n- match: a\n- match: b\n  %s:\n    %s: %s\n",
				  p->section->key, p->field->key, value);
	return mem_printf("#\n#\n%s%s\n%s%s: %s\n", p->section->key ? p->section->key : "#",
			  p->section->key ? ":" : "", p->section->key ? "  " : "", p->field->key, value);
}

static void
assert_told(const struct spot *p, const char *value, const char *found)
{
	const char *key = p->section->key;
	AUTO_FREE char *text = text_with(p, value), *allowed = conf_allowed(p->field);
	AUTO_FREE char *place =
		mem_printf("t.yml:%d: %s%s%s%s: ", p->in_project ? 6 : 4, p->in_project ? "projects[2]." : "",
			   key ? key : "", key ? "." : "", p->field->key);
	AUTO_FREE char *ends = mem_printf(", allowed is %s", allowed);
	struct settings *s = NULL;
	struct err e = ERR_INIT;

	if (settings_parse("t.yml", text, strlen(text), &s, &e) == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(e.kind, ERR_SETTINGS);
	if (!str_has_prefix(e.text, place) || !strstr(e.text, found) || !str_has_suffix(e.text, ends) ||
	    strchr(e.text, '\n'))
		fail_msg("\"%s\" is not: %s %s %s", e.text, place, found, ends);
}

static void
assert_wrong_types_are_told(const struct spot *p)
{
	assert_told(p, "{ a: b }", "a group of settings");
	assert_told(p, "", "no value");
	assert_told(p, "~", "no value");
	assert_told(p, p->field->type == CONF_LIST ? "text" : "[a]",
		    p->field->type == CONF_LIST ? "a single value" : "a list");
	if (p->field->type != CONF_LIST)
		return;
	assert_told(p, "[[a]]", "a list in the list");
	assert_told(p, "[{}]", "a group of settings in the list");
	assert_told(p, "[~]", "nothing in the list");
}

static void
assert_numbers_out_of_range_are_told(const struct spot *p, const char *unit)
{
	AUTO_FREE char *below = mem_printf("%lld%s", (long long)p->field->min - 1, unit);
	AUTO_FREE char *above = mem_printf("%lld%s", (long long)p->field->max + 1, unit);

	assert_told(p, below, below);
	if (p->field->max > 0)
		assert_told(p, above, above);
	assert_told(p, "1.5e3", "\"1.5e3\"");
	assert_told(p, "99999999999999999999", "99999999999999999999");
}

static void
assert_impossible_values_are_told(const struct spot *p)
{
	switch (p->field->type) {
	case CONF_BOOL:
		assert_told(p, "yes", "\"yes\"");
		return;
	case CONF_INT:
		assert_numbers_out_of_range_are_told(p, "");
		return;
	case CONF_SIZE:
		assert_numbers_out_of_range_are_told(p, "B");
		assert_told(p, "5 parsecs", "\"5 parsecs\"");
		return;
	case CONF_DURATION:
		assert_numbers_out_of_range_are_told(p, "ms");
		assert_told(p, "5 parsecs", "\"5 parsecs\"");
		return;
	case CONF_PATH:
		assert_told(p, "relative/path", "\"relative/path\"");
		assert_told(p, "\"/a\\a\"", "\"/a?\"");
		return;
	case CONF_ENUM:
		assert_told(p, "nonsense", "\"nonsense\"");
		return;
	case CONF_STRING:
		assert_told(p, "\"\\a\"", "\"?\"");
		return;
	case CONF_LIST:
		assert_told(p, "[\"\\a\"]", p->field->rule && p->field->rule->shown ? "\"…" : "\"?\"");
		return;
	}
}

static void
every_key_is_refused_with_its_line_what_was_found_and_what_is_allowed(void **state)
{
	size_t n_keys = 0, n_in_projects = 0;

	(void)state;
	for (size_t i = 0; i < settings_schema.n_sections; i++) {
		const struct conf_section *section = &settings_schema.sections[i];

		for (size_t k = 0; k < section->n_fields; k++) {
			const struct conf_field *f = &section->fields[k];
			struct spot spot = { section, f, false };

			assert_wrong_types_are_told(&spot);
			assert_impossible_values_are_told(&spot);
			n_keys++;
			if (!section->is_overridable || (f->flags & CONF_NO_OVERRIDE))
				continue;
			spot.in_project = true;
			assert_wrong_types_are_told(&spot);
			assert_impossible_values_are_told(&spot);
			n_in_projects++;
		}
	}
	assert_true(n_keys > 50);
	assert_true(n_in_projects > 30);
}

static void
every_text_has_a_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < settings_schema.n_sections; i++) {
		const struct conf_section *section = &settings_schema.sections[i];

		for (size_t k = 0; k < section->n_fields; k++) {
			const struct conf_field *f = &section->fields[k];

			if ((f->type == CONF_STRING || f->type == CONF_LIST) && !f->rule && !f->choices)
				fail_msg("%s.%s takes any text: give it a rule, at least conf_rule_text",
					 section->key ? section->key : "", f->key);
		}
	}
}

static void
texts_that_no_rule_lets_pass(void **state)
{
	static const char *const bad[] = {
		"scan_user: root\n",
		"courier_user: root\n",
		"state_dir: /a/.\n",
		"job: { lang: \"C UTF-8\" }\n",
		"job: { groups: [\"a:b\"] }\n",
		"inject: { jobs: [\"\"] }\n",
		"images: { platforms: [\"linux/\"] }\n",
		"images: { platforms: [\"linux/a/b/c\"] }\n",
		"images: { platforms: [\"linux amd64\"] }\n",
		"images: { engine_sockets: [run/docker.sock] }\n",
		"images: { engine_names: [\"\"] }\n",
		"report: { expire_in: soon }\n",
		"report: { expire_in: \"1 fortnight\" }\n",
		"report: { expire_in: \"1 month and\" }\n",
		"report: { expire_in: \"\" }\n",
		"defectdojo: { url: \"https://\" }\n",
		"defectdojo: { url: \"https:///api\" }\n",
		"defectdojo: { url: \"https://h:0\" }\n",
		"defectdojo: { url: \"https://h:x\" }\n",
		"defectdojo: { url: \"https://h:65536\" }\n",
		"defectdojo: { url: \"https://[::1\" }\n",
		"defectdojo: { url: \"https://a b\" }\n",
		"defectdojo: { url: \"https://h/?x=1\" }\n",
		"defectdojo: { url: dojo.example.com }\n",
		"defectdojo: { proxy: \"proxy:3128\" }\n",
		"defectdojo: { proxy: \"ftp://proxy\" }\n",
		"defectdojo: { tags: [\"a b\"] }\n",
		"defectdojo: { tags: [\"a,b\"] }\n",
		"defectdojo: { product: \"\" }\n",
		"defectdojo: { product: \"{nothing}\" }\n",
		"defectdojo: { product: \"{image\" }\n",
		"defectdojo: { environment: \"{Image}\" }\n",
		"defectdojo: { refs: [\"\"] }\n",
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++)
		assert_refused(bad[i], "t.yml:1: ");
}

static void
texts_that_rules_let_pass(void **state)
{
	static const char *const good[] = {
		"images: { platforms: [all, linux/arm64/v8] }\n",
		"report: { expire_in: never }\n",
		"report: { expire_in: \"3 mins 4 sec\" }\n",
		"report: { expire_in: \"47 yrs 6 mos and 4d\" }\n",
		"report: { expire_in: \"42\" }\n",
		"report: { expire_in: \"1.5 hours\" }\n",
		"defectdojo: { url: \"https://dojo.example.com:8443/base/\" }\n",
		"defectdojo: { url: \"http://[::1]:8080\" }\n",
		"defectdojo: { url: \"\", proxy: \"socks5h://127.0.0.1:1080\" }\n",
		"defectdojo: { environment: \"\", product: \"{namespace} / {project_name} {{x}\" }\n",
		"defectdojo: { engagement: \"{commit_short}-{job_id}-{tag}-{archive}\" }\n",
		"job: { groups: [\"Domain Users\"], env_set: [\"A=b\\nc\", \"B=\"], env_pass: [http_proxy] }\n",
		"job: { runner_path: /opt/bin/gitlab-runner, path: \"/bin:/usr/bin\", lang: de_DE.UTF-8@euro }\n",
		"state_dir: \"/a b\"\njob: { builds_dir: /builds }\n",
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(good); i++) {
		struct settings *s = parsed(good[i]);

		settings_free(s);
	}
}

static void
settings_that_do_not_go_together_name_the_line_of_the_one_that_is_set(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "\nscan_user: tidewaiter\n",
		  "t.yml:2: scan_user: \"tidewaiter\" is not possible, allowed is a user other than courier_user "
		  "(\"tidewaiter\", its default)" },
		{ "courier_user: tidewaiter-scan\n",
		  "t.yml:1: courier_user: \"tidewaiter-scan\" is not possible, allowed is a user other than scan_user "
		  "(\"tidewaiter-scan\", its default)" },
		{ "courier_user: one\n\nscan_user: one\n",
		  "t.yml:3: scan_user: \"one\" is not possible, allowed is a user other than courier_user (\"one\", line "
		  "1)" },
		{ "scan_user: tidewaiter-job-3\n",
		  "t.yml:1: scan_user: \"tidewaiter-job-3\" is not possible, allowed is what makes no user of jobs of "
		  "job.user_prefix (\"tidewaiter-job-\", its default)" },
		{ "courier_user: ci7\njob:\n  user_prefix: ci\n",
		  "t.yml:3: job.user_prefix: \"ci\" is not possible, allowed is what makes no user of jobs of courier_user "
		  "(\"ci7\", line 1)" },
		{ "job:\n  builds_dir: /a/b\n  cache_dir: /a/b/c\n",
		  "t.yml:3: job.cache_dir: \"/a/b/c\" is not possible, allowed is a directory that neither lies in nor "
		  "holds job.builds_dir (\"/a/b\", line 2)" },
		{ "job:\n  builds_dir: /var/lib\n",
		  "t.yml:2: job.builds_dir: \"/var/lib\" is not possible, allowed is a directory of its own, apart from "
		  "state_dir (\"/var/lib/tidewaiter\", its default)" },
		{ "#\nstate_dir: /var/cache/tidewaiter/jobs\n",
		  "t.yml:2: state_dir: \"/var/cache/tidewaiter/jobs\" is not possible, allowed is a directory of its own, "
		  "apart from job.cache_dir (\"/var/cache/tidewaiter/jobs\", its default)" },
		{ "state_dir: /a\ncache_dir: /a/builds\n",
		  "t.yml:2: cache_dir: \"/a/builds\" is not possible, allowed is a directory of its own, apart from "
		  "job.builds_dir (\"/a/builds\", by state_dir in line 1)" },
		{ "state_dir: \"/a b\"\n",
		  "t.yml:1: job.builds_dir: \"/a b/builds\" (by state_dir) is not possible, allowed is an absolute directory "
		  "of letters, digits and ._-/ without .., . and //, for it stands in job scripts" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		struct settings *s = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(settings_parse("t.yml", bad[i].text, strlen(bad[i].text), &s, &e), -1);
		assert_int_equal(e.kind, ERR_SETTINGS);
		assert_string_equal(e.text, bad[i].says);
	}
}

static void
a_value_that_may_be_a_secret_is_not_repeated(void **state)
{
	static const char *const texts[] = { "job: { env_set: [\"BAD-NAME=hunter2\"] }\n",
					     "job: { env_set: [\"hunter2\"] }\n",
					     "defectdojo: { url: \"https://me:hunter2@host\" }\n",
					     "defectdojo: { url: \"me:hunter2@host\" }\n",
					     "defectdojo: { url: \"https://host/?token=hunter2\" }\n",
					     "defectdojo: { proxy: \"http://me:hunter2@host:1\" }\n" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(texts); i++) {
		struct settings *s = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(settings_parse("t.yml", texts[i], strlen(texts[i]), &s, &e), -1);
		assert_null(strstr(e.text, "hunter2"));
		assert_non_null(strstr(e.text, "t.yml:1: "));
	}
}

static void
the_first_entry_of_projects_that_matches_wins(void **state)
{
	static const char text[] = "projects:\n"
				   "  - match: \"group/**\"\n"
				   "    gate: { mode: enforce }\n"
				   "  - match: \"group/app\"\n"
				   "    gate: { mode: off }\n";
	AUTO(settings) struct settings *s = parsed(text);
	AUTO(settings) struct settings *other = parsed(text);

	(void)state;
	assert_string_equal(settings_apply_project(s, "group/app"), "group/**");
	assert_int_equal(s->opt.gate.mode, GATE_ENFORCE);
	assert_null(settings_apply_project(other, "else/app"));
	assert_int_equal(other->opt.gate.mode, GATE_AUDIT);
}

static void
the_example_file_is_what_config_show_prints(void **state)
{
	AUTO_BUF struct buf printed = BUF_INIT(SETTINGS_MAX);
	AUTO_FREE char *file = NULL;
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	settings_print_example(&printed);
	assert_int_equal(fs_read_max(AT_FDCWD, SOURCE_DIR "/tidewaiter.yml.example", SETTINGS_MAX, &file,
				     &len, &e),
			 0);
	assert_string_equal(file, buf_str(&printed));
}

static void
the_example_file_holds_the_defaults(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(SETTINGS_MAX);
	AUTO(settings) struct settings *example = NULL;
	AUTO(settings) struct settings *defaults = parsed("{}\n");
	AUTO_JSON cJSON *a = NULL;
	AUTO_JSON cJSON *b = NULL;

	(void)state;
	settings_print_example(&text);
	example = parsed(buf_str(&text));
	a = conf_to_json(&settings_schema, example);
	b = conf_to_json(&settings_schema, defaults);
	assert_true(cJSON_Compare(a, b, true));
	assert_int_equal(example->projects.n, 0);
}

/* The commented example with its "#" taken away, in place of `projects: []`. */
static void
the_enforcing_example_enforces_when_it_is_uncommented(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(SETTINGS_MAX);
	AUTO_BUF struct buf live = BUF_INIT(SETTINGS_MAX);
	AUTO(settings) struct settings *s = NULL;

	(void)state;
	settings_print_example(&text);
	for (const char *p = buf_str(&text); *p;) {
		size_t n = strcspn(p, "\n");

		if (str_has_prefix(p, "#projects:") || str_has_prefix(p, "#  "))
			buf_add(&live, p + 1, n - 1);
		else if (!str_has_prefix(p, "projects: []"))
			buf_add(&live, p, n);
		buf_add_char(&live, '\n');
		p += n + (p[n] == '\n');
	}
	s = parsed(buf_str(&live));
	assert_int_equal(s->projects.n, 2);
	assert_non_null(settings_apply_project(s, "group/sub/app"));
	assert_int_equal(s->opt.gate.mode, GATE_ENFORCE);
	assert_string_equal(s->opt.inject.jobs.v[0], "*");
	assert_int_equal(s->opt.inject.on_no_image, REACT_PASS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_defaults_are_possible_settings),
		cmocka_unit_test(options_land_where_the_pipeline_reads_them),
		cmocka_unit_test(directories_of_jobs_follow_the_state_and_cache_directories),
		cmocka_unit_test(what_is_not_possible_is_refused_with_its_key),
		cmocka_unit_test(every_key_is_refused_with_its_line_what_was_found_and_what_is_allowed),
		cmocka_unit_test(every_text_has_a_rule),
		cmocka_unit_test(texts_that_no_rule_lets_pass),
		cmocka_unit_test(texts_that_rules_let_pass),
		cmocka_unit_test(settings_that_do_not_go_together_name_the_line_of_the_one_that_is_set),
		cmocka_unit_test(a_value_that_may_be_a_secret_is_not_repeated),
		cmocka_unit_test(the_first_entry_of_projects_that_matches_wins),
		cmocka_unit_test(the_example_file_is_what_config_show_prints),
		cmocka_unit_test(the_example_file_holds_the_defaults),
		cmocka_unit_test(the_enforcing_example_enforces_when_it_is_uncommented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
