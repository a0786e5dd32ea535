/* May a delivery go now? Its test's lock, order, time, age, breaker, the turn among hosts; then spool_attempt.c. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "stages/spool_sending.h"

/* Of a turn among hosts, beyond that: what is asked and told around an upload. */
#define TURN_EXTRA_S 60
/* Clocks of hosts differ: what is older by less than this may as well be newer. */
#define ORDER_SLACK_S 600

/* ---- several hosts ---- */

/* 1 while another host delivers into this test. */
static int
take_turn(struct sending *n, struct err *e)
{
	AUTO_FREE char *holder = NULL;

	if (!n->options->fleet)
		return 0;
	fleet_place_of(n->options->fleet, n->options->server, &n->delivery, &n->place);
	switch (fleet_take_turn(&n->place, n->id, sending_settle_s(n) + TURN_EXTRA_S, n->deadline, &holder)) {
	case FLEET_OURS:
		n->has_turn = true;
		return 0;
	case FLEET_UNKNOWN:
		return 0;
	case FLEET_TAKEN:
		break;
	}
	snprintf(n->result->answer.reason, sizeof(n->result->answer.reason), "%s delivers into the same test",
		 holder);
	return sending_later(n, sending_poll_after_s(clock_wall_s() - n->delivery.created_s), e) < 0 ? -1 : 1;
}

/*
 * By DefectDojo's clock, as far as that can be told. One that closes nothing is no news of what an older one would close; and what was
 * made after now has its time of a clock that was ahead and was mended since: it tells of no order.
 */
static void
note_delivered(const struct sending *n)
{
	int64_t made_s = n->delivery.created_s, now_s = dojo_clock_s(n->dojo);

	if (n->delivery.keeps_old || made_s > clock_wall_s() + FLEET_AHEAD_MAX_S)
		return;
	fleet_note_delivered(&n->place, made_s < now_s ? made_s : now_s, now_s);
}

/* While the server may still be at work nobody else may begin: then it is kept until it ends by itself, or its fate is known. */
static void
give_turn(const struct sending *n, bool is_delivered)
{
	if (n->has_turn && is_delivered)
		note_delivered(n);
	if (n->has_turn && (is_delivered || !n->state.may_run))
		fleet_give_turn(&n->place, n->id);
}

