#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/purl.h"

struct pair {
	const char *pattern, *purl;
	bool is_same;
};

static void
assert_pairs(const struct pair *table, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if (purl_matches(table[k].pattern, table[k].purl) != table[k].is_same)
			fail_msg("%s and %s", table[k].pattern, table[k].purl);
}

#define DEB "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12.5"

static void
all_that_the_pattern_says_must_be_so(void **state)
{
	static const struct pair table[] = {
		{ "pkg:deb/debian/openssl", DEB, true },
		{ "pkg:deb/debian/openssl@3.0.11-1~deb12u2", DEB, true },
		{ "pkg:deb/debian/openssl@3.0.11-1%7Edeb12u2?arch=amd64", DEB, true },
		{ "pkg:deb/debian/openssl@3.0.11", DEB, false },
		{ "pkg:deb/debian/openssl@3.0.11-1~deb12u22", DEB, false },
		{ "pkg:deb/debian/openss", DEB, false },
		{ "pkg:deb/debian/openssl-dev", DEB, false },
		{ "pkg:deb/ubuntu/openssl", DEB, false },
		{ "pkg:deb/openssl", DEB, false },
		{ "pkg:rpm/debian/openssl", DEB, false },
		{ "pkg:npm/lodash", "", false },
		{ "pkg:npm/lodash@4", "pkg:npm/lodash", false },
		{ "pkg:npm", "pkg:npm", false },
		{ "pkg:npm/", "pkg:npm/", false },
	};

	(void)state;
	assert_pairs(table, MEM_COUNT(table));
}

static void
qualifiers_are_compared_by_key_in_any_order(void **state)
{
	static const struct pair table[] = {
		{ "pkg:deb/debian/openssl?distro=debian-12.5&arch=amd64", DEB, true },
		{ "pkg:deb/debian/openssl?ARCH=amd64", DEB, true },
		{ "pkg:deb/debian/openssl?distro=debian%2D12.5", DEB, true },
		{ "pkg:deb/debian/openssl?arch=", DEB, true },
		{ "pkg:deb/debian/openssl?", DEB, true },
		{ "pkg:deb/debian/openssl?arch=arm64", DEB, false },
		{ "pkg:deb/debian/openssl?arch=amd6", DEB, false },
		{ "pkg:deb/debian/openssl?arch=AMD64", DEB, false },
		{ "pkg:deb/debian/openssl?arch", DEB, false },
		{ "pkg:deb/debian/openssl?arch=amd64&epoch=1", DEB, false },
	};

	(void)state;
	assert_pairs(table, MEM_COUNT(table));
}

#define EPOCH "pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&epoch=1"

static void
an_epoch_may_stand_in_the_version_or_beside_it(void **state)
{
	static const struct pair table[] = {
		{ "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1", EPOCH, true },
		{ "pkg:deb/debian/zlib1g@1.2.13.dfsg-1?epoch=1", EPOCH, true },
		{ "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1", "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1", true },
		{ "pkg:deb/debian/zlib1g@2:1.2.13.dfsg-1", EPOCH, false },
		{ "pkg:deb/debian/zlib1g@1:1.2.14", EPOCH, false },
		{ "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1", "pkg:deb/debian/zlib1g@1.2.13.dfsg-1", false },
	};

	(void)state;
	assert_pairs(table, MEM_COUNT(table));
}

static void
percent_signs_are_what_they_mean_and_make_no_parts(void **state)
{
	static const struct pair table[] = {
		{ "pkg:npm/%40babel/core@7.0.0", "pkg:npm/%40babel/core@7.0.0", true },
		{ "pkg:npm/@babel/core", "pkg:npm/%40babel/core@7.0.0", true },
		{ "pkg:npm/@babel/core@7.0.0", "pkg:npm/%40babel/core@7.0.0", true },
		{ "pkg:deb/debian/libstdc++6", "pkg:deb/debian/libstdc%2B%2B6@12", true },
		{ "pkg:deb/debian/g%2b%2b", "pkg:deb/debian/g++", true },
		{ "pkg:deb/debian%2Fopenssl", DEB, false },
		{ "pkg:npm/a%4", "pkg:npm/a%4", true },
		{ "pkg:npm/a%00b", "pkg:npm/a", false },
	};

	(void)state;
	assert_pairs(table, MEM_COUNT(table));
}

static void
a_subpath_that_the_pattern_has_must_be_the_same(void **state)
{
	static const struct pair table[] = {
		{ "pkg:golang/google.golang.org/genproto#googleapis/api",
		  "pkg:golang/google.golang.org/genproto@1#googleapis/api", true },
		{ "pkg:golang/google.golang.org/genproto",
		  "pkg:golang/google.golang.org/genproto@1#googleapis/api", true },
		{ "pkg:golang/google.golang.org/genproto#googleapis",
		  "pkg:golang/google.golang.org/genproto@1#googleapis/api", false },
		{ "pkg:golang/google.golang.org/genproto#googleapis/api",
		  "pkg:golang/google.golang.org/genproto@1", false },
	};

	(void)state;
	assert_pairs(table, MEM_COUNT(table));
}

