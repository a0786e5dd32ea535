#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/identity.h"
#include "stages/image_label.h"
#include "tests/unit/sample_image.h"

static void
a_registry_a_port_a_tag_and_a_digest_are_no_part_of_an_image(void **state)
{
	static const char *const names[] = {
		"app",
		"app:1.0",
		"docker.io/library/app:2",
		"index.docker.io/library/app:2",
		"registry-1.docker.io/library/app",
		"library/app:2",
		"localhost/app",
		"registry.example.com/app:1",
		"registry.example.com:5000/app:1",
		"registry:5000/app@sha256:0000",
		"REGISTRY/app:1",
		"registry:5000/app:1@sha256:0000",
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(names); k++) {
		AUTO_FREE char *got = image_repository(names[k]);

		assert_string_equal(got, "app");
	}
	/* of another registry it is a name like any other */
	AUTO_FREE char *own = image_repository("registry.example.com/library/app:1");
	assert_string_equal(own, "library/app");
}

static void
a_branch_is_no_part_of_an_image_where_pipelines_put_it(void **state)
{
	static const char *const cases[][4] = {
		/* repository, project, ref, identity */
		{ "group/app/main", "group/app", "main", "group/app" },
		{ "group/app/feature-1", "Group/App", "Feature/1", "group/app" },
		{ "group/app/api/main", "group/app", "main", "group/app/api" },
		{ "group/app/main", "group/app", "other", "group/app/main" },
		{ "group/main", "group/main", "main", "group/main" },
		{ "other/app/main", "group/app", "main", "other/app/main" },
		{ "group/application/main", "group/app", "main", "group/application/main" },
		{ "main", "group/app", "main", "main" },
		{ "group/app/main", "", "main", "group/app/main" },
		{ "group/app/", "group/app", "--", "group/app/" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct job_facts job = { .project_path = mem_strdup(cases[k][1]),
					 .ref = mem_strdup(cases[k][2]) };
		AUTO_FREE char *got = identity_repository(cases[k][0], &job);

		assert_string_equal(got, cases[k][3]);
		job_facts_free(&job);
	}
}

/* $CI_COMMIT_REF_SLUG there is of the source branch. */
static void
a_merge_requests_image_goes_by_its_source_branch(void **state)
{
	struct job_facts job = { .project_path = mem_strdup("group/app"),
				 .ref = mem_strdup("refs/merge-requests/5/head"),
				 .target_branch = mem_strdup("main"),
				 .source_branch = mem_strdup("Feature/1") };
	AUTO_FREE char *of_source = identity_repository("group/app/feature-1", &job);
	AUTO_FREE char *of_other = identity_repository("group/app/main", &job);

	(void)state;
	assert_string_equal(of_source, "group/app");
	assert_string_equal(of_other, "group/app/main");
	job_facts_free(&job);
}

static void
key_of(struct sample *s, size_t finding, char out[IDENTITY_KEY_SIZE])
{
	const struct image *m = &s->i.images[0];
	AUTO_FREE char *image = identity_image(&s->i, m);

	identity_key(s->job.project_path, image, m->report, &m->report->findings[finding], out);
}

static void
findings_of_one_report_are_told_apart(void **state)
{
	struct sample s;
	char keys[8][IDENTITY_KEY_SIZE];

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	for (size_t k = 0; k < s.i.images[0].report->n_findings; k++) {
		key_of(&s, k, keys[k]);
		assert_int_equal(strlen(keys[k]), IDENTITY_KEY_SIZE - 1);
		for (size_t other = 0; other < k; other++)
			assert_string_not_equal(keys[k], keys[other]);
	}
	sample_free(&s);
}

static void
severity_text_and_fix_are_no_part_of_a_finding_and_the_version_is(void **state)
{
	struct sample s;
	char before[IDENTITY_KEY_SIZE], after[IDENTITY_KEY_SIZE];
	struct finding *f;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	f = &s.i.images[0].report->findings[0];
	key_of(&s, 0, before);
	f->severity = SEVERITY_LOW;
	f->title = "reworded";
	f->description = "reworded";
	f->fixed = "9";
	key_of(&s, 0, after);
	assert_string_equal(before, after);
	f->installed = "other";
	key_of(&s, 0, after);
	assert_string_not_equal(before, after);
	sample_free(&s);
}

static void
images_of_one_repository_are_told_apart_by_what_changes_least(void **state)
{
	struct sample s;

	(void)state;
	sample_init(&s);
	sample_add_image(&s, sample_report);
	sample_add_image(&s, sample_report);
	free(s.i.archives[1].name);
	s.i.archives[1].name = mem_strdup("tar_images/debug.tar");
	AUTO_FREE char *a = identity_image(&s.i, &s.i.images[0]);
	AUTO_FREE char *b = identity_image(&s.i, &s.i.images[1]);
	assert_string_equal(a, "group/app (app)");
	assert_string_equal(b, "group/app (debug)");
	s.i.images[1].archive = 0;
	s.i.images[0].platform = mem_strdup("linux/amd64");
	s.i.images[1].platform = mem_strdup("linux/arm64");
	AUTO_FREE char *c = identity_image(&s.i, &s.i.images[1]);
	assert_string_equal(c, "group/app (linux/arm64)");
	sample_free(&s);
}

static void
a_point_release_and_a_tag_are_no_part_of_a_target(void **state)
{
	static const char *const cases[][3] = {
		/* family, name as Trivy has it, release */
		{ "debian", "12.5", "12" },
		{ "debian", "12", "12" },
		{ "debian", "trixie/sid", "trixie/sid" },
		{ "ubuntu", "22.04", "22.04" },
		{ "alpine", "3.19.1", "3.19" },
		{ "alpine", "3.21.0_alpha20240807", "3.21" },
		{ "redhat", "9.3", "9" },
		{ "alma", "8.9", "8" },
		{ "rocky", "9.3", "9" },
		{ "oracle", "8.9", "8" },
		{ "centos", "7.9.2009", "7" },
		{ "amazon", "2 (Karoo)", "2" },
		{ "amazon", "2023.3.20240108 (Amazon Linux)", "2023" },
		{ "cbl-mariner", "2.0.20240609", "2.0" },
		{ "photon", "5.0", "5.0" },
		{ "opensuse.leap", "15.5", "15.5" },
		{ "opensuse.tumbleweed", "20240607", "" },
		{ "wolfi", "20230201", "" },
		{ "", "", "" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_FREE char *artifact = mem_printf("tar_images/app:1.%zu.tar", k);
		struct report r = { .artifact_name = artifact,
				    .os_family = (char *)(uintptr_t)cases[k][0],
				    .os_name = (char *)(uintptr_t)cases[k][1] };
		AUTO_FREE char *release = identity_os_release(r.os_family, r.os_name);
		AUTO_FREE char *of_trivy = mem_printf("%s (%s %s)", artifact, r.os_family, r.os_name);
		AUTO_FREE char *target = identity_target(&r, of_trivy, "group/app");
		AUTO_FREE char *wanted = *release ? mem_printf("group/app (%s %s)", r.os_family, release)
						  : mem_printf("group/app (%s)", r.os_family);
		AUTO_FREE char *bare = identity_target(&r, artifact, "group/app");
		AUTO_FREE char *of_language = identity_target(&r, "srv/package-lock.json", "group/app");

		assert_string_equal(release, cases[k][2]);
		assert_string_equal(target, wanted);
		assert_string_equal(bare, "group/app");
		assert_string_equal(of_language, "srv/package-lock.json");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_registry_a_port_a_tag_and_a_digest_are_no_part_of_an_image),
		cmocka_unit_test(a_branch_is_no_part_of_an_image_where_pipelines_put_it),
		cmocka_unit_test(a_merge_requests_image_goes_by_its_source_branch),
		cmocka_unit_test(findings_of_one_report_are_told_apart),
		cmocka_unit_test(severity_text_and_fix_are_no_part_of_a_finding_and_the_version_is),
		cmocka_unit_test(a_point_release_and_a_tag_are_no_part_of_a_target),
		cmocka_unit_test(images_of_one_repository_are_told_apart_by_what_changes_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
