#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "stages/spool.h"
#include "tests/unit/canned_server.h"

#define CREATED "{\"test\": 12, \"statistics\": {\"after\": {\"total\": {\"total\": 3}}}}"
#define EMPTY "{\"count\": 0, \"results\": []}"
#define LIST(rows) "{\"count\": 1, \"results\": [" rows "]}"

struct fixture {
	char dir[64];
	int dirfd;
	char *token_file;
	struct spool *spool;
	struct canned *server;
	struct dojo *dojo;
	struct canned_reply replies[16];
	char *texts[16];
	size_t n;
};

static int
set_up(void **state)
{
	struct fixture *f = mem_alloc(sizeof(*f));
	struct err e = ERR_INIT;

	snprintf(f->dir, sizeof(f->dir), "/tmp/test_spool.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = fs_open_dir(AT_FDCWD, f->dir, NULL);
	assert_int_equal(fs_publish(f->dirfd, "token", "t0ken\n", 6, 0600, 0, NULL), 0);
	f->token_file = mem_printf("%s/token", f->dir);
	if (spool_open(f->dir, &f->spool, &e) < 0)
		fail_msg("%s", e.text);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->dojo)
		dojo_free(f->dojo);
	if (f->server)
		canned_stop(f->server);
	for (size_t i = 0; i < f->n; i++)
		free(f->texts[i]);
	spool_free(f->spool);
	close(f->dirfd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, f->dir, NULL), 0);
	free(f->token_file);
	free(f);
	return 0;
}

static void
reply(struct fixture *f, const char *status, const char *body)
{
	f->texts[f->n] = canned_json(status, body);
	f->replies[f->n] = (struct canned_reply){ CANNED_ANSWER, f->texts[f->n] };
	f->n++;
}

static void
reply_with(struct fixture *f, enum canned_manner manner, const char *text)
{
	f->texts[f->n] = mem_strdup(text);
	f->replies[f->n] = (struct canned_reply){ manner, f->texts[f->n] };
	f->n++;
}

/* What dojo_ask_fate() asks for, one after the other. */
static void
reply_landed(struct fixture *f, bool has_landed)
{
	if (!has_landed) {
		reply(f, "200 OK", EMPTY);
		return;
	}
	reply(f, "200 OK", LIST("{\"id\": 1, \"name\": \"app\"}"));
	reply(f, "200 OK", LIST("{\"id\": 2, \"name\": \"main\", \"product\": 1}"));
	reply(f, "200 OK", LIST("{\"id\": 3, \"title\": \"img\", \"engagement\": 2}"));
	reply(f, "200 OK", LIST("{\"id\": 4, \"test\": 3, \"build_id\": \"7-0\"}"));
}

static void
start(struct fixture *f)
{
	struct dojo_settings s = { .token_file = f->token_file };

	f->server = canned_start(f->replies, f->n);
	s.url = canned_url(f->server);
	assert_int_equal(dojo_new(&s, &f->dojo, NULL), 0);
}

static char *
take_into(struct fixture *f, const char *test, const struct spool_bounds *bounds, struct err *e)
{
	AUTO_DELIVERY struct delivery d = { .product = mem_strdup("app"),
					    .engagement = mem_strdup("main"),
					    .test = mem_strdup(test),
					    .build_id = mem_strdup("7-0"),
					    .created_s = clock_wall_s(),
					    .n_findings = 3,
					    .report = mem_strdup("{}"),
					    .report_len = 2 };
	AUTO_DELIVERY struct delivery head = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file from = DELIVERY_FILE_INIT;
	struct spool_usage usage;
	char *id = NULL;

	assert_int_equal(delivery_write(f->dirfd, "delivery-0", &d, 0, NULL), 0);
	assert_int_equal(delivery_open(f->dirfd, "delivery-0", &head, &from, NULL), 0);
	if (spool_take(f->spool, &head, &from, bounds, &id, &usage, e) < 0)
		return NULL;
	assert_true(usage.n_new > 0 && usage.size > 0);
	return id;
}

static char *
take(struct fixture *f, const char *test)
{
	struct spool_bounds bounds = { 0 };
	struct err e = ERR_INIT;
	char *id = take_into(f, test, &bounds, &e);

	if (!id)
		fail_msg("%s", e.text);
	assert_true(spool_is_id(id));
	return id;
}

