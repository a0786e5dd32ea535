/* What excuses a finding, one condition at a time: it holds, and it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "stages/policy.h"

#define TODAY INT64_C(1767225600) /* 2026-01-01 */
#define DAY POLICY_DAY_S

static char *tag_list[] = { (char[]){ "registry.example.com/group/app:1.0" } };
static const struct strv tags = { .v = tag_list, .n = MEM_COUNT(tag_list) };

static const struct policy_context a_job = { .project = "group/app",
					     .branch = "feature/x",
					     .stage = "build",
					     .job = "docker/build",
					     .image = "group/app",
					     .default_branch = "main",
					     .target_branch = "release/1",
					     .tags = &tags };

/* CVE-1 in a package of the system, GHSA-2 in one of a language. */
static struct report *
a_report(void)
{
	static const char text[] =
		"{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"12.5\"},\"ImageConfig\":{\"architecture\":\"arm64\"}},\"Results\":["
		"{\"Target\":\"app (debian 12.5)\",\"Type\":\"debian\",\"Packages\":[{}],\"Vulnerabilities\":[{\"VulnerabilityID\":\"CVE-1\","
		"\"PkgName\":\"openssl\",\"InstalledVersion\":\"3.0.11-1~deb12u2\",\"Severity\":\"HIGH\","
		"\"PkgIdentifier\":{\"PURL\":\"pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64\"}}]},"
		"{\"Target\":\"Node.js\",\"Type\":\"node-pkg\",\"Vulnerabilities\":[{\"VulnerabilityID\":\"GHSA-2\","
		"\"PkgName\":\"lodash\",\"PkgPath\":\"srv/node_modules/lodash/package.json\",\"InstalledVersion\":\"4.17.20\",\"Severity\":\"HIGH\","
		"\"PkgIdentifier\":{\"PURL\":\"pkg:npm/lodash@4.17.20\"}}]}]}";
	struct report *r = NULL;
	struct err e = ERR_INIT;

	if (report_parse(text, strlen(text), 65536, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

/* Of the finding named, under one rule that enforces from HIGH on and says `rule` besides. */
static void
decide(const char *rule, const char *rest, const struct policy_context *c, size_t finding, enum fate *ret,
       char **ret_by)
{
	AUTO_FREE char *text =
		mem_printf("version: 1\nrules:\n - {name: a, mode: enforce, severity: HIGH%s}\n%s", rule,
			   rest);
	AUTO(policy) struct policy *p = NULL;
	AUTO(report) struct report *r = a_report();
	AUTO_DECISION struct decision d = { 0 };
	struct err e = ERR_INIT;

	if (policy_parse("p.yml", text, strlen(text), NULL, &p, &e) < 0)
		fail_msg("%s", e.text);
	policy_decide(p, r, c, TODAY, &d);
	*ret = d.fates[finding].fate;
	*ret_by = mem_strdup(d.fates[finding].by);
}

static void
assert_fate(const char *rule, const char *rest, const struct policy_context *c, size_t finding,
	    enum fate expected)
{
	AUTO_FREE char *by = NULL;
	enum fate is;

	decide(rule, rest, c, finding, &is, &by);
	if (is != expected)
		fail_msg("%s instead of %s (%s):%s\n%s", fate_words[is], fate_words[expected], by, rule, rest);
}

static void
an_exception_counts_where_all_that_it_says_is_so(void **state)
{
	static const struct {
		const char *says;
		bool counts;
	} table[] = {
		{ "id: CVE-1", true },
		{ "id: CVE-11", false },
		{ "id: cve-1", false },
		{ "id: GHSA-x, aliases: [CVE-9, CVE-1]", true },
		{ "id: GHSA-x, aliases: [CVE-9]", false },
		{ "id: CVE-1, package: openssl", true },
		{ "id: CVE-1, package: libssl3", false },
		{ "id: CVE-1, package: openssl, versions: \"<3.0.12\"", true },
		{ "id: CVE-1, package: openssl, versions: \"<=3.0.11\"",
		  false }, /* its revision comes behind that */
		{ "id: CVE-1, package: openssl, versions: \"=3.0.11-1~deb12u2\"", true },
		{ "id: CVE-1, package: openssl, versions: \">=3.0.11-1~deb12u2,<3.0.11-1~deb12u3\"", true },
		{ "id: CVE-1, purl: pkg:deb/debian/openssl", true },
		{ "id: CVE-1, purl: \"pkg:deb/debian/openssl?arch=amd64\"", true },
		{ "id: CVE-1, purl: pkg:deb/ubuntu/openssl", false },
		{ "id: CVE-1, purl: pkg:deb/debian/openssl, versions: \"<3.0.12\"", true },
		{ "id: CVE-1, purl: pkg:deb/debian/openssl, versions: \">3.0.12\"", false },
		{ "id: CVE-1, project: group/app", true },
		{ "id: CVE-1, project: \"group/**\"", true },
		{ "id: CVE-1, project: \"*\"", false },
		{ "id: CVE-1, project: group", false },
		{ "id: CVE-1, project: Group/app", false },
		{ "id: CVE-1, image: \"group/*\"", true },
		{ "id: CVE-1, image: \"registry.example.com/**\"", true },
		{ "id: CVE-1, image: \"registry.example.com/group/app:1.0\"", true },
		{ "id: CVE-1, image: \"registry.example.com/group/app:1.1\"", false },
		{ "id: CVE-1, image: app", false },
		{ "id: CVE-1, package: openssl, purl: pkg:deb/debian/openssl, project: other, image: \"**\"",
		  false },
		{ "id: CVE-1, package: openssl, purl: pkg:deb/debian/curl, project: \"**\", image: \"**\"",
		  false },
		{ "id: CVE-1, package: openssl, purl: pkg:deb/debian/openssl, project: \"**\", image: \"**\"",
		  true },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *rest =
			mem_printf("exceptions:\n - {%s, expires: 2026-02-01, reason: r, owner: o}\n",
				   table[k].says);

		assert_fate("", rest, &a_job, 0, table[k].counts ? FATE_EXCEPTED : FATE_BLOCKS);
		assert_fate("", rest, &a_job, 1, FATE_BLOCKS);
	}
}

static void
nothing_is_excepted_by_the_name_of_an_image_that_is_not_known(void **state)
{
	static const char rest[] =
		"exceptions:\n - {id: CVE-1, image: \"**\", expires: 2026-02-01, reason: r, owner: o}\n";
	struct policy_context c = a_job;

	(void)state;
	assert_fate("", rest, &c, 0, FATE_EXCEPTED);
	c.image = NULL;
	assert_fate("", rest, &c, 0, FATE_BLOCKS);
}

static void
of_several_exceptions_the_one_that_lasts_longest_is_named(void **state)
{
	static const char rest[] =
		"exceptions:\n"
		" - {id: CVE-1, expires: 2026-01-31, reason: short, owner: o}\n"
		" - {id: CVE-1, expires: 2026-03-31, reason: long, owner: o}\n"
		" - {id: CVE-1, expires: 2026-02-28, reason: between, owner: o}\n"
		" - {id: CVE-1, expires: 2030-02-28, reason: too long, owner: o}\n"
		" - {id: CVE-1, expires: 2026-05-31, package: curl, reason: other, owner: o}\n";
	AUTO_FREE char *by = NULL;
	enum fate is;

	(void)state;
	decide("", rest, &a_job, 0, &is, &by);
	assert_int_equal(is, FATE_EXCEPTED);
	assert_non_null(strstr(by, "o: long"));
}

static bool
accepted(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret)
{
	*ret = *(const struct policy_accepted *)arg;
	return nth == 0 && strcmp(f->id, "CVE-1") == 0;
}

static void
triage_counts_where_and_for_what_the_rule_says(void **state)
{
	static const char product[] = ", accept: {scope: product}",
			  keep[] = ", accept: {raised_severity: keep}";
	static const struct {
		const char *rule;
		struct policy_accepted a;
		bool counts;
	} table[] = {
		{ "", { .severity = SEVERITY_HIGH, .branch = "feature/x" }, true },
		{ "", { .severity = SEVERITY_HIGH, .branch = "main" }, false },
		{ "", { .severity = SEVERITY_HIGH, .branch = "feature" }, false },
		{ "", { .severity = SEVERITY_HIGH, .branch = "" }, false },
		{ "", { .severity = SEVERITY_HIGH, .branch = "", .is_product_wide = true }, false },
		{ product, { .severity = SEVERITY_HIGH, .branch = "main" }, true },
		{ product, { .severity = SEVERITY_HIGH, .branch = "", .is_product_wide = true }, true },
		{ product, { .severity = SEVERITY_HIGH, .branch = "" }, false },
		{ "", { .severity = SEVERITY_HIGH, .branch = "feature/x", .until_s = TODAY + 1 }, true },
		{ "", { .severity = SEVERITY_HIGH, .branch = "feature/x", .until_s = TODAY }, false },
		{ "", { .severity = SEVERITY_CRITICAL, .branch = "feature/x" }, true },
		{ "", { .severity = SEVERITY_MEDIUM, .branch = "feature/x" }, false },
		{ keep, { .severity = SEVERITY_MEDIUM, .branch = "feature/x" }, true },
		{ "", { ACCEPTED_FALSE_POSITIVE, 0, SEVERITY_LOW, "feature/x", false, NULL }, true },
		{ "", { ACCEPTED_OUT_OF_SCOPE, 0, SEVERITY_LOW, "feature/x", false, NULL }, true },
		{ "", { ACCEPTED_OUT_OF_SCOPE, 0, SEVERITY_LOW, "main", false, NULL }, false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		struct policy_context c = a_job;

		c.known = (struct policy_known){ .arg = &table[k].a, .accepted = accepted };
		assert_fate(table[k].rule, "", &c, 0, table[k].counts ? FATE_ACCEPTED : FATE_BLOCKS);
		assert_fate(table[k].rule, "", &c, 1, FATE_BLOCKS);
	}
}

static void
what_blocks_says_what_excused_it_once(void **state)
{
	static const char ended[] = "exceptions: [{id: CVE-1, expires: 2020-01-31, reason: r, owner: o}]\n";
	static const struct {
		const char *rest;
		struct policy_accepted a;
		const char *says;
	} table[] = {
		{ ended, { .branch = "" }, "; the exception in line " },
		{ ended, { .branch = "" }, " ended with 2020-01-31" },
		{ "",
		  { .severity = SEVERITY_HIGH,
		    .branch = "feature/x",
		    .until_s = TODAY,
		    .by = "DefectDojo finding 17" },
		  "; the acceptance of DefectDojo finding 17 ended at " },
		{ "",
		  { .severity = SEVERITY_MEDIUM, .branch = "feature/x", .by = "DefectDojo finding 17" },
		  "; DefectDojo finding 17 was accepted as MEDIUM and is HIGH now: ask again" },
		{ "", { .severity = SEVERITY_MEDIUM, .branch = "main", .by = "DefectDojo finding 17" }, NULL },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		struct policy_context c = a_job;
		AUTO_FREE char *by = NULL;
		enum fate is;

		c.known = (struct policy_known){ .arg = &table[k].a, .accepted = accepted };
		decide("", table[k].rest, &c, 0, &is, &by);
		assert_int_equal(is, FATE_BLOCKS);
		if (table[k].says ? !strstr(by, table[k].says) : strchr(by, ';') != NULL)
			fail_msg("%zu: \"%s\"", k, by);
	}
}

/* It may have the name of a branch, and be pushed by whoever may not push to that. */
static void
triage_of_a_branch_does_not_count_for_a_tag_of_that_name_nor_the_other_way_round(void **state)
{
	static const struct {
		bool is_tag, counts;
		const char *branch;
	} table[] = {
		{ false, true, "feature/x" },
		{ false, false, "refs/tags/feature/x" },
		{ true, true, "refs/tags/feature/x" },
		{ true, false, "feature/x" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		const struct policy_accepted a = { .severity = SEVERITY_HIGH, .branch = table[k].branch };
		struct policy_context c = a_job;

		c.is_tag = table[k].is_tag;
		c.known = (struct policy_known){ .arg = &a, .accepted = accepted };
		assert_fate("", "", &c, 0, table[k].counts ? FATE_ACCEPTED : FATE_BLOCKS);
	}
}

static void
an_entry_of_an_ignore_file_counts_for_what_it_names_until_its_day(void **state)
{
	static const struct {
		int file;
		size_t finding;
		const char *id, *purl, *path;
		int64_t until_s;
		bool counts;
		const char *image, *arch;
	} table[] = {
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, 0, true, "group/app", "arm64" },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, 0, false, "group/app", "amd64" },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, 0, false, "group/other", "arm64" },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, 0, true, .image = "app" },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, 0, true },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-2", NULL, NULL, 0, false },
		{ IGNORE_OPENVEX, 0, "CVE-1", NULL, NULL, 0, false }, /* the rule takes none */
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, TODAY + 1, true },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, NULL, TODAY, false },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", "pkg:deb/debian/openssl", NULL, 0, true },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", "pkg:deb/debian/curl", NULL, 0, false },
		{ IGNORE_TRIVYIGNORE, 1, "GHSA-2", NULL, "srv/**", 0, true },
		{ IGNORE_TRIVYIGNORE, 1, "GHSA-2", NULL, "opt/**", 0, false },
		{ IGNORE_TRIVYIGNORE, 1, "GHSA-2", NULL, "Node.js", 0, true }, /* as for Trivy */
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", NULL, "app (debian*", 0, true },
		{ IGNORE_TRIVYIGNORE, 0, "CVE-1", "pkg:deb/debian/openssl", "other", 0, false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		struct policy_ignore g = { .file = table[k].file, .until_s = table[k].until_s };
		struct policy_context c = a_job;

		g.id = mem_strdup(table[k].id);
		g.image = mem_strdup(table[k].image);
		g.arch = mem_strdup(table[k].arch);
		if (table[k].purl)
			strv_add(&g.purls, "pkg:npm/none"), strv_add(&g.purls, table[k].purl);
		if (table[k].path)
			strv_add(&g.paths, table[k].path);
		c.ignores = &g;
		c.n_ignores = 1;
		assert_fate(", ignore_files: [trivyignore]", "", &c, table[k].finding,
			    table[k].counts ? FATE_IGNORED : FATE_BLOCKS);
		assert_fate("", "", &c, table[k].finding, FATE_BLOCKS);
		mem_free_at(&g.id);
		mem_free_at(&g.image);
		mem_free_at(&g.arch);
		strv_free(&g.purls);
		strv_free(&g.paths);
	}
}

