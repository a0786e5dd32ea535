/*
 * Results of scans that the hosts of a fleet share, in a Redis. Whoever reaches the Redis can write to it, so each entry is
 * sealed (seal.h) with a key that the runner hosts alone have.
 *
 *   tidewaiter:result:<64 hex>  →  the seal and the entry (result_entry.h)
 *
 * The scanner has no network and no key: it asks a process that has both (outside.h) over a socket pair. All messages have a head
 * of fixed size, and both sides bound what they take.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/redis.h"

#define RESULT_REMOTE_MAX ((size_t)16 << 20) /* bytes of an entry, packed */

/* ---- the scanner's side ---- */

struct result_remote {
	int fd; /* -1: none */
	pthread_mutex_t lock;
};
void result_remote_init(struct result_remote *r, int fd); /* fd is taken */
void result_remote_close(struct result_remote *r);

/*
 * False: not there, not authentic, or no answer within RESULT_REMOTE_WAIT_MS; after that it is not asked again. For any thread.
 */
#define RESULT_REMOTE_WAIT_MS 2000
bool result_remote_get(struct result_remote *r, const char *key, struct buf *json);
void result_remote_put(struct result_remote *r, const char *key, const char *json, size_t len);

/* ---- the other side ---- */

struct result_remote_settings {
	struct redis_settings redis;
	const char *mac_key; /* at least SEAL_KEY_MIN bytes */
	int64_t ttl_s;
	const struct log *log; /* a Redis that does not serve is said once */
};

/* Answers until the other end is closed. */
void result_remote_serve(int fd, const struct result_remote_settings *s);
