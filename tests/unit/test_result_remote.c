#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/result_entry.h"
#include "stages/result_remote.h"

#define KEY "0123456789abcdef0123456789abcdef"
#define NAME_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NAME_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* The other end says nothing: one wait, and then none. */
static void
who_does_not_answer_is_asked_once(void **state)
{
	AUTO_BUF struct buf json = BUF_INIT(100);
	struct result_remote r;
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	result_remote_init(&r, ends[0]);
	assert_false(result_remote_get(&r, NAME_A, &json));
	assert_int_equal(r.fd, -1);
	assert_false(result_remote_get(&r, NAME_A, &json));
	result_remote_put(&r, NAME_A, "{}", 2);
	result_remote_close(&r);
	close(ends[1]);
}

struct answerer {
	int fd;
	const char *bytes;
	size_t len;
};

static void *
answer(void *arg)
{
	const struct answerer *a = arg;
	char request[256];

	if (read(a->fd, request, sizeof(request)) <= 0 || write(a->fd, a->bytes, a->len) != (ssize_t)a->len)
		return (void *)1;
	shutdown(a->fd, SHUT_WR);
	return NULL;
}

/* A reply is { u32 is_there, 4 bytes, u64 length } and the entry. */
static bool
ask_for(const char *reply, size_t len)
{
	AUTO_BUF struct buf json = BUF_INIT(100);
	struct answerer a = { .bytes = reply, .len = len };
	struct result_remote r;
	pthread_t thread;
	bool is_there;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	a.fd = ends[1];
	result_remote_init(&r, ends[0]);
	assert_int_equal(pthread_create(&thread, NULL, answer, &a), 0);
	is_there = result_remote_get(&r, NAME_A, &json);
	pthread_join(thread, NULL);
	result_remote_close(&r);
	close(ends[1]);
	return is_there;
}

static void
an_answer_is_an_entry_of_that_name_or_nothing(void **state)
{
	AUTO_BUF struct buf entry = BUF_INIT(4096);
	AUTO_BUF struct buf other = BUF_INIT(4096);
	AUTO_BUF struct buf reply = BUF_INIT(8192);
	struct {
		uint32_t is_there, zero;
		uint64_t len;
	} head = { .is_there = 1 };

	(void)state;
	result_pack(NAME_A, "{}", 2, &entry);
	result_pack(NAME_B, "{}", 2, &other);
	head.len = entry.len;
	buf_add(&reply, &head, sizeof(head));
	buf_add(&reply, entry.data, entry.len);
	assert_true(ask_for(reply.data, reply.len));
	assert_false(ask_for(reply.data, reply.len - 1));
	buf_reset(&reply);
	head.len = other.len;
	buf_add(&reply, &head, sizeof(head));
	buf_add(&reply, other.data, other.len);
	assert_false(ask_for(reply.data, reply.len));
	buf_reset(&reply);
	head.len = UINT64_MAX;
	buf_add(&reply, &head, sizeof(head));
	assert_false(ask_for(reply.data, reply.len));
}

/* What a scanner that was taken over may say to the process outside: it ends, and no Redis is asked. */
static void
requests_that_are_none_end_the_service(void **state)
{
	static const struct {
		uint32_t op;
		char key[64];
		uint64_t len;
	} requests[] = {
		{ .op = 9, .key = NAME_A },
		{ .op = 1, .key = "../etc" },
		{ .op = 1, .key = NAME_A, .len = 1 },
		{ .op = 2, .key = NAME_A, .len = UINT64_MAX },
	};
	struct log log = { .to = stderr, .level = LOG_ERROR };
	const struct result_remote_settings s = { .redis = { .url = "redis://127.0.0.1:1" },
						  .mac_key = KEY,
						  .log = &log };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(requests); k++) {
		int ends[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
		assert_int_equal(write(ends[0], &requests[k], sizeof(requests[k])), sizeof(requests[k]));
		result_remote_serve(ends[1], &s);
		close(ends[0]);
		close(ends[1]);
	}
}

static void
urls_of_a_redis_are_told_from_others(void **state)
{
	static const char *const good[] = { "redis://h", "redis://h:6380", "rediss://h.example/0",
					    "redis://[::1]:6379/15", "redis://10.0.0.1/" };
	static const char *const bad[] = { "",
					   "h",
					   "http://h",
					   "redis://",
					   "redis://u:p@h",
					   "redis://h:0",
					   "redis://h:65536",
					   "redis://h/x",
					   "redis://h?x=1",
					   "redis://[::1",
					   "redis://h/-1",
					   "redis://h:",
					   "redis://h/1/2" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(good); k++)
		assert_true(redis_is_url(good[k]));
	for (size_t k = 0; k < MEM_COUNT(bad); k++)
		assert_false(redis_is_url(bad[k]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_does_not_answer_is_asked_once),
		cmocka_unit_test(an_answer_is_an_entry_of_that_name_or_nothing),
		cmocka_unit_test(requests_that_are_none_end_the_service),
		cmocka_unit_test(urls_of_a_redis_are_told_from_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