/* 1 when it is given up: another host was before us with a newer report, which DefectDojo would forget for ours. */
static int
check_order(struct sending *n, struct err *e)
{
	int64_t newest_s, now_s, made_s = n->delivery.created_s;
	int rc;

	if (!n->has_turn || n->options->is_forced || n->state.revived_s > 0)
		return 0;
	newest_s = fleet_newest(&n->place, n->deadline);
	if (newest_s <= made_s + ORDER_SLACK_S)
		return 0;
	/* it is given up for good: not for a time that was never there, nor where it only looks older because the clock here is behind */
	rc = attempt_ask_clock(n, &now_s, e);
	if (rc != 0 || newest_s > now_s + FLEET_AHEAD_MAX_S)
		return rc;
	if (now_s > clock_wall_s())
		made_s += now_s - clock_wall_s();
	if (newest_s <= made_s + ORDER_SLACK_S)
		return 0;
	sending_say(n->result,
		    "another host has delivered a newer report of this test; spool retry sends it all the same");
	return sending_bury(n, e) < 0 ? -1 : 1;
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

struct turn {
	const char *id;
	bool is_there, is_behind;
};

static bool
look_for_turn(const char *id, void *arg)
{
	struct turn *t = arg;
	int order = strcmp(id, t->id);

	t->is_there = t->is_there || order == 0;
	t->is_behind = t->is_behind || (order < 0 && str_eq(spool_key(id), spool_key(t->id)));
	return true;
}

/* What is in neither place was confirmed, or dropped by somebody who wanted it so. */
static void
skip_gone(const struct sending *n)
{
	bool is_dead = faccessat(n->spool->dead_fd, n->id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	sending_skip(n->result,
		     is_dead ? "given up by another process, kept in dead/" : "delivered by another process");
	n->result->is_gone = true;
}

/* 0 when it may be tried, 1 when it is skipped. */
static int
check_turn(const struct sending *n, struct err *e)
{
	struct turn t = { .id = n->id };

	if (spool_each_id(n->spool->new_fd, look_for_turn, &t, e) < 0)
		return -1;
	if (!t.is_there)
		skip_gone(n);
	else if (t.is_behind)
		sending_skip(n->result, "an older report of the same test is before it");
	else
		return 0;
	return 1;
}

/* 1 when it is given up: an image of so long ago would be shown as today's. */
static int
check_age(struct sending *n, struct err *e)
{
	int64_t since_s = n->delivery.created_s, max_s = n->options->age_max_s;
	AUTO_FREE char *max = NULL;

	if (n->state.revived_s > since_s)
		since_s = n->state.revived_s;
	if (n->options->is_forced || max_s <= 0 || since_s <= 0 || n->state.may_run ||
	    clock_wall_s() - since_s <= max_s)
		return 0;
	max = str_human_duration(max_s * 1000);
	snprintf(n->result->answer.reason, sizeof(n->result->answer.reason),
		 "older than %s (defectdojo.spool_age_max)%s%s", max,
		 str_is_empty(n->state.answer) ? "" : "; at last: ",
		 str_is_empty(n->state.answer) ? "" : n->state.answer);
	return sending_bury(n, e) < 0 ? -1 : 1;
}

/* 1 while the server is not to be asked. */
static int
check_breaker(struct sending *n)
{
	AUTO_FREE char *text = NULL;
	struct spool_breaker b;

	if (!n->options->breaker || n->options->is_forced)
		return 0;
	n->trial = spool_breaker_enter(n->spool, n->options->breaker, &b);
	if (!b.is_open)
		return 0;
	text = spool_breaker_describe(&b);
	sending_skip(n->result, text);
	n->result->is_server_wide = true;
	n->result->next_s = b.until_s;
	return 1;
}

/* 1 before its time. */
static int
check_time(const struct sending *n)
{
	if (n->options->is_forced || is_due(&n->state))
		return 0;
	n->result->next_s = n->state.next_s;
	n->result->is_open = n->state.may_run;
	sending_skip(n->result, str_is_empty(n->state.answer) ? "not due yet" : n->state.answer);
	return 1;
}

/* The same without the lock: where thousands wait, a look at the directory for each would take longer than a job may. */
static bool
is_early(struct sending *n)
{
	bool is_so = spool_state_read(n->spool->new_fd, n->id, &n->state, NULL) == 0 &&
		     !n->state.is_sending && check_time(n) == 1;

	spool_state_free(&n->state);
	n->state = (struct spool_state){ 0 };
	return is_so;
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
	if (check_time(n) != 0)
		return 0;
	if (delivery_open(n->spool->new_fd, n->id, &n->delivery, &n->file, &why) < 0) {
		sending_say(n->result, why.text);
		if (why.kind == ERR_REFUSED || why.kind == ERR_UNSUPPORTED)
			return sending_bury(n, e);
		if (e)
			*e = why;
		return -1;
	}
	delivery_fit(&n->delivery);
	rc = check_age(n, e);
	if (rc == 0)
		rc = check_breaker(n);
	if (rc == 0)
		rc = take_turn(n, e);
	if (rc == 0)
		rc = attempt_pulse(n, e);
	if (rc == 0)
		rc = attempt_ask_first(n, e);
	if (rc == 0)
		rc = check_order(n, e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	return attempt_send(n, e);
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
			     .trial = -1,
			     .result = ret };
	struct err why = ERR_INIT;
	int lock, rc;

	*ret = (struct spool_result){ .answer.retry_after_s = -1 };
	if (is_early(&n))
		return 0;
	lock = spool_lock(s, spool_key(id), deadline, &why);
	if (lock < 0) {
		if (why.kind == ERR_TIMEOUT)
			return sending_skip(ret, "another process is sending to the same test");
		if (e)
			*e = why;
		return -1;
	}
	rc = send_locked(&n, e);
	give_turn(&n, rc == 0 && ret->end == SPOOL_DELIVERED);
	spool_unlock(s, spool_key(id), lock);
	sending_free(&n);
	delivery_free(&n.delivery);
	delivery_file_close(&n.file);
	spool_state_free(&n.state);
	return rc < 0 ? err_wrap(e, "delivery %s", id) : 0;
}
