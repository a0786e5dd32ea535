#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/ignore_files.h"

#define JAN_31 INT64_C(1769817600) /* 2026-01-31 */

static int
read_text(const char *name, const char *text, struct ignore_list *l, struct err *e)
{
	return ignore_file_read(name, text, strlen(text), l, e);
}

static void
files_are_known_by_their_names(void **state)
{
	enum ignore_file kind;

	(void)state;
	assert_true(ignore_file_kind(".trivyignore", &kind));
	assert_int_equal(kind, IGNORE_TRIVYIGNORE);
	assert_true(ignore_file_kind(".trivyignore.yaml", &kind));
	assert_true(ignore_file_kind("app.openvex.json", &kind));
	assert_int_equal(kind, IGNORE_OPENVEX);
	assert_true(ignore_file_kind(".vex/one.json", &kind));
	assert_false(ignore_file_kind("sub/.trivyignore", &kind));
	assert_false(ignore_file_kind("trivyignore", &kind));
	assert_false(ignore_file_kind(".vex/sub/one.json", &kind));
}

static void
plain_files_hold_an_id_and_a_date(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(read_text(".trivyignore",
				   "# why\n\nCVE-2024-0001\r\n\tCVE-2024-0002 exp:2026-01-31 # until then\nGHSA-aaaa-bbbb-cccc # x\n"
				   "DLA-1234-1",
				   &l, &e),
			 0);
	assert_int_equal(l.n, 4);
	assert_string_equal(l.v[0].id, "CVE-2024-0001");
	assert_int_equal(l.v[0].until_s, 0);
	assert_string_equal(l.v[1].id, "CVE-2024-0002");
	assert_int_equal(l.v[1].until_s, JAN_31);
	assert_int_equal(l.v[2].until_s, 0);
	assert_string_equal(l.v[3].id, "DLA-1234-1");
	assert_int_equal(l.notes.n, 0);
}

static void
a_line_that_is_not_understood_excuses_nothing_and_is_told(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(read_text(".trivyignore",
				   "CVE-2024-1 exp:tomorrow\nCVE-2024-2 exp:2026-02-30\n*\n\033[31m\n", &l, &e),
			 0);
	assert_int_equal(l.n, 0);
	assert_int_equal(l.notes.n, 4);
	assert_non_null(strstr(l.notes.v[0], ".trivyignore:1: "));
	assert_null(strchr(l.notes.v[3], '\033'));
}

static void
yaml_files_hold_packages_paths_and_reasons(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(read_text(".trivyignore.yaml",
				   "vulnerabilities:\n  - id: CVE-2024-1\n    paths: [\"app/**\"]\n    statement: not reached\n"
				   "  - id: CVE-2024-2\n    purls:\n      - pkg:deb/debian/openssl\n    expired_at: 2026-01-31\n"
				   "  - id: CVE-2024-3\n    expired_at: someday\n"
				   "  - id: CVE-2024-4\n    paths: [\"lib/{a,b}.jar\"]\n    expired_at: 2026-01-31T01:00:00+01:00\n"
				   "  - id: CVE-2024-5\n    paths: [\"lib/{a\"]\n"
				   "secrets:\n  - id: aws-access-key-id\n    paths: [x]\n",
				   &l, &e),
			 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[0].paths.v[0], "app/**");
	assert_int_equal(l.v[2].paths.n, 2);
	assert_string_equal(l.v[2].paths.v[1], "lib/b.jar");
	assert_int_equal(l.v[2].until_s, JAN_31);
	assert_string_equal(l.v[0].reason, "not reached");
	assert_string_equal(l.v[1].purls.v[0], "pkg:deb/debian/openssl");
	assert_int_equal(l.v[1].until_s, JAN_31);
	assert_int_equal(l.notes.n, 2);
	assert_non_null(strstr(l.notes.v[0], ".trivyignore.yaml:9: "));
	assert_non_null(strstr(l.notes.v[1], ".trivyignore.yaml:14: this is no glob"));
}

#define VEX(statements)                                                                                 \
	"{\"@context\":\"https://openvex.dev/ns/v0.2.0\",\"@id\":\"x\",\"author\":\"a\",\"version\":1," \
	"\"timestamp\":\"2026-01-01T00:00:00Z\",\"statements\":[" statements "]}"
#define OF(id) "\"vulnerability\":{\"name\":\"" id "\"},"