static bool
has_baseline(const void *arg, const char *branch)
{
	return strcmp(arg, branch) == 0;
}

static bool
is_known(const void *arg, const char *branch, const struct finding *f)
{
	return strcmp(arg, branch) == 0 && strcmp(f->id, "CVE-1") == 0;
}

static void
what_the_branch_has_that_the_rule_names_is_known(void **state)
{
	static const struct {
		const char *new_only, *has;
		enum fate fate;
	} table[] = {
		{ "off", "main", FATE_BLOCKS },		 { "default", "main", FATE_KNOWN },
		{ "default", "release/1", FATE_BLOCKS }, { "target", "release/1", FATE_KNOWN },
		{ "target", "main", FATE_BLOCKS },	 { "release/2", "release/2", FATE_KNOWN },
		{ "release/2", "main", FATE_BLOCKS },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *rule = mem_printf(", new_only: %s", table[k].new_only);
		struct policy_context c = a_job;

		c.known = (struct policy_known){ .arg = table[k].has,
						 .has_baseline = has_baseline,
						 .is_known = is_known };
		assert_fate(rule, "", &c, 0, table[k].fate);
		assert_fate(rule, "", &c, 1, FATE_BLOCKS);
	}
}

static void
a_rule_matches_where_each_of_its_conditions_does(void **state)
{
	static const struct {
		const char *match;
		bool is_meant;
	} table[] = {
		{ "projects: [other, \"group/*\"]", true },
		{ "projects: [\"*\"]", false },
		{ "branches: [\"feature/*\"]", true },
		{ "branches: [\"*\"]", false },
		{ "branches: [main]", false },
		{ "images: [\"group/*\"]", true },
		{ "images: [\"registry.example.com/**\"]", true },
		{ "images: [\"*\"]", false },
		{ "stages: [build]", true },
		{ "stages: [test]", false },
		{ "jobs: [\"*build\"]", true }, /* a job's name is no path */
		{ "jobs: [\"docker/*\"]", true },
		{ "jobs: [build]", false },
		{ "protected: false", true },
		{ "protected: true", false },
		{ "protected: any", true },
		{ "tag: true", false },
		{ "tag: false, stages: [test]", false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *rule = mem_printf(", match: {%s}", table[k].match);

		/* the settings have nothing against a HIGH */
		assert_fate(rule, "", &a_job, 0, table[k].is_meant ? FATE_BLOCKS : FATE_BELOW);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exception_counts_where_all_that_it_says_is_so),
		cmocka_unit_test(nothing_is_excepted_by_the_name_of_an_image_that_is_not_known),
		cmocka_unit_test(of_several_exceptions_the_one_that_lasts_longest_is_named),
		cmocka_unit_test(triage_counts_where_and_for_what_the_rule_says),
		cmocka_unit_test(what_blocks_says_what_excused_it_once),
		cmocka_unit_test(
			triage_of_a_branch_does_not_count_for_a_tag_of_that_name_nor_the_other_way_round),
		cmocka_unit_test(an_entry_of_an_ignore_file_counts_for_what_it_names_until_its_day),
		cmocka_unit_test(what_the_branch_has_that_the_rule_names_is_known),
		cmocka_unit_test(a_rule_matches_where_each_of_its_conditions_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
