#include "base/redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/wire.h"

#define PORT "6379"
#define DATABASE_MAX 100000
#define BLOCK (64 * 1024)
#define REPLY_EXTRA 64 /* bytes around a value */
#define ERROR_SHOWN 120

struct redis {
	struct wire *wire;
	redisReader *reader;
};

struct place {
	char host[256], port[8];
	int64_t database;
	bool has_tls;
};

static bool
copy(char *to, size_t size, const char *from, size_t len)
{
	if (len == 0 || len >= size)
		return false;
	memcpy(to, from, len);
	to[len] = '\0';
	return true;
}

static bool
parse_url(const char *url, struct place *ret)
{
	const char *p, *host, *end;
	int64_t port;

	*ret = (struct place){ .has_tls = str_has_prefix(url, "rediss://") };
	if (!ret->has_tls && !str_has_prefix(url, "redis://"))
		return false;
	p = strstr(url, "://") + 3;
	/* user and password belong into a file */
	if (strpbrk(p, "@?# "))
		return false;
	if (*p == '[') {
		host = p + 1;
		end = strchr(host, ']');
		if (!end)
			return false;
		p = end + 1;
	} else {
		host = p;
		p = end = p + strcspn(p, ":/");
	}
	if (!copy(ret->host, sizeof(ret->host), host, (size_t)(end - host)))
		return false;
	snprintf(ret->port, sizeof(ret->port), "%s", PORT);
	if (*p == ':') {
		size_t len = strcspn(++p, "/");

		if (!copy(ret->port, sizeof(ret->port), p, len) ||
		    str_parse_int(ret->port, 1, 65535, &port, NULL) < 0)
			return false;
		p += len;
	}
	if (*p == '/' && p[1])
		return str_parse_int(p + 1, 0, DATABASE_MAX, &ret->database, NULL) == 0;
	return *p == '\0' || p[1] == '\0';
}

bool
redis_is_url(const char *url)
{
	struct place p;

	return parse_url(url, &p);
}

void
redis_free(struct redis *r)
{
	if (!r)
		return;
	if (r->reader)
		redisReaderFree(r->reader);
	wire_free(r->wire);
	mem_free_at(&r);
}

/* One reply of at most `max` bytes; lists are none of what we asked for. The caller frees it. */
static int
read_reply(struct redis *r, size_t max, int64_t deadline, redisReply **ret, struct err *e)
{
	AUTO_FREE char *block = mem_alloc(BLOCK);
	size_t total = 0;
	void *reply = NULL;

	while (!reply) {
		ssize_t n = wire_read(r->wire, block, BLOCK, deadline, e);

		if (n < 0)
			return -1;
		if (total == 0 && !strchr("+-:$", block[0]))
			return err_set(e, ERR_FAILED, "no Redis, or one that we do not understand");
		total += (size_t)n;
		if (total > max + REPLY_EXTRA)
			return err_set(e, ERR_FAILED, "its answer is too long");
		if (redisReaderFeed(r->reader, block, (size_t)n) != REDIS_OK ||
		    redisReaderGetReply(r->reader, &reply) != REDIS_OK)
			return err_set(e, ERR_FAILED, "no Redis, or one that we do not understand");
	}
	/* more than one answer to one question would be taken for the next one's */
	if (r->reader->pos != r->reader->len) {
		freeReplyObject(reply);
		return err_set(e, ERR_FAILED, "it answers what was not asked");
	}
	*ret = reply;
	return 0;
}

static int
ask(struct redis *r, int argc, const char **argv, const size_t *lens, size_t max, int64_t deadline,
    redisReply **ret, struct err *e)
{
	char *command = NULL;
	int len = redisFormatCommandArgv(&command, argc, argv, lens);
	redisReply *reply = NULL;
	int rc;

	if (len < 0)
		return err_set(e, ERR_FAILED, "Redis: out of memory");
	rc = wire_write(r->wire, command, (size_t)len, deadline, e);
	explicit_bzero(command, (size_t)len); /* it may hold a password */
	redisFreeCommand(command);
	if (rc < 0 || read_reply(r, max, deadline, &reply, e) < 0)
		return -1;
	if (reply->type == REDIS_REPLY_ERROR) {
		AUTO_FREE char *safe = str_safe(reply->str, ERROR_SHOWN);

		freeReplyObject(reply);
		return err_set(e, ERR_FAILED, "it says: %s", safe);
	}
	*ret = reply;
	return 0;
}

