#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "stages/seal.h"

#define KEY "0123456789abcdef0123456789abcdef"

static void
what_was_sealed_opens_with_its_key_kind_and_name_only(void **state)
{
	AUTO_BUF struct buf sealed = BUF_INIT(4096);
	const char *entry = NULL;
	size_t len = 0;

	(void)state;
	seal_add(KEY, "kind", "a", "entry", 5, &sealed);
	assert_int_equal(sealed.len, SEAL_LEN + 5);
	assert_true(seal_open(KEY, "kind", "a", sealed.data, sealed.len, &entry, &len));
	assert_int_equal(len, 5);
	assert_memory_equal(entry, "entry", 5);
	assert_false(seal_open(KEY, "kind", "b", sealed.data, sealed.len, &entry, &len));
	assert_false(seal_open(KEY, "other", "a", sealed.data, sealed.len, &entry, &len));
	assert_false(seal_open(KEY "x", "kind", "a", sealed.data, sealed.len, &entry, &len));
	for (size_t at = 0; at < sealed.len; at++) {
		sealed.data[at] ^= 1;
		assert_false(seal_open(KEY, "kind", "a", sealed.data, sealed.len, &entry, &len));
		sealed.data[at] ^= 1;
	}
	for (size_t n = 0; n < sealed.len; n++)
		assert_false(seal_open(KEY, "kind", "a", sealed.data, n, &entry, &len));
}

static void
the_key_is_not_in_what_is_stored(void **state)
{
	AUTO_BUF struct buf sealed = BUF_INIT(4096);

	(void)state;
	seal_add(KEY, "kind", "a", "entry", 5, &sealed);
	assert_null(memmem(sealed.data, sealed.len, KEY, 8));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_sealed_opens_with_its_key_kind_and_name_only),
		cmocka_unit_test(the_key_is_not_in_what_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
