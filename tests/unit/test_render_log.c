#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/pipeline.h"
#include "stages/render_log.h"
#include "tests/unit/sample_image.h"

static void
judge(struct sample *s)
{
	struct err e = ERR_INIT;

	strv_free(&s->i.reasons);
	assert_int_equal(stage_gate.run(&s->i, &e), 0);
}

static char *
details(const struct sample *s)
{
	struct buf out = BUF_INIT(RENDER_LOG_MAX);

	render_log_details(&s->i, &out);
	return buf_take(&out);
}

static char *
verdict(const struct sample *s)
{
	struct buf out = BUF_INIT(RENDER_LOG_MAX);

	render_log_verdict(&s->i, &out);
	return buf_take(&out);
}

/* The text without its line breaks. Owned by the caller. */
static char *
flat(const char *text)
{
	struct buf out = BUF_INIT(RENDER_LOG_MAX);

	for (; *text; text++) {
		if (*text != '\n' && (*text != ' ' || out.len == 0 || out.data[out.len - 1] != ' '))
			buf_add_char(&out, *text);
		else if (*text == '\n')
			buf_add_char(&out, ' ');
	}
	return buf_take(&out);
}

static void
assert_has(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" is not in:\n%s", words, text);
}

static void
assert_has_not(const char *text, const char *words)
{
	if (strstr(text, words))
		fail_msg("\"%s\" is in:\n%s", words, text);
}

static void
assert_narrow(const char *text)
{
	size_t columns = 0;

	for (const char *p = text; *p; p++) {
		columns = *p == '\n' ? 0 : columns + (((unsigned char)*p & 0xC0) != 0x80);
		if (columns > 80)
			fail_msg("a line of more than 80 columns in:\n%s", text);
	}
}

static void
a_blocked_image_shows_its_table_by_build_step(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *text = details(&s);
	assert_has(text, "✗ registry.example.org/group/app:1.0: blocked");
	assert_has(text, "debian 12.5, 3 packages, 5 findings: 3 CRITICAL, 1 HIGH, 1 LOW");
	assert_has(text, "2 of 3 come with the base image");
	assert_has(text, "1 of 3 comes with `RUN npm ci`");
	assert_has(text, "PACKAGE  INSTALLED  FIXED IN    SEVERITY");
	assert_has(text, "openssl  3.0.1      3.0.3       CRITICAL\n      CVE-1 first\n");
	assert_has(text, "curl     7.88       no fix yet  CRITICAL\n      CVE-2 second\n");
	/* What does not block is for the reports. */
	assert_has_not(text, "CVE-3");
	assert_has_not(text, "CVE-5");
	/* Build arguments may be secrets. */
	assert_has_not(text, "TOKEN");
	assert_narrow(text);
	sample_free(&s);
}

static void
the_verdict_lists_what_to_do_and_what_cannot_be_done(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_string_equal(end,
			    "Tidewaiter: blocked\n"
			    "  registry.example.org/group/app:1.0: 3 findings are CRITICAL\n"
			    "  What to do:\n"
			    "    - raise lodash to 4.17.9: fixes 1 of 3\n"
			    "    - build on a newer base image: fixes 1 of 3\n"
			    "    - 1 of 3 has no fix yet: use another base image or package\n"
			    "  All findings: scan_result/ in this job's artifacts, .html to read, .json for\n"
			    "  programs.\n");
	sample_free(&s);
}

static void
the_verdict_ends_with_a_link_to_the_reports_where_the_project_is_known(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	free(s.job.project_url);
	s.job.project_url = mem_strdup("https://gitlab.example.org/group/app");
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(end,
		   "\n  https://gitlab.example.org/group/app/-/jobs/4711/artifacts/browse/scan_result/\n");
	s.opt.report.artifact = false;
	AUTO_FREE char *without = verdict(&s);
	assert_has_not(without, "https://");
	sample_free(&s);
}

static void
of_several_blocked_images_each_is_named_with_its_archive_and_its_best_change(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	sample_add_image(&s, sample_report);
	free(s.i.archives[1].name);
	s.i.archives[1].name = mem_strdup("tar_images/web.tar");
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(end,
		   "  registry.example.org/group/app:1.0 (tar_images/web.tar): 3 findings are\n  CRITICAL\n");
	assert_has(end, "  What to do for registry.example.org/group/app:1.0 (tar_images/web.tar):\n"
			"    - raise lodash to 4.17.9: fixes 1 of 3\n"
			"    - 1 more can be fixed, too: the report names the version\n"
			"    - 1 of 3 has no fix yet: use another base image or package\n");
	sample_free(&s);
}