/* Whatever it says but an error. */
static int
tell(struct redis *r, int argc, const char **argv, const size_t *lens, int64_t deadline, struct err *e)
{
	redisReply *reply;

	if (ask(r, argc, argv, lens, 1024, deadline, &reply, e) < 0)
		return -1;
	freeReplyObject(reply);
	return 0;
}

static int
authenticate(struct redis *r, const char *auth, int64_t deadline, struct err *e)
{
	const char *colon = auth ? strchr(auth, ':') : NULL;
	AUTO_FREE char *user = colon ? mem_strndup(auth, (size_t)(colon - auth)) : NULL;
	const char *argv[] = { "AUTH", colon ? user : auth, colon ? colon + 1 : NULL };

	if (str_is_empty(auth))
		return 0;
	return tell(r, colon ? 3 : 2, argv, NULL, deadline, e);
}

int
redis_open(const struct redis_settings *s, int64_t deadline, struct redis **ret, struct err *e)
{
	AUTO(redis) struct redis *r = mem_alloc(sizeof(*r));
	struct place p;
	struct wire_settings w = { .host = p.host, .port = p.port, .ca_file = s->ca_file };
	char database[32];
	const char *argv[] = { "SELECT", database };

	if (!parse_url(s->url, &p))
		return err_set(e, ERR_SETTINGS,
			       "the URL is refused: expected redis[s]://host[:port][/database]");
	w.has_tls = p.has_tls;
	r->reader = redisReaderCreate();
	if (!r->reader)
		return err_set(e, ERR_FAILED, "Redis: out of memory");
	if (wire_open(&w, deadline, &r->wire, e) < 0 || authenticate(r, s->auth, deadline, e) < 0)
		return -1;
	snprintf(database, sizeof(database), "%jd", (intmax_t)p.database);
	if (p.database > 0 && tell(r, 2, argv, NULL, deadline, e) < 0)
		return -1;
	*ret = take_ptr(r);
	return 0;
}

/* 1 with it in *ret, 0 when there is none. */
static int
ask_value(struct redis *r, const char *command, const char *of, int64_t deadline, struct buf *ret,
	  struct err *e)
{
	const char *argv[] = { command, of };
	redisReply *reply;
	int rc = -1;

	if (ask(r, 2, argv, NULL, ret->max, deadline, &reply, e) < 0)
		return -1;
	if (reply->type == REDIS_REPLY_NIL) {
		rc = 0;
	} else if (reply->type == REDIS_REPLY_STRING && reply->len <= ret->max) {
		buf_reset(ret);
		buf_add(ret, reply->str, reply->len);
		rc = 1;
	} else {
		err_set(e, ERR_FAILED, "its answer is no value");
	}
	freeReplyObject(reply);
	return rc;
}

int
redis_get(struct redis *r, const char *key, int64_t deadline, struct buf *ret, struct err *e)
{
	return ask_value(r, "GET", key, deadline, ret, e);
}

int
redis_info(struct redis *r, const char *section, int64_t deadline, struct buf *ret, struct err *e)
{
	return ask_value(r, "INFO", section, deadline, ret, e) < 0 ? -1 : 0;
}

int
redis_set(struct redis *r, const char *key, const void *p, size_t n, int64_t ttl_s, int64_t deadline,
	  struct err *e)
{
	char ttl[32];
	const char *argv[] = { "SET", key, p, "EX", ttl };
	size_t lens[] = { 3, strlen(key), n, 2, 0 };

	snprintf(ttl, sizeof(ttl), "%jd", (intmax_t)ttl_s);
	lens[4] = strlen(ttl);
	return tell(r, 5, argv, lens, deadline, e);
}

int
redis_eval(struct redis *r, const char *script, const char *key, const struct redis_arg *args, size_t n,
	   int64_t deadline, int64_t *ret, struct err *e)
{
	const char *argv[4 + REDIS_ARGS_MAX] = { "EVAL", script, "1", key };
	size_t lens[4 + REDIS_ARGS_MAX] = { 4, strlen(script), 1, strlen(key) };
	redisReply *reply;
	int rc = 0;

	if (n > REDIS_ARGS_MAX)
		abort();
	for (size_t k = 0; k < n; k++) {
		argv[4 + k] = args[k].p;
		lens[4 + k] = args[k].len;
	}
	if (ask(r, 4 + (int)n, argv, lens, 64, deadline, &reply, e) < 0)
		return -1;
	if (reply->type == REDIS_REPLY_INTEGER)
		*ret = reply->integer;
	else
		rc = err_set(e, ERR_FAILED, "its answer is no number");
	freeReplyObject(reply);
	return rc;
}