static void
send_within(struct fixture *f, const char *id, int64_t ms, struct spool_result *ret)
{
	struct spool_send_options o = { .timeout_ms = 60000 };
	struct err e = ERR_INIT;

	spool_result_free(ret);
	if (spool_send(f->spool, id, f->dojo, &o, clock_deadline(ms), ret, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(ret->answer.reason[0] != '\0');
}

static void
send_one(struct fixture *f, const char *id, struct spool_result *ret)
{
	send_within(f, id, 5000, ret);
}

static struct spool_state
state_of(struct fixture *f, const char *id)
{
	struct spool_state st;

	assert_int_equal(spool_state_read(f->spool->new_fd, id, &st, NULL), 0);
	mem_free_at(&st.answer);
	return st;
}

static void
set_state(struct fixture *f, const char *id, const struct spool_state *st)
{
	assert_int_equal(spool_state_write(f->spool->new_fd, id, st, NULL), 0);
}

static bool
has(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- the queue ---- */

static void
the_spool_is_for_its_owner_alone(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(fstat(f->spool->fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void
a_spool_that_others_can_write_to_is_refused(void **state)
{
	struct fixture *f = *state;
	struct spool *s = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(fchmod(f->spool->fd, 0777), 0);
	assert_int_equal(spool_open(f->dir, &s, &e), -1);
	assert_non_null(strstr(e.text, "/spool"));
	assert_int_equal(fchmod(f->spool->fd, 0700), 0);
}

static void
ids_grow_even_when_the_clock_goes_back(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *a = take(f, "img"), *b = NULL, *c = NULL, *future = NULL;
	AUTO_STRV struct strv ids = { 0 };

	future = mem_printf("29990101000000999999-%s", spool_key(a));
	assert_int_equal(renameat(f->spool->new_fd, a, f->spool->new_fd, future), 0);
	b = take(f, "other");
	c = take(f, "img");
	assert_true(strcmp(future, b) < 0 && strcmp(b, c) < 0);
	assert_string_equal(spool_key(c), spool_key(a));
	assert_string_not_equal(spool_key(c), spool_key(b));
	assert_int_equal(spool_ids(f->spool, &ids, NULL), 0);
	assert_int_equal(ids.n, 3);
	assert_string_equal(ids.v[0], future);
	assert_string_equal(ids.v[2], c);
}

static void
a_full_spool_takes_nothing_more_and_says_its_bound(void **state)
{
	struct fixture *f = *state;
	struct spool_bounds two = { .count_max = 2 }, small = { .size_max = 500 };
	AUTO_FREE char *a = take(f, "a"), *b = take(f, "b");
	struct err e = ERR_INIT;
	AUTO_STRV struct strv ids = { 0 };

	assert_true(a && b);
	assert_null(take_into(f, "c", &two, &e));
	assert_int_equal(e.kind, ERR_NO_SPACE);
	assert_non_null(strstr(e.text, "at most 2"));
	err_clear(&e);
	assert_null(take_into(f, "c", &small, &e));
	assert_int_equal(e.kind, ERR_NO_SPACE);
	assert_int_equal(spool_ids(f->spool, &ids, NULL), 0);
	assert_int_equal(ids.n, 2);
}

static void
fullness_is_told_before_it_bites(void **state)
{
	struct spool_bounds b = { .count_max = 10, .size_max = 1000 };
	struct spool_usage u = { .n_new = 3, .n_dead = 2, .size = 500 };
	const struct spool s = { .path = (char *)(uintptr_t) "/spool" };
	AUTO_FREE char *full = NULL, *old = NULL;

	(void)state;
	assert_false(spool_is_nearly_full(&u, &b));
	assert_null(spool_warning(&s, &u, &b));
	u.n_dead = 3;
	assert_true(spool_is_nearly_full(&u, &b));
	full = spool_warning(&s, &u, &b);
	assert_non_null(strstr(full, "3 wait, 3 are dead"));
	u.n_dead = 0;
	u.oldest_s = clock_wall_s() - 60;
	b.age_max_s = 100;
	old = spool_warning(&s, &u, &b);
	assert_non_null(strstr(old, "more than half of defectdojo.spool_age_max"));
	u.n_dead = 2;
	u.size = 501;
	assert_true(spool_is_nearly_full(&u, &b));
}

static void
what_a_dead_writer_left_is_cleared_away_in_time(void **state)
{
	struct fixture *f = *state;
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	AUTO_FREE char *id = NULL;

	assert_int_equal(fs_publish(f->spool->new_fd, ".old.1", "x", 1, 0600, 0, NULL), 0);
	assert_int_equal(fs_publish(f->spool->new_fd, ".new.1", "x", 1, 0600, 0, NULL), 0);
	assert_int_equal(utimensat(f->spool->new_fd, ".old.1", old, 0), 0);
	id = take(f, "img");
	assert_false(has(f->spool->new_fd, ".old.1"));
	assert_true(has(f->spool->new_fd, ".new.1"));
}

static void
what_lies_beside_a_delivery_that_is_gone_is_cleared_away_in_time(void **state)
{
	struct fixture *f = *state;
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	static const char *const gone[] = { "20260102030405000000-0123456789abcdef.state",
					    "20260102030405000000-0123456789abcdef.answer" };
	AUTO_FREE char *id = take(f, "img"), *state_of_it = mem_printf("%s.state", id);
	struct spool_usage u;

	for (size_t i = 0; i < MEM_COUNT(gone); i++) {
		assert_int_equal(fs_publish(f->spool->dead_fd, gone[i], "{}", 2, 0600, 0, NULL), 0);
		assert_int_equal(utimensat(f->spool->dead_fd, gone[i], old, 0), 0);
	}
	assert_int_equal(fs_publish(f->spool->new_fd, gone[0], "{}", 2, 0600, 0, NULL), 0);
	assert_int_equal(fs_publish(f->spool->new_fd, state_of_it, "{}", 2, 0600, 0, NULL), 0);
	assert_int_equal(utimensat(f->spool->new_fd, state_of_it, old, 0), 0);
	assert_int_equal(spool_usage(f->spool, &u, NULL), 0);
	assert_false(has(f->spool->dead_fd, gone[0]) || has(f->spool->dead_fd, gone[1]));
	/* Somebody may just be giving it up. */
	assert_true(has(f->spool->new_fd, gone[0]));
	assert_true(has(f->spool->new_fd, state_of_it));
}

static void
the_list_has_everything_and_names_what_is_broken(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *a = take(f, "a"), *b = take(f, "b"), *c = take(f, "c");
	AUTO_SPOOL_ITEMS struct spool_items items = { 0 };
	struct spool_state st = { .answer = (char *)(uintptr_t) "because" };

	assert_int_equal(spool_bury(f->spool, a, &st, NULL, NULL), 0);
	assert_int_equal(fs_publish(f->spool->new_fd, b, "no head", 7, 0600, 0, NULL), 0);
	assert_int_equal(spool_list(f->spool, &items, NULL), 0);
	assert_int_equal(items.n, 3);
	assert_true(items.v[0].is_broken);
	assert_non_null(strstr(items.v[0].fault.text, b));
	assert_string_equal(items.v[1].id, c);
	assert_string_equal(items.v[1].delivery.test, "c");
	assert_string_equal(items.v[1].state.answer, "");
	assert_true(items.v[2].is_dead);
	assert_string_equal(items.v[2].state.answer, "because");
}

static char *
take_part(struct fixture *f, bool keeps_old, size_t *ret_superseded)
{
	AUTO_DELIVERY struct delivery d = { .product = mem_strdup("app"),
					    .engagement = mem_strdup("main"),
					    .test = mem_strdup("img"),
					    .created_s = clock_wall_s(),
					    .keeps_old = keeps_old,
					    .report = mem_strdup("{}"),
					    .report_len = 2 };
	AUTO_DELIVERY struct delivery head = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file from = DELIVERY_FILE_INIT;
	const struct spool_bounds bounds = { .supersedes = true };
	struct spool_usage usage;
	char *id = NULL;

	assert_int_equal(delivery_write(f->dirfd, "delivery-0", &d, 0, NULL), 0);
	assert_int_equal(delivery_open(f->dirfd, "delivery-0", &head, &from, NULL), 0);
	assert_int_equal(spool_take(f->spool, &head, &from, &bounds, &id, &usage, NULL), 0);
	*ret_superseded = usage.n_superseded;
	return id;
}

static void
a_report_that_closes_nothing_replaces_none_that_does(void **state)
{
	struct fixture *f = *state;
	size_t n;
	AUTO_FREE char *whole = take_part(f, false, &n), *part = take_part(f, true, &n), *other = NULL,
		       *newer = NULL;

	assert_int_equal(n, 0);
	assert_true(has(f->spool->new_fd, whole) && has(f->spool->new_fd, part));
	other = take_part(f, true, &n);
	assert_int_equal(n, 1);
	assert_true(has(f->spool->new_fd, whole) && !has(f->spool->new_fd, part));
	newer = take_part(f, false, &n);
	assert_int_equal(n, 2);
	assert_true(has(f->spool->new_fd, newer) && !has(f->spool->new_fd, whole));
}

/* Nobody waits to list: what is listed may be delivered before it is read. */
static void
what_is_delivered_while_it_is_listed_is_not_called_broken(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		for (int k = 0; k < 500; k++) {
			AUTO_FREE char *id = take_into(f, "a", &(struct spool_bounds){ 0 }, NULL);

			if (!id || spool_remove(f->spool->new_fd, id, NULL) < 0)
				_exit(1);
		}
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		AUTO_SPOOL_ITEMS struct spool_items items = { 0 };
		struct err e = ERR_INIT;

		if (spool_list(f->spool, &items, &e) < 0)
			fail_msg("%s", e.text);
		for (size_t k = 0; k < items.n; k++)
			if (items.v[k].is_broken)
				fail_msg("%s", items.v[k].fault.text);
	}
	assert_int_equal(status, 0);
}

/* ---- sending ---- */

static void
a_confirmed_delivery_is_gone_without_a_trace(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img"), *text = NULL;
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_usage u;

	reply(f, "201 Created", CREATED);
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_null(r.shortfall);
	text = spool_describe(&r);
	assert_non_null(strstr(text, "3 new"));
	assert_int_equal(spool_usage(f->spool, &u, NULL), 0);
	assert_int_equal(u.n_new + u.n_dead + u.size, 0);
	assert_false(has(f->spool->lock_fd, spool_key(id)));
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_SKIPPED);
	assert_int_equal(canned_count(f->server), 1);
}

static void
an_answer_that_does_not_add_up_is_delivered_and_said(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };

	reply(f, "201 Created", "{\"test\": 12, \"statistics\": {\"after\": {\"total\": {\"total\": 2}}}}");
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_non_null(strstr(r.shortfall, "3 findings"));
}

static void
a_fault_is_waited_for_and_the_next_attempt_is_not_before_its_time(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st;
	int64_t now = clock_wall_s();

	reply_with(f, CANNED_ANSWER,
		   "HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: 500\r\nConnection: close\r\n\r\n");
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_LATER);
	assert_true(r.is_server_wide);
	st = state_of(f, id);
	assert_int_equal(st.attempts, 1);
	assert_int_equal(st.status, 503);
	assert_false(st.is_sending);
	assert_true(st.next_s >= now + 500);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_SKIPPED);
	assert_int_equal(canned_count(f->server), 1);
}

static void
backoff_grows_to_an_hour(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st = { .attempts = 30, .faults = 30 };
	int64_t now = clock_wall_s();

	reply(f, "502 Bad Gateway", "{}");
	start(f);
	set_state(f, id, &st);
	send_one(f, id, &r);
	st = state_of(f, id);
	assert_int_equal(st.faults, 31);
	assert_in_range(st.next_s - now, 3600 * 4 / 5, 3600 + 60);
}

static void
what_is_refused_for_good_lies_in_dead_with_the_reason(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	AUTO_SPOOL_ITEMS struct spool_items items = { 0 };

	reply(f, "400 Bad Request", "[\"engagement_name parameter missing\"]");
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DIED);
	assert_int_equal(spool_list(f->spool, &items, NULL), 0);
	assert_int_equal(items.n, 1);
	assert_true(items.v[0].is_dead);
	assert_string_equal(items.v[0].delivery.test, "img");
	assert_non_null(strstr(items.v[0].state.answer, "engagement_name parameter missing"));
}

