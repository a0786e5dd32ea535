#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"

#define MAX 4096

static int
parse(const char *text, unsigned flags, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;

	return json_parse(text, strlen(text), MAX, flags, &j, e);
}

static void
what_the_grammar_allows_is_read(void **state)
{
	static const char *const good[] = {
		"{}",
		"[]",
		" null ",
		"true",
		"-0",
		"0.5e-3",
		"\"\\u00e4\\n\\/\"",
		"\"\\ud83d\\udea2\"",
		"[1,2,[3,{\"a\":null}]]",
		"{\"a\":{\"b\":[]}}\r\n",
		"1E+2",
		"-0.0",
		"1e-400",
		"\"\"",
		"{\"\":{\"\":0}}",
		"\"\x7f\"",
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(good); i++)
		if (parse(good[i], JSON_UNIQUE, NULL) < 0)
			fail_msg("%s", good[i]);
}

static void
what_cjson_would_let_pass_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"{} x",
		"{}{}",
		"[1,]",
		"[,1]",
		"{\"a\":1,}",
		"{a:1}",
		"{'a':1}",
		"01",
		"+1",
		"1.",
		".5",
		"1e",
		"-",
		"0x10",
		"NaN",
		"Infinity",
		"tru",
		"nulll",
		"\"\\u0000\"",
		"\"\\ud800\"",
		"\"\\udc00\"",
		"\"\\ud800\\u0041\"",
		"\"\\x41\"",
		"\"a\tb\"",
		"\"open",
		"\"\\",
		"[1",
		"{\"a\"",
		"{\"a\":",
		"\"\xff\"",
		"\xef\xbb\xbf{}",
		"{\"a\" 1}",
		"// x\n1",
		"1e999",
		"-1e999",
		"--1",
		"1e+",
		"1.e1",
		"-01",
		"[1 2]",
		"{1:2}",
		"[1}",
		"{\"a\":1]",
		"]",
		"\"\\ud83d\\ud83d\"",
		"\"\\ud83d\\n\"",
		"\"\\u00g0\"",
		"\"\\u00\"",
		"\"\\U0041\"",
		"\"\xed\xa0\x80\"",
		"\v1",
		("\xc2\xa0"
		 "1"),
		"1234567890123456789012345678901234567890123456789012345678901234",
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		struct err e = ERR_INIT;

		if (parse(bad[i], 0, &e) == 0)
			fail_msg("%s", bad[i]);
		assert_int_equal(e.kind, ERR_REFUSED);
	}
}

static void
a_nul_in_the_text_is_no_end_of_it(void **state)
{
	AUTO_JSON cJSON *j = NULL;

	(void)state;
	assert_int_equal(json_parse("{}\0{}", 5, MAX, 0, &j, NULL), -1);
	assert_int_equal(json_parse("{}\0", 3, MAX, 0, &j, NULL), -1);
	assert_null(j);
}

