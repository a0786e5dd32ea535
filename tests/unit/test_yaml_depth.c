#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "base/yaml_depth.h"

static int
check(const char *text, struct err *e)
{
	return yaml_depth_check("x.yml", text, strlen(text), 3, ERR_REFUSED, e);
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
	assert_int_equal(check("\xff\xfe\xff", NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_as_deep_as_allowed_is_fine),
		cmocka_unit_test(a_deeper_one_is_refused_with_its_line),
		cmocka_unit_test(a_megabyte_of_brackets_is_refused_at_its_fourth),
		cmocka_unit_test(what_is_no_yaml_is_left_to_the_loader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