static void
a_server_that_falls_over_a_report_gets_it_twice(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st;

	reply(f, "500 Internal Server Error", "{\"message\": \"Internal server error\"}");
	reply_landed(f, false);
	reply(f, "500 Internal Server Error", "{\"message\": \"Internal server error\"}");
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_LATER);
	st = state_of(f, id);
	st.next_s = 0;
	set_state(f, id, &st);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DIED);
	assert_int_equal(canned_count(f->server), 3);
}

static void
what_was_cut_off_is_asked_for_and_not_sent_again_while_it_may_run(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st;

	reply_with(f, CANNED_ANSWER, ""); /* read, and closed */
	reply_landed(f, false);
	reply_landed(f, true);
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_LATER);
	assert_true(r.is_open);
	st = state_of(f, id);
	assert_true(st.may_run && st.sent_s > 0);

	st.next_s = 0;
	set_state(f, id, &st);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_LATER);
	assert_true(r.is_open);
	assert_int_equal(state_of(f, id).attempts, 1);

	st = state_of(f, id);
	st.next_s = 0;
	set_state(f, id, &st);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_true(r.was_found);
	assert_int_equal(canned_count(f->server), 1 + 1 + 4);
	for (size_t i = 1; i < 6; i++)
		assert_true(str_has_prefix(canned_request(f->server, i), "GET "));
	assert_false(has(f->spool->new_fd, id));
}

