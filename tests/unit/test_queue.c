#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "stages/queue.h"
#include "tests/unit/scratch.h"

#define LONG_MS 20000

static struct queue_ticket *
take(const struct scratch *p, int64_t n)
{
	const struct queue_wait w = { .n = n, .deadline = clock_deadline(LONG_MS) };
	struct queue_ticket *t = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(queue_take(p->fd, &w, &t, &e), 0);
	return t;
}

static bool
is_full(const struct scratch *p, int64_t n)
{
	const struct queue_wait w = { .n = n, .deadline = clock_deadline(0) };
	AUTO(queue_ticket) struct queue_ticket *t = NULL;
	struct err e = ERR_INIT;

	if (queue_take(p->fd, &w, &t, &e) == 0)
		return false;
	assert_int_equal(e.kind, ERR_TIMEOUT);
	return true;
}

static void
as_many_as_allowed_go_on_and_no_more(void **state)
{
	struct scratch *p = *state;
	AUTO(queue_ticket) struct queue_ticket *a = take(p, 2);
	AUTO(queue_ticket) struct queue_ticket *b = take(p, 2);

	assert_non_null(b);
	assert_true(is_full(p, 2));
	assert_false(is_full(p, 3));
	queue_ticket_free(take_ptr(a));
	assert_false(is_full(p, 2));
}

struct say {
	int64_t going_on, before;
	int n, fd;
};

static void
note(void *arg, int64_t n_going_on, int64_t n_before)
{
	struct say *s = arg;

	s->going_on = n_going_on;
	s->before = n_before;
	s->n++;
	if (s->fd >= 0 && write(s->fd, "w", 1) != 1)
		abort();
}

/* In a process of its own: tells "w" when it waits, `name` when it is its turn, and ends. */
static pid_t
start_waiter(const struct scratch *p, char name, int to)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct say s = { .fd = to };
		const struct queue_wait w = {
			.n = 1, .deadline = clock_deadline(LONG_MS), .say = note, .arg = &s
		};
		struct queue_ticket *t = NULL;

		if (queue_take(p->fd, &w, &t, NULL) < 0 || write(to, &name, 1) != 1)
			_exit(1);
		queue_ticket_free(t);
		_exit(0);
	}
	return pid;
}

static char
read_one(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char c = '?';

	if (poll(&pfd, 1, LONG_MS) == 1)
		assert_int_equal(read(fd, &c, 1), 1);
	return c;
}

static void
who_came_first_goes_on_first(void **state)
{
	struct scratch *p = *state;
	AUTO(queue_ticket) struct queue_ticket *first = take(p, 1);
	char order[8] = "";
	int ends[2], n = 0;

	assert_int_equal(pipe(ends), 0);
	for (int name = 'A'; name <= 'D'; name++) {
		start_waiter(p, (char)name, ends[1]);
		assert_int_equal(read_one(ends[0]), 'w');
	}
	queue_ticket_free(take_ptr(first));
	while (n < 4) {
		char c = read_one(ends[0]);

		assert_int_not_equal(c, '?');
		if (c != 'w')
			order[n++] = c;
	}
	assert_string_equal(order, "ABCD");
	while (wait(NULL) > 0)
		;
	close(ends[0]);
	close(ends[1]);
}

static void
a_killed_owner_is_followed_by_the_next(void **state)
{
	struct scratch *p = *state;
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		take(p, 1);
		if (write(ends[1], "t", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read_one(ends[0]), 't');
	assert_true(is_full(p, 1));
	start_waiter(p, 'N', ends[1]);
	assert_int_equal(read_one(ends[0]), 'w');
	kill(pid, SIGKILL);
	assert_int_equal(read_one(ends[0]), 'N');
	while (wait(NULL) > 0)
		;
	close(ends[0]);
	close(ends[1]);
}

static void
who_waits_is_told_its_place(void **state)
{
	struct scratch *p = *state;
	AUTO(queue_ticket) struct queue_ticket *a = take(p, 2);
	AUTO(queue_ticket) struct queue_ticket *b = take(p, 2);
	AUTO(queue_ticket) struct queue_ticket *c = take(p, 3);
	AUTO(queue_ticket) struct queue_ticket *none = NULL;
	struct say s = { .fd = -1 };
	const struct queue_wait w = { .n = 2, .deadline = clock_deadline(1), .say = note, .arg = &s };

	assert_true(a && b && c);
	assert_int_equal(queue_take(p->fd, &w, &none, NULL), -1);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.going_on, 2);
	assert_int_equal(s.before, 1);
}

static void
waiting_can_be_stopped(void **state)
{
	struct scratch *p = *state;
	AUTO(queue_ticket) struct queue_ticket *a = take(p, 1);
	AUTO(queue_ticket) struct queue_ticket *none = NULL;
	AUTO_FD int stop = eventfd(1, EFD_CLOEXEC);
	const struct queue_wait w = { .n = 1, .deadline = clock_deadline(LONG_MS), .stop_fd = &stop };
	struct err e = ERR_INIT;

	assert_int_equal(queue_take(p->fd, &w, &none, &e), -1);
	assert_int_equal(e.kind, ERR_FAILED);
	/* its ticket went with it */
	queue_ticket_free(take_ptr(a));
	assert_false(is_full(p, 1));
}

static void
tickets_that_nobody_holds_do_not_count_and_go(void **state)
{
	struct scratch *p = *state;
	const char *name = "00000000000000000007";

	assert_int_equal(fs_publish(p->fd, name, "", 0, 0600, 0, NULL), 0);
	assert_int_equal(fs_publish(p->fd, "0007", "", 0, 0600, 0, NULL), 0);
	assert_false(is_full(p, 1));
	assert_int_equal(faccessat(p->fd, name, F_OK, 0), -1);
	assert_int_equal(faccessat(p->fd, "0007", F_OK, 0), 0);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, scratch_set_up, scratch_tear_down)
	const struct CMUnitTest tests[] = {
		TEST(as_many_as_allowed_go_on_and_no_more),
		TEST(who_came_first_goes_on_first),
		TEST(a_killed_owner_is_followed_by_the_next),
		TEST(who_waits_is_told_its_place),
		TEST(waiting_can_be_stopped),
		TEST(tickets_that_nobody_holds_do_not_count_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
