#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/identity.h"
#include "stages/report_stage.h"
#include "tests/unit/sample_image.h"

static void
judge(struct sample *s)
{
	struct err e = ERR_INIT;

	assert_int_equal(stage_gate.run(&s->i, &e), 0);
}

static void
a_release_loses_what_changes_with_a_point_release(void **state)
{
	static const char *const table[][3] = {
		{ "debian", "12.5", "12" },	{ "alpine", "3.19.1", "3.19" },
		{ "ubuntu", "22.04", "22.04" }, { "centos", "7.6.1810", "7" },
		{ "amazon", "2 (Karoo)", "2" }, { "rocky", "9.3", "9" },
		{ "wolfi", "20230201", "" },	{ "opensuse-leap", "15.1", "15.1" },
		{ "debian", "", "" },		{ "debian", "trixie/sid", "trixie/sid" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *release = identity_os_release(table[k][0], table[k][1]);

		assert_string_equal(release, table[k][2]);
	}
}

static char *
delivered(struct sample *s)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	struct err e = ERR_INIT;

	assert_int_equal(report_delivery(&s->i, &s->i.images[0], 0, &d, &e), 0);
	return mem_strndup(d.report, d.report_len);
}

static void
a_finding_stays_the_same_from_tag_to_tag_and_over_a_point_release(void **state)
{
	struct sample a, b;
	AUTO_BUF struct buf other = BUF_INIT(1 << 16);

	(void)state;
	sample_init(&a);
	sample_add_image(&a, sample_report);
	judge(&a);
	for (const char *p = sample_report; *p; p++) {
		if (strncmp(p, "12.5", 4) == 0) {
			buf_add_str(&other, "12.6");
			p += 3;
		} else {
			buf_add_char(&other, *p);
		}
	}
	sample_init(&b);
	assert_non_null(sample_add_image(&b, buf_str(&other)));
	report_rename(b.i.images[0].report, "registry.example.org/group/app:2.0", &(struct strv){ 0 });
	free(b.i.images[0].tags.v[0]);
	b.i.images[0].tags.v[0] = mem_strdup("registry.example.org/group/app:2.0");
	judge(&b);
	AUTO_FREE char *first = delivered(&a);
	AUTO_FREE char *second = delivered(&b);
	assert_non_null(strstr(first, "\"group/app (debian 12)\""));
	assert_string_equal(first, second);
	sample_free(&a);
	sample_free(&b);
}

static void
a_tag_is_no_branch_in_a_delivery(void **state)
{
	struct sample s;
	AUTO_DELIVERY struct delivery d = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	s.job.is_tag = true;
	assert_int_equal(report_delivery(&s.i, &s.i.images[0], 3, &d, &e), 0);
	assert_string_equal(d.branch, "refs/tags/main");
	sample_free(&s);
}

static void
a_delivery_carries_findings_and_names_but_no_packages_and_no_environment(void **state)
{
	struct sample s;
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO(report) struct report *r = NULL;
	struct err e = ERR_INIT;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	assert_int_equal(report_delivery(&s.i, &s.i.images[0], 3, &d, &e), 0);
	assert_string_equal(d.product, "group/app");
	assert_string_equal(d.engagement, "main");
	assert_string_equal(d.test, "group/app");
	assert_string_equal(d.service, "group/app");
	assert_string_equal(d.version, "1.0");
	assert_string_equal(d.branch, "main");
	assert_string_equal(d.commit, "0123456789abcdef0123456789abcdef01234567");
	assert_string_equal(d.build_id, "4711-3");
	assert_int_equal(d.n_findings, 5);
	assert_int_equal(report_parse(d.report, d.report_len, 1 << 20, &r, &e), 0);
	assert_int_equal(r->n_findings, 5);
	assert_int_equal(r->n_packages, 0);
	assert_null(strstr(d.report, "SECRET"));
	assert_null(strstr(d.report, "/work/x"));
	sample_free(&s);
}

