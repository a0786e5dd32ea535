/*
 * A queue that processes of a host stand in: at most n of them go on at once, the others follow in the order in which they
 * came. A place in it is a ticket: a file with a number, locked as long as its owner lives; whoever finds fewer than n locked
 * tickets before its own goes on. A process that dies lets go of its lock, so nothing has to be mended.
 *
 *   <dir>/lock        held while a number is drawn
 *   <dir>/<20 digits> a ticket
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

struct queue_ticket;

struct queue_wait {
	int64_t n;	    /* how many go on at once, at least 1 */
	int64_t deadline;   /* clock.h */
	const int *stop_fd; /* waiting ends with an error when it becomes readable; NULL: none */
	/* Called when we have to wait, and again when that changes: how many go on, how many wait before this one. May be NULL. */
	void (*say)(void *arg, int64_t n_going_on, int64_t n_before);
	void *arg;
};

/* Waits for its turn. ERR_TIMEOUT at the deadline. */
int queue_take(int dirfd, const struct queue_wait *w, struct queue_ticket **ret, struct err *e);
void queue_ticket_free(struct queue_ticket *t); /* the next may go on */
MEM_AUTO_DECLARE(queue_ticket)