static void
each_reason_is_given_once(void **state)
{
	static const int modes[] = { GATE_AUDIT, GATE_WARN, GATE_ENFORCE };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(modes); k++) {
		struct sample s;
		struct archive *a;

		sample_init(&s);
		s.opt.gate.mode = modes[k];
		a = inspection_add_archive(&s.i);
		a->name = mem_strdup("tar_images/app.tar");
		a->fd = -1;
		err_set(&a->fault, ERR_REFUSED, "the reason stands here");
		judge(&s);
		AUTO_FREE char *text = details(&s);
		AUTO_FREE char *end = verdict(&s);
		assert_has_not(text, "the reason");
		assert_has(end, "the reason stands here");
		sample_free(&s);
	}
}

static void
an_audit_with_several_reasons_names_them_in_the_details(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	s.opt.gate.mode = GATE_AUDIT;
	sample_add_image(&s, sample_report);
	sample_add_image(&s, NULL);
	judge(&s);
	AUTO_FREE char *text = details(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(text, "  3 findings are CRITICAL\n");
	assert_has(text, "  it was not scanned\n");
	assert_has(end, "(and 1 more)");
	sample_free(&s);
}

static void
digests_are_cut_to_what_people_compare(void **state)
{
	struct sample s;
	struct archive *a;

	(void)state;
	sample_init(&s);
	a = inspection_add_archive(&s.i);
	a->name = mem_strdup("tar_images/app.tar");
	a->fd = -1;
	err_set(&a->fault, ERR_REFUSED,
		"forged layer: layer 1 of 3 is sha256:f83cdc83a304f4db7a2cb3e14d91eb7e4a4362170f798a1a61dd5825f5f6ffce of deadbeef");
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(end, "layer 1 of 3 is sha256:f83cdc83a304… of\n  deadbeef\n");
	sample_free(&s);
}

static void
the_title_counts_the_images_that_could_be_read(void **state)
{
	struct sample s;
	struct archive *a;
	struct buf none = BUF_INIT(RENDER_LOG_MAX), some = BUF_INIT(RENDER_LOG_MAX);

	(void)state;
	sample_init(&s);
	render_log_title(&s.i, &none);
	AUTO_FREE char *title = buf_take(&none);
	assert_has(title, "Tidewaiter: no image to inspect, ");
	sample_add_image(&s, sample_report);
	a = inspection_add_archive(&s.i);
	a->name = mem_strdup("tar_images/forged.tar");
	a->fd = -1;
	err_set(&a->fault, ERR_REFUSED, "forged");
	judge(&s);
	render_log_title(&s.i, &some);
	AUTO_FREE char *other = buf_take(&some);
	assert_string_equal(other, "Tidewaiter: 1 of 2 images inspected, blocked");
	sample_free(&s);
}

static void
a_job_without_images_is_told_how_to_leave_one(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	AUTO_FREE char *said = flat(end);
	assert_has(said, "the job left no image archive");
	assert_has(said, "docker save -o tar_images/NAME.tar IMAGE");
	assert_has_not(said, "All findings");
	sample_free(&s);
}

static void
a_system_past_its_end_of_life_is_to_be_replaced(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s,
			 "{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"9.13\",\"EOSL\":true}},\"Results\":[{\"Packages\":[{}]}]}");
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(end, "    - build on a newer release of the system");
	assert_narrow(end);
	sample_free(&s);
}

static void
rows_are_capped_over_all_steps(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	s.opt.report.rows_max = 1;
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *text = details(&s);
	assert_has(text, "CVE-1");
	assert_has_not(text, "CVE-2");
	assert_has_not(text, "CVE-4");
	assert_has(text, "2 of 3 come with the base image");
	assert_has(text, "… and 1 more");
	sample_free(&s);
}

static void
the_base_image_does_not_hide_what_a_step_brought(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	s.opt.report.rows_max = 2;
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *text = details(&s);
	assert_has(text, "CVE-1");
	assert_has_not(text, "CVE-2");
	assert_has(text, "CVE-4");
	sample_free(&s);
}

