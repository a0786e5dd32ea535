#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/result_cache.h"
#include "stages/result_entry.h"

struct place {
	char dir[64];
	struct result_cache c;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/tidewaiter-results-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->c.dir_fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->c.size_max = 1 << 20;
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	close(p->c.dir_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	free(p);
	return 0;
}

static void
key_of(unsigned n, char key[RESULT_KEY_LEN + 1])
{
	snprintf(key, RESULT_KEY_LEN + 1, "%064x", n);
}

static bool
has(const struct place *p, unsigned n)
{
	AUTO_BUF struct buf json = BUF_INIT(1 << 20);
	char key[RESULT_KEY_LEN + 1];

	key_of(n, key);
	return result_cache_get(&p->c, key, &json);
}

static void
put(const struct place *p, unsigned n, const char *text, size_t len)
{
	char key[RESULT_KEY_LEN + 1];

	key_of(n, key);
	result_cache_put(&p->c, key, text, len);
}

static void
what_is_kept_comes_back_as_it_was(void **state)
{
	struct place *p = *state;
	AUTO_BUF struct buf json = BUF_INIT(100);
	char key[RESULT_KEY_LEN + 1];

	key_of(7, key);
	assert_false(result_cache_get(&p->c, key, &json));
	put(p, 7, "{\"a\":1}", 7);
	assert_true(result_cache_get(&p->c, key, &json));
	assert_string_equal(buf_str(&json), "{\"a\":1}");
	result_cache_drop(&p->c, key);
	assert_false(has(p, 7));
}

static void
a_result_larger_than_the_reader_takes_is_not_there(void **state)
{
	struct place *p = *state;
	AUTO_BUF struct buf json = BUF_INIT(6);
	char key[RESULT_KEY_LEN + 1];

	key_of(7, key);
	put(p, 7, "{\"a\":1}", 7);
	assert_false(result_cache_get(&p->c, key, &json));
	assert_int_equal(json.len, 0);
}

/* Every byte of it matters. */
static void
an_entry_with_any_byte_changed_is_refused(void **state)
{
	AUTO_BUF struct buf entry = BUF_INIT(4096);
	char key[RESULT_KEY_LEN + 1];

	(void)state;
	key_of(1, key);
	result_pack(key, "{\"a\":1}", 7, &entry);
	for (size_t at = 0; at < entry.len; at++) {
		AUTO_BUF struct buf json = BUF_INIT(100);

		entry.data[at] ^= 0x40;
		assert_false(result_unpack(key, entry.data, entry.len, &json));
		entry.data[at] ^= 0x40;
	}
	for (size_t len = 0; len < entry.len; len++) {
		AUTO_BUF struct buf json = BUF_INIT(100);

		assert_false(result_unpack(key, entry.data, len, &json));
	}
}

/* Incompressible, so that it takes its size. */
static void
fill(char *p, size_t n, unsigned seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t k = 0; k < n; k++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[k] = (char)x;
	}
}

static void
what_was_used_longest_ago_goes_first(void **state)
{
	struct place *p = *state;
	static char block[100 * 1000];

	for (unsigned n = 0; n < 8; n++) {
		char key[RESULT_KEY_LEN + 1];
		const struct timespec times[2] = { { 1000 + n, 0 }, { 1000 + n, 0 } };

		fill(block, sizeof(block), n);
		put(p, n, block, sizeof(block));
		key_of(n, key);
		assert_int_equal(utimensat(p->c.dir_fd, key, times, 0), 0);
	}
	assert_true(has(p, 0)); /* and so it is used now */
	for (unsigned n = 8; n < 12; n++) {
		fill(block, sizeof(block), n);
		put(p, n, block, sizeof(block));
	}
	assert_true(has(p, 0));
	assert_false(has(p, 1));
	assert_false(has(p, 2));
	assert_true(has(p, 11));
}

static void
what_is_larger_than_the_bound_is_not_kept(void **state)
{
	struct place *p = *state;
	static char block[2 << 20];

	fill(block, sizeof(block), 1);
	put(p, 1, "{}", 2);
	put(p, 2, block, sizeof(block));
	assert_true(has(p, 1));
	assert_false(has(p, 2));
}

static void
texts_are_remembered(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *text = NULL;
	char key[RESULT_KEY_LEN + 1];

	key_of(3, key);
	assert_null(result_cache_recall(&p->c, key));
	result_cache_remember(&p->c, key, "sha256:1234");
	text = result_cache_recall(&p->c, key);
	assert_string_equal(text, "sha256:1234");
	/* and are no results */
	assert_false(has(p, 3));
}

static void *
use_much(void *arg)
{
	const struct place *p = arg;
	char block[5000];

	for (unsigned n = 0; n < 300; n++) {
		AUTO_BUF struct buf json = BUF_INIT(1 << 20);
		char key[RESULT_KEY_LEN + 1], expected[16];

		key_of(n % 40, key);
		snprintf(expected, sizeof(expected), "%u", n % 40);
		if (result_cache_get(&p->c, key, &json) &&
		    memcmp(json.data, expected, strlen(expected) + 1) != 0)
			return (void *)1;
		fill(block, sizeof(block), n % 40);
		memcpy(block, expected, strlen(expected) + 1);
		result_cache_put(&p->c, key, block, sizeof(block));
	}
	return NULL;
}

static void
many_at_once_read_nothing_but_whole_results(void **state)
{
	struct place *p = *state;
	pthread_t threads[4];

	p->c.size_max = 100 * 1000; /* so that things go all the time */
	for (size_t k = 0; k < MEM_COUNT(threads); k++)
		assert_int_equal(pthread_create(&threads[k], NULL, use_much, p), 0);
	for (size_t k = 0; k < MEM_COUNT(threads); k++) {
		void *fault;

		assert_int_equal(pthread_join(threads[k], &fault), 0);
		assert_null(fault);
	}
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_is_kept_comes_back_as_it_was),
		TEST(a_result_larger_than_the_reader_takes_is_not_there),
		TEST(an_entry_with_any_byte_changed_is_refused),
		TEST(what_was_used_longest_ago_goes_first),
		TEST(what_is_larger_than_the_bound_is_not_kept),
		TEST(texts_are_remembered),
		TEST(many_at_once_read_nothing_but_whole_results),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
