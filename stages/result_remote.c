#include "stages/result_remote.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/result_entry.h"
#include "stages/seal.h"

#define KIND "result"
#define NAME_PREFIX "tidewaiter:result:"
#define SEALED_MAX (RESULT_REMOTE_MAX + SEAL_LEN)
/* Of the process outside: shorter than what the scanner waits, so that its answer comes first. */
#define REDIS_WAIT_MS 1500

enum op { OP_GET = 1, OP_PUT = 2 };

struct request {
	uint32_t op;
	char key[RESULT_KEY_LEN];
	uint64_t len; /* bytes that follow, of OP_PUT */
};

struct reply {
	uint32_t is_there;
	uint64_t len;
};

/* ---- messages ---- */

static bool
read_into(int fd, struct buf *b, uint64_t len, int64_t deadline)
{
	AUTO_FREE char *p = mem_alloc((size_t)len + 1);

	if (!fs_receive_all(fd, p, (size_t)len, deadline))
		return false;
	buf_add(b, p, (size_t)len);
	return !b->is_full;
}

/* ---- the scanner's side ---- */

void
result_remote_init(struct result_remote *r, int fd)
{
	r->fd = fd;
	pthread_mutex_init(&r->lock, NULL);
}

void
result_remote_close(struct result_remote *r)
{
	mem_close_at(&r->fd);
	pthread_mutex_destroy(&r->lock);
}

static bool
exchange(int fd, enum op op, const char *key, const struct buf *out, struct buf *in)
{
	int64_t deadline = clock_deadline(RESULT_REMOTE_WAIT_MS);
	struct request q = { .op = op, .len = out ? out->len : 0 };
	struct reply a = { 0 };

	memcpy(q.key, key, sizeof(q.key));
	if (!fs_send_all(fd, &q, sizeof(q), deadline) ||
	    (out && !fs_send_all(fd, out->data, out->len, deadline)) ||
	    !fs_receive_all(fd, &a, sizeof(a), deadline) || a.len > RESULT_REMOTE_MAX)
		return false;
	return a.len == 0 || (in && read_into(fd, in, a.len, deadline));
}

static bool
exchange_once(struct result_remote *r, enum op op, const char *key, const struct buf *out, struct buf *in)
{
	bool is_good;

	pthread_mutex_lock(&r->lock);
	is_good = r->fd >= 0 && exchange(r->fd, op, key, out, in);
	/* a late answer would be taken for the next one's */
	if (!is_good)
		mem_close_at(&r->fd);
	pthread_mutex_unlock(&r->lock);
	return is_good;
}

bool
result_remote_get(struct result_remote *r, const char *key, struct buf *json)
{
	AUTO_BUF struct buf entry = BUF_INIT(RESULT_REMOTE_MAX);

	return exchange_once(r, OP_GET, key, NULL, &entry) && entry.len > 0 &&
	       result_unpack(key, entry.data, entry.len, json);
}

void
result_remote_put(struct result_remote *r, const char *key, const char *json, size_t len)
{
	AUTO_BUF struct buf entry = BUF_INIT(RESULT_REMOTE_MAX);

	result_pack(key, json, len, &entry);
	if (!entry.is_full)
		exchange_once(r, OP_PUT, key, &entry, NULL);
}

/* ---- the other side ---- */

struct server {
	int fd;
	const struct result_remote_settings *s;
	struct redis *redis; /* NULL: not connected */
	bool is_off;	     /* it has failed once */
};

/* One that does not serve is not asked again: it may cost its delay once. */
static void
give_up(struct server *v, const struct err *e)
{
	AUTO_FREE char *safe = str_safe(e->text, 300);

	v->is_off = true;
	redis_free(take_ptr(v->redis));
	log_line(v->s->log, LOG_WARN,
		 "results in Redis (trivy.results_redis) are not used in this inspection: %s", safe);
}

static bool
is_connected(struct server *v, int64_t deadline)
{
	struct err e = ERR_INIT;

	if (v->is_off || v->redis)
		return !v->is_off;
	if (redis_open(&v->s->redis, deadline, &v->redis, &e) < 0)
		give_up(v, &e);
	return !v->is_off;
}

static bool
serve_get(struct server *v, const char *key)
{
	AUTO_BUF struct buf sealed = BUF_INIT(SEALED_MAX);
	AUTO_FREE char *name = mem_printf(NAME_PREFIX "%s", key);
	int64_t deadline = clock_deadline(REDIS_WAIT_MS);
	struct reply a = { 0 };
	const char *entry = NULL;
	struct err e = ERR_INIT;
	size_t len = 0;
	int rc = 0;

	if (is_connected(v, deadline) && (rc = redis_get(v->redis, name, deadline, &sealed, &e)) < 0)
		give_up(v, &e);
	if (rc == 1 && seal_open(v->s->mac_key, KIND, key, sealed.data, sealed.len, &entry, &len)) {
		a.is_there = 1;
		a.len = len;
	} else if (rc == 1) {
		log_line(v->s->log, LOG_WARN,
			 "a result in Redis is not of our key (trivy.results_key_file): not used");
	}
	return fs_send_all(v->fd, &a, sizeof(a), clock_deadline(RESULT_REMOTE_WAIT_MS)) &&
	       fs_send_all(v->fd, entry, len, clock_deadline(RESULT_REMOTE_WAIT_MS));
}

static bool
serve_put(struct server *v, const char *key, uint64_t n)
{
	AUTO_BUF struct buf entry = BUF_INIT(RESULT_REMOTE_MAX);
	AUTO_BUF struct buf sealed = BUF_INIT(SEALED_MAX);
	AUTO_FREE char *name = mem_printf(NAME_PREFIX "%s", key);
	struct reply a = { 0 };
	struct err e = ERR_INIT;
	int64_t deadline;

	if (n > RESULT_REMOTE_MAX || !read_into(v->fd, &entry, n, clock_deadline(RESULT_REMOTE_WAIT_MS)))
		return false;
	deadline = clock_deadline(REDIS_WAIT_MS);
	seal_add(v->s->mac_key, KIND, key, buf_str(&entry), entry.len, &sealed);
	if (is_connected(v, deadline) &&
	    redis_set(v->redis, name, sealed.data, sealed.len, v->s->ttl_s, deadline, &e) < 0)
		give_up(v, &e);
	return fs_send_all(v->fd, &a, sizeof(a), clock_deadline(RESULT_REMOTE_WAIT_MS));
}

void
result_remote_serve(int fd, const struct result_remote_settings *s)
{
	struct server v = { .fd = fd, .s = s };
	struct request q;
	char key[RESULT_KEY_LEN + 1];

	/* the scanner parses hostile bytes: it may ask for anything */
	while (fs_receive_all(fd, &q, sizeof(q), CLOCK_DEADLINE_NEVER)) {
		bool is_good = str_is_hex(q.key, sizeof(q.key));

		snprintf(key, sizeof(key), "%.*s", RESULT_KEY_LEN, q.key);
		if (is_good && q.op == OP_GET && q.len == 0)
			is_good = serve_get(&v, key);
		else
			is_good = is_good && q.op == OP_PUT && serve_put(&v, key, q.len);
		if (!is_good)
			break;
	}
	redis_free(v.redis);
}
