#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/nearest.h"

static const char *
nearest(const char *word)
{
	static const char *const words[] = { "mode", "severity", "on_error", "fixable_only",
					     "as",   "json",	 "slots" };
	struct nearest n = NEAREST_INIT(word);

	for (size_t i = 0; i < MEM_COUNT(words); i++)
		nearest_try(&n, words[i]);
	return nearest_best(&n);
}

static void
a_slip_of_the_fingers_finds_its_word(void **state)
{
	static const char *const slips[][2] = {
		{ "mdoe", "mode" },
		{ "Mode", "mode" },
		{ "severty", "severity" },
		{ "on-error", "on_error" },
		{ "fixableonly", "fixable_only" },
		{ "jsno", "json" },
		{ "slot", "slots" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(slips); i++)
		assert_string_equal(nearest(slips[i][0]), slips[i][1]);
}

static void
another_word_is_near_to_nothing(void **state)
{
	static const char *const others[] = { "",	"x",
					      "colour", "upload",
					      "xy",	"a-word-of-far-more-letters-than-any-setting-has" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(others); i++)
		assert_null(nearest(others[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slip_of_the_fingers_finds_its_word),
		cmocka_unit_test(another_word_is_near_to_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
