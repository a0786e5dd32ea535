#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "stages/kept.h"
#include "tests/unit/scratch.h"

#define HOUR 3600
#define DAY (24 * HOUR)

static void
put(const struct scratch *p, const char *name, int64_t age_s)
{
	struct timespec t[2] = { { .tv_sec = clock_wall_s() - age_s }, { .tv_sec = clock_wall_s() - age_s } };

	scratch_write(p, name, "x");
	assert_int_equal(utimensat(p->fd, name, t, 0), 0);
}

static bool
has(const struct scratch *p, const char *name)
{
	return faccessat(p->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
what_is_old_or_half_written_goes_and_the_rest_stays(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();

	(void)state;
	put(&p, "new.json", 9 * DAY);
	put(&p, "old.json", 11 * DAY);
	put(&p, ".new.json.123", HOUR / 2);
	put(&p, ".old.json.123", 2 * HOUR);
	assert_int_equal(mkdirat(p.fd, "dir", 0700), 0);
	kept_tidy(p.fd, 10 * DAY);
	assert_true(has(&p, "new.json") && has(&p, ".new.json.123") && has(&p, "dir"));
	assert_false(has(&p, "old.json") || has(&p, ".old.json.123"));
}

static void
it_is_looked_once_a_day(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();

	(void)state;
	kept_tidy(p.fd, DAY);
	put(&p, "old.json", 2 * DAY);
	kept_tidy(p.fd, DAY);
	assert_true(has(&p, "old.json"));
	put(&p, ".tidied", DAY - HOUR);
	kept_tidy(p.fd, DAY);
	assert_true(has(&p, "old.json"));
	put(&p, ".tidied", DAY + HOUR);
	kept_tidy(p.fd, DAY);
	assert_false(has(&p, "old.json"));
	/* a clock that was ahead does not stop it for ever */
	put(&p, "old.json", 2 * DAY);
	put(&p, ".tidied", -9 * DAY);
	kept_tidy(p.fd, DAY);
	assert_false(has(&p, "old.json"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_old_or_half_written_goes_and_the_rest_stays),
		cmocka_unit_test(it_is_looked_once_a_day),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
