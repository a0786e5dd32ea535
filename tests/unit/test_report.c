#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/report.h"

#define MAX (16 << 20)

static const char *
shared_dir(void)
{
	const char *dir = getenv("TIDEWAITER_SHARED");

	return dir ? dir : SHARED_DIR;
}

static int
parse(const char *text, struct report **ret, struct err *e)
{
	return report_parse(text, strlen(text), MAX, ret, e);
}

static void
assert_refused(const char *text, const char *words)
{
	struct report *r = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(parse(text, &r, &e), -1);
	assert_null(r);
	assert_int_equal(e.kind, ERR_REFUSED);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void
count_words(const struct report *r, const char *(*word)(const struct finding *), const cJSON *expected)
{
	const cJSON *item;
	size_t total = 0;

	cJSON_ArrayForEach(item, expected)
	{
		size_t n = 0;

		for (size_t k = 0; k < r->n_findings; k++)
			n += str_eq(word(&r->findings[k]), item->string);
		assert_int_equal(n, (size_t)item->valuedouble);
		total += n;
	}
	assert_int_equal(total, r->n_findings);
}

static const char *
severity_of(const struct finding *f)
{
	return severity_words[f->severity];
}

static const char *
class_of(const struct finding *f)
{
	return f->class;
}

static void
every_recorded_report_parses_to_its_figures(void **state)
{
	AUTO_FREE char *path = mem_printf("%s/trivy/expected.json", shared_dir());
	AUTO_JSON cJSON *expected = NULL;
	const cJSON *x;
	struct err e = ERR_INIT;
	int n = 0;

	(void)state;
	if (json_load(AT_FDCWD, path, MAX, 0, &expected, &e) < 0)
		fail_msg("%s", e.text);
	cJSON_ArrayForEach(x, expected)
	{
		AUTO_FREE char *file = mem_printf("%s/trivy/reports/%s", shared_dir(), x->string);
		AUTO_FREE char *text = NULL;
		AUTO(report) struct report *r = NULL;
		size_t len;

		n++;
		assert_int_equal(fs_read_max(AT_FDCWD, file, MAX, &text, &len, &e), 0);
		if (json_str(x, "schema")) {
			assert_int_equal(report_parse(text, len, MAX, &r, &e), -1);
			assert_int_equal(e.kind, ERR_REFUSED);
			assert_non_null(strstr(e.text, "expected a report of schema 2")
						? e.text
						: strstr(e.text, "expected schema 2"));
			err_clear(&e);
			continue;
		}
		if (report_parse(text, len, MAX, &r, &e) < 0)
			fail_msg("%s: %s", x->string, e.text);
		assert_int_equal(r->n_results, json_int(x, "results", -1));
		assert_int_equal(r->n_findings, json_int(x, "vulnerabilities", -1));
		assert_int_equal(r->n_fixable, json_int(x, "fixable", -1));
		assert_int_equal(r->n_secrets, json_int(x, "secrets", -1));
		assert_int_equal(r->n_misconfigurations, json_int(x, "misconfigurations", -1));
		count_words(r, severity_of, json_object(x, "by_severity"));
		count_words(r, class_of, json_object(x, "by_class"));
	}
	assert_true(n >= 20);
}

static void
a_finding_has_all_that_trivy_says_of_it(void **state)
{
	AUTO(report) struct report *r = NULL;
	struct err e = ERR_INIT;
	const struct finding *f;

	(void)state;
	assert_int_equal(
		parse("{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"},\"ArtifactName\":\"x\",\"Metadata\":{\"ImageID\":\"sha256:1\",\"OS\":"
		      "{\"Family\":\"alpine\",\"Name\":\"3.9.4\",\"EOSL\":true}},\"Results\":[{\"Target\":\"t\",\"Class\":\"os-pkgs\",\"Type\":\"alpine\","
		      "\"Packages\":[{},{}],\"Vulnerabilities\":[{\"VulnerabilityID\":\"CVE-1\",\"PkgName\":\"p\",\"PkgPath\":\"a/b\","
		      "\"PkgIdentifier\":{\"PURL\":\"pkg:x\"},\"InstalledVersion\":\"1\",\"FixedVersion\":\"2\",\"Status\":\"fixed\",\"Severity\":\"HIGH\","
		      "\"Title\":\"T\",\"Description\":\"D\",\"PrimaryURL\":\"https://u\",\"Layer\":{\"DiffID\":\"sha256:2\"}}]}]}",
		      &r, &e),
		0);
	f = &r->findings[0];
	assert_string_equal(f->id, "CVE-1");
	assert_string_equal(f->package, "p");
	assert_string_equal(f->path, "a/b");
	assert_string_equal(f->purl, "pkg:x");
	assert_string_equal(f->installed, "1");
	assert_string_equal(f->fixed, "2");
	assert_string_equal(f->status, "fixed");
	assert_string_equal(f->title, "T");
	assert_string_equal(f->description, "D");
	assert_string_equal(f->url, "https://u");
	assert_string_equal(f->target, "t");
	assert_string_equal(f->type, "alpine");
	assert_string_equal(f->class, "os-pkgs");
	assert_string_equal(f->diff_id, "sha256:2");
	assert_int_equal(f->severity, SEVERITY_HIGH);
	assert_true(r->is_os_eol);
	assert_int_equal(r->n_packages, 2);
	assert_string_equal(r->os_family, "alpine");
	assert_string_equal(r->image_id, "sha256:1");
	assert_string_equal(r->trivy_version, "0.74.0");
}

