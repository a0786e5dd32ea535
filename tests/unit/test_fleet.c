/* What needs no Redis; the rest, with a real one, is in tests/e2e/test_fleet_texts.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "stages/fleet.h"

#define WAIT_MS 5000

static char *
text(const char *s)
{
	return (char *)(uintptr_t)s;
}

static void
name_of(const char *server, const char *product, const char *engagement, const char *test,
	char out[KEPT_NAME_SIZE])
{
	const struct delivery d = { .product = text(product),
				    .engagement = text(engagement),
				    .test = text(test) };
	struct fleet_place p;

	fleet_place_of(NULL, server, &d, &p);
	memcpy(out, p.name, sizeof(p.name));
}

static void
every_test_of_every_server_has_a_name_of_its_own(void **state)
{
	static const char *const others[][4] = {
		{ "https://b", "p", "e", "t" }, { "https://a", "q", "e", "t" },
		{ "https://a", "p", "f", "t" }, { "https://a", "p", "e", "u" },
		{ "https://a", "pe", "", "t" }, { "https://a", "p", "et", "" },
	};
	char name[KEPT_NAME_SIZE], other[KEPT_NAME_SIZE];

	(void)state;
	name_of("https://a", "p", "e", "t", name);
	assert_int_equal(strlen(name), KEPT_NAME_SIZE - 1);
	name_of("https://a//", "p", "e", "t", other);
	assert_string_equal(name, other);
	for (size_t k = 0; k < MEM_COUNT(others); k++) {
		name_of(others[k][0], others[k][1], others[k][2], others[k][3], other);
		assert_string_not_equal(name, other);
	}
}

static void
without_a_redis_in_the_settings_there_is_no_fleet(void **state)
{
	const struct options none = { .defectdojo = { .redis = text("") },
				      .trivy = { .results_redis = text("") } };

	(void)state;
	assert_null(fleet_new(&none, NULL));
}

static void
only_what_is_limited_and_takes_texts_before_results_evicts(void **state)
{
	static const struct {
		struct fleet_health h;
		bool may_evict;
	} cases[] = {
		{ { .is_known = true, .has_limit = true, .policy = "allkeys-lru" }, true },
		{ { .is_known = true, .has_limit = true, .policy = "volatile-lru" }, true },
		{ { .is_known = true, .has_limit = true, .policy = "volatile-random" }, true },
		{ { .is_known = true, .has_limit = true, .policy = "volatile-ttl" }, false },
		{ { .is_known = true, .has_limit = true, .policy = "noeviction" }, false },
		{ { .is_known = true, .policy = "allkeys-lru" }, false },
		{ { .has_limit = true, .policy = "allkeys-lru" }, false },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++)
		assert_int_equal(fleet_may_evict(&cases[k].h), cases[k].may_evict);
}

/* A Redis that nobody answers for: a socket that is bound and listens, and is never accepted from. */
struct silent {
	int fd;
	char dir[32];
	char *url, *key_file;
};

static void
silent_make(struct silent *s)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	AUTO_FD int dir = -1;

	memcpy(s->dir, "/tmp/test_fleet.XXXXXX", sizeof("/tmp/test_fleet.XXXXXX"));
	assert_non_null(mkdtemp(s->dir));
	dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fs_publish(dir, "key", "0123456789abcdef0123456789abcdef", 32, 0600, 0, NULL), 0);
	s->key_file = mem_printf("%s/key", s->dir);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(s->fd, 8), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
	s->url = mem_printf("redis://127.0.0.1:%d", ntohs(at.sin_port));
}

static size_t
silent_end(struct silent *s)
{
	size_t n = 0;
	int fd;

	while ((fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		close(fd);
		n++;
	}
	close(s->fd);
	unlink(s->key_file);
	rmdir(s->dir);
	mem_free_at(&s->url);
	mem_free_at(&s->key_file);
	return n;
}

static void
a_redis_that_does_not_answer_is_asked_once_for_all(void **state)
{
	struct silent s;
	const struct delivery d = { .product = text("p"), .engagement = text("e"), .test = text("t") };
	AUTO_BUF struct buf json = BUF_INIT(1000);
	AUTO_FREE char *holder = NULL;
	struct fleet_place p;
	struct err e = ERR_INIT;

	(void)state;
	silent_make(&s);
	const struct options opt = { .defectdojo = { .redis = s.url, .redis_key_file = s.key_file } };
	struct fleet *f = fleet_new(&opt, NULL);
	fleet_place_of(f, "https://a", &d, &p);
	assert_int_equal(fleet_take_turn(&p, "1", 60, clock_deadline(100), &holder), FLEET_UNKNOWN);
	for (int k = 0; k < 50; k++) {
		err_clear(&e);
		assert_int_equal(fleet_read(&p, clock_deadline(WAIT_MS), &json, &e), -1);
		assert_int_equal(e.no, EHOSTDOWN);
		assert_non_null(strstr(e.text, "defectdojo.redis"));
	}
	fleet_free(f);
	assert_int_equal(silent_end(&s), 1);
}

static void
without_a_good_key_nothing_is_asked(void **state)
{
	struct silent s;
	const struct delivery d = { .product = text("p"), .engagement = text("e"), .test = text("t") };
	AUTO_BUF struct buf json = BUF_INIT(1000);
	struct fleet_place p;
	struct err e = ERR_INIT;

	(void)state;
	silent_make(&s);
	AUTO_FD int dir = open(s.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fs_publish(dir, "key", "short", 5, 0600, 0, NULL), 0);
	const struct options opt = { .trivy = { .results_redis = s.url, .results_key_file = s.key_file } };
	struct fleet *f = fleet_new(&opt, NULL);
	fleet_place_of(f, "https://a", &d, &p);
	assert_int_equal(fleet_read(&p, clock_deadline(WAIT_MS), &json, &e), -1);
	assert_non_null(strstr(e.text, "trivy.results_key_file must hold at least 32 characters"));
	fleet_free(f);
	assert_int_equal(silent_end(&s), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_test_of_every_server_has_a_name_of_its_own),
		cmocka_unit_test(without_a_redis_in_the_settings_there_is_no_fleet),
		cmocka_unit_test(only_what_is_limited_and_takes_texts_before_results_evicts),
		cmocka_unit_test(a_redis_that_does_not_answer_is_asked_once_for_all),
		cmocka_unit_test(without_a_good_key_nothing_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
