#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define INVALID INT64_MIN

struct unit_case {
	const char *text;
	int64_t value; /* INVALID: refused */
};

static void
check(int (*parse)(const char *, int64_t *, struct err *), const struct unit_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct err e = ERR_INIT;
		int64_t v = INVALID;
		int rc = parse(cases[i].text, &v, &e);

		if (v != cases[i].value || (rc < 0) != (cases[i].value == INVALID))
			fail_msg("\"%s\" became %jd", cases[i].text, (intmax_t)v);
		if (rc < 0 && (e.kind != ERR_SETTINGS || !e.text[0]))
			fail_msg("\"%s\" was refused without a word", cases[i].text);
	}
}

static void
durations_carry_units(void **state)
{
	static const struct unit_case cases[] = {
		{ "0", 0 },
		{ "90s", 90000 },
		{ "15m", 900000 },
		{ "48h", 172800000 },
		{ "7d", 604800000 },
		{ "1500ms", 1500 },
		{ "1h30m", 5400000 },
		{ "2w", 1209600000 },
		{ "90", INVALID },
		{ "", INVALID },
		{ "s", INVALID },
		{ "-1s", INVALID },
		{ "1.5h", INVALID },
		{ "1 hour", INVALID },
		{ "9999999999999999999s", INVALID },
		{ "9999999999999999d", INVALID },
		{ "1s ", INVALID },
		{ "1H", INVALID },
	};

	(void)state;
	check(str_parse_duration, cases, MEM_COUNT(cases));
}

static void
sizes_carry_units(void **state)
{
	static const struct unit_case cases[] = {
		{ "0", 0 },
		{ "512B", 512 },
		{ "10KiB", 10240 },
		{ "64MiB", 67108864 },
		{ "4GiB", 4294967296 },
		{ "1GB", 1000000000 },
		{ "1 GB", 1000000000 },
		{ "1024", INVALID },
		{ "1GiB2MiB", INVALID },
		{ "GiB", INVALID },
		{ "1gib", INVALID },
		{ "99999999TiB", INVALID },
	};

	(void)state;
	check(str_parse_size, cases, MEM_COUNT(cases));
}

static void
integers_are_whole_and_within_their_bounds(void **state)
{
	int64_t v = 7;

	(void)state;
	assert_int_equal(str_parse_int("-5", -10, 10, &v, NULL), 0);
	assert_int_equal(v, -5);
	assert_int_equal(str_parse_int("11", -10, 10, &v, NULL), -1);
	assert_int_equal(str_parse_int("1x", -10, 10, &v, NULL), -1);
	assert_int_equal(str_parse_int("", -10, 10, &v, NULL), -1);
	assert_int_equal(str_parse_int("+1", -10, 10, &v, NULL), -1);
	assert_int_equal(str_parse_int("99999999999999999999", INT64_MIN, INT64_MAX, &v, NULL), -1);
	assert_int_equal(v, -5);
}

static void
what_is_written_exactly_is_read_back(void **state)
{
	static const int64_t values[] = { 0, 1, 999, 1000, 90000, 900000, 172800000, 5368709120, 1048577 };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(values); i++) {
		AUTO_FREE char *duration = str_format_duration(values[i]);
		AUTO_FREE char *size = str_format_size(values[i]);
		int64_t v;

		assert_int_equal(str_parse_duration(duration, &v, NULL), 0);
		assert_int_equal(v, values[i]);
		assert_int_equal(str_parse_size(size, &v, NULL), 0);
		assert_int_equal(v, values[i]);
	}
}

static void
people_read_three_digits(void **state)
{
	AUTO_FREE char *bytes = str_human_size(824041472);
	AUTO_FREE char *few = str_human_size(999);
	AUTO_FREE char *giga = str_human_size(1600152064);
	AUTO_FREE char *carry = str_human_size(999999);
	AUTO_FREE char *quick = str_human_duration(350);
	AUTO_FREE char *long_ = str_human_duration(185000);
	AUTO_FREE char *none = str_human_duration(0);
	AUTO_FREE char *tenths = str_human_duration(2400);
	AUTO_FREE char *whole = str_human_duration(51000);
	AUTO_FREE char *day = str_human_duration(24 * 3600 * 1000);

	(void)state;
	assert_string_equal(bytes, "824 MB");
	assert_string_equal(few, "999 B");
	assert_string_equal(giga, "1.60 GB");
	assert_string_equal(carry, "1.00 MB");
	assert_string_equal(quick, "350 ms");
	assert_string_equal(long_, "3 min 5 s");
	assert_string_equal(none, "0 s");
	assert_string_equal(tenths, "2.4 s");
	assert_string_equal(whole, "51 s");
	assert_string_equal(day, "24 h");
}

