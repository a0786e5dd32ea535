/*
 * As much of Redis as we need: GET, SET with a time to live, EVAL of a script that answers with a number, and INFO, over one
 * connection (RESP 2, written and read by hiredis; https://redis.io/docs/latest/develop/reference/protocol-spec/). Whatever answers may lie: replies are bounded, and every
 * call has a deadline. After an error the connection is of no use any more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct redis;

struct redis_settings {
	const char *url;     /* redis://host[:port][/database] or rediss:// */
	const char *auth;    /* "password" or "user:password", NULL: none; it appears in no message */
	const char *ca_file; /* for rediss://; NULL or "": the system's authorities */
};

bool redis_is_url(const char *url);

int redis_open(const struct redis_settings *s, int64_t deadline, struct redis **ret, struct err *e);
void redis_free(struct redis *r);
MEM_AUTO_DECLARE(redis)

/* 1 with the value in *ret, 0 when it is not there, -1. A value larger than ret->max is an error. */
int redis_get(struct redis *r, const char *key, int64_t deadline, struct buf *ret, struct err *e);
int redis_set(struct redis *r, const char *key, const void *p, size_t n, int64_t ttl_s, int64_t deadline,
	      struct err *e);

struct redis_arg {
	const void *p;
	size_t len;
};

/* Runs a Lua script, atomically, on one key (KEYS[1]) with at most REDIS_ARGS_MAX arguments (ARGV); it returns an integer. */
#define REDIS_ARGS_MAX 4
int redis_eval(struct redis *r, const char *script, const char *key, const struct redis_arg *args, size_t n,
	       int64_t deadline, int64_t *ret, struct err *e);

/* A section of what it says of itself, in lines of "name:value". Many may not ask. */
int redis_info(struct redis *r, const char *section, int64_t deadline, struct buf *ret, struct err *e);
