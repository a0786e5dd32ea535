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
#include "stages/version_range.h"

static void
assert_order(enum version_order order, const char *const *rising, size_t n)
{
	for (size_t a = 0; a < n; a++)
		for (size_t b = 0; b < n; b++) {
			int diff = version_compare(order, rising[a], rising[b]);

			if ((diff > 0) - (diff < 0) != (a > b) - (a < b))
				fail_msg("%s and %s: %d", rising[a], rising[b], diff);
		}
}

static void
versions_stand_in_the_order_of_their_ecosystem(void **state)
{
	static const char *const debian[] = { "1.0~rc1-1", "1.0-1~deb12u1", "1.0-1",  "1.0-1+b1",
					      "1.0-2",	   "1.0-10",	    "1.0a-1", "1.0+dfsg-1",
					      "1.10-1",	   "1:0.1-1" };
	static const char *const rpm[] = { "1.0~rc1-1", "1.0-1.el8", "1.0-1.el9", "1.0-2.el8", "1.0^git1-1",
					   "1.0a-1",	"1.0.1-1",   "1.10-1",	  "1:0.1-1" };
	static const char *const alpine[] = { "1.2_alpha1-r0", "1.2_rc1-r0", "1.2-r0",	 "1.2-r1", "1.2-r10",
					      "1.2_p1-r0",     "1.2a-r0",    "1.2.1-r0", "1.10-r0" };
	static const char *const general[] = { "1.0.0-alpha",	"1.0.0-alpha.1", "1.0.0-beta.2",
					       "1.0.0-beta.11", "1.0.0-rc.1",	 "v1.0.0",
					       "1.0.1",		"1.2",		 "1.10.0" };
	static const char *const maven[] = { "1.0-SNAPSHOT", "1.0",	"1.0-sp1", "1.0-jre",
					     "1.0.1",	     "1.1-rc1", "1.1",	   "32.0-jre" };
	static const char *const python[] = { "1.0.dev1", "1.0a1",     "1.0b2", "1.0rc1",
					      "1.0",	  "1.0.post1", "1.0.1", "1!0.1" };

	(void)state;
	assert_order(VERSION_DEBIAN, debian, MEM_COUNT(debian));
	assert_order(VERSION_RPM, rpm, MEM_COUNT(rpm));
	assert_order(VERSION_ALPINE, alpine, MEM_COUNT(alpine));
	assert_order(VERSION_GENERAL, general, MEM_COUNT(general));
	assert_order(VERSION_PYPI, python, MEM_COUNT(python));
	assert_order(VERSION_MAVEN, maven, MEM_COUNT(maven));
	assert_int_equal(version_compare(VERSION_GENERAL, "1.2", "v1.2.0+build5"), 0);
	assert_int_equal(version_compare(VERSION_MAVEN, "4.1.100.Final", "4.1.100"), 0);
	assert_int_equal(version_compare(VERSION_MAVEN, "1-ga", "1.0"), 0);
	assert_int_equal(version_compare(VERSION_GENERAL, "32.0-jre", "32.0"), -1);
	assert_int_equal(version_order_of("jar"), VERSION_MAVEN);
	assert_int_equal(version_order_of("ubuntu"), VERSION_DEBIAN);
	assert_int_equal(version_order_of("centos-stream"), VERSION_RPM);
	assert_int_equal(version_order_of("gomod"), VERSION_SEMVER);
	assert_int_equal(version_order_of("python-pkg"), VERSION_PYPI);
	assert_int_equal(version_order_of("composer"), VERSION_GENERAL);
}

/* What dpkg, RPM, Trivy for Alpine, npm, pip, RubyGems and Maven said of pairs. */
static void
versions_stand_in_the_order_that_their_tools_have(void **state)
{
	static const struct {
		const char *name;
		enum version_order order;
	} names[] = { { "debian", VERSION_DEBIAN }, { "rpm", VERSION_RPM },   { "alpine", VERSION_ALPINE },
		      { "semver", VERSION_SEMVER }, { "pypi", VERSION_PYPI }, { "gem", VERSION_GEM },
		      { "maven", VERSION_MAVEN } };
	AUTO_FREE char *text = NULL;
	char *save = NULL;
	size_t len, n[MEM_COUNT(names)] = { 0 };

	(void)state;
	assert_int_equal(fs_read_max(AT_FDCWD, SOURCE_DIR "/tests/fixtures/versions.tsv", 1 << 20, &text,
				     &len, NULL),
			 0);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *rest = line, *name, *a, *b;
		size_t k = 0;
		int diff;

		if (*line == '#')
			continue;
		name = strsep(&rest, "\t");
		a = strsep(&rest, "\t");
		b = strsep(&rest, "\t");
		assert_non_null(rest);
		while (k < MEM_COUNT(names) - 1 && strcmp(names[k].name, name) != 0)
			k++;
		assert_string_equal(names[k].name, name);
		diff = version_compare(names[k].order, a, b);
		if ((diff > 0) - (diff < 0) != atoi(rest))
			fail_msg("%s: %s and %s: %d, expected %s", name, a, b, diff, rest);
		n[k]++;
	}
	for (size_t k = 0; k < MEM_COUNT(names); k++)
		assert_true(n[k] >= 100);
}

static void
what_is_no_version_of_its_kind_is_taken_as_any(void **state)
{
	(void)state;
	assert_int_equal(version_compare(VERSION_SEMVER, "1.2rc1", "1.2"), -1);
	assert_int_equal(version_compare(VERSION_PYPI, "1.2-jre", "1.2-foo"), 1);
	/* a build of one's own is in the range of what it was built from */
	assert_int_equal(version_compare(VERSION_PYPI, "2.1.0+cu118", "2.1.0"), 0);
	assert_int_equal(version_compare(VERSION_SEMVER, "v1.21.0+incompatible", "1.21"), 0);
}

static void
a_range_holds_where_all_of_its_parts_do(void **state)
{
	static const struct {
		const char *version, *range;
		bool is_in;
	} table[] = {
		{ "3.0.11-1~deb12u2", "<3.0.15", true },
		{ "3.0.15-1", "<3.0.15", false },
		{ "1.5", ">=1.2,<2", true },
		{ "1.5", ">= 1.2, < 1.5", false },
		{ "1.5", "<=1.5", true },
		{ "1.5", "=1.5", true },
		{ "1.5", "==1.6", false },
		{ "", "<9", false },
		{ "1.5", "", true },
		{ "1.5", ">1.4", true },
	};
	static const char *const bad[] = { "",	  "1.2",  "<",
					   "<1,", ",<1",  "<1 2",
					   "~>1", "<1<2", "<1,<1,<1,<1,<1,<1,<1,<1,<1" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++)
		assert_int_equal(version_in_range(VERSION_DEBIAN, table[k].version, table[k].range),
				 table[k].is_in);
	for (size_t k = 0; k < MEM_COUNT(bad); k++)
		assert_false(version_is_range(bad[k]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(versions_stand_in_the_order_of_their_ecosystem),
		cmocka_unit_test(versions_stand_in_the_order_that_their_tools_have),
		cmocka_unit_test(what_is_no_version_of_its_kind_is_taken_as_any),
		cmocka_unit_test(a_range_holds_where_all_of_its_parts_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
