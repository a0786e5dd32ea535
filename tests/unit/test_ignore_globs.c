#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "stages/ignore_globs.h"

static char *
globs_of(const char *glob)
{
	AUTO_STRV struct strv l = { 0 };
	struct err e = ERR_INIT;

	if (ignore_globs_add(glob, &l, &e) < 0) {
		assert_int_equal(l.n, 0);
		assert_int_equal(e.kind, ERR_REFUSED);
		return mem_strdup("refused");
	}
	return strv_join(&l, " ");
}

static void
alternatives_and_stars_are_those_of_doublestar(void **state)
{
	static const char *const cases[][2] = {
		{ "app/*.jar", "app/*.jar" },
		{ "", "" },
		{ "{a,b}", "a b" },
		{ "x{a,b{c,d},}y", "xay xbcy xbdy xy" },
		{ "{a}{b,c}/{d,e}", "ab/d ab/e ac/d ac/e" },
		{ "a\\{b,c\\}", "a\\{b,c\\}" },
		{ "{a\\,b,[,}]}", "a\\,b [,}]" },
		{ "[{]a", "[{]a" },
		{ "[]{]a", "[]{]a" },
		{ "**/a/**/b", "**/a/**/b" },
		{ "a/**", "a/** a" },
		{ "{a,b}/**", "a/** a b/** b" },
		{ "a**b/***/**c/**", "a*b/*/*c/** a*b/*/*c" },
		{ "a\\**", "a\\**" },
		{ "[**]**", "[**]*" },
		{ "\xc3\xa4/{\xc3\xb6,\\\xc3\xbc}", "\xc3\xa4/\xc3\xb6 \xc3\xa4/\\\xc3\xbc" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_FREE char *is = globs_of(cases[k][0]);

		assert_string_equal(is, cases[k][1]);
	}
}

static void
what_is_not_closed_or_too_much_is_refused(void **state)
{
	static const char *const cases[] = { "[", "[a", "[!]", "a\\", "{a", "a}", "{a,{b}", "{[}", "{\\}",
					     /* 128 alternatives; 17 braces */
					     "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
					     "{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}" };
	AUTO_FREE char *is = globs_of("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"),
		       *long_glob = mem_alloc(IGNORE_GLOB_MAX + 2);

	(void)state;
	assert_int_equal(strlen(is), 64 * 7 - 1);
	memset(long_glob, 'a', IGNORE_GLOB_MAX + 1);
	mem_free_at(&is);
	is = globs_of(long_glob);
	assert_string_equal(is, "refused");
	long_glob[IGNORE_GLOB_MAX] = '\0';
	mem_free_at(&is);
	is = globs_of(long_glob);
	assert_string_equal(is, long_glob);
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_FREE char *said = globs_of(cases[k]);

		assert_string_equal(said, "refused");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alternatives_and_stars_are_those_of_doublestar),
		cmocka_unit_test(what_is_not_closed_or_too_much_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