static void
nulls_and_results_without_a_target_do_not_reach_defectdojo(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(
		&s,
		"{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"\",\"Class\":\"custom\",\"Secrets\":null,\"Packages\":[{}],\"Vulnerabilities\":[{"
		"\"VulnerabilityID\":\"A\",\"PkgName\":\"p\",\"Severity\":\"LOW\",\"References\":null,\"CVSS\":null}]},{\"Vulnerabilities\":null}]}");
	judge(&s);
	AUTO_FREE char *text = delivered(&s);
	assert_null(strstr(text, "null"));
	assert_non_null(strstr(text, "\"Target\":\"group/app\""));
	assert_null(strstr(text, "\"Target\":\"\""));
	sample_free(&s);
}

static void
a_weakness_without_a_number_does_not_cost_the_whole_report(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(
		&s,
		"{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"t\",\"Packages\":[{}],\"Vulnerabilities\":[{\"VulnerabilityID\":\"A\","
		"\"PkgName\":\"p\",\"Severity\":\"LOW\",\"CweIDs\":[\"NVD-CWE-noinfo\",\"CWE-79\",\"CWE-\",\"CWE-7x\",7,null]},"
		"{\"VulnerabilityID\":\"B\",\"PkgName\":\"p\",\"Severity\":\"LOW\",\"CweIDs\":[\"NVD-CWE-Other\"]}]}]}");
	judge(&s);
	AUTO_FREE char *text = delivered(&s);
	assert_non_null(strstr(text, "\"CweIDs\":[\"CWE-79\"]"));
	assert_non_null(strstr(text, "\"CweIDs\":[]"));
	sample_free(&s);
}

static void
two_images_of_one_repository_feed_two_tests(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	sample_add_image(&s, sample_report);
	free(s.i.images[1].report_name);
	s.i.images[1].report_name = mem_strdup("app-debug");
	judge(&s);
	AUTO_FREE char *a = identity_image(&s.i, &s.i.images[0]);
	AUTO_FREE char *b = identity_image(&s.i, &s.i.images[1]);
	assert_string_equal(a, "group/app (app)");
	assert_string_equal(b, "group/app (app-debug)");
	sample_free(&s);
}

static void
what_was_seen_in_part_closes_nothing(void **state)
{
	struct sample s;
	struct image *m;
	struct err e = ERR_INIT;

	(void)state;
	sample_init(&s);
	m = sample_add_image(&s, "{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"app\",\"Packages\":[{}],"
				 "\"Secrets\":[{\"RuleID\":\"r\",\"Severity\":\"HIGH\"}]}]}");
	judge(&s);
	for (int is_hidden = 0; is_hidden < 2; is_hidden++) {
		AUTO_DELIVERY struct delivery d = { 0 };

		assert_true(report_is_deliverable(&s.i, m));
		assert_int_equal(report_delivery(&s.i, m, 0, &d, &e), 0);
		assert_int_equal(d.keeps_old, is_hidden);
		strv_add(&m->hidden, "var/lib/dpkg/status");
	}
	sample_free(&s);
}

static void
only_a_complete_scan_of_a_ref_that_settings_name_is_delivered(void **state)
{
	struct sample s;
	struct image *m;

	(void)state;
	sample_init(&s);
	m = sample_add_image(&s, sample_report);
	judge(&s);
	assert_true(report_is_deliverable(&s.i, m));
	strv_free(&s.opt.defectdojo.refs);
	strv_add(&s.opt.defectdojo.refs, "release/*");
	assert_false(report_is_deliverable(&s.i, m));
	free(s.job.ref);
	s.job.ref = mem_strdup("release/1");
	assert_true(report_is_deliverable(&s.i, m));
	m->fault.kind = ERR_FAILED;
	assert_false(report_is_deliverable(&s.i, m));
	m->fault.kind = ERR_NONE;
	report_free(take_ptr(m->report));
	assert_false(report_is_deliverable(&s.i, m));
	sample_free(&s);
}