static void
what_did_not_land_in_a_long_time_is_sent_again(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st = { .attempts = 1, .may_run = true };

	reply_landed(f, false);
	reply(f, "201 Created", CREATED);
	start(f);
	st.sent_s = clock_wall_s() - 61;
	set_state(f, id, &st);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_false(r.was_found);
	assert_true(str_has_prefix(canned_request(f->server, 0), "GET "));
	assert_true(str_has_prefix(canned_request(f->server, 1), "POST "));
}

static void
an_attempt_that_we_died_in_counts_as_sent(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st = { .attempts = 1, .is_sending = true };

	reply_landed(f, true);
	start(f);
	st.last_s = clock_wall_s() - 5;
	set_state(f, id, &st);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_true(r.was_found);
}

static void
a_question_without_an_answer_sends_nothing(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st = { .attempts = 1, .sent_s = 1000 };

	reply(f, "500 Oops", "{}");
	start(f);
	set_state(f, id, &st);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_LATER);
	assert_int_equal(canned_count(f->server), 1);
	st = state_of(f, id);
	assert_int_equal(st.attempts, 1);
	assert_int_equal(st.sent_s, 1000);
	assert_true(st.next_s > clock_wall_s());
}

static void
a_state_that_cannot_be_read_counts_as_sent(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img"), *name = mem_printf("%s.state", id);
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };

	assert_int_equal(fs_publish(f->spool->new_fd, name, "{\"att", 5, 0600, 0, NULL), 0);
	reply_landed(f, true);
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_true(r.was_found);
}