static void
an_audit_says_in_one_sentence_what_enforce_would_do_and_shows_no_table(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	s.opt.gate.mode = GATE_AUDIT;
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *text = details(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has_not(text, "PACKAGE");
	assert_has_not(text, ": blocked");
	assert_has(text, "would be blocked");
	AUTO_FREE char *said = flat(end);
	assert_has(said,
		   "in mode enforce this job would have been blocked: registry.example.org/group/app:1.0: 3 findings are CRITICAL. The findings are in scan_result/ of this job's artifacts.");
	assert_has_not(end, "What to do");
	sample_free(&s);
}

static void
an_audit_of_a_clean_job_says_that_enforce_would_let_it_pass(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	s.opt.gate.mode = GATE_AUDIT;
	s.opt.gate.severity = SEVERITY_CRITICAL;
	sample_add_image(&s,
			 "{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"12\"}},\"Results\":[{\"Packages\":[{}]}]}");
	judge(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(end, "would have passed");
	sample_free(&s);
}

static void
warn_shows_the_whole_table_and_says_that_nothing_is_stopped(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	s.opt.gate.mode = GATE_WARN;
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *text = details(&s);
	AUTO_FREE char *end = verdict(&s);
	assert_has(text, "CVE-1");
	assert_has(end, "Mode warn stops nothing");
	assert_has(end, "What to do:\n");
	sample_free(&s);
}

static void
by_hand_the_table_is_there_in_every_mode(void **state)
{
	(void)state;
	for (int mode = GATE_OFF; mode <= GATE_ENFORCE; mode++) {
		struct sample s;

		sample_init(&s);
		s.opt.gate.mode = mode;
		s.i.project_fd = -1;
		sample_add_image(&s, sample_report);
		judge(&s);
		AUTO_FREE char *text = details(&s);
		AUTO_FREE char *end = verdict(&s);
		assert_has(text, "CVE-1");
		assert_has(end, "Tidewaiter: blocked");
		assert_has_not(end, "artifacts");
		sample_free(&s);
	}
}

static void
each_kind_of_fault_says_what_to_do(void **state)
{
	static const struct {
		enum err_kind kind;
		const char *head, *advice;
	} table[] = {
		{ ERR_REFUSED, "✗ tar_images/app.tar: refused", "build and save the image again" },
		{ ERR_UNSUPPORTED, "? tar_images/app.tar: undecided", "images.platforms" },
		{ ERR_FAILED, "? tar_images/app.tar: undecided", "no fault of your change" },
		{ ERR_TIMEOUT, "? tar_images/app.tar: undecided", "no fault of your change" },
		{ ERR_NO_SPACE, "? tar_images/app.tar: undecided", "no fault of your change" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		struct sample s;
		struct archive *a;

		sample_init(&s);
		a = inspection_add_archive(&s.i);
		a->name = mem_strdup("tar_images/app.tar");
		a->fd = -1;
		err_set(&a->fault, table[k].kind, "the reason stands here");
		judge(&s);
		AUTO_FREE char *text = details(&s);
		AUTO_FREE char *end = verdict(&s);
		assert_has(text, table[k].head);
		AUTO_FREE char *said = flat(end);
		assert_has(said, "the reason stands here");
		assert_has(said, table[k].advice);
		assert_narrow(text);
		assert_narrow(end);
		sample_free(&s);
	}
}

static void
by_hand_what_is_undecided_names_the_settings_and_doctor(void **state)
{
	static const enum err_kind kinds[] = { ERR_FAILED, ERR_TIMEOUT, ERR_NO_SPACE };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(kinds); k++) {
		struct sample s;
		struct archive *a;

		sample_init(&s);
		s.i.project_fd = -1;
		a = inspection_add_archive(&s.i);
		a->name = mem_strdup("app.tar");
		a->fd = -1;
		err_set(&a->fault, kinds[k], "the reason stands here");
		judge(&s);
		AUTO_FREE char *end = verdict(&s);
		AUTO_FREE char *said = flat(end);
		assert_has(said, "the reason stands here");
		assert_has(said, "`tidewaiter doctor`");
		assert_has(said, "trivy.db_dir");
		assert_has_not(said, "your change");
		assert_has_not(said, "people who run this runner");
		assert_narrow(end);
		sample_free(&s);
	}
}

static void
text_of_strangers_cannot_steer_the_terminal_or_the_log(void **state)
{
	struct sample s;
	struct image *m;

	(void)state;
	sample_init(&s);
	m = sample_add_image(&s,
			     "{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"de\\u001bb\",\"Name\":\"1\\n2\"}},\"Results\":[{\"Vulnerabilities\":[{"
			     "\"VulnerabilityID\":\"C\\u001b[2J\",\"PkgName\":\"p\\nsection_end:0:x\\r\",\"InstalledVersion\":\"1\\u009b\",\"FixedVersion\":\"2\\u202e\","
			     "\"Severity\":\"CRITICAL\",\"Title\":\"\\u001b]0;x\\u0007\"}]}]}");
	free(m->label);
	m->label = mem_strdup("a\033[0Ksection_end:1:x\r\033[0K\xff");
	free(s.i.archives[0].name);
	s.i.archives[0].name = mem_strdup("x\033\n");
	judge(&s);
	AUTO_FREE char *text = details(&s);
	AUTO_FREE char *end = verdict(&s);
	for (const char *p = text; *p; p++)
		assert_true((unsigned char)*p >= 0x20 || *p == '\n');
	assert_null(strchr(end, '\033'));
	assert_has_not(text, "\nsection_end");
	assert_has_not(text, "\xc2\x9b");
	assert_has_not(text, "\xe2\x80\xae");
	assert_true(str_is_utf8(text, strlen(text)));
	sample_free(&s);
}

static void
colours_come_only_where_they_are_asked_for(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	AUTO_FREE char *plain = details(&s);
	assert_null(strchr(plain, '\033'));
	s.log.has_colour = true;
	AUTO_FREE char *coloured = details(&s);
	assert_has(coloured, LOG_RED "CRITICAL" LOG_RESET);
	sample_free(&s);
}

static void
long_names_stay_within_80_columns(void **state)
{
	struct sample s;
	AUTO_BUF struct buf json = BUF_INIT(65536);

	(void)state;
	buf_add_str(&json,
		    "{\"SchemaVersion\":2,\"Results\":[{\"Vulnerabilities\":[{\"VulnerabilityID\":\"GHSA-aaaa-bbbb-cccc\",\"Severity\":\"CRITICAL\"");
	for (const char *const *name =
		     (const char *const[]){ "PkgName", "InstalledVersion", "FixedVersion", "Title", NULL };
	     *name; name++) {
		buf_printf(&json, ",\"%s\":\"", *name);
		for (int k = 0; k < 300; k++)
			buf_add_str(&json, "é");
		buf_add_str(&json, "\"");
	}
	buf_add_str(&json, "}]}]}");
	sample_init(&s);
	assert_non_null(sample_add_image(&s, buf_str(&json)));
	judge(&s);
	AUTO_FREE char *text = details(&s);
	assert_has(text, "…");
	assert_narrow(text);
	sample_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blocked_image_shows_its_table_by_build_step),
		cmocka_unit_test(the_verdict_lists_what_to_do_and_what_cannot_be_done),
		cmocka_unit_test(the_verdict_ends_with_a_link_to_the_reports_where_the_project_is_known),
		cmocka_unit_test(of_several_blocked_images_each_is_named_with_its_archive_and_its_best_change),
		cmocka_unit_test(each_reason_is_given_once),
		cmocka_unit_test(an_audit_with_several_reasons_names_them_in_the_details),
		cmocka_unit_test(digests_are_cut_to_what_people_compare),
		cmocka_unit_test(the_title_counts_the_images_that_could_be_read),
		cmocka_unit_test(a_job_without_images_is_told_how_to_leave_one),
		cmocka_unit_test(a_system_past_its_end_of_life_is_to_be_replaced),
		cmocka_unit_test(rows_are_capped_over_all_steps),
		cmocka_unit_test(the_base_image_does_not_hide_what_a_step_brought),
		cmocka_unit_test(an_audit_says_in_one_sentence_what_enforce_would_do_and_shows_no_table),
		cmocka_unit_test(an_audit_of_a_clean_job_says_that_enforce_would_let_it_pass),
		cmocka_unit_test(warn_shows_the_whole_table_and_says_that_nothing_is_stopped),
		cmocka_unit_test(by_hand_the_table_is_there_in_every_mode),
		cmocka_unit_test(each_kind_of_fault_says_what_to_do),
		cmocka_unit_test(by_hand_what_is_undecided_names_the_settings_and_doctor),
		cmocka_unit_test(text_of_strangers_cannot_steer_the_terminal_or_the_log),
		cmocka_unit_test(colours_come_only_where_they_are_asked_for),
		cmocka_unit_test(long_names_stay_within_80_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
