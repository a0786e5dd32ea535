#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "base/yaml_check.h"

static int
check(const char *text, struct err *e)
{
	const struct yaml_bounds b = { .depth_max = 3, .is_plain = true, .kind = ERR_REFUSED };

	return yaml_check("x.yml", text, strlen(text), &b, e);
}

static void
a_text_as_deep_as_allowed_is_fine(void **state)
{
	(void)state;
	assert_int_equal(check("a: { b: [1] }\nc: [[1], [2]]\nd: [[], []]\n", NULL), 0);
	assert_int_equal(check("", NULL), 0);
}

static void
a_deeper_one_is_refused_with_its_line(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(check("a:\n  b:\n    c:\n      d: 1\n", &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_string_equal(e.text, "x.yml:4: nested more than 3 deep");
}

static void
a_megabyte_of_brackets_is_refused_at_its_fourth(void **state)
{
	AUTO_FREE char *text = mem_alloc((1 << 20) + 1);
	struct err e = ERR_INIT;

	(void)state;
	memset(text, '[', 1 << 20);
	assert_int_equal(check(text, &e), -1);
	assert_string_equal(e.text, "x.yml:1: nested more than 3 deep");
}

static void
what_is_no_yaml_is_left_to_the_loader(void **state)
{
	(void)state;
	assert_int_equal(check("a: [1\nb: }", NULL), 0);
	assert_int_equal(check("\xff\xff\xff", NULL), 0);
}

static void
anchors_and_tags_are_refused_where_a_plain_text_is_wanted(void **state)
{
	static const struct {
		const char *text, *fault;
	} cases[] = {
		{ "a: 1\nb: &x 1\n", "x.yml:2: an anchor (&x) " },
		{ "&x a: 1\n", "x.yml:1: an anchor (&x) " },
		{ "a: &x []\n", "x.yml:1: an anchor (&x) " },
		{ "a: &x {}\n", "x.yml:1: an anchor (&x) " },
		{ "--- &x\na: 1\n", "x.yml:1: an anchor (&x) " },
		{ "a: !!map {}\n", "x.yml:1: a tag (tag:yaml.org,2002:map) " },
		{ "a: !!seq []\n", "x.yml:1: a tag (tag:yaml.org,2002:seq) " },
		{ "a: !x 1\n", "x.yml:1: a tag (!x) " },
		{ "--- !x\na: 1\n", "x.yml:1: a tag (!x) " },
		{ "\n%TAG !a! tag:x,2000:\n---\na: 1\n", "x.yml:2: a directive %TAG " },
		{ "\xef\xbb\xbf%TAG !a! tag:x,2000:\n---\na: 1\n", "x.yml:1: a directive %TAG " },
		{ "# x\r%TAG !a! tag:x,2000:\r---\ra: 1\n", "x.yml:1: a directive %TAG " },
		{ "# x\n\xc2\x85%TAG !a! tag:x,2000:\n---\na: 1\n", "x.yml:2: a directive %TAG " },
		{ "# x\xe2\x80\xa8%TAG !a! tag:x,2000:\n---\na: 1\n", "x.yml:1: a directive %TAG " },
		{ "# x\xe2\x80\xa9%TAG !a! tag:x,2000:\n---\na: 1\n", "x.yml:1: a directive %TAG " },
	};
	const struct yaml_bounds any = { .depth_max = 3, .kind = ERR_REFUSED };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct err e = ERR_INIT;

		assert_int_equal(check(cases[k].text, &e), -1);
		assert_ptr_equal(strstr(e.text, cases[k].fault), e.text);
		assert_int_equal(yaml_check("x.yml", cases[k].text, strlen(cases[k].text), &any, NULL), 0);
	}
	assert_int_equal(check("a: \"&x\"\nb: '!y'\nc: x&y!z %TAG\nd: caf\xc3\xa9%TAG\n", NULL), 0);
	assert_int_equal(check("\xff\xfe% T A G ", NULL), -1);
	assert_int_equal(check("\xfe\xff %", NULL), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_as_deep_as_allowed_is_fine),
		cmocka_unit_test(a_deeper_one_is_refused_with_its_line),
		cmocka_unit_test(a_megabyte_of_brackets_is_refused_at_its_fourth),
		cmocka_unit_test(what_is_no_yaml_is_left_to_the_loader),
		cmocka_unit_test(anchors_and_tags_are_refused_where_a_plain_text_is_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
