/*
 * One delivery while its test's lock is held: what spool_send.c (may it go?) and spool_attempt.c (the server) know of it, and how it ends for
 * now. Of no use to others; they have spool.h.
 */
#pragma once

#include "stages/fleet.h"
#include "stages/keep_text.h"
#include "stages/spool.h"

#define RETRY_BASE_S 10
#define WAIT_BASE_S 60 /* an administrator has to do something */

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

void sending_free(struct sending *n); /* what it owns */

/* The line for people that goes with the end. */
void sending_say(struct spool_result *r, const char *reason);
/* Nothing was done; nothing is written. Always 0. */
int sending_skip(struct spool_result *r, const char *reason);
/* It waits for so long, with the reason that was said, durably. */
int sending_later(struct sending *n, int64_t wait_s, struct err *e);
/* It goes into dead/, with the reason that was said. */
int sending_bury(struct sending *n, struct err *e);

/* Seconds for which a server may work on it. */
int64_t sending_settle_s(const struct sending *n);
/* Seconds until it is asked again what became of it: soon at first, later and later then. */
int64_t sending_poll_after_s(int64_t waited_s);

/*
 * The server, in this order. 0: go on; 1: the delivery is dealt with, *n->result says how; -1 on error.
 * Whoever had faults first shows that it answers at all.
 */
int attempt_pulse(struct sending *n, struct err *e);
/* dojo_clock_s(), of an answer of this moment. */
int attempt_ask_clock(struct sending *n, int64_t *ret_now_s, struct err *e);
/* What was sent before: did it land? */
int attempt_ask_first(struct sending *n, struct err *e);
/* Sends; what came of it is on disk before anybody hears of it. 0, or -1 on error. */
int attempt_send(struct sending *n, struct err *e);
