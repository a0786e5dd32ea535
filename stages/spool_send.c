#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "stages/fleet.h"
#include "stages/keep_text.h"
#include "stages/spool.h"

#define RETRY_BASE_S 10
#define WAIT_BASE_S 60 /* an administrator has to do something */
#define POLL_MIN_S 2
#define POLL_MAX_S 60
/* How long a server works on a report: 60 s + 20 ms a finding is generous (FACTS.md, 7). */
#define SETTLE_BASE_S 60
#define SETTLE_FINDING_MS 20
/* A question takes seconds (FACTS.md, 4); who does not answer in this time does not answer. */
#define ASK_MAX_MS (2 * 60 * 1000)
/* A server that had faults first shows within this that it answers at all, before it may keep us for as long as an upload may take. */
#define PULSE_MAX_MS (30 * 1000)
/* Who was given less time than that is not to blame for silence. */
#define FAIR_MS 3000
/* Of a turn among hosts, beyond that: what is asked and told around an upload. */
#define TURN_EXTRA_S 60
/* Clocks of hosts differ: what is older by less than this may as well be newer. */
#define ORDER_SLACK_S 600

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
	struct fleet_place place; /* fleet NULL: no other host */
	bool has_turn;		  /* among the hosts */
	int trial;		  /* spool_breaker_enter() */
	struct kept *kept;
	struct keep_text *texts; /* NULL: it is sent as it is */
	struct spool_result *result;
};

static void
sending_free(struct sending *n)
{
	keep_text_free(n->texts);
	kept_free(n->kept);
	mem_close_at(&n->trial);
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
	/* Should a crash forget it, what was written before the attempt says that it may have been sent: it is asked for. */
	return spool_state_note(n->spool->new_fd, n->id, &n->state, e);
}

static int
bury(struct sending *n, struct err *e)
{
	n->state.is_sending = false;
	n->state.next_s = 0;
	remember_answer(n, n->result->answer.reason);
	n->result->end = SPOOL_DIED;
	return spool_bury(n->spool, n->id, &n->state,
			  n->result->answer.status > 0 ? &n->result->answer : NULL, e);
}

/* How long a server may work on it. */
static int64_t
settle_s(const struct sending *n)
{
	int64_t by_findings_s = SETTLE_BASE_S + n->delivery.n_findings * SETTLE_FINDING_MS / 1000;
	int64_t by_timeout_s = n->options->timeout_ms / 1000;

	return by_findings_s > by_timeout_s ? by_findings_s : by_timeout_s;
}

/* When nobody works any more on what was sent. */
static int64_t
settled_s(const struct sending *n)
{
	return n->state.sent_s + settle_s(n);
}

/* Soon at first, later and later then. */
static int64_t
poll_after_s(int64_t waited_s)
{
	int64_t poll_s = waited_s / 4;

	return poll_s < POLL_MIN_S ? POLL_MIN_S : poll_s > POLL_MAX_S ? POLL_MAX_S : poll_s;
}

/* ---- several hosts ---- */