static void
openvex_excuses_the_package_that_it_names(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(
		read_text(".vex.json",
			  VEX("{\"vulnerability\":{\"name\":\"CVE-2024-1\",\"aliases\":[\"GHSA-x\"]},\"status\":\"not_affected\","
			      "\"justification\":\"vulnerable_code_not_present\",\"products\":[{\"@id\":\"pkg:deb/debian/git@1\"}]},"
			      "{" OF("CVE-2024-2") "\"status\":\"fixed\",\"products\":[{\"@id\":\"pkg:oci/app?repository_url="
						   "registry.example.com:5000/group/app\",\"subcomponents\":[{\"@id\":\"pkg:npm/a@1\"}]}]}"),
			  &l, &e),
		0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[0].id, "CVE-2024-1");
	assert_string_equal(l.v[0].purls.v[0], "pkg:deb/debian/git@1");
	assert_string_equal(l.v[0].reason, "vulnerable_code_not_present");
	assert_null(l.v[0].image);
	assert_string_equal(l.v[1].id, "GHSA-x");
	assert_string_equal(l.v[2].image, "group/app");
	assert_string_equal(l.v[2].purls.v[0], "pkg:npm/a@1");
	assert_int_equal(l.notes.n, 0);
}

static void
openvex_that_names_too_much_excuses_nothing(void **state)
{
	static const char *const texts[] = {
		/* a whole image, an image by its digest, what is no package, nothing at all, a package within a package */
		VEX("{" OF("CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:oci/app\"}]}"),
		VEX("{" OF("CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:oci/app?tag=1.0\","
				    "\"subcomponents\":[{\"@id\":\"pkg:npm/a@1\"}]}]}"),
		VEX("{" OF("CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:oci/app@sha256%3Aaa\","
				    "\"subcomponents\":[{\"@id\":\"pkg:npm/a@1\"}]}]}"),
		VEX("{" OF("CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"my product\"}]}"),
		VEX("{" OF("CVE-1") "\"status\":\"not_affected\"}"),
		VEX("{" OF("CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:npm/b@1\","
				    "\"subcomponents\":[{\"@id\":\"pkg:npm/a@1\"}]}]}"),
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(texts); k++) {
		AUTO_IGNORE_LIST struct ignore_list l = { 0 };
		struct err e = ERR_INIT;

		assert_int_equal(read_text(".vex.json", texts[k], &l, &e), 0);
		assert_int_equal(l.n, 0);
		assert_int_equal(l.notes.n, 1);
	}
}

/* A flaw under its other name is the same flaw. */
static void
openvex_that_is_taken_back_under_one_name_is_under_all(void **state)
{
	static const char text[] = VEX(
		"{\"vulnerability\":{\"name\":\"CVE-2024-1\",\"aliases\":[\"GHSA-x\"]},\"status\":\"not_affected\","
		"\"products\":[{\"@id\":\"pkg:npm/a@1\"},{\"@id\":\"pkg:npm/b@1\"}]},"
		"{" OF("CVE-2024-2") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:npm/a@1\"}]},"
				     "{" OF("GHSA-x") "\"status\":\"affected\",\"timestamp\":\"2026-02-01T00:00:00Z\"}");
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(read_text(".vex.json", text, &l, &e), 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.v[0].id, "CVE-2024-2");
	assert_int_equal(l.notes.n, 1);
}

static void
openvex_excuses_by_two_of_its_four_words_alone(void **state)
{
	static const char *const words[] = { "affected", "under_investigation", "Not_affected", "" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(words); k++) {
		AUTO_IGNORE_LIST struct ignore_list l = { 0 };
		AUTO_FREE char *text =
			mem_printf(VEX("{" OF(
					   "CVE-1") "\"status\":\"%s\",\"products\":[{\"@id\":\"pkg:npm/a@1\"}]}"),
				   words[k]);
		struct err e = ERR_INIT;

		assert_int_equal(read_text(".vex.json", text, &l, &e), 0);
		assert_int_equal(l.n, 0);
	}
}

static void
openvex_as_trivy_writes_images_is_of_that_image(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(read_text(".vex.json",
				   VEX("{" OF("CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":"
						       "\"pkg:oci/app?arch=amd64&repository_url=registry.example.com%2Fgroup%2Fapp\","
						       "\"subcomponents\":[{\"@id\":\"pkg:npm/a@1\"}]}]}"),
				   &l, &e),
			 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.v[0].image, "group/app");
	assert_string_equal(l.v[0].arch, "amd64");
}

static void
a_later_statement_takes_an_earlier_one_back(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(
		read_text(".vex.json",
			  VEX("{" OF(
				  "CVE-1") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:npm/a@1\"}]},"
					   "{" OF("CVE-1") "\"status\":\"affected\",\"timestamp\":\"2026-02-01T00:00:00Z\"},"
							   "{" OF("CVE-2") "\"status\":\"under_investigation\",\"timestamp\":\"2025-02-01T00:00:00Z\"},"
									   "{" OF("CVE-2") "\"status\":\"not_affected\",\"products\":[{\"@id\":\"pkg:npm/a@1\"}]}"),
			  &l, &e),
		0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.v[0].id, "CVE-2");
	assert_int_equal(l.notes.n, 1);
}

static void
a_statement_of_another_file_takes_one_back_too(void **state)
{
	static const char old[] = VEX("{" OF(
		"CVE-1") "\"status\":\"fixed\",\"products\":[{\"@id\":\"pkg:npm/a@1\"},{\"@id\":\"pkg:npm/b@1\"}]},"
			 "{" OF("CVE-2") "\"status\":\"fixed\",\"products\":[{\"@id\":\"pkg:npm/a@1\"}]}");
	static const char later[] =
		VEX("{" OF("CVE-1") "\"status\":\"affected\",\"timestamp\":\"2026-02-01T00:00:00Z\"}");
	static const char earlier[] =
		VEX("{" OF("CVE-2") "\"status\":\"affected\",\"timestamp\":\"2025-02-01T00:00:00Z\"}");
	static const char broken[] = VEX("{" OF("CVE-2") "\"status\":\"affected\"}") "x";

	(void)state;
	for (int order = 0; order < 2; order++) {
		AUTO_IGNORE_LIST struct ignore_list l = { 0 };
		struct err e = ERR_INIT;

		assert_int_equal(read_text(".trivyignore", "CVE-1\n", &l, &e), 0);
		assert_int_equal(read_text(".vex/a.json", order ? old : later, &l, &e), 0);
		assert_int_equal(read_text(".vex/b.json", order ? later : old, &l, &e), 0);
		assert_int_equal(read_text(".vex/c.json", earlier, &l, &e), 0);
		assert_int_equal(read_text(".vex/d.json", broken, &l, &e), -1);
		assert_int_equal(l.n, 2);
		assert_int_equal(l.v[0].file, IGNORE_TRIVYIGNORE);
		assert_string_equal(l.v[1].id, "CVE-2");
		assert_int_equal(l.notes.n, 1);
		assert_non_null(strstr(l.notes.v[0], "OpenVEX of CVE-1: another statement takes it back"));
	}
}

static void
a_malformed_file_adds_nothing(void **state)
{
	static const struct {
		const char *name, *text;
	} files[] = {
		{ ".trivyignore.yaml", "vulnerabilities:\n  - id: CVE-1\n  - {}\n" },
		{ ".trivyignore.yaml", "vulnerabilities:\n  - id: CVE-1\n    if: true\n" },
		{ ".trivyignore.yaml", "vulnerabilities: &a\n  - id: CVE-1\nsecrets: *a\n" },
		{ ".trivyignore.yaml", "\t" },
		{ ".vex.json", "{\"statements\":[]}" },
		{ ".vex.json", VEX("") "x" },
		{ ".vex.json", "{\"@context\":\"https://example.com\",\"statements\":[]}" },
		{ "other.json", "{}" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(files); k++) {
		AUTO_IGNORE_LIST struct ignore_list l = { 0 };
		struct err e = ERR_INIT;

		assert_int_equal(read_text(files[k].name, files[k].text, &l, &e), -1);
		assert_int_equal(e.kind, ERR_REFUSED);
		assert_int_equal(l.n, 0);
	}
}

static void
too_many_entries_are_refused(void **state)
{
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	AUTO_BUF struct buf text = BUF_INIT(IGNORE_FILE_MAX);
	struct err e = ERR_INIT;

	(void)state;
	for (int k = 0; k < IGNORE_ENTRIES_MAX; k++)
		buf_printf(&text, "CVE-%d\n", k);
	assert_int_equal(ignore_file_read(".trivyignore", buf_str(&text), text.len, &l, &e), 0);
	assert_int_equal(l.n, IGNORE_ENTRIES_MAX);
	assert_int_equal(read_text(".trivyignore", "CVE-x\n", &l, &e), -1);
	assert_int_equal(l.n, IGNORE_ENTRIES_MAX);
	assert_int_equal(ignore_file_read(".trivyignore", "CVE-1\0x", 7, &l, &e), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_known_by_their_names),
		cmocka_unit_test(plain_files_hold_an_id_and_a_date),
		cmocka_unit_test(a_line_that_is_not_understood_excuses_nothing_and_is_told),
		cmocka_unit_test(yaml_files_hold_packages_paths_and_reasons),
		cmocka_unit_test(openvex_excuses_the_package_that_it_names),
		cmocka_unit_test(openvex_that_names_too_much_excuses_nothing),
		cmocka_unit_test(openvex_that_is_taken_back_under_one_name_is_under_all),
		cmocka_unit_test(openvex_excuses_by_two_of_its_four_words_alone),
		cmocka_unit_test(openvex_as_trivy_writes_images_is_of_that_image),
		cmocka_unit_test(a_later_statement_takes_an_earlier_one_back),
		cmocka_unit_test(a_statement_of_another_file_takes_one_back_too),
		cmocka_unit_test(a_malformed_file_adds_nothing),
		cmocka_unit_test(too_many_entries_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
