/* A delivery and the server: is it well, did an earlier attempt arrive, the upload, and what its answer means for when to try again. */
#include "stages/spool_sending.h"

#include <errno.h>

#include "base/clock.h"
#include "base/str.h"

/* A question takes seconds (FACTS.md, 4); who does not answer in this time does not answer. */
#define ASK_MAX_MS (2 * 60 * 1000)
/* A server that had faults first shows within this that it answers at all, before it may keep us for as long as an upload may take. */
#define PULSE_MAX_MS (30 * 1000)
/* What brings the server down itself waits beyond it, within the hour that any waits at most; then the others are just first. */
#define OWN_WAIT_MAX_S 3600
#define OTHERS_FIRST_S 30
/* Who was given less time than that is not to blame for silence. */
#define FAIR_MS 3000

/* When nobody works any more on what was sent. */
static int64_t
settled_s(const struct sending *n)
{
	return n->state.sent_s + sending_settle_s(n);
}

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
		return sending_skip(n->result, "no time is left") < 0 ? -1 : 1;
	n->result->is_server_wide = true;
	sending_say(n->result, why->text);
	wait_s = why->no == EHOSTDOWN ? server_wait_s(n, RETRY_BASE_S)
				      : spool_backoff_s(RETRY_BASE_S, ++n->state.faults);
	return sending_later(n, wait_s, e) < 0 ? -1 : 1;
}

/* Whatever the server answers, the attempt tells what is wrong. */
int
attempt_pulse(struct sending *n, struct err *e)
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

int
attempt_ask_clock(struct sending *n, int64_t *ret_now_s, struct err *e)
{
	int64_t given_ms = clock_left_ms(n->deadline);
	struct dojo_user u = { 0 };
	struct err why = ERR_INIT;
	int rc = dojo_whoami(n->dojo, within(n, PULSE_MAX_MS), &u, &why);

	mem_free_at(&u.name);
	if (rc < 0)
		return no_answer(n, given_ms, &why, e);
	*ret_now_s = dojo_clock_s(n->dojo);
	return 0;
}

int
attempt_ask_first(struct sending *n, struct err *e)
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
		sending_say(n->result, "an earlier attempt had arrived");
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
		sending_say(n->result, "sent before, DefectDojo may still be working on it");
		return sending_later(n, sending_poll_after_s(waited_s), e) < 0 ? -1 : 1;
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
	AUTO_FREE char *behind = NULL;
	const char *missed;
	struct err why = ERR_INIT;

	if (!n->texts || a->test_id <= 0)
		return;
	missed = keep_text_missed(n->texts);
	if (keep_text_end(n->texts, n->dojo, a->test_id, has_new, n->deadline, &n->result->n_updated, &why) < 0)
		behind = mem_printf("some findings still have the texts of before: %s", why.text);
	if (!n->result->shortfall)
		n->result->shortfall = behind ? take_ptr(behind) : missed ? mem_strdup(missed) : NULL;
}

/* What came of an attempt goes to disk before anybody hears of it. */
static int
settle_attempt(struct sending *n, struct err *e)
{
	const struct dojo_answer *a = &n->result->answer;
	int64_t base_s = a->verdict == DOJO_WAIT ? WAIT_BASE_S : RETRY_BASE_S, own_s, wait_s;

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
		return sending_bury(n, e);
	case DOJO_RETRY:
	case DOJO_WAIT:
		break;
	}
	if (a->tries_max > 0 && ++n->state.n_500 >= a->tries_max)
		return sending_bury(n, e);
	/* a report that itself brings the server down may not be the first again and again, and hold up the rest: they are asked for before it */
	own_s = a->was_sent && a->is_server_wide && n->options->breaker
			? spool_backoff_s(base_s, ++n->state.faults)
			: 0;
	wait_s = a->is_server_wide ? server_wait_s(n, base_s) : spool_backoff_s(base_s, ++n->state.faults);
	wait_s = wait_s + own_s <= OWN_WAIT_MAX_S ? wait_s + own_s : wait_s + OTHERS_FIRST_S;
	if (a->may_run)
		wait_s = sending_poll_after_s(0);
	if (a->retry_after_s > wait_s)
		wait_s = a->retry_after_s;
	return sending_later(n, wait_s, e);
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

int
attempt_send(struct sending *n, struct err *e)
{
	struct err why = ERR_INIT;
	int64_t begun_ms, given_ms;

	if (keep_texts(n, &why) < 0) {
		err_wrap(&why, "defectdojo.keep_text");
		n->result->is_server_wide = why.no == EHOSTDOWN;
		sending_say(n->result, why.text);
		return sending_later(n, spool_backoff_s(WAIT_BASE_S, ++n->state.faults), e);
	}
	begun_ms = clock_mono_ms();
	given_ms = clock_left_ms(n->deadline);
	if (given_ms == 0)
		return sending_skip(n->result, "no time is left");
	n->state.attempts++;
	n->state.last_s = clock_wall_s();
	n->state.is_sending = true;
	if (spool_state_write(n->spool->new_fd, n->id, &n->state, e) < 0)
		return -1;
	if (reimport(n, &why) < 0) {
		n->state.faults++;
		n->result->is_server_wide = true;
		sending_say(n->result, why.text);
		return sending_later(n, spool_backoff_s(WAIT_BASE_S, n->state.faults), e);
	}
	judge_silence(n, given_ms, clock_mono_ms() - begun_ms);
	return settle_attempt(n, e);
}