/* 1 while another host delivers into this test. */
static int
take_turn(struct sending *n, struct err *e)
{
	AUTO_FREE char *holder = NULL;

	if (!n->options->fleet)
		return 0;
	fleet_place_of(n->options->fleet, n->options->server, &n->delivery, &n->place);
	switch (fleet_take_turn(&n->place, n->id, settle_s(n) + TURN_EXTRA_S, n->deadline, &holder)) {
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
	return later(n, poll_after_s(clock_wall_s() - n->delivery.created_s), e) < 0 ? -1 : 1;
}

/* While the server may still be at work nobody else may begin: then it is kept until it ends by itself, or its fate is known. */
static void
give_turn(const struct sending *n, bool is_delivered)
{
	if (n->has_turn && is_delivered)
		fleet_note_delivered(&n->place, n->delivery.created_s);
	if (n->has_turn && (is_delivered || !n->state.may_run))
		fleet_give_turn(&n->place, n->id);
}

/* 1 when it is given up: another host was before us with a newer report, which DefectDojo would forget for ours. */
static int
check_order(struct sending *n, struct err *e)
{
	if (!n->has_turn || n->options->is_forced || n->state.revived_s > 0 ||
	    fleet_newest(&n->place, n->deadline) <= n->delivery.created_s + ORDER_SLACK_S)
		return 0;
	say(n->result,
	    "another host has delivered a newer report of this test; spool retry sends it all the same");
	return bury(n, e) < 0 ? -1 : 1;
}

/* ---- the server ---- */

/*
 * The server would answer anything so now: all wait for it together, and what waits here has no part in it. A breaker that
 * cannot be kept is no reason to fail; the delivery's own backoff is there then.
 */
static int64_t
server_wait_s(struct sending *n, int64_t base_s)
{
	const struct dojo_answer *a = &n->result->answer;
	int64_t until_s = 0;

	if (!n->options->breaker || spool_breaker_open(n->spool, n->options->breaker, a->reason, base_s,
						       a->retry_after_s, &until_s, NULL) < 0)
		return spool_backoff_s(base_s, ++n->state.faults);
	return until_s - clock_wall_s();
}

static void
server_is_well(const struct sending *n)
{
	if (n->options->breaker)
		spool_breaker_close(n->spool, n->options->breaker);
}

static int64_t
within(const struct sending *n, int64_t ms)
{
	int64_t deadline = clock_deadline(ms);

	return deadline < n->deadline ? deadline : n->deadline;
}

/* A question was not answered: 1, it waits. */
static int
no_answer(struct sending *n, int64_t given_ms, const struct err *why, struct err *e)
{
	int64_t wait_s;

	if (given_ms < FAIR_MS && clock_left_ms(n->deadline) == 0)
		return skip(n->result, "no time is left") < 0 ? -1 : 1;
	n->result->is_server_wide = true;
	say(n->result, why->text);
	wait_s = why->no == EHOSTDOWN ? server_wait_s(n, RETRY_BASE_S)
				      : spool_backoff_s(RETRY_BASE_S, ++n->state.faults);
	return later(n, wait_s, e) < 0 ? -1 : 1;
}

/* 1 when it waits. Whatever the server answers, the attempt tells what is wrong. */
static int
check_pulse(struct sending *n, struct err *e)
{
	int64_t given_ms = clock_left_ms(n->deadline);
	struct dojo_user u = { 0 };
	struct err why = ERR_INIT;
	int rc;

	if (n->trial < 0)
		return 0;
	rc = dojo_whoami(n->dojo, within(n, PULSE_MAX_MS), &u, &why);
	mem_free_at(&u.name);
	return rc < 0 && why.kind == ERR_TIMEOUT ? no_answer(n, given_ms, &why, e) : 0;
}

/* What was sent before: did it land? 1 when the delivery is dealt with, 0 when it may be sent, -1 on error. */
static int
ask_first(struct sending *n, struct err *e)
{
	int64_t now = clock_wall_s(), waited_s = now - n->state.sent_s, settled = settled_s(n);
	int64_t given_ms = clock_left_ms(n->deadline);
	struct err why = ERR_INIT;
	enum dojo_fate fate;

	if (n->state.sent_s == 0)
		return 0;
	if (dojo_ask_fate(n->dojo, &n->delivery, within(n, ASK_MAX_MS), &fate, &why) < 0)
		return no_answer(n, given_ms, &why, e);
	if (fate == DOJO_LANDED) {
		server_is_well(n);
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
		server_is_well(n);
		say(n->result, "sent before, DefectDojo may still be working on it");
		return later(n, poll_after_s(waited_s), e) < 0 ? -1 : 1;
	}
	/* That it answers questions does not mean that it takes uploads: the attempt shows. */
	n->state.may_run = false;
	return 0;
}

/* What it cannot do now the next delivery of this test does. */
static void
bring_up_to_date(struct sending *n)
{
	const struct dojo_answer *a = &n->result->answer;
	bool has_new = !a->has_counts || a->is_first || a->n_created > 0;
	AUTO_FREE char *missed = NULL;
	struct err why = ERR_INIT;

	if (!n->texts || a->test_id <= 0)
		return;
	if (n->delivery.report_len > KEEP_TEXT_REPORT_MAX)
		missed =
			mem_printf("the report is larger than %d MiB and went with the texts of today (defectdojo.keep_text)",
				   KEEP_TEXT_REPORT_MAX >> 20);
	else if (keep_text_end(n->texts, n->dojo, a->test_id, has_new, n->deadline, &n->result->n_updated,
			       &why) < 0)
		missed = mem_printf("some findings still have the texts of before: %s", why.text);
	if (!n->result->shortfall)
		n->result->shortfall = take_ptr(missed);
}

/* What came of an attempt goes to disk before anybody hears of it. */
static int
settle_attempt(struct sending *n, struct err *e)
{
	const struct dojo_answer *a = &n->result->answer;
	int64_t base_s = a->verdict == DOJO_WAIT ? WAIT_BASE_S : RETRY_BASE_S, wait_s;

	n->state.status = a->status;
	n->state.may_run = a->may_run;
	if (a->was_sent)
		n->state.sent_s = clock_wall_s();
	n->result->is_server_wide = a->is_server_wide;
	if (!a->is_server_wide && a->status > 0)
		server_is_well(n);
	switch (a->verdict) {
	case DOJO_DELIVERED:
		n->result->end = SPOOL_DELIVERED;
		if (!dojo_is_short(&n->delivery, a, &n->result->shortfall))
			n->result->shortfall = NULL;
		if (spool_remove(n->spool->new_fd, n->id, e) < 0)
			return -1;
		bring_up_to_date(n);
		return 0;
	case DOJO_DEAD:
		return bury(n, e);
	case DOJO_RETRY:
	case DOJO_WAIT:
		break;
	}
	if (a->tries_max > 0 && ++n->state.n_500 >= a->tries_max)
		return bury(n, e);
	if (a->is_server_wide)
		wait_s = server_wait_s(n, base_s);
	else
		wait_s = spool_backoff_s(base_s, ++n->state.faults);
	if (a->may_run)
		wait_s = POLL_MIN_S;
	if (a->retry_after_s > wait_s)
		wait_s = a->retry_after_s;
	return later(n, wait_s, e);
}

/* Its texts, where they are kept. -1: not sent, it waits. */
static int
keep_texts(struct sending *n, struct err *e)
{
	if (!n->options->keep_text)
		return 0;
	n->kept = kept_open(n->spool->state_dir, (uid_t)-1, (gid_t)-1);
	return keep_text_begin(n->kept, n->options->fleet ? &n->place : NULL, &n->delivery, &n->file,
			       n->deadline, &n->texts, e);
}

static int
reimport(struct sending *n, struct err *e)
{
	struct delivery sent = n->delivery;

	if (!n->texts)
		return dojo_reimport(n->dojo, &n->delivery, &n->file, n->deadline, &n->result->answer, e);
	sent.report_len = keep_text_len(n->texts);
	return dojo_reimport(n->dojo, &sent, keep_text_file(n->texts), n->deadline, &n->result->answer, e);
}

/*
 * Who takes a report and says nothing for as long as any report may take would say nothing to the next one. A job, which waits
 * for seconds, cannot tell that from a server that is at work; and with next to no time nothing can be told.
 */
static void
judge_silence(struct sending *n, int64_t given_ms, int64_t took_ms)
{
	struct dojo_answer *a = &n->result->answer;

	if (a->status == 0 && a->may_run && took_ms >= n->options->timeout_ms / 10 * 9)
		a->is_server_wide = true;
	else if (a->status == 0 && given_ms < FAIR_MS && took_ms >= given_ms)
		a->is_server_wide = false;
}

static int
attempt(struct sending *n, struct err *e)
{
	struct err why = ERR_INIT;
	int64_t begun_ms, given_ms;

	if (keep_texts(n, &why) < 0) {
		err_wrap(&why, "defectdojo.keep_text");
		n->result->is_server_wide = why.no == EHOSTDOWN;
		say(n->result, why.text);
		return later(n, spool_backoff_s(WAIT_BASE_S, ++n->state.faults), e);
	}
	begun_ms = clock_mono_ms();
	given_ms = clock_left_ms(n->deadline);
	if (given_ms == 0)
		return skip(n->result, "no time is left");
	n->state.attempts++;
	n->state.last_s = clock_wall_s();
	n->state.is_sending = true;
	if (spool_state_write(n->spool->new_fd, n->id, &n->state, e) < 0)
		return -1;
	if (reimport(n, &why) < 0) {
		n->state.faults++;
		n->result->is_server_wide = true;
		say(n->result, why.text);
		return later(n, spool_backoff_s(WAIT_BASE_S, n->state.faults), e);
	}
	judge_silence(n, given_ms, clock_mono_ms() - begun_ms);
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

	skip(n->result,
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
		skip(n->result, "an older report of the same test is before it");
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
	return bury(n, e) < 0 ? -1 : 1;
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
	skip(n->result, text);
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
	skip(n->result, str_is_empty(n->state.answer) ? "not due yet" : n->state.answer);
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
		say(n->result, why.text);
		if (why.kind == ERR_REFUSED || why.kind == ERR_UNSUPPORTED)
			return bury(n, e);
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
		rc = check_pulse(n, e);
	if (rc == 0)
		rc = ask_first(n, e);
	if (rc == 0)
		rc = check_order(n, e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
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
			return skip(ret, "another process is sending to the same test");
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