static void
nulls_count_as_absent_wherever_they_stand(void **state)
{
	static const char *const texts[] = {
		"{\"SchemaVersion\":2}",
		"{\"SchemaVersion\":2,\"Results\":null,\"Metadata\":null,\"ArtifactName\":null,\"Trivy\":null}",
		"{\"SchemaVersion\":2,\"Results\":[],\"Metadata\":{\"OS\":null,\"ImageID\":null}}",
		("{\"SchemaVersion\":2,\"Results\":[{\"Target\":null,\"Class\":null,\"Type\":null,\"Packages\":null,\"Vulnerabilities\":null,"
		 "\"Secrets\":null,\"Misconfigurations\":null}]}"),
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(texts); k++) {
		AUTO(report) struct report *r = NULL;
		struct err e = ERR_INIT;

		if (parse(texts[k], &r, &e) < 0)
			fail_msg("%s: %s", texts[k], e.text);
		assert_int_equal(r->n_findings, 0);
		assert_string_equal(r->os_family, "");
		assert_string_equal(r->artifact_name, "");
	}
	AUTO(report) struct report *r = NULL;
	struct err e = ERR_INIT;
	assert_int_equal(parse("{\"SchemaVersion\":2,\"Results\":[{\"Vulnerabilities\":[{\"VulnerabilityID\":\"A\",\"PkgName\":\"p\",\"Severity\":\"LOW\","
			       "\"FixedVersion\":null,\"Layer\":null,\"PkgIdentifier\":null,\"Title\":null}]}]}",
			       &r, &e),
			 0);
	assert_string_equal(r->findings[0].fixed, "");
	assert_int_equal(r->n_fixable, 0);
}

static void
what_is_no_report_of_schema_2_is_refused_by_what_was_found(void **state)
{
	(void)state;
	assert_refused("", "JSON");
	assert_refused("null", "null");
	assert_refused("[]", "a list of results");
	assert_refused("[{\"Target\":\"x\"}]", "a list of results");
	assert_refused("\"x\"", "a string");
	assert_refused("{}", "without SchemaVersion");
	assert_refused("{\"SchemaVersion\":1}", "schema 1");
	assert_refused("{\"SchemaVersion\":3}", "schema 3");
	assert_refused("{\"SchemaVersion\":2.5}", "schema 2.5");
	assert_refused("{\"SchemaVersion\":\"2\"}", "SchemaVersion is a string");
	assert_refused("{\"SchemaVersion\":2} x", "JSON");
	assert_refused("{\"SchemaVersion\":2,\"Results\":[{\"Vulnerabilities\":[", "JSON");
}