static void
depth_and_size_are_bounded(void **state)
{
	char deep[2 * (JSON_DEPTH_MAX + 1) + 1] = "";
	struct err e = ERR_INIT;
	AUTO_JSON cJSON *j = NULL;

	(void)state;
	memset(deep, '[', JSON_DEPTH_MAX);
	memset(deep + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	assert_int_equal(parse(deep, 0, NULL), 0);
	memset(deep, '[', JSON_DEPTH_MAX + 1);
	memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	assert_int_equal(parse(deep, 0, &e), -1);
	assert_non_null(strstr(e.text, "deep"));
	assert_int_equal(json_parse("[1,2]", 5, 4, 0, &j, &e), -1);
}

static void
a_name_twice_is_refused_where_that_is_asked_for(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(parse("{\"a\":1,\"b\":{\"c\":1,\"d\":2,\"c\":3}}", JSON_UNIQUE, &e), -1);
	assert_non_null(strstr(e.text, "\"c\""));
	assert_int_equal(parse("{\"a\":1,\"\\u0061\":2}", JSON_UNIQUE, NULL), -1);
	assert_int_equal(parse("{\"a\":1,\"A\":2}", JSON_UNIQUE, NULL), 0);
	assert_int_equal(parse("{\"a\":1,\"a\":2}", 0, NULL), 0);
}

static void
names_are_exact_and_types_are_not_guessed(void **state)
{
	static const char text[] =
		"{\"Name\":\"x\",\"n\":3,\"big\":9007199254740993,\"edge\":9007199254740991,\"huge\":1e300,\"half\":1.5,\"no\":null,"
		"\"yes\":true,\"list\":[\"a\",1,\"b\"],\"n\":4}";
	AUTO_JSON cJSON *j = NULL;
	AUTO_STRV struct strv l = { 0 };
	const char *s = "kept";
	int64_t n = 7;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(json_parse(text, strlen(text), MAX, 0, &j, NULL), 0);
	assert_null(json_str(j, "name"));
	assert_string_equal(json_str(j, "Name"), "x");
	assert_int_equal(json_int(j, "n", 0), 3);
	assert_int_equal(json_int(j, "half", -1), -1);
	assert_int_equal(json_int(j, "big", -1), -1);
	assert_int_equal(json_int(j, "huge", -1), -1);
	assert_int_equal(json_int(j, "edge", -1), 9007199254740991);
	assert_int_equal(json_int(j, "Name", -1), -1);
	assert_null(json_get(j, "no"));
	assert_true(json_bool(j, "yes", false));
	assert_true(json_bool(j, "n", true));
	json_strv(j, "list", &l);
	assert_int_equal(l.n, 2);
	assert_int_equal(json_need_str(j, "absent", &s, &e), -1);
	assert_string_equal(s, "kept");
	assert_non_null(strstr(e.text, "\"absent\""));
	assert_int_equal(json_need_int(j, "half", &n, &e), -1);
	assert_int_equal(n, 7);
	assert_null(json_get(NULL, "x"));
}

static void
large_integers_are_written_as_they_are(void **state)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;

	(void)state;
	json_add_int(j, "a", 1767323045678901);
	json_add_int(j, "b", -3);
	json_add_str(j, "c", NULL);
	text = json_print(j);
	assert_string_equal(text, "{\"a\":1767323045678901,\"b\":-3,\"c\":null}");
}

static void
pretty_print_is_read_back_and_has_no_tabs(void **state)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_JSON cJSON *back = NULL;
	AUTO_FREE char *text = NULL;
	cJSON *inner = json_add_object(j, "inner");

	(void)state;
	json_add_str(inner, "tab\there", "a\tb \"quoted\"");
	json_add_bool(inner, "yes", true);
	text = json_print_pretty(j);
	assert_null(strchr(text, '\t'));
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_int_equal(json_parse(text, strlen(text), MAX, 0, &back, NULL), 0);
	assert_true(cJSON_Compare(j, back, true));
}

static void
texts_that_are_no_utf_8_and_times_that_are_none_make_json_all_the_same(void **state)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_STRV struct strv l = { 0 };
	AUTO_FREE char *text = NULL;

	(void)state;
	strv_add(&l, "a\xff");
	json_add_safe_str(j, "s", "b\xc3(\033[31m");
	json_add_safe_str(j, "n", NULL);
	json_add_safe_strv(j, "l", &l);
	json_add_time(j, "t", 86400);
	json_add_time(j, "none", 0);
	text = json_print(j);
	assert_int_equal(parse(text, JSON_UNIQUE, NULL), 0);
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "\"n\":null"));
	assert_non_null(strstr(text, "\"t\":\"1970-01-02T00:00:00Z\",\"none\":null"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_grammar_allows_is_read),
		cmocka_unit_test(what_cjson_would_let_pass_is_refused),
		cmocka_unit_test(a_nul_in_the_text_is_no_end_of_it),
		cmocka_unit_test(depth_and_size_are_bounded),
		cmocka_unit_test(a_name_twice_is_refused_where_that_is_asked_for),
		cmocka_unit_test(names_are_exact_and_types_are_not_guessed),
		cmocka_unit_test(large_integers_are_written_as_they_are),
		cmocka_unit_test(texts_that_are_no_utf_8_and_times_that_are_none_make_json_all_the_same),
		cmocka_unit_test(pretty_print_is_read_back_and_has_no_tabs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
