#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"

static void
a_list_ends_with_null_and_owns_its_strings(void **state)
{
	AUTO_STRV struct strv l = { 0 };
	AUTO_STRV struct strv copy = { 0 };
	AUTO_FREE char *joined = NULL;

	(void)state;
	for (int i = 9; i >= 0; i--)
		strv_addf(&l, "item%d", i);
	assert_int_equal(l.n, 10);
	assert_null(l.v[10]);
	strv_sort(&l);
	assert_string_equal(l.v[0], "item0");
	strv_copy(&copy, &l);
	assert_ptr_not_equal(copy.v[3], l.v[3]);
	assert_true(strv_has(&copy, "item7"));
	assert_false(strv_has(&copy, "item"));
	joined = strv_join(&copy, ",");
	assert_string_equal(joined, "item0,item1,item2,item3,item4,item5,item6,item7,item8,item9");
}

static void
prefix_suffix_and_equality_are_exact(void **state)
{
	(void)state;
	assert_true(str_has_prefix("abc", "ab"));
	assert_false(str_has_prefix("a", "ab"));
	assert_true(str_has_suffix("a.tar", ".tar"));
	assert_false(str_has_suffix("tar", ".tar"));
	assert_true(str_eq(NULL, NULL));
	assert_false(str_eq(NULL, ""));
	assert_true(str_is_empty(NULL));
	assert_true(str_is_hex("0af9", 4));
	assert_false(str_is_hex("0AF9", 4));
	assert_false(str_is_hex("0g", 2));
}

static void
utf8_is_taken_by_the_table_of_the_standard(void **state)
{
	static const struct {
		const char *text;
		bool is_valid;
	} cases[] = {
		{ "plain", true },	   { "\xc3\xa4", true },
		{ "\xe2\x82\xac", true },  { "\xf0\x9f\x9a\xa2", true },
		{ "\xc0\x80", false },	   { "\xe0\x80\x80", false },
		{ "\xed\xa0\x80", false }, { "\xf4\x90\x80\x80", false },
		{ "\xff", false },	   { "\xc3", false },
		{ "\xe2\x82", false },	   { "\x80", false },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++)
		assert_int_equal(str_is_utf8(cases[i].text, strlen(cases[i].text)), cases[i].is_valid);
}

static void
text_of_strangers_loses_controls_and_what_turns_it_around(void **state)
{
	static const struct {
		const char *text, *safe;
	} cases[] = {
		{ "red \x1b[31m", "red ?[31m" },
		{ "two\nlines\r", "two?lines?" },
		{ "\xe2\x80\xae"
		  "abc",
		  "?abc" },
		{ "bad \xff byte", "bad ? byte" },
		{ "c1 \xc2\x9b", "c1 ?" },
		{ "gr\xc3\xb6\xc3\x9f"
		  "e",
		  "gr\xc3\xb6\xc3\x9f"
		  "e" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *safe = str_safe(cases[i].text, 100);

		assert_string_equal(safe, cases[i].safe);
	}
}

static void
long_text_is_cut_to_its_columns_with_an_ellipsis(void **state)
{
	AUTO_FREE char *cut = str_safe("abcdefgh", 4);
	AUTO_FREE char *whole = str_safe("abcd", 4);
	AUTO_FREE char *wide = str_safe("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", 3);
	AUTO_FREE char *none = str_safe("abc", 0);

	(void)state;
	assert_string_equal(cut, "abc…");
	assert_string_equal(whole, "abcd");
	assert_string_equal(wide, "\xc3\xa4\xc3\xa4…");
	assert_string_equal(none, "");
}

static void
an_ellipsis_that_finds_no_room_leaves_a_text_that_ends(void **state)
{
	AUTO_BUF struct buf b = BUF_INIT(4);

	(void)state;
	str_add_safe(&b, "abcdef", 4);
	assert_true(b.is_full);
	assert_string_equal(buf_str(&b), "abc");
	assert_int_equal(b.len, 3);
}

static const char *
value(const char *name, void *arg)
{
	return strcmp(name, "image") == 0 ? arg : NULL;
}

static void
templates_know_their_placeholders_and_name_an_unknown_one(void **state)
{
	char image[] = "group/app";
	AUTO_FREE char *text = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(str_expand("{{x} {image}:{image}", value, image, &text, &e), 0);
	assert_string_equal(text, "{x} group/app:group/app");
	mem_free_at(&text);
	assert_int_equal(str_expand("{nobody}", value, image, &text, &e), -1);
	assert_non_null(strstr(e.text, "{nobody}"));
	assert_int_equal(str_expand("{image", value, image, &text, &e), -1);
	assert_null(text);
}

static void
what_a_template_becomes_is_bounded(void **state)
{
	char image[] = "0123456789012345678901234567890123456789012345678901234567890123";
	struct buf tmpl = BUF_INIT(1 << 20);
	AUTO_FREE char *text = NULL;

	(void)state;
	for (int i = 0; i < 2000; i++)
		buf_add_str(&tmpl, "{image}");
	assert_int_equal(str_expand(buf_str(&tmpl), value, image, &text, NULL), -1);
	assert_null(text);
	buf_free(&tmpl);
}

static void
a_path_is_cleaned_by_its_letters(void **state)
{
	static const struct {
		const char *path, *clean;
		bool climbs;
	} cases[] = {
		{ "", "", false },
		{ "/", "", false },
		{ ".", "", false },
		{ "a", "a", false },
		{ "/a//x/../b/.", "a/b", false },
		{ "./a/./b/", "a/b", false },
		{ "a/..", "", false },
		{ "a/../b", "b", false },
		{ "a/b/../../c", "c", false },
		{ "..", "", true },
		{ "/../a", "a", true },
		{ "a/../../b", "b", true },
		{ "a/b/../../../c/d", "c/d", true },
		{ "...", "...", false },
		{ "..a/.b/b..", "..a/.b/b..", false },
		{ "ab/../c", "c", false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		bool climbs = !cases[k].climbs;
		AUTO_FREE char *clean = str_clean_path(cases[k].path, &climbs);

		assert_string_equal(clean, cases[k].clean);
		if (climbs != cases[k].climbs)
			fail_msg("%s", cases[k].path);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_ends_with_null_and_owns_its_strings),
		cmocka_unit_test(prefix_suffix_and_equality_are_exact),
		cmocka_unit_test(utf8_is_taken_by_the_table_of_the_standard),
		cmocka_unit_test(text_of_strangers_loses_controls_and_what_turns_it_around),
		cmocka_unit_test(long_text_is_cut_to_its_columns_with_an_ellipsis),
		cmocka_unit_test(an_ellipsis_that_finds_no_room_leaves_a_text_that_ends),
		cmocka_unit_test(templates_know_their_placeholders_and_name_an_unknown_one),
		cmocka_unit_test(what_a_template_becomes_is_bounded),
		cmocka_unit_test(a_path_is_cleaned_by_its_letters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