static void
a_member_of_another_type_is_an_error_that_names_its_place(void **state)
{
#define ONE(v) "{\"SchemaVersion\":2,\"Results\":[{},{\"Vulnerabilities\":[" v "]}]}"
	(void)state;
	assert_refused("{\"SchemaVersion\":2,\"Results\":{}}", "Results is an object, expected a list");
	assert_refused("{\"SchemaVersion\":2,\"Results\":[null]}", "Results[0] is null");
	assert_refused("{\"SchemaVersion\":2,\"Results\":[{\"Vulnerabilities\":{}}]}",
		       "Results[0].Vulnerabilities is an object");
	assert_refused("{\"SchemaVersion\":2,\"Results\":[{\"Packages\":[1]}]}",
		       "Results[0].Packages[0] is a number");
	assert_refused("{\"SchemaVersion\":2,\"Metadata\":[]}", "Metadata is a list");
	assert_refused("{\"SchemaVersion\":2,\"Metadata\":{\"OS\":\"debian\"}}", "OS is a string");
	assert_refused(ONE("null"), "Results[1].Vulnerabilities[0] is null");
	assert_refused(ONE("{\"VulnerabilityID\":7}"),
		       "Results[1].Vulnerabilities[0].VulnerabilityID is a number");
	assert_refused(ONE("{\"VulnerabilityID\":\"A\",\"PkgName\":\"p\"}"), "Severity is missing");
	assert_refused(ONE("{\"VulnerabilityID\":\"A\",\"PkgName\":\"p\",\"Severity\":\"critical\"}"),
		       "Severity is critical, expected UNKNOWN");
	assert_refused(ONE("{\"VulnerabilityID\":\"A\",\"Severity\":\"LOW\"}"), "PkgName is missing");
	assert_refused(ONE("{\"PkgName\":\"p\",\"Severity\":\"LOW\"}"), "VulnerabilityID is missing");
	/* cJSON alone would take these names for the right ones. */
	assert_refused(ONE("{\"vulnerabilityid\":\"A\",\"pkgname\":\"p\",\"severity\":\"LOW\"}"),
		       "Severity is missing");
#undef ONE
}

static void
a_report_over_its_limit_is_no_report(void **state)
{
	static const char text[] = "{\"SchemaVersion\":2}";
	struct report *r = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(report_parse(text, strlen(text), strlen(text) - 1, &r, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
	assert_int_equal(report_parse(text, strlen(text), strlen(text), &r, &e), 0);
	report_free(r);
}

static void
renaming_changes_targets_that_are_our_path_and_no_others(void **state)
{
	AUTO(report) struct report *r = NULL;
	AUTO_STRV struct strv tags = { 0 };
	struct err e = ERR_INIT;
	const cJSON *results;

	(void)state;
	strv_add(&tags, "app:1");
	assert_int_equal(parse("{\"SchemaVersion\":2,\"ArtifactName\":\"/w/lay\",\"Metadata\":{},\"Results\":["
			       "{\"Target\":\"/w/lay (debian 12.5)\",\"Vulnerabilities\":[{\"VulnerabilityID\":\"A\",\"PkgName\":\"p\",\"Severity\":\"LOW\"}]},"
			       "{\"Target\":\"/w/layers/package-lock.json\"},{\"Target\":\"Node.js\"},{}]}",
			       &r, &e),
			 0);
	report_rename(r, "app:1", &tags);
	results = json_array(r->json, "Results");
	assert_string_equal(r->artifact_name, "app:1");
	assert_string_equal(r->findings[0].target, "app:1 (debian 12.5)");
	assert_string_equal(json_str(cJSON_GetArrayItem(results, 0), "Target"), "app:1 (debian 12.5)");
	assert_string_equal(json_str(cJSON_GetArrayItem(results, 1), "Target"), "/w/layers/package-lock.json");
	assert_string_equal(json_str(cJSON_GetArrayItem(results, 2), "Target"), "Node.js");
	assert_int_equal(cJSON_GetArraySize(json_array(json_object(r->json, "Metadata"), "RepoTags")), 1);
	/* A second time, from a name to another. */
	report_rename(r, "b", &tags);
	assert_string_equal(r->findings[0].target, "b (debian 12.5)");
	assert_int_equal(cJSON_GetArraySize(json_array(json_object(r->json, "Metadata"), "RepoTags")), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_recorded_report_parses_to_its_figures),
		cmocka_unit_test(a_finding_has_all_that_trivy_says_of_it),
		cmocka_unit_test(nulls_count_as_absent_wherever_they_stand),
		cmocka_unit_test(what_is_no_report_of_schema_2_is_refused_by_what_was_found),
		cmocka_unit_test(a_member_of_another_type_is_an_error_that_names_its_place),
		cmocka_unit_test(a_report_over_its_limit_is_no_report),
		cmocka_unit_test(renaming_changes_targets_that_are_our_path_and_no_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
