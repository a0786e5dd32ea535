#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"

struct glob_case {
	const char *pattern, *text;
	bool matches;
};

static void
check(const struct glob_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_glob(cases[i].pattern, cases[i].text) != cases[i].matches)
			fail_msg("\"%s\" on \"%s\"", cases[i].pattern, cases[i].text);
}

static void
a_star_stops_at_a_slash_and_two_do_not(void **state)
{
	static const struct glob_case cases[] = {
		{ "*.tar", "app.tar", true },
		{ "*.tar", "a/app.tar", false },
		{ "**.tar", "a/b/app.tar", true },
		{ "a/**/b", "a/b", true },
		{ "a/**/b", "a/x/y/b", true },
		{ "a/**/b", "ab", false },
		{ "a/**/b", "a/xb", false },
		{ "**", "", true },
		{ "**", "a/b", true },
		{ "group/**", "group/app", true },
		{ "group/**", "group/a/b", true },
		{ "group/**", "groupies/app", false },
		{ "group/*", "group/a/b", false },
		{ "*", "", true },
		{ "**/x/**/y", "x/y", true },
		{ "**/x/**/y", "a/x/b/c/y", true },
		{ "*docker_build*", "my docker_build 2", true },
		{ "tar_images/*", "tar_images/", true },
	};

	(void)state;
	check(cases, MEM_COUNT(cases));
}

static void
marks_sets_and_quotes_are_as_in_a_shell(void **state)
{
	static const struct glob_case cases[] = {
		{ "?", "a", true },	  { "?", "/", false },	     { "?", "", false },
		{ "[a-c]x", "bx", true }, { "[a-c]x", "dx", false }, { "[!a]", "b", true },
		{ "[!a]", "a", false },	  { "[!a]", "/", false },    { "[]]", "]", true },
		{ "[a", "[a", true },	  { "\\*", "*", true },	     { "\\*", "a", false },
		{ "a[-]b", "a-b", true }, { "[\\]]", "]", true },    { "abc", "abc", true },
		{ "abc", "abcd", false }, { "", "", true },	     { "", "a", false },
	};

	(void)state;
	check(cases, MEM_COUNT(cases));
}

static void
two_stars_match_no_directory_only_where_they_are_a_whole_part(void **state)
{
	static const struct glob_case cases[] = {
		{ "group**/x", "groupx", false },
		{ "group**/x", "groups/a/x", true },
		{ "**/x", "x", true },
		{ "a/**/", "a/", true },
		{ "a/**/x", "a/x", true },
		{ "**/**/x", "x", true },
		{ "***/x", "x", true },
	};

	(void)state;
	check(cases, MEM_COUNT(cases));
}

static void
a_character_is_one_of_utf8_and_a_byte_that_is_none_is_itself(void **state)
{
	static const struct glob_case cases[] = {
		{ "?", "\xc3\xa4", true },
		{ "??", "\xc3\xa4", false },
		{ "b?u", "b\xc3\xa4u", true },
		{ "[\xc3\xa4\xc3\xb6]", "\xc3\xb6", true },
		{ "[\xc3\xa4\xc3\xb6]", "\xc3\xbc", false },
		{ "[\xce\xb1-\xcf\x89]", "\xce\xbb", true },
		{ "[!a]", "\xf0\x9f\x9a\xa2", true },
		{ "\\\xc3\xa4", "\xc3\xa4", true },
		{ "*\xff*", "a\xff", true },
		{ "?", "\xff", true },
		{ "\xff", "\xfe", false },
		{ "\xc3\xa4", "\xc3", false },
	};

	(void)state;
	check(cases, MEM_COUNT(cases));
}

/* Backtracking would not come back from it; the test's own time limit would show. */
static void
a_pattern_made_to_be_slow_is_not(void **state)
{
	struct buf pattern = BUF_INIT(4096), text = BUF_INIT(8192);

	(void)state;
	for (int i = 0; i < 300; i++)
		buf_add_str(&pattern, "**/*a*");
	for (int i = 0; i < 2000; i++)
		buf_add_str(&text, "a/b");
	buf_add_str(&pattern, "!");
	assert_false(str_glob(buf_str(&pattern), buf_str(&text)));
	buf_free(&pattern);
	buf_free(&text);
}

static void
a_pattern_over_its_bound_matches_nothing(void **state)
{
	struct buf pattern = BUF_INIT(10000);

	(void)state;
	for (int i = 0; i < 5000; i++)
		buf_add_char(&pattern, 'a');
	assert_false(str_glob(buf_str(&pattern), buf_str(&pattern)));
	assert_false(str_is_glob(buf_str(&pattern)));
	buf_free(&pattern);
}

static void
half_a_set_is_no_glob(void **state)
{
	static const char *const good[] = { "", "*", "a/**", "[a-z]x", "[]]", "[!]a]", "\\[a", "a\\", "[\\]]" };
	static const char *const bad[] = { "[", "a[", "[a-z", "[a]b[", "[]", "[!]", "[a\\]", "**/[x" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(good); k++)
		assert_true(str_is_glob(good[k]));
	for (size_t k = 0; k < MEM_COUNT(bad); k++)
		assert_false(str_is_glob(bad[k]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_star_stops_at_a_slash_and_two_do_not),
		cmocka_unit_test(marks_sets_and_quotes_are_as_in_a_shell),
		cmocka_unit_test(two_stars_match_no_directory_only_where_they_are_a_whole_part),
		cmocka_unit_test(a_character_is_one_of_utf8_and_a_byte_that_is_none_is_itself),
		cmocka_unit_test(a_pattern_made_to_be_slow_is_not),
		cmocka_unit_test(a_pattern_over_its_bound_matches_nothing),
		cmocka_unit_test(half_a_set_is_no_glob),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
