#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "stages/room.h"
#include "tests/unit/scratch.h"

#define LONG_MS 20000

struct place {
	struct scratch at;
	uint64_t space;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	p->at = scratch_new();
	assert_int_equal(fs_space_left(p->at.fd, &p->space, NULL), 0);
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	scratch_remove(&p->at);
	free(p);
	return 0;
}

static int
claim(const struct place *p, uint64_t bytes, int64_t wait_ms, struct room_claim **ret, struct err *e)
{
	return room_claim(p->at.fd, p->at.fd, bytes, "the layers have", clock_deadline(wait_ms), ret, e);
}

static void
more_than_is_free_is_refused_at_once(void **state)
{
	struct place *p = *state;
	struct room_claim *c = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(claim(p, p->space * 2, LONG_MS, &c, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
	assert_non_null(strstr(e.text, "no space to unpack: the layers have"));
	assert_null(c);
}

static void
what_others_have_announced_does_not_count_as_free(void **state)
{
	struct place *p = *state;
	AUTO(room_claim) struct room_claim *first = NULL;
	AUTO(room_claim) struct room_claim *second = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(claim(p, p->space / 10 * 6, LONG_MS, &first, &e), 0);
	assert_int_equal(claim(p, p->space / 10 * 6, 0, &second, &e), -1);
	assert_int_equal(e.kind, ERR_NO_SPACE);
	assert_non_null(strstr(e.text, "other inspections have announced"));
	room_claim_free(take_ptr(first));
	assert_int_equal(claim(p, p->space / 10 * 6, 0, &second, &e), 0);
}

static void *
free_soon(void *arg)
{
	poll(NULL, 0, 200);
	room_claim_free(arg);
	return NULL;
}

static void
it_waits_for_the_claims_of_others(void **state)
{
	struct place *p = *state;
	struct room_claim *first = NULL;
	AUTO(room_claim) struct room_claim *second = NULL;
	struct err e = ERR_INIT;
	pthread_t thread;

	assert_int_equal(claim(p, p->space / 10 * 6, LONG_MS, &first, &e), 0);
	assert_int_equal(pthread_create(&thread, NULL, free_soon, first), 0);
	assert_int_equal(claim(p, p->space / 10 * 6, LONG_MS, &second, &e), 0);
	pthread_join(thread, NULL);
}

static void
the_claim_of_a_killed_process_does_not_count(void **state)
{
	struct place *p = *state;
	AUTO(room_claim) struct room_claim *c = NULL;
	struct err e = ERR_INIT;
	int ends[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		if (claim(p, p->space / 10 * 6, LONG_MS, &c, NULL) < 0 || write(ends[1], "c", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(claim(p, p->space / 10 * 6, 0, &c, &e), -1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(claim(p, p->space / 10 * 6, 0, &c, &e), 0);
	close(ends[0]);
	close(ends[1]);
}

static void
without_a_place_for_claims_only_what_is_free_counts(void **state)
{
	struct place *p = *state;
	AUTO(room_claim) struct room_claim *c = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(room_claim(-1, p->at.fd, 1, "it has", clock_deadline(0), &c, &e), 0);
	assert_null(c);
	assert_int_equal(room_claim(-1, p->at.fd, p->space * 2, "it has", clock_deadline(LONG_MS), &c, &e),
			 -1);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(more_than_is_free_is_refused_at_once),
		TEST(what_others_have_announced_does_not_count_as_free),
		TEST(it_waits_for_the_claims_of_others),
		TEST(the_claim_of_a_killed_process_does_not_count),
		TEST(without_a_place_for_claims_only_what_is_free_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
