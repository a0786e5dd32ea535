#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/pipeline.h"
#include "stages/render_html.h"
#include "tests/unit/sample_image.h"

static char *
page(struct sample *s)
{
	struct buf out = BUF_INIT(RENDER_HTML_MAX);
	struct err e = ERR_INIT;

	strv_free(&s->i.reasons);
	assert_int_equal(stage_gate.run(&s->i, &e), 0);
	render_html(&s->i, &s->i.images[0], &out);
	assert_false(out.is_full);
	return buf_take(&out);
}

static size_t
count(const char *text, const char *words)
{
	size_t n = 0;

	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		n++;
	return n;
}

static void
the_page_has_every_finding_worst_first(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_FREE char *text = page(&s);
	assert_int_equal(count(text, "<tr data-severity="), 5);
	assert_int_equal(count(text, "data-blocking=\"1\""), 3);
	assert_true(strstr(text, ">CVE-4<") < strstr(text, ">CVE-1<"));
	assert_true(strstr(text, ">CVE-1<") < strstr(text, ">CVE-5<"));
	assert_non_null(strstr(text, "from the base image"));
	assert_non_null(strstr(text, "app/node_modules/lodash/package.json"));
	assert_non_null(strstr(text, "<strong>Blocked</strong>"));
	sample_free(&s);
}

static void
many_findings_are_folded_until_the_script_has_put_most_of_them_aside(void **state)
{
	static const size_t numbers[] = { 999, 1000 };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(numbers); k++) {
		struct sample s;
		AUTO_BUF struct buf json = BUF_INIT(1 << 20);

		buf_add_str(&json, "{\"SchemaVersion\":2,\"Results\":[{\"Vulnerabilities\":[");
		for (size_t n = 0; n < numbers[k]; n++)
			buf_printf(&json,
				   "%s{\"VulnerabilityID\":\"C%zu\",\"PkgName\":\"p\",\"Severity\":\"LOW\"}",
				   n ? "," : "", n);
		buf_add_str(&json, "]}]}");
		sample_init(&s);
		assert_non_null(sample_add_image(&s, buf_str(&json)));
		AUTO_FREE char *text = page(&s);
		assert_int_equal(count(text, "<tr data-severity="), numbers[k]);
		assert_int_equal(count(text, "<details id=\"fold\"><summary>all 1000 findings</summary>"),
				 numbers[k] == 1000);
		assert_int_equal(count(text, "<details"), count(text, "</details>"));
		sample_free(&s);
	}
}

static void
nothing_on_the_page_comes_from_elsewhere_or_may_run_but_its_own(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	AUTO_FREE char *text = page(&s);
	assert_non_null(
		strstr(text, "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"));
	assert_null(strstr(text, "unsafe-inline"));
	assert_null(strstr(text, " src="));
	assert_null(strstr(text, "<link"));
	assert_null(strstr(text, "@import"));
	assert_null(strstr(text, "url("));
	assert_null(strstr(text, " style="));
	assert_int_equal(count(text, "<script"), 1);
	assert_int_equal(count(text, "<style"), 1);
	sample_free(&s);
}

/* Every string of the report is an attack, and every name of image and archive. */
static void
markup_in_a_report_is_text(void **state)
{
	static const char attack[] =
		"\\\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;\\u001b\\u202e";
	static const char *const fields[] = {
		"VulnerabilityID", "PkgName",	  "PkgPath", "InstalledVersion", "FixedVersion", "Status",
		"Title",	   "Description", NULL
	};
	AUTO_BUF struct buf json = BUF_INIT(1 << 16);
	struct sample s;
	struct image *m;

	(void)state;
	buf_printf(&json,
		   "{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"%s\",\"Name\":\"%s\"}},\"Results\":[{\"Target\":\"%s\",\"Class\":\"%s\",\"Type\":\"%s\",",
		   attack, attack, attack, attack, attack);
	buf_add_str(&json,
		    "\"Vulnerabilities\":[{\"Severity\":\"CRITICAL\",\"PrimaryURL\":\"https://x/\\\" onclick=\\\"alert(1)\"");
	for (size_t k = 0; fields[k]; k++)
		buf_printf(&json, ",\"%s\":\"%s\"", fields[k], attack);
	buf_add_str(&json,
		    "},{\"VulnerabilityID\":\"J\",\"PkgName\":\"p\",\"Severity\":\"HIGH\",\"PrimaryURL\":\"javascript:alert(1)\"}]}]}");
	sample_init(&s);
	m = sample_add_image(&s, buf_str(&json));
	assert_non_null(m);
	free(m->label);
	m->label = mem_strdup("\"'></title><script>alert(1)</script>");
	strv_add(&m->tags, "<b onload=alert(1)>");
	free(m->layers[2].created_by);
	m->layers[2].created_by = mem_strdup("RUN /bin/sh -c <script>alert(1)</script>");
	free(s.i.archives[0].name);
	s.i.archives[0].name = mem_strdup("<svg onload=alert(1)>");
	free(s.job.ref);
	s.job.ref = mem_strdup("<i onload=alert(1)>");
	AUTO_FREE char *text = page(&s);
	assert_int_equal(count(text, "<script"), 1);
	assert_null(strstr(text, "<script>alert"));
	assert_null(strstr(text, "<img"));
	assert_null(strstr(text, "<svg"));
	assert_null(strstr(text, "<b onload"));
	assert_null(strstr(text, "<i onload"));
	assert_null(strstr(text, "\" onclick"));
	assert_null(strstr(text, "href=\"javascript"));
	assert_int_equal(count(text, "</title>"), 1);
	assert_non_null(strstr(text, "&quot;&#39;&gt;&lt;script&gt;alert(1)"));
	assert_null(strchr(text, '\033'));
	sample_free(&s);
}

static void
an_image_that_could_not_be_scanned_has_a_page_that_says_why(void **state)
{
	struct sample s;
	struct image *m;

	(void)state;
	sample_init(&s);
	m = sample_add_image(&s, NULL);
	err_set(&m->fault, ERR_FAILED, "the database is too old");
	AUTO_FREE char *text = page(&s);
	assert_non_null(strstr(text, "<strong>Undecided</strong>"));
	assert_non_null(strstr(text, "the database is too old"));
	assert_null(strstr(text, "no known vulnerability"));
	sample_free(&s);
}

static void
a_page_over_its_limit_says_so_and_ends(void **state)
{
	struct sample s;
	AUTO_BUF struct buf out = BUF_INIT(1000);
	struct err e = ERR_INIT;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	assert_int_equal(stage_gate.run(&s.i, &e), 0);
	render_html(&s.i, &s.i.images[0], &out);
	assert_true(out.is_full);
	sample_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_page_has_every_finding_worst_first),
		cmocka_unit_test(many_findings_are_folded_until_the_script_has_put_most_of_them_aside),
		cmocka_unit_test(nothing_on_the_page_comes_from_elsewhere_or_may_run_but_its_own),
		cmocka_unit_test(markup_in_a_report_is_text),
		cmocka_unit_test(an_image_that_could_not_be_scanned_has_a_page_that_says_why),
		cmocka_unit_test(a_page_over_its_limit_says_so_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
