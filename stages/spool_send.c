#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "stages/spool.h"

#define RETRY_BASE_S 10
#define WAIT_BASE_S 60 /* an administrator has to do something */
#define BACKOFF_MAX_S 3600
#define POLL_MIN_S 2
#define POLL_MAX_S 60
/* How long a server works on a report: 60 s + 20 ms a finding is generous (FACTS.md, 7). */
#define SETTLE_BASE_S 60
#define SETTLE_FINDING_MS 20

/* One delivery while its test's lock is held. */
struct sending {
	struct spool *spool;
	const char *id;
	struct dojo *dojo;
	const struct spool_send_options *options;
	int64_t deadline;
	struct delivery delivery;
	struct delivery_file file;
	struct spool_state state;
	struct spool_result *result;
};

void
spool_result_free(struct spool_result *r)
{
	mem_free_at(&r->shortfall);
}

static char *
describe_delivered(const struct spool_result *r)
{
	const struct dojo_answer *a = &r->answer;

	if (r->was_found)
		return mem_strdup("delivered by an earlier attempt");
	if (!a->has_counts)
		return mem_printf("delivered (test %lld)", (long long)a->test_id);
	if (a->is_first)
		return mem_printf("delivered: %lld new (test %lld, made for it)", (long long)a->n_created,
				  (long long)a->test_id);
	return mem_printf("delivered: %lld new, %lld known, %lld back, %lld closed (test %lld)",
			  (long long)a->n_created, (long long)a->n_untouched, (long long)a->n_reactivated,
			  (long long)a->n_closed, (long long)a->test_id);
}

char *
spool_describe(const struct spool_result *r)
{
	int64_t wait_s = r->next_s - clock_wall_s();
	AUTO_FREE char *wait = wait_s > 0 ? str_human_duration(wait_s * 1000) : mem_strdup("no time");

	switch (r->end) {
	case SPOOL_DELIVERED:
		return describe_delivered(r);
	case SPOOL_DIED:
		return mem_printf("given up, kept in dead/: %s", r->answer.reason);
	case SPOOL_LATER:
		return mem_printf("waits in the spool, due in %s: %s", wait, r->answer.reason);
	case SPOOL_SKIPPED:
		break;
	}
	return mem_printf("waits in the spool: %s", r->answer.reason);
}

static void
say(struct spool_result *r, const char *reason)
{
	snprintf(r->answer.reason, sizeof(r->answer.reason), "%s", reason);
}

static int
skip(struct spool_result *r, const char *reason)
{
	r->end = SPOOL_SKIPPED;
	say(r, reason);
	return 0;
}

/* Doubles up to an hour; the last fifth is dice, so that many hosts do not come back at once. */
static int64_t
backoff_s(int64_t base_s, int64_t faults)
{
	int64_t s = base_s;
	uint32_t dice = 0;

	for (int64_t i = 1; i < faults && s < BACKOFF_MAX_S; i++)
		s *= 2;
	if (s > BACKOFF_MAX_S)
		s = BACKOFF_MAX_S;
	if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != (ssize_t)sizeof(dice))
		dice = (uint32_t)getpid();
	return s - (int64_t)(dice % (uint32_t)(s / 5 + 1));
}

static void
remember_answer(struct sending *n, const char *reason)
{
	mem_free_at(&n->state.answer);
	n->state.answer = mem_strdup(reason);
}

static int
later(struct sending *n, int64_t wait_s, struct err *e)
{
	n->state.next_s = clock_wall_s() + wait_s;
	n->state.is_sending = false;
	remember_answer(n, n->result->answer.reason);
	n->result->end = SPOOL_LATER;
	n->result->next_s = n->state.next_s;
	n->result->is_open = n->state.may_run;
	return spool_state_write(n->spool->new_fd, n->id, &n->state, e);
}

static int
bury(struct sending *n, struct err *e)
{
	n->state.is_sending = false;
	n->state.next_s = 0;
	remember_answer(n, n->result->answer.reason);
	n->result->end = SPOOL_DIED;
	return spool_bury(n->spool, n->id, &n->state, e);
}

/* When nobody works any more on what was sent. */
static int64_t
settled_s(const struct sending *n)
{
	int64_t settle_s = SETTLE_BASE_S + n->delivery.n_findings * SETTLE_FINDING_MS / 1000;

	if (settle_s < n->options->timeout_ms / 1000)
		settle_s = n->options->timeout_ms / 1000;
	return n->state.sent_s + settle_s;
}

/* What was sent before: did it land? 1 when the delivery is dealt with, 0 when it may be sent, -1 on error. */
static int
ask_first(struct sending *n, struct err *e)
{
	int64_t now = clock_wall_s(), waited_s = now - n->state.sent_s, settled = settled_s(n);
	struct err why = ERR_INIT;
	enum dojo_fate fate;

	if (n->state.sent_s == 0)
		return 0;
	if (dojo_ask_fate(n->dojo, &n->delivery, n->deadline, &fate, &why) < 0) {
		n->state.faults++;
		n->result->is_server_wide = true;
		say(n->result, why.text);
		return later(n, backoff_s(RETRY_BASE_S, n->state.faults), e) < 0 ? -1 : 1;
	}
	if (fate == DOJO_LANDED) {
		n->result->end = SPOOL_DELIVERED;
		n->result->was_found = true;
		say(n->result, "an earlier attempt had arrived");
		return spool_remove(n->spool->new_fd, n->id, e) < 0 ? -1 : 1;
	}
	/* Set back clocks count as "long ago" only after one more settling time. */
	if (waited_s < 0) {
		n->state.sent_s = now;
		waited_s = 0;
		settled = settled_s(n);
	}
	if (n->state.may_run && now < settled) {
		int64_t poll_s = waited_s / 4;

		poll_s = poll_s < POLL_MIN_S ? POLL_MIN_S : poll_s > POLL_MAX_S ? POLL_MAX_S : poll_s;
		say(n->result, "sent before, DefectDojo may still be working on it");
		return later(n, poll_s, e) < 0 ? -1 : 1;
	}
	n->state.may_run = false;
	return 0;
}

