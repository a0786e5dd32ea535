/*
 * A server on loopback for unit tests: each connection gets the next canned reply and is closed. What arrived is kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum canned_manner {
	CANNED_ANSWER,	     /* read the whole request, write the reply, close */
	CANNED_HANG,	     /* read the whole request, stay silent until canned_stop() */
	CANNED_RESET_EARLY,  /* read at most 64 KiB, reset the connection */
	CANNED_ANSWER_BLIND, /* write the reply, whatever arrives */
	CANNED_ANSWER_EARLY, /* write the reply after the request's head, then read and close */
};

struct canned_reply {
	enum canned_manner manner;
	const char *text; /* everything: status line, headers, body */
};

struct canned;

struct canned *canned_start(const struct canned_reply *replies, size_t n); /* copies them */
void canned_stop(struct canned *c);
const char *canned_url(const struct canned *c);		    /* "http://127.0.0.1:PORT" */
size_t canned_count(struct canned *c);			    /* requests so far */
const char *canned_request(struct canned *c, size_t index); /* NULL when it did not arrive; NUL-terminated */
/* "HTTP/1.1 <status>" with a JSON body; owned by the caller. */
char *canned_json(const char *status, const char *body);