static void
the_oldest_of_a_test_goes_first(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *old = take(f, "img"), *other = take(f, "other"), *young = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };

	reply(f, "201 Created", CREATED);
	reply(f, "201 Created", CREATED);
	reply(f, "201 Created", CREATED);
	start(f);
	send_one(f, young, &r);
	assert_int_equal(r.end, SPOOL_SKIPPED);
	send_one(f, other, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	send_one(f, old, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	send_one(f, young, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
}

static void
while_another_process_sends_to_a_test_nothing_is_sent(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	int lock = spool_lock(f->spool, spool_key(id), clock_deadline(1000), NULL);
	struct err e = ERR_INIT;

	assert_true(lock >= 0);
	reply(f, "201 Created", CREATED);
	start(f);
	send_within(f, id, 100, &r);
	assert_int_equal(r.end, SPOOL_SKIPPED);
	assert_int_equal(canned_count(f->server), 0);
	assert_int_equal(spool_drop(f->spool, id, &e), -1);
	assert_true(has(f->spool->new_fd, id));
	spool_unlock(f->spool, spool_key(id), lock);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
}

static void
a_lock_whose_file_was_removed_keeps_nobody_out(void **state)
{
	struct fixture *f = *state;
	int first = spool_lock(f->spool, "0123456789abcdef", clock_deadline(1000), NULL);
	int second;

	assert_int_equal(unlinkat(f->spool->lock_fd, "0123456789abcdef", 0), 0);
	second = spool_lock(f->spool, "0123456789abcdef", clock_deadline(1000), NULL);
	assert_true(second >= 0);
	/* The one that is there now does. */
	assert_int_equal(spool_lock(f->spool, "0123456789abcdef", clock_deadline(50), NULL), -1);
	spool_unlock(f->spool, "0123456789abcdef", second);
	close(first);
}

static void
a_delivery_that_does_not_parse_is_given_up(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };

	start(f);
	assert_int_equal(fs_publish(f->spool->new_fd, id, "{}\n{}", 5, 0600, 0, NULL), 0);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DIED);
	assert_true(has(f->spool->dead_fd, id));
}

/* ---- by hand ---- */