/* What came of an attempt goes to disk before anybody hears of it. */
static int
settle_attempt(struct sending *n, struct err *e)
{
	const struct dojo_answer *a = &n->result->answer;
	int64_t wait_s;

	n->state.status = a->status;
	n->state.may_run = a->may_run;
	if (a->was_sent)
		n->state.sent_s = clock_wall_s();
	n->result->is_server_wide = a->is_server_wide;
	switch (a->verdict) {
	case DOJO_DELIVERED:
		n->result->end = SPOOL_DELIVERED;
		if (!dojo_is_short(&n->delivery, a, &n->result->shortfall))
			n->result->shortfall = NULL;
		return spool_remove(n->spool->new_fd, n->id, e);
	case DOJO_DEAD:
		return bury(n, e);
	case DOJO_RETRY:
	case DOJO_WAIT:
		break;
	}
	n->state.faults++;
	if (a->tries_max > 0 && ++n->state.n_500 >= a->tries_max)
		return bury(n, e);
	if (a->may_run)
		wait_s = POLL_MIN_S;
	else
		wait_s = backoff_s(a->verdict == DOJO_WAIT ? WAIT_BASE_S : RETRY_BASE_S, n->state.faults);
	if (a->retry_after_s > wait_s)
		wait_s = a->retry_after_s;
	return later(n, wait_s, e);
}

static int
attempt(struct sending *n, struct err *e)
{
	struct err why = ERR_INIT;

	n->state.attempts++;
	n->state.last_s = clock_wall_s();
	n->state.is_sending = true;
	if (spool_state_write(n->spool->new_fd, n->id, &n->state, e) < 0)
		return -1;
	if (dojo_reimport(n->dojo, &n->delivery, &n->file, n->deadline, &n->result->answer, &why) < 0) {
		n->state.faults++;
		n->result->is_server_wide = true;
		say(n->result, why.text);
		return later(n, backoff_s(WAIT_BASE_S, n->state.faults), e);
	}
	return settle_attempt(n, e);
}

/* We died while it was being sent: it counts as sent. */
static void
recover(struct spool_state *st)
{
	if (!st->is_sending)
		return;
	st->is_sending = false;
	st->sent_s = st->last_s > 0 ? st->last_s : 1;
	st->may_run = true;
}

static bool
is_due(const struct spool_state *st)
{
	int64_t now = clock_wall_s();

	/* A time that no backoff gives comes from a clock that was wrong. */
	return st->next_s <= now || st->next_s > now + (int64_t)2 * 24 * 3600;
}

/* 0 when it may be tried, 1 when it is skipped. */
static int
check_turn(const struct sending *n, struct err *e)
{
	AUTO_STRV struct strv ids = { 0 };
	bool is_there = false;

	if (spool_ids(n->spool, &ids, e) < 0)
		return -1;
	for (size_t i = 0; i < ids.n; i++) {
		if (str_eq(ids.v[i], n->id)) {
			is_there = true;
			break;
		}
		if (str_eq(spool_key(ids.v[i]), spool_key(n->id))) {
			skip(n->result, "an older report of the same test is before it");
			return 1;
		}
	}
	if (!is_there) {
		skip(n->result, "another process has dealt with it");
		return 1;
	}
	return 0;
}

static int
send_locked(struct sending *n, struct err *e)
{
	struct err why = ERR_INIT;
	int rc = check_turn(n, e);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (spool_state_read(n->spool->new_fd, n->id, &n->state, e) < 0)
		return -1;
	recover(&n->state);
	if (!n->options->is_forced && !is_due(&n->state)) {
		n->result->next_s = n->state.next_s;
		n->result->is_open = n->state.may_run;
		return skip(n->result, str_is_empty(n->state.answer) ? "not due yet" : n->state.answer);
	}
	if (delivery_open(n->spool->new_fd, n->id, &n->delivery, &n->file, &why) < 0) {
		say(n->result, why.text);
		if (why.kind == ERR_REFUSED || why.kind == ERR_UNSUPPORTED)
			return bury(n, e);
		if (e)
			*e = why;
		return -1;
	}
	delivery_fit(&n->delivery);
	rc = ask_first(n, e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (clock_left_ms(n->deadline) == 0)
		return skip(n->result, "no time is left");
	return attempt(n, e);
}

int
spool_send(struct spool *s, const char *id, struct dojo *dojo, const struct spool_send_options *o,
	   int64_t deadline, struct spool_result *ret, struct err *e)
{
	struct sending n = { .spool = s,
			     .id = id,
			     .dojo = dojo,
			     .options = o,
			     .deadline = deadline,
			     .file = DELIVERY_FILE_INIT,
			     .result = ret };
	struct err why = ERR_INIT;
	int lock = spool_lock(s, spool_key(id), deadline, &why);
	int rc;

	*ret = (struct spool_result){ .answer.retry_after_s = -1 };
	if (lock < 0) {
		if (why.kind == ERR_TIMEOUT)
			return skip(ret, "another process is sending to the same test");
		if (e)
			*e = why;
		return -1;
	}
	rc = send_locked(&n, e);
	spool_unlock(s, spool_key(id), lock);
	delivery_free(&n.delivery);
	delivery_file_close(&n.file);
	spool_state_free(&n.state);
	return rc < 0 ? err_wrap(e, "delivery %s", id) : 0;
}
