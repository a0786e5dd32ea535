#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "executor/mountinfo.h"

static void
a_line_gives_root_point_and_type(void **state)
{
	char line[] =
		"38 31 0:31 /a /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw";
	struct mountinfo m;

	(void)state;
	assert_true(mountinfo_parse(line, &m));
	assert_string_equal(m.root, "/a");
	assert_string_equal(m.point, "/sys/fs/cgroup/unified");
	assert_string_equal(m.type, "cgroup2");
}

static void
blanks_in_names_are_decoded(void **state)
{
	char line[] = "40 1 8:1 /x\\134y /mnt/a\\040b\\011c rw - ext4 /dev/sda1 rw";
	struct mountinfo m;

	(void)state;
	assert_true(mountinfo_parse(line, &m));
	assert_string_equal(m.root, "/x\\y");
	assert_string_equal(m.point, "/mnt/a b\tc");
}

static void
a_line_that_is_cut_is_none(void **state)
{
	char no_separator[] = "40 1 8:1 / /mnt rw";
	char few_fields[] = "40 1 8:1 / - ext4 x rw";
	char empty[] = "";
	struct mountinfo m;

	(void)state;
	assert_false(mountinfo_parse(no_separator, &m));
	assert_false(mountinfo_parse(few_fields, &m));
	assert_false(mountinfo_parse(empty, &m));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_gives_root_point_and_type),
		cmocka_unit_test(blanks_in_names_are_decoded),
		cmocka_unit_test(a_line_that_is_cut_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
