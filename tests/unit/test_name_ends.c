#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/name_ends.h"

static struct job_facts
a_job(void)
{
	static char path[] = "group/app", ref[] = "main{image}";

	return (struct job_facts){ .project_path = path, .ref = ref, .project_id = 7 };
}

static void
a_template_is_parted_at_what_takes_an_image(void **state)
{
	static const struct {
		const char *tmpl, *prefix, *suffix; /* prefix NULL: nothing takes one */
	} cases[] = {
		{ "{project_path}: {image}", "group/app: ", "" },
		{ "{image}", "", "" },
		{ "{tag} of {image} of {project_path}!", "", " of group/app!" },
		{ "{project_id}/{archive}/x{tag}", "7/", "" },
		{ "{project_path}", NULL, NULL },
		{ "", NULL, NULL },
		/* a brace that is one, and a value that looks like a placeholder */
		{ "{{image} {branch}", NULL, NULL },
		{ "{{{image} {branch}", "{", " main{image}" },
		{ "{branch} {image}", "main{image} ", "" },
		/* no templates */
		{ "{nothing} {image}", NULL, NULL },
		{ "{image} {", NULL, NULL },
		{ "{image", NULL, NULL },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_NAME_ENDS struct name_ends x = { 0 };
		struct job_facts job = a_job();

		assert_int_equal(name_ends_of(cases[k].tmpl, &job, &x), cases[k].prefix != NULL);
		if (!cases[k].prefix)
			continue;
		assert_string_equal(x.prefix, cases[k].prefix);
		assert_string_equal(x.suffix, cases[k].suffix);
	}
}

static void
a_name_is_the_projects_when_it_begins_and_ends_so(void **state)
{
	char prefix[] = " group/app: ", suffix[] = " of us ";
	const struct name_ends x = { prefix, suffix };

	(void)state;
	assert_true(name_ends_are_of(&x, "group/app: x of us"));
	assert_true(name_ends_are_of(&x, "group/app:  of us"));
	assert_false(name_ends_are_of(&x, "group/app: of us"));
	assert_false(name_ends_are_of(&x, "group/app2: x of us"));
	assert_false(name_ends_are_of(&x, "a group/app: x of us"));
	assert_false(name_ends_are_of(&x, "group/app: x of us all"));
	assert_false(name_ends_are_of(&x, ""));
}

static void
of_a_name_that_was_shortened_the_beginning_tells(void **state)
{
	char prefix[] = "group/app: ", suffix[] = " of us", name[256] = "group/app: ";
	const struct name_ends x = { prefix, suffix };

	(void)state;
	memset(name + strlen(prefix), 'x', sizeof(name) - 1 - strlen(prefix));
	assert_true(name_ends_are_of(&x, name));
	name[0] = 'G';
	assert_false(name_ends_are_of(&x, name));
	name[0] = 'g';
	name[200] = '\0';
	assert_false(name_ends_are_of(&x, name));
}

static void
two_projects_may_come_to_one_name(void **state)
{
	static const struct {
		const char *tmpl;
		bool is_certain;
	} cases[] = {
		{ "{project_path}", true },
		{ "{project_path}-{branch}", true },
		{ "{project_path}: {image}", true },
		{ "{project_path} {image}", true },
		{ "{project_path}: {branch}-{image}", true },
		{ "{image} ({project_path})", true },
		{ "{project_id}-{image}", true },
		{ "{project_path}-{project_id}-{image}", true },
		{ "{project_path}-{image}", false },
		{ "{project_path}/{image}", false },
		{ "{project_path}{image}", false },
		{ "{project_path}_{tag}", false },
		{ "{project_path}.{archive}", false },
		{ "{image}/{project_path}", false },
		{ "a: {image}{project_path}", false },
		{ "{tag}: {project_path}-{image}", false },
		{ "{project_id}{image}", false },
		{ "{image}", false },
		{ "{branch}: {image}", false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++)
		if (name_ends_are_certain(cases[k].tmpl) != cases[k].is_certain)
			fail_msg("%s", cases[k].tmpl);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_template_is_parted_at_what_takes_an_image),
		cmocka_unit_test(a_name_is_the_projects_when_it_begins_and_ends_so),
		cmocka_unit_test(of_a_name_that_was_shortened_the_beginning_tells),
		cmocka_unit_test(two_projects_may_come_to_one_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