static void
case_counts_where_the_type_says_so(void **state)
{
	static const struct pair table[] = {
		{ "pkg:DEB/Debian/OpenSSL", DEB, true },
		{ "pkg:pypi/Django_REST", "pkg:pypi/django-rest@3", true },
		{ "pkg:golang/GitHub.com/Sirupsen/logrus", "pkg:golang/github.com/sirupsen/logrus@v1", true },
		{ "pkg:npm/JSONStream", "pkg:npm/jsonstream@1", true },
		{ "pkg:nuget/newtonsoft.json", "pkg:nuget/Newtonsoft.Json@13.0.1", true },
		{ "pkg:rpm/RedHat/openssl", "pkg:rpm/redhat/openssl@1", true },
		{ "pkg:rpm/redhat/OpenSSL", "pkg:rpm/redhat/openssl@1", false },
		{ "pkg:maven/org.Example/a", "pkg:maven/org.example/a@1", false },
		{ "pkg:gem/Rails", "pkg:gem/rails@1", false },
		{ "pkg:deb/debian/openssl@3.0.11-1~DEB12u2", DEB, false },
	};

	(void)state;
	assert_pairs(table, MEM_COUNT(table));
}

static void
what_is_a_package_url_has_a_type_and_a_name(void **state)
{
	static const char *const good[] = { "pkg:npm/a", "pkg:npm/@a/b@1", "pkg://npm/a",
					    "pkg:deb/debian/x?a=b#c" };
	static const char *const bad[] = { "",		 "pkg:",      "pkg:npm",      "pkg:npm/",
					   "pkg:/a",	 "npm/a",     "pkg:npm/a/",   "pkg:npm?a/b",
					   "pkg:npm/a@", "pkg:n@m/a", "pkg:npm/?a=b", "pkg:npm/#a" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(good); k++)
		if (!purl_is(good[k]))
			fail_msg("%s", good[k]);
	for (size_t k = 0; k < MEM_COUNT(bad); k++)
		if (purl_is(bad[k]))
			fail_msg("%s", bad[k]);
}

static void
an_image_is_named_by_its_repository_without_registry(void **state)
{
	static const struct {
		const char *purl, *image, *arch;
	} table[] = {
		{ "pkg:oci/app", "app", NULL },
		{ "pkg:oci/app?arch=", "app", NULL },
		{ "pkg:oci/app?arch=arm64", "app", "arm64" },
		{ "pkg:oci/app?arch=a%00b", NULL, NULL },
		{ "pkg:oci/app?tag=1.0", NULL, NULL },
		{ "pkg:oci/app?repository_url=docker.io/app&tag=1.0", NULL, NULL },
		{ "pkg:oci/app?arch", NULL, NULL },
		{ "pkg:oci/app?repository_url=registry.example.com:5000/group/app", "group/app", NULL },
		{ "pkg:oci/app?arch=amd64&repository_url=registry.example.com%3A5000%2Fgroup%2Fapp",
		  "group/app", "amd64" },
		{ "pkg:oci/debian?repository_url=index.docker.io%2Flibrary%2Fdebian", "debian", NULL },
		{ "pkg:oci/debian?repository_url=docker.io/library/debian", "debian", NULL },
		{ "pkg:oci/app@sha256%3Aaaaa?repository_url=registry.example.com/group/app", NULL, NULL },
		{ "pkg:oci/group/app", NULL, NULL },
		{ "pkg:oci/app?repository_url=a%00b", NULL, NULL },
		{ "pkg:oci/app?repository_url=a%0Ab", NULL, NULL },
		{ "pkg:docker/app", NULL, NULL },
		{ "app", NULL, NULL },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *arch = NULL, *image = purl_image(table[k].purl, &arch);

		if (!str_eq(image, table[k].image) || !str_eq(arch, table[k].arch))
			fail_msg("%s: %s, %s", table[k].purl, image ? image : "none", arch ? arch : "none");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_that_the_pattern_says_must_be_so),
		cmocka_unit_test(qualifiers_are_compared_by_key_in_any_order),
		cmocka_unit_test(an_epoch_may_stand_in_the_version_or_beside_it),
		cmocka_unit_test(percent_signs_are_what_they_mean_and_make_no_parts),
		cmocka_unit_test(a_subpath_that_the_pattern_has_must_be_the_same),
		cmocka_unit_test(case_counts_where_the_type_says_so),
		cmocka_unit_test(what_is_a_package_url_has_a_type_and_a_name),
		cmocka_unit_test(an_image_is_named_by_its_repository_without_registry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