static void
dropped_is_gone_wherever_it_was(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *a = take(f, "a"), *b = take(f, "b");
	struct spool_state st = { 0 };
	struct spool_usage u;
	struct err e = ERR_INIT;

	assert_int_equal(spool_bury(f->spool, b, &st, NULL, NULL), 0);
	assert_int_equal(spool_drop(f->spool, a, NULL), 0);
	assert_int_equal(spool_drop(f->spool, b, NULL), 0);
	assert_int_equal(spool_usage(f->spool, &u, NULL), 0);
	assert_int_equal(u.n_new + u.n_dead + u.size, 0);
	assert_int_equal(spool_drop(f->spool, a, &e), -1);
	assert_int_equal(e.kind, ERR_USAGE);
}

static void
an_id_is_no_path(void **state)
{
	static const char *const bad[] = { "",	"../token", "20260102030405000000-0123456789abcdef/..",
					   ".", "x",	    "20260102030405000000-0123456789ABCDEF" };
	struct fixture *f = *state;

	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(spool_drop(f->spool, bad[i], &e), -1);
		assert_int_equal(e.kind, ERR_USAGE);
		assert_int_equal(spool_retry(f->spool, bad[i], &e), -1);
	}
	assert_true(has(f->dirfd, "token"));
}

static void
a_dead_one_that_is_wanted_again_is_due_and_asked_for_first(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *id = take(f, "img");
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	struct spool_state st = { .attempts = 2, .n_500 = 2, .faults = 2, .sent_s = 1000 };

	assert_int_equal(spool_bury(f->spool, id, &st, NULL, NULL), 0);
	assert_int_equal(spool_retry(f->spool, id, NULL), 0);
	assert_false(has(f->spool->dead_fd, id));
	st = state_of(f, id);
	assert_int_equal(st.n_500, 0);
	assert_int_equal(st.next_s, 0);
	reply_landed(f, false);
	reply(f, "201 Created", CREATED);
	start(f);
	send_one(f, id, &r);
	assert_int_equal(r.end, SPOOL_DELIVERED);
	assert_int_equal(canned_count(f->server), 2);
}

#define WITH_FIXTURE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(the_spool_is_for_its_owner_alone),
		WITH_FIXTURE(a_spool_that_others_can_write_to_is_refused),
		WITH_FIXTURE(ids_grow_even_when_the_clock_goes_back),
		WITH_FIXTURE(a_full_spool_takes_nothing_more_and_says_its_bound),
		cmocka_unit_test(fullness_is_told_before_it_bites),
		WITH_FIXTURE(what_a_dead_writer_left_is_cleared_away_in_time),
		WITH_FIXTURE(what_lies_beside_a_delivery_that_is_gone_is_cleared_away_in_time),
		WITH_FIXTURE(the_list_has_everything_and_names_what_is_broken),
		WITH_FIXTURE(a_report_that_closes_nothing_replaces_none_that_does),
		WITH_FIXTURE(what_is_delivered_while_it_is_listed_is_not_called_broken),
		WITH_FIXTURE(a_confirmed_delivery_is_gone_without_a_trace),
		WITH_FIXTURE(an_answer_that_does_not_add_up_is_delivered_and_said),
		WITH_FIXTURE(a_fault_is_waited_for_and_the_next_attempt_is_not_before_its_time),
		WITH_FIXTURE(backoff_grows_to_an_hour),
		WITH_FIXTURE(what_is_refused_for_good_lies_in_dead_with_the_reason),
		WITH_FIXTURE(a_server_that_falls_over_a_report_gets_it_twice),
		WITH_FIXTURE(what_was_cut_off_is_asked_for_and_not_sent_again_while_it_may_run),
		WITH_FIXTURE(what_did_not_land_in_a_long_time_is_sent_again),
		WITH_FIXTURE(an_attempt_that_we_died_in_counts_as_sent),
		WITH_FIXTURE(a_question_without_an_answer_sends_nothing),
		WITH_FIXTURE(a_state_that_cannot_be_read_counts_as_sent),
		WITH_FIXTURE(the_oldest_of_a_test_goes_first),
		WITH_FIXTURE(while_another_process_sends_to_a_test_nothing_is_sent),
		WITH_FIXTURE(a_lock_whose_file_was_removed_keeps_nobody_out),
		WITH_FIXTURE(a_delivery_that_does_not_parse_is_given_up),
		WITH_FIXTURE(dropped_is_gone_wherever_it_was),
		WITH_FIXTURE(an_id_is_no_path),
		WITH_FIXTURE(a_dead_one_that_is_wanted_again_is_due_and_asked_for_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
