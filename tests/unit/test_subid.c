#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/subid.h"

static struct subid_range
free_in(const char *text, const char *user, bool *ret_has)
{
	struct subid_range r = { 0 };
	struct err e = ERR_INIT;

	assert_int_equal(subid_find_in(text, user, ret_has, &r, &e), 0);
	return r;
}

static void
the_first_range_begins_where_login_defs_says(void **state)
{
	bool has = true;
	struct subid_range r = free_in("", "a", &has);

	(void)state;
	assert_false(has);
	assert_int_equal(r.first, 100000);
	assert_int_equal(r.last, 165535);
}

static void
a_new_range_lies_behind_all_others(void **state)
{
	bool has = true;
	struct subid_range r =
		free_in("b:300000:65536\nc:100000:65536\nbroken\n# d:900000:5\ne:x:1\n", "a", &has);

	(void)state;
	assert_false(has);
	assert_int_equal(r.first, 365536);
	assert_int_equal(r.last, 365536 + 65535);
}

static void
a_user_with_a_range_is_found_by_its_whole_name(void **state)
{
	bool has = false;

	(void)state;
	free_in("tw-1:100000:65536\n", "tw-1", &has);
	assert_true(has);
	free_in("tw-11:100000:65536\n", "tw-1", &has);
	assert_false(has);
	free_in("x:1:1\ntw-1:100000:65536", "tw-1", &has);
	assert_true(has);
}

static void
numbers_run_out_with_an_error(void **state)
{
	struct subid_range r;
	struct err e = ERR_INIT;
	bool has;

	(void)state;
	assert_int_equal(subid_find_in("b:4294900000:60000\n", "a", &has, &r, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
}

static void
ranges_of_a_user_are_found_by_name_and_by_number(void **state)
{
	struct subid_ranges r;

	(void)state;
	subid_ranges_in("b:100000:10\na:200000:10\nbroken:1\n7:300000:2", "a", 7, &r);
	assert_int_equal(r.n, 2);
	assert_int_equal(r.v[1].last, 300001);
	assert_true(subid_ranges_has(&r, 200000) && subid_ranges_has(&r, 200009) &&
		    subid_ranges_has(&r, 300001));
	assert_false(subid_ranges_has(&r, 199999) || subid_ranges_has(&r, 200010) ||
		     subid_ranges_has(&r, 100000));
}

static void
a_range_that_others_reach_into_is_nobodys(void **state)
{
	struct subid_ranges r;

	(void)state;
	subid_ranges_in("a:100000:10\nb:100009:10\na:200000:10\na:200005:10\n", "a", 7, &r);
	assert_int_equal(r.n, 2);
	assert_false(subid_ranges_has(&r, 100000));
	assert_true(subid_ranges_has(&r, 200014));
}

static void
no_file_is_an_empty_file(void **state)
{
	struct subid_range r;
	struct err e = ERR_INIT;
	bool has = true;

	(void)state;
	assert_int_equal(subid_find("/nonexistent/subuid", "a", &has, &r, &e), 0);
	assert_false(has);
	assert_int_equal(r.first, SUBID_FIRST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_range_begins_where_login_defs_says),
		cmocka_unit_test(a_new_range_lies_behind_all_others),
		cmocka_unit_test(a_user_with_a_range_is_found_by_its_whole_name),
		cmocka_unit_test(numbers_run_out_with_an_error),
		cmocka_unit_test(ranges_of_a_user_are_found_by_name_and_by_number),
		cmocka_unit_test(a_range_that_others_reach_into_is_nobodys),
		cmocka_unit_test(no_file_is_an_empty_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
