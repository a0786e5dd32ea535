#include "stages/spool_sending.h"

#include <stdio.h>

#include "base/clock.h"

#define POLL_MIN_S 2
#define POLL_MAX_S 60
/* How long a server works on a report: 60 s + 20 ms a finding is generous (FACTS.md, 7). */
#define SETTLE_BASE_S 60
#define SETTLE_FINDING_MS 20

void
sending_free(struct sending *n)
{
	keep_text_free(n->texts);
	kept_free(n->kept);
	mem_close_at(&n->trial);
}

void
sending_say(struct spool_result *r, const char *reason)
{
	snprintf(r->answer.reason, sizeof(r->answer.reason), "%s", reason);
}

int
sending_skip(struct spool_result *r, const char *reason)
{
	r->end = SPOOL_SKIPPED;
	sending_say(r, reason);
	return 0;
}

static void
remember_answer(struct sending *n, const char *reason)
{
	mem_free_at(&n->state.answer);
	n->state.answer = mem_strdup(reason);
}

int
sending_later(struct sending *n, int64_t wait_s, struct err *e)
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

int
sending_bury(struct sending *n, struct err *e)
{
	n->state.is_sending = false;
	n->state.next_s = 0;
	remember_answer(n, n->result->answer.reason);
	n->result->end = SPOOL_DIED;
	return spool_bury(n->spool, n->id, &n->state,
			  n->result->answer.status > 0 ? &n->result->answer : NULL, e);
}

int64_t
sending_settle_s(const struct sending *n)
{
	int64_t by_findings_s = SETTLE_BASE_S + n->delivery.n_findings * SETTLE_FINDING_MS / 1000;
	int64_t by_timeout_s = n->options->timeout_ms / 1000;

	return by_findings_s > by_timeout_s ? by_findings_s : by_timeout_s;
}

int64_t
sending_poll_after_s(int64_t waited_s)
{
	int64_t poll_s = waited_s / 4;

	return poll_s < POLL_MIN_S ? POLL_MIN_S : poll_s > POLL_MAX_S ? POLL_MAX_S : poll_s;
}