static void
an_empty_report_is_delivered_only_when_packages_were_seen(void **state)
{
	struct sample a, b;
	struct image *m;

	(void)state;
	sample_init(&a);
	assert_false(report_is_deliverable(&a.i, sample_add_image(&a, "{\"SchemaVersion\":2}")));
	sample_init(&b);
	m = sample_add_image(&b, "{\"SchemaVersion\":2,\"Results\":[{\"Packages\":[{}]}]}");
	assert_true(report_is_deliverable(&b.i, m));
	/* Trivy did not see these: that it found nothing says nothing. */
	strv_add(&m->hidden, "var/lib/dpkg/status");
	assert_false(report_is_deliverable(&b.i, m));
	/* A secret in an image without packages is no empty report. */
	assert_true(
		report_is_deliverable(&b.i,
				      sample_add_image(&b,
						       "{\"SchemaVersion\":2,\"Results\":[{\"Secrets\":[{}]}]}")));
	sample_free(&a);
	sample_free(&b);
}

static void
an_unknown_placeholder_is_an_error_that_names_the_setting(void **state)
{
	struct sample s;
	AUTO_DELIVERY struct delivery d = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	free(s.opt.defectdojo.test);
	s.opt.defectdojo.test = mem_strdup("{image} {colour}");
	assert_int_equal(report_delivery(&s.i, &s.i.images[0], 0, &d, &e), -1);
	assert_non_null(strstr(e.text, "defectdojo.test"));
	assert_non_null(strstr(e.text, "colour"));
	sample_free(&s);
}

static void
the_stage_writes_both_reports_and_a_delivery(void **state)
{
	char dir[] = "/tmp/tidewaiter-report-XXXXXX";
	struct sample s;
	struct err e = ERR_INIT;
	AUTO_FREE char *text = NULL;
	AUTO(report) struct report *r = NULL;
	struct stat st;
	size_t len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	sample_init(&s);
	s.i.out_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sample_add_image(&s, sample_report);
	judge(&s);
	assert_int_equal(stage_report.run(&s.i, &e), 0);
	assert_int_equal(fs_read_max(s.i.out_fd, "app.json", 1 << 20, &text, &len, &e), 0);
	assert_int_equal(report_parse(text, len, 1 << 20, &r, &e), 0);
	assert_string_equal(r->artifact_name, "registry.example.org/group/app:1.0");
	assert_null(strstr(text, "/work/x"));
	assert_int_equal(fstatat(s.i.out_fd, "app.html", &st, 0), 0);
	assert_int_equal(fstatat(s.i.out_fd, "delivery-0", &st, 0), 0);
	close(s.i.out_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir, &e), 0);
	sample_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_release_loses_what_changes_with_a_point_release),
		cmocka_unit_test(a_finding_stays_the_same_from_tag_to_tag_and_over_a_point_release),
		cmocka_unit_test(a_delivery_carries_findings_and_names_but_no_packages_and_no_environment),
		cmocka_unit_test(a_tag_is_no_branch_in_a_delivery),
		cmocka_unit_test(nulls_and_results_without_a_target_do_not_reach_defectdojo),
		cmocka_unit_test(a_weakness_without_a_number_does_not_cost_the_whole_report),
		cmocka_unit_test(two_images_of_one_repository_feed_two_tests),
		cmocka_unit_test(what_was_seen_in_part_closes_nothing),
		cmocka_unit_test(only_a_complete_scan_of_a_ref_that_settings_name_is_delivered),
		cmocka_unit_test(an_empty_report_is_delivered_only_when_packages_were_seen),
		cmocka_unit_test(an_unknown_placeholder_is_an_error_that_names_the_setting),
		cmocka_unit_test(the_stage_writes_both_reports_and_a_delivery),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
