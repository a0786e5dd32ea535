/*
 * HTTP/1.1 (RFC 9112) to a service behind a Unix socket, by libcurl: GET only, no redirects, no proxies. Every request has a
 * deadline. Bodies are passed on as they come and looked at by nobody here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct http_local;

/* `path`: of the socket, and what the service is called in messages. Connects at the first request and stays connected. */
int http_local_new(const char *path, struct http_local **ret, struct err *e);
void http_local_free(struct http_local *h);
MEM_AUTO_DECLARE(http_local)

/* Is given the body of a 200 as it comes; false ends the request. */
struct http_local_sink {
	bool (*take)(void *arg, const void *p, size_t n);
	void *arg;
};

/*
 * GET of a path with its query. 0 when the whole body of a 200 was taken; else the error says what happened: no such
 * service (ENOENT or ECONNREFUSED in e->no), another status with the first line of what it says, a cut answer, the deadline (ERR_TIMEOUT), a sink that ended it (EPIPE in e->no).
 */
int http_local_get(struct http_local *h, const char *target, const struct http_local_sink *sink,
		   int64_t deadline, struct err *e);

/* The same into memory; a body over body->max is ERR_NO_SPACE. */
int http_local_get_text(struct http_local *h, const char *target, int64_t deadline, struct buf *body,
			struct err *e);
