#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "stages/explain.h"
#include "stages/pipeline.h"
#include "stages/version_order.h"
#include "tests/unit/sample_image.h"

static void
a_step_is_named_as_in_the_dockerfile(void **state)
{
	static const char *const table[][2] = {
		{ "/bin/sh -c #(nop) ADD file:7f3a in / ", "ADD file:7f3a in /" },
		{ "/bin/sh -c #(nop)  CMD [\"bash\"]", "CMD [\"bash\"]" },
		{ "/bin/sh -c apt-get update", "RUN apt-get update" },
		{ "RUN /bin/sh -c npm ci # buildkit", "RUN npm ci" },
		{ "COPY . /app # buildkit", "COPY . /app" },
		{ "RUN |2 TOKEN=secret B=two words /bin/sh -c make all # buildkit", "RUN make all" },
		{ "|1 TOKEN=secret /bin/sh -c make", "RUN make" },
		{ "|0 /bin/sh -c make", "RUN make" },
		{ "RUN /bin/bash -eo pipefail -c set -x; make # buildkit", "RUN set -x; make" },
		{ "RUN |1 TOKEN=secret python -c x", "RUN " },
		{ "RUN /bin/sh -c a   &&\n\tb", "RUN a && b" },
		{ "bazel build ...", "bazel build ..." },
		{ "", "" },
		{ "RUN /bin/sh -c echo \033[31mred", "RUN echo ?[31mred" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *name = explain_step_name(table[k][0]);

		assert_string_equal(name, table[k][1]);
		assert_null(strstr(name, "secret"));
	}
}

static void
a_long_step_is_cut(void **state)
{
	char words[4096] = "RUN /bin/sh -c ";
	AUTO_FREE char *name = NULL;

	(void)state;
	memset(words + strlen(words), 'x', sizeof(words) - strlen(words) - 1);
	name = explain_step_name(words);
	assert_true(strlen(name) < 100);
	assert_non_null(strstr(name, "…"));
}

static void
judge(struct sample *s)
{
	struct err e = ERR_INIT;

	assert_int_equal(stage_gate.run(&s->i, &e), 0);
}

static void
findings_are_grouped_by_the_step_that_brought_them(void **state)
{
	struct sample s;
	AUTO_EXPLANATION struct explanation x = { 0 };

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	explain_image(&s.i.images[0], &x);
	assert_int_equal(x.n_blocking, 3);
	assert_int_equal(x.n_fixable, 2);
	assert_int_equal(x.n_steps, 2);
	assert_string_equal(x.steps[0].name, "the base image");
	assert_true(x.steps[0].is_base);
	assert_int_equal(x.steps[0].n_findings, 2);
	assert_string_equal(x.steps[1].name, "RUN npm ci");
	assert_int_equal(x.steps[1].n_findings, 1);
	sample_free(&s);
}

static void
the_worst_and_those_with_a_fix_come_first(void **state)
{
	static const char *const expected[] = { "CVE-4", "CVE-1", "CVE-2", "CVE-5", "CVE-3" };
	struct sample s;
	AUTO_FREE size_t *order = NULL;
	size_t n;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	order = explain_sorted(&s.i.images[0], false, &n);
	assert_int_equal(n, 5);
	for (size_t k = 0; k < n; k++)
		assert_string_equal(s.i.images[0].report->findings[order[k]].id, expected[k]);
	sample_free(&s);
}

/* What is advised for findings "package|type class|installed|fixed|layer". */
static void
assert_advice(const char *const *findings, const char *advice, size_t n_advised)
{
	struct sample s;
	AUTO_BUF struct buf json = BUF_INIT(65536);
	AUTO_EXPLANATION struct explanation x = { 0 };

	buf_add_str(&json, "{\"SchemaVersion\":2,\"Results\":[");
	for (size_t k = 0; findings[k]; k++) {
		char package[32], class[32], installed[32], fixed[32], layer[32];

		assert_int_equal(sscanf(findings[k], "%31s %31s %31s %31s %31s", package, class, installed,
					fixed, layer),
				 5);
		buf_printf(&json,
			   "%s{\"Class\":\"%s\",\"Type\":\"npm\",\"Vulnerabilities\":[{\"VulnerabilityID\":\"C%zu\",\"PkgName\":\"%s\",\"Severity\":\"CRITICAL\",",
			   k ? "," : "", class, k, package);
		buf_printf(&json,
			   "\"InstalledVersion\":\"%s\",\"FixedVersion\":\"%s\",\"Layer\":{\"DiffID\":\"%s\"}}]}",
			   installed, strcmp(fixed, "-") == 0 ? "" : fixed, layer);
	}
	buf_add_str(&json, "]}");
	sample_init(&s);
	assert_non_null(sample_add_image(&s, buf_str(&json)));
	judge(&s);
	explain_image(&s.i.images[0], &x);
	if (advice)
		assert_string_equal(x.changes[0].text, advice);
	else
		assert_int_equal(x.n_changes, 0);
	assert_int_equal(x.changes[0].n_fixed, n_advised);
	sample_free(&s);
}

static void
the_change_that_fixes_the_most_is_advised(void **state)
{
	(void)state;
	assert_advice((const char *[]){ "a os-pkgs 1 2 L0", "b os-pkgs 1 2 L1", "c lang-pkgs 1 2 L2", NULL },
		      "build on a newer base image", 2);
	assert_advice((const char *[]){ "a os-pkgs 1 2 L0", "c lang-pkgs 1.0 1.9 L2",
					"c lang-pkgs 1.0 1.10 L2", NULL },
		      "raise c to 1.10", 2);
	assert_advice((const char *[]){ "a os-pkgs 1 2 L3", "b os-pkgs 1 2 L3", "c lang-pkgs 1 2 L2", NULL },
		      "run `RUN apt-get install -y curl` again, without the build cache", 2);
	assert_advice((const char *[]){ "a os-pkgs 1 2 elsewhere", NULL },
		      "upgrade the packages of the system", 1);
	/* Of several fixed versions, the nearest that is above what is installed. */
	assert_advice((const char *[]){ "m lang-pkgs 0.0.8 1.2.6,0.2.4 L2", NULL }, "raise m to 0.2.4", 1);
	assert_advice((const char *[]){ "m lang-pkgs 1.0.0 1.2.6,0.2.4 L2", NULL }, "raise m to 1.2.6", 1);
	/* In the order of its ecosystem: a release candidate of it is before what is installed. */
	assert_advice((const char *[]){ "m lang-pkgs 2.0.0 2.0.0-rc.1,2.0.1 L2", NULL }, "raise m to 2.0.1",
		      1);
	assert_advice((const char *[]){ "c lang-pkgs 1.0.0 2.0.0-rc.2 L2", "c lang-pkgs 1.0.0 2.0.0 L2", NULL },
		      "raise c to 2.0.0", 2);
}

static void
changes_are_listed_until_nothing_is_left_that_has_a_fix(void **state)
{
	struct sample s;
	AUTO_EXPLANATION struct explanation x = { 0 };

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	judge(&s);
	explain_image(&s.i.images[0], &x);
	assert_int_equal(x.n_changes, 2);
	assert_string_equal(x.changes[0].text, "raise lodash to 4.17.9");
	assert_string_equal(x.changes[1].text, "build on a newer base image");
	assert_int_equal(x.changes[0].n_fixed + x.changes[1].n_fixed, x.n_fixable);
	sample_free(&s);
}

static void
without_a_fix_there_is_no_advice(void **state)
{
	(void)state;
	assert_advice((const char *[]){ "a os-pkgs 1 - L0", "c lang-pkgs 1 - L2", NULL }, NULL, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_step_is_named_as_in_the_dockerfile),
		cmocka_unit_test(a_long_step_is_cut),
		cmocka_unit_test(findings_are_grouped_by_the_step_that_brought_them),
		cmocka_unit_test(the_worst_and_those_with_a_fix_come_first),
		cmocka_unit_test(the_change_that_fixes_the_most_is_advised),
		cmocka_unit_test(changes_are_listed_until_nothing_is_left_that_has_a_fix),
		cmocka_unit_test(without_a_fix_there_is_no_advice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