static void
dates_of_rfc_3339_are_read_and_others_are_not(void **state)
{
	static const struct unit_case cases[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-01-02T03:04:05.678901234Z", 1767323045 },
		{ "2026-01-02T05:04:05+02:00", 1767323045 },
		{ "2026-01-01T22:04:05-05:00", 1767323045 },
		{ "2026-13-02T03:04:05Z", INVALID },
		{ "2026-01-02 noon", INVALID },
		{ "2026-01-02T03:04:05", INVALID },
		{ "2026-01-02T03:04:05.Z", INVALID },
		{ "2026-01-02T03:04:05+2:00", INVALID },
		{ "", INVALID },
		{ "2026-01-02t03:04:05z", 1767323045 },
		{ "2026-01-02 03:04:05-00:00", 1767323045 },
		{ "2024-02-29T00:00:00Z", 1709164800 },
		{ "2026-02-29T00:00:00Z", INVALID },
		{ "2100-02-29T00:00:00Z", INVALID },
		{ "2026-04-31T00:00:00Z", INVALID },
		{ "2026-00-10T00:00:00Z", INVALID },
		{ "2026-01-00T00:00:00Z", INVALID },
		{ "2016-12-31T23:59:60Z", 1483228800 },
		{ "2026-01-02T24:00:00Z", INVALID },
		{ "2026-01-02T03:60:00Z", INVALID },
		{ "2026-01-02T03:04:61Z", INVALID },
		{ "2026-01-02T-1:04:05Z", INVALID },
		{ "2026-01-02T+3:04:05Z", INVALID },
		{ "2026- 1-02T03:04:05Z", INVALID },
		{ "-026-01-02T03:04:05Z", INVALID },
		{ "2026-01-02T03:04:05+ 2:00", INVALID },
		{ "2026-01-02T03:04:05+24:00", INVALID },
		{ "2026-01-02T03:04:05+02:60", INVALID },
		{ "2026-01-02T03:04:05+02:00 ", INVALID },
		{ "2026-01-02T03:04:05Zulu", INVALID },
		{ "02026-01-02T03:04:05Z", INVALID },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		struct err e = ERR_INIT;
		int64_t v = INVALID;
		int rc = clock_parse_rfc3339(cases[i].text, &v, &e);

		if (v != cases[i].value || (rc < 0) != (e.kind != ERR_NONE))
			fail_msg("\"%s\" became %jd", cases[i].text, (intmax_t)v);
	}
}

static void
what_stands_in_place_of_a_date_is_shown_without_controls(void **state)
{
	struct err e = ERR_INIT;
	int64_t v;

	(void)state;
	assert_int_equal(clock_parse_rfc3339("\033[31mnow\n", &v, &e), -1);
	assert_null(strpbrk(e.text, "\033\n"));
}

static void
a_date_is_written_as_it_is_read(void **state)
{
	char text[32];
	int64_t v;

	(void)state;
	clock_format_rfc3339(1767323045, text);
	assert_string_equal(text, "2026-01-02T03:04:05Z");
	assert_int_equal(clock_parse_rfc3339(text, &v, NULL), 0);
	assert_int_equal(v, 1767323045);
}

static void
deadlines_saturate_and_pass(void **state)
{
	(void)state;
	assert_true(clock_deadline(-1) == CLOCK_DEADLINE_NEVER);
	assert_true(clock_deadline(INT64_MAX) == CLOCK_DEADLINE_NEVER);
	assert_int_equal(clock_left_ms(clock_deadline(0)), 0);
	assert_int_equal(clock_poll_timeout(CLOCK_DEADLINE_NEVER), -1);
	assert_true(clock_left_ms(clock_deadline(3600000)) > 3500000);
	assert_true(clock_poll_timeout(clock_deadline(INT64_MAX / 2)) > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_carry_units),
		cmocka_unit_test(sizes_carry_units),
		cmocka_unit_test(integers_are_whole_and_within_their_bounds),
		cmocka_unit_test(what_is_written_exactly_is_read_back),
		cmocka_unit_test(people_read_three_digits),
		cmocka_unit_test(dates_of_rfc_3339_are_read_and_others_are_not),
		cmocka_unit_test(what_stands_in_place_of_a_date_is_shown_without_controls),
		cmocka_unit_test(a_date_is_written_as_it_is_read),
		cmocka_unit_test(deadlines_saturate_and_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
