#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* A directory of the test's own; every test removes what it made. */
struct place {
	char dir[64];
};

static void
make_place(struct place *p)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/test-settings-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
}

static void
remove_place(struct place *p)
{
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
}
#define AUTO_PLACE __attribute__((cleanup(remove_place)))

static char *
write_file(const struct place *p, const char *text, mode_t mode)
{
	char *path = mem_printf("%s/t.yml", p->dir);
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text, strlen(text), NULL), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	return path;
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
		{ "job: { builds_dir: /a/b, cache_dir: /a/b/c }\n", "in each other" },
		{ "job: { builds_dir: /var/lib/tidewaiter }\n", "of their own" },
		{ "job: { path: \"/bin:\" }\n", "job.path" },
		{ "job: { path: \"/bin:.:/usr/bin\" }\n", "job.path" },
		{ "job: { path: \"\" }\n", "job.path" },
		{ "job: { env_pass: [\"A=B\"] }\n", "job.env_pass" },
		{ "job: { env_pass: [CUSTOM_ENV_CI_JOB_TOKEN] }\n", "job.env_pass" },
		{ "job: { env_set: [\"1A=B\"] }\n", "job.env_set" },
		{ "job: { runner_path: bin/gitlab-runner }\n", "job.runner_path" },
		{ "scan_user: tidewaiter\n", "two users" },
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
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++)
		assert_refused(bad[i].text, bad[i].words);
}

static void
a_value_that_may_be_a_secret_is_not_repeated(void **state)
{
	static const char *const texts[] = { "job: { env_set: [\"BAD-NAME=hunter2\"] }\n",
					     "job: { env_set: [\"hunter2\"] }\n" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(texts); i++) {
		struct settings *s = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(settings_parse("t.yml", texts[i], strlen(texts[i]), &s, &e), -1);
		assert_null(strstr(e.text, "hunter2"));
		assert_non_null(strstr(e.text, "job.env_set"));
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
	struct err e = ERR_INIT;
	const char *match = "untouched";

	(void)state;
	assert_int_equal(settings_apply_project(s, "group/app", &match, &e), 0);
	assert_string_equal(match, "group/**");
	assert_int_equal(s->opt.gate.mode, GATE_ENFORCE);
	assert_int_equal(settings_apply_project(other, "else/app", &match, &e), 0);
	assert_null(match);
	assert_int_equal(other->opt.gate.mode, GATE_AUDIT);
}

static void
an_impossible_entry_of_projects_is_found_by_the_check_and_by_the_job(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *path = NULL;
	AUTO(settings) struct settings *s = NULL;
	struct err e = ERR_INIT;
	const char *match;

	(void)state;
	make_place(&place);
	path = write_file(&place, "projects: [ { match: \"x/*\", report: { dir: \"../up\" } } ]\n", 0644);
	assert_int_equal(settings_check_projects(path, &e), -1);
	assert_non_null(strstr(e.text, "report.dir"));
	assert_non_null(strstr(e.text, "projects[0]"));
	assert_int_equal(settings_load(path, &s, &e), 0);
	assert_int_equal(settings_apply_project(s, "x/y", &match, &e), -1);
	assert_non_null(strstr(e.text, "report.dir"));
}

static void
a_missing_file_says_how_to_make_one(void **state)
{
	struct settings *s = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(settings_load("/nonexistent/t.yml", &s, &e), -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_non_null(strstr(e.text, "/nonexistent/t.yml"));
	assert_non_null(strstr(e.text, "config show --example"));
}

static void
a_directory_or_a_fifo_is_no_settings_file(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *fifo = NULL;
	struct settings *s = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	fifo = mem_printf("%s/fifo", place.dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(settings_load(place.dir, &s, &e), -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_int_equal(settings_load(fifo, &s, &e), -1);
	assert_non_null(strstr(e.text, "regular"));
}

static void
as_root_settings_that_others_can_write_are_refused(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *path = NULL;
	AUTO(settings) struct settings *s = NULL;
	struct settings *none = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	path = write_file(&place, "{}\n", 0666);
	if (geteuid() != 0) {
		assert_int_equal(settings_load(path, &s, &e), 0);
		return;
	}
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_non_null(strstr(e.text, "writable"));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(chmod(place.dir, 0777), 0);
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_non_null(strstr(e.text, "writable"));
	assert_int_equal(chmod(place.dir, 0755), 0);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_non_null(strstr(e.text, "65534"));
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(settings_load(path, &s, &e), 0);
}

static void
a_link_to_the_settings_is_followed(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *link_path = NULL;
	AUTO(settings) struct settings *s = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	path = write_file(&place, "job: { slots: 2 }\n", 0644);
	link_path = mem_printf("%s/link.yml", place.dir);
	assert_int_equal(symlink("t.yml", link_path), 0);
	assert_int_equal(settings_load(link_path, &s, &e), 0);
	assert_int_equal(s->job.slots, 2);
	assert_string_equal(s->path, link_path);
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
	const char *match;
	struct err e = ERR_INIT;

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
	assert_int_equal(settings_apply_project(s, "group/sub/app", &match, &e), 0);
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
		cmocka_unit_test(a_value_that_may_be_a_secret_is_not_repeated),
		cmocka_unit_test(the_first_entry_of_projects_that_matches_wins),
		cmocka_unit_test(an_impossible_entry_of_projects_is_found_by_the_check_and_by_the_job),
		cmocka_unit_test(a_missing_file_says_how_to_make_one),
		cmocka_unit_test(a_directory_or_a_fifo_is_no_settings_file),
		cmocka_unit_test(as_root_settings_that_others_can_write_are_refused),
		cmocka_unit_test(a_link_to_the_settings_is_followed),
		cmocka_unit_test(the_example_file_is_what_config_show_prints),
		cmocka_unit_test(the_example_file_holds_the_defaults),
		cmocka_unit_test(the_enforcing_example_enforces_when_it_is_uncommented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
