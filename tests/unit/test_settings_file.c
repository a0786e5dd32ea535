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
write_below(const char *dir, const char *text, mode_t mode)
{
	char *path = mem_printf("%s/t.yml", dir);
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text, strlen(text), NULL), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	return path;
}

static char *
write_file(const struct place *p, const char *text, mode_t mode)
{
	return write_below(p->dir, text, mode);
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
settings_that_others_can_write_are_refused(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *path = NULL;
	AUTO(settings) struct settings *s = NULL;
	struct settings *none = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	path = write_file(&place, "{}\n", 0666);
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_non_null(strstr(e.text, "writable"));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(chmod(place.dir, 0777), 0);
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_non_null(strstr(e.text, "writable"));
	assert_int_equal(chmod(place.dir, 0755), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(settings_load(path, &none, &e), -1);
		assert_non_null(strstr(e.text, "65534"));
		assert_int_equal(chown(path, 0, 0), 0);
	}
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
a_directory_far_above_the_settings_that_others_can_write_is_refused(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *above = NULL, *below = NULL, *path = NULL;
	AUTO(settings) struct settings *s = NULL;
	struct settings *none = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	above = mem_printf("%s/above", place.dir);
	below = mem_printf("%s/below", above);
	assert_int_equal(fs_mkdirs(AT_FDCWD, below, 0755, NULL), 0);
	path = write_below(below, "{}\n", 0644);
	assert_int_equal(chmod(above, 0777), 0);
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_non_null(strstr(e.text, above));
	assert_non_null(strstr(e.text, "writable"));
	/* as /tmp: nobody can replace what is not his */
	assert_int_equal(chmod(above, 01777), 0);
	assert_int_equal(settings_load(path, &s, &e), 0);
}

static void
a_link_of_somebody_else_or_into_an_open_directory_is_refused(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *open_dir = NULL, *target = NULL, *link_path = NULL;
	struct settings *none = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	open_dir = mem_printf("%s/open", place.dir);
	link_path = mem_printf("%s/link.yml", place.dir);
	assert_int_equal(mkdir(open_dir, 0755), 0);
	target = write_below(open_dir, "{}\n", 0644);
	assert_int_equal(symlink("open/t.yml", link_path), 0);
	assert_int_equal(chmod(open_dir, 0777), 0);
	assert_int_equal(settings_load(link_path, &none, &e), -1);
	assert_non_null(strstr(e.text, open_dir));
	assert_int_equal(chmod(open_dir, 0755), 0);
	if (geteuid() != 0)
		return;
	assert_int_equal(lchown(link_path, 65534, 65534), 0);
	assert_int_equal(settings_load(link_path, &none, &e), -1);
	assert_non_null(strstr(e.text, "link.yml belongs to uid 65534"));
}

static void
a_file_too_large_is_told_with_its_size(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_FREE char *path = NULL;
	struct settings *none = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	path = write_file(&place, "", 0644);
	assert_int_equal(truncate(path, 10000000), 0);
	assert_int_equal(settings_load(path, &none, &e), -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_non_null(strstr(e.text, "has 10000000 bytes, allowed are 1048576"));
}

/* ---- warnings ---- */

static void
warnings_of(const char *text, struct strv *ret)
{
	AUTO(settings) struct settings *s = NULL;
	struct err e = ERR_INIT;

	strv_free(ret);
	if (settings_parse("t.yml", text, strlen(text), &s, &e) < 0)
		fail_msg("%s", e.text);
	settings_warnings(s, ret);
}

static void
settings_that_are_hardly_meant_are_warned_of_with_their_line(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "t.yml: nothing is set in it" },
		{ "\ndefectdojo:\n  token_file: \"\"\n  url: http://h\n",
		  "t.yml:4: defectdojo.url: http://h is not encrypted" },
		{ "defectdojo:\n  url: https://h\n",
		  "t.yml:2: defectdojo.url: is set and defectdojo.token_file is not" },
		{ "defectdojo:\n  token_file: /dev/null\n",
		  "t.yml:2: defectdojo.token_file: is set and defectdojo.url" },
		{ "defectdojo:\n  ca_file: /nonexistent\n",
		  "t.yml:2: defectdojo.ca_file: /nonexistent: No such file or directory" },
		{ "defectdojo:\n  ca_file: /\n", "t.yml:2: defectdojo.ca_file: / is no regular file" },
		{ "defectdojo:\n  service: \"{image} {tag}\"\n",
		  "t.yml:2: defectdojo.service: {tag} changes within a test" },
		{ "defectdojo:\n  product: \"x/{image}\"\n",
		  "t.yml:2: defectdojo.product: takes an image and neither {project_path} nor {project_id}" },
		{ "defectdojo:\n  product: \"{project_path}/{image}\"\n",
		  "t.yml:2: defectdojo.product: two projects can come to one product" },
		{ "projects:\n- match: a\n  defectdojo:\n    product: \"{tag}\"\n",
		  "t.yml:4: projects[1].defectdojo.product: takes an image and neither {project_path}" },
		{ "projects:\n- match: a\n  defectdojo:\n    service: \"{ref}\"\n    engagement: all\n",
		  "t.yml:4: projects[1].defectdojo.service: {ref} changes within a test" },
		{ "defectdojo:\n  redis: redis://h\n",
		  "t.yml:2: defectdojo.redis: is set and defectdojo.redis_key_file is not" },
		{ "trivy:\n  path: /etc/passwd\n",
		  "t.yml:2: trivy.path: /etc/passwd is no program (mode 0644)" },
		{ "trivy:\n  db_dir: /etc/passwd\n", "t.yml:2: trivy.db_dir: /etc/passwd is no directory" },
		{ "trivy:\n  java_db_dir: /nonexistent\n",
		  "t.yml:2: trivy.java_db_dir: /nonexistent: No such file" },
		{ "job:\n  groups: [docker]\n", "t.yml:2: job.groups: docker is root by another name" },
		{ "job:\n  groups: [no such group]\n", "t.yml:2: job.groups: there is no group no such group" },
		{ "projects:\n- match: \"**\"\n- match: a\n",
		  "t.yml:3: projects[2].match: \"a\" is never reached, projects[1] (\"**\") matches before it" },
		{ "projects:\n- match: a\n- match: b\n- match: a\n",
		  "t.yml:4: projects[3].match: \"a\" is never reached, projects[1]" },
		{ "projects:\n- match: a\n  defectdojo:\n    url: http://h\n    token_file: \"\"\n",
		  "t.yml:4: projects[1].defectdojo.url: http://h is not encrypted" },
		{ "projects:\n- match: a\n  trivy:\n    db_dir: /etc/passwd\n",
		  "t.yml:4: projects[1].trivy.db_dir: /etc/passwd is no directory" },
	};
	AUTO_STRV struct strv warnings = { 0 };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *all = NULL;

		warnings_of(cases[i].text, &warnings);
		all = strv_join(&warnings, "\n");
		if (!str_has_prefix(all, cases[i].says))
			fail_msg("\"%s\" does not begin with \"%s\"", all, cases[i].says);
	}
}

static void
a_token_that_others_can_read_is_warned_of(void **state)
{
	AUTO_PLACE struct place place;
	AUTO_STRV struct strv warnings = { 0 };
	AUTO_FREE char *token = NULL, *link_path = NULL, *text = NULL, *linked = NULL;

	(void)state;
	make_place(&place);
	token = write_file(&place, "secret", 0644);
	link_path = mem_printf("%s/link", place.dir);
	assert_int_equal(symlink("t.yml", link_path), 0);
	text = mem_printf("scan_user: tw-none\ncourier_user: tw-no-such\n"
			  "defectdojo: { url: \"https://h\", token_file: %s }\n",
			  token);
	linked = mem_printf("courier_user: tw-no-such\ndefectdojo: { url: \"https://h\", token_file: %s }\n",
			    link_path);
	warnings_of(text, &warnings);
	assert_int_equal(warnings.n, 1);
	assert_non_null(strstr(warnings.v[0], "t.yml:3: defectdojo.token_file: "));
	assert_non_null(strstr(warnings.v[0], "has mode 0644 and holds a secret, needed is 0600 or 0640"));
	warnings_of(linked, &warnings);
	assert_non_null(strstr(warnings.v[0], "is a symbolic link"));
	assert_int_equal(chmod(token, 0600), 0);
	warnings_of(text, &warnings);
	assert_int_equal(warnings.n, 0);
}

static void
what_stands_above_is_not_told_again_for_each_project(void **state)
{
	AUTO_STRV struct strv warnings = { 0 };

	(void)state;
	warnings_of("defectdojo: { url: \"http://h\", ca_file: /nonexistent }\n"
		    "projects: [ { match: a, gate: { mode: warn } }, { match: b, report: { rows_max: 3 } } ]\n",
		    &warnings);
	assert_int_equal(warnings.n, 3);
	warnings_of("defectdojo: { product: \"{project_path}: {image}\" }\n", &warnings);
	assert_int_equal(warnings.n, 0);
	warnings_of("gate: { mode: enforce }\n", &warnings);
	assert_int_equal(warnings.n, 0);
	/* the engagement has the branch, the test the tag */
	warnings_of("defectdojo: { test: \"{image} {tag}\", service: \"{image} {ref} {tag}\" }\n", &warnings);
	assert_int_equal(warnings.n, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_file_says_how_to_make_one),
		cmocka_unit_test(a_directory_or_a_fifo_is_no_settings_file),
		cmocka_unit_test(settings_that_others_can_write_are_refused),
		cmocka_unit_test(a_link_to_the_settings_is_followed),
		cmocka_unit_test(a_directory_far_above_the_settings_that_others_can_write_is_refused),
		cmocka_unit_test(a_link_of_somebody_else_or_into_an_open_directory_is_refused),
		cmocka_unit_test(a_file_too_large_is_told_with_its_size),
		cmocka_unit_test(settings_that_are_hardly_meant_are_warned_of_with_their_line),
		cmocka_unit_test(a_token_that_others_can_read_is_warned_of),
		cmocka_unit_test(what_stands_above_is_not_told_again_for_each_project),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
