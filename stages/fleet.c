#include "stages/fleet.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/redis.h"
#include "base/str.h"
#include "stages/result_entry.h"

#define ENTRY "tidewaiter:%s:%s"
#define TURN "tidewaiter:turn:%s"
#define KIND_NEWEST "newest"
#define NEWEST "tidewaiter:newest:%s"
#define PROBE "tidewaiter:probe"
#define TEXTS_WAIT_MS 10000
#define TURN_ASK_MS 1500
#define TURN_WAIT_MS 1000
#define TURN_STEP_MS 100
/* A turn that lasts longer is none of ours: defectdojo.timeout is a day at most. */
#define TURN_MAX_MS ((int64_t)48 * 3600 * 1000)
#define INFO_MAX (64 * 1024)
#define HOST_SHOWN 64
#define SEALED_MAX (FLEET_ENTRY_MAX + SEAL_LEN)

/* Each decides by what stands there at that moment, so that nothing another host did in between is lost. */
static const char take_script[] =
	"local v = redis.call('GET', KEYS[1]) "
	"if v and v ~= ARGV[1] then "
	/* 0 in its last millisecond, which is another's still */
	"local left = redis.call('PTTL', KEYS[1]) return left == 0 and 1 or left end "
	"redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 0";
static const char give_script[] = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) "
				  "end return 0";
/* A seal stands for all that it seals. */
static const char write_script[] = "if redis.call('GETRANGE', KEYS[1], 0, 88) ~= ARGV[1] then return 0 end "
				   "redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) return 1";
_Static_assert(SEAL_LEN == 89, "as in the script");
static const char note_script[] = "redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) return 1";
static const char probe_script[] = "return redis.call('EXISTS', KEYS[1])";

struct fleet {
	const char *setting, *key_setting, *auth_setting; /* for people */
	const char *key_file, *auth_file;
	struct redis_settings to;
	const struct log *log;
	char *mac_key, *auth;
	struct redis *redis; /* NULL: not connected */
	int64_t off_until;   /* monotonic deadline; 0: it may be asked */
	struct err fault;    /* why not */
	bool was_said;
	char host[HOST_SHOWN];
};

struct fleet *
fleet_new(const struct options *opt, const struct log *log)
{
	const struct options_defectdojo *d = &opt->defectdojo;
	const struct options_trivy *t = &opt->trivy;
	bool is_own = !str_is_empty(d->redis);
	struct fleet *f;

	if (!is_own && str_is_empty(t->results_redis))
		return NULL;
	f = mem_alloc(sizeof(*f));
	*f = (struct fleet){ .setting = is_own ? "defectdojo.redis" : "trivy.results_redis",
			     .key_setting = is_own ? "defectdojo.redis_key_file" : "trivy.results_key_file",
			     .auth_setting = is_own ? "defectdojo.redis_auth_file" : "trivy.results_auth_file",
			     .key_file = is_own ? d->redis_key_file : t->results_key_file,
			     .auth_file = is_own ? d->redis_auth_file : t->results_auth_file,
			     .to = { .url = is_own ? d->redis : t->results_redis,
				     .ca_file = is_own ? d->redis_ca_file : t->results_ca_file },
			     .log = log };
	if (gethostname(f->host, sizeof(f->host) - 1) < 0 || !*f->host)
		snprintf(f->host, sizeof(f->host), "a host");
	return f;
}

static void
forget_secret(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	mem_free_at(s);
}

void
fleet_free(struct fleet *f)
{
	if (!f)
		return;
	redis_free(f->redis);
	forget_secret(&f->mac_key);
	forget_secret(&f->auth);
	mem_free_at(&f);
}

void
fleet_place_of(struct fleet *f, const char *server, const struct delivery *d, struct fleet_place *ret)
{
	AUTO_FREE char *base = mem_strdup(server ? server : "");

	while (*base && base[strlen(base) - 1] == '/')
		base[strlen(base) - 1] = '\0';
	*ret = (struct fleet_place){ .fleet = f, .kind = "texts" };
	kept_name((const char *const[]){ base, d->product, d->engagement, d->test }, 4, ret->name);
	kept_name((const char *const[]){ base, d->product, d->engagement, d->test, d->service }, 5,
		  ret->newest);
}

void
fleet_place_of_fixes(struct fleet *f, struct fleet_place *ret)
{
	*ret = (struct fleet_place){ .fleet = f, .kind = "fixes" };
	kept_name((const char *const[]){ "fixes" }, 1, ret->name);
}

/* ---- asking ---- */

static int
read_files(struct fleet *f, struct err *e)
{
	if (f->mac_key)
		return 0;
	if (!str_is_empty(f->auth_file) && !f->auth && fs_read_secret(f->auth_file, &f->auth, e) < 0)
		return err_wrap(e, "%s", f->auth_setting);
	if (str_is_empty(f->key_file))
		return err_set(e, ERR_SETTINGS, "%s is not set", f->key_setting);
	if (fs_read_secret(f->key_file, &f->mac_key, e) < 0)
		return err_wrap(e, "%s", f->key_setting);
	if (strlen(f->mac_key) >= SEAL_KEY_MIN)
		return 0;
	forget_secret(&f->mac_key);
	return err_set(e, ERR_SETTINGS, "%s must hold at least %d characters", f->key_setting, SEAL_KEY_MIN);
}

/* A script with what it is asked, or without a script a look at the key. */
struct question {
	const char *script, *key;
	struct redis_arg args[REDIS_ARGS_MAX];
	size_t n_args;
	int64_t number;	   /* what the script says */
	struct buf *value; /* of the key */
	int rc;		   /* 1 the key is there */
};

static int
ask_once(struct fleet *f, struct question *q, int64_t deadline, struct err *e)
{
	if (read_files(f, e) < 0)
		return -1;
	f->to.auth = f->auth;
	if (!f->redis && redis_open(&f->to, deadline, &f->redis, e) < 0)
		return -1;
	q->rc = q->script
			? redis_eval(f->redis, q->script, q->key, q->args, q->n_args, deadline, &q->number, e)
			: redis_get(f->redis, q->key, deadline, q->value, e);
	if (q->rc < 0)
		redis_free(take_ptr(f->redis));
	return q->rc;
}

/* All we ask may be asked twice: it says what is to stand there instead of what. */
static int
ask(struct fleet *f, struct question *q, int64_t deadline, struct err *e)
{
	bool was_connected = f->redis;
	int rc;

	if (f->off_until != 0 && clock_left_ms(f->off_until) > 0) {
		if (e)
			*e = f->fault;
		return -1;
	}
	f->off_until = 0;
	err_clear(&f->fault);
	rc = ask_once(f, q, deadline, &f->fault);
	/* one that nobody used for a while may have been closed */
	if (rc < 0 && was_connected && clock_left_ms(deadline) > 0) {
		err_clear(&f->fault);
		rc = ask_once(f, q, deadline, &f->fault);
	}
	if (rc >= 0) {
		f->was_said = false;
		return 0;
	}
	err_wrap(&f->fault, "the Redis of the hosts (%s)", f->setting);
	f->fault.no = EHOSTDOWN;
	f->off_until = clock_deadline(FLEET_PAUSE_MS);
	if (e)
		*e = f->fault;
	return -1;
}

static int64_t
sooner(int64_t deadline, int64_t wait_ms)
{
	int64_t own = clock_deadline(wait_ms);

	return own < deadline ? own : deadline;
}

/* ---- entries ---- */

int
fleet_read(struct fleet_place *p, int64_t deadline, struct buf *json, struct err *e)
{
	AUTO_BUF struct buf sealed = BUF_INIT(SEALED_MAX);
	AUTO_FREE char *key = mem_printf(ENTRY, p->kind, p->name);
	struct question q = { .key = key, .value = &sealed };
	const char *entry;
	size_t len;

	*p->seen = '\0';
	if (ask(p->fleet, &q, sooner(deadline, TEXTS_WAIT_MS), e) < 0)
		return -1;
	if (q.rc == 0)
		return 0;
	if (!seal_open(p->fleet->mac_key, p->kind, p->name, buf_str(&sealed), sealed.len, &entry, &len))
		return err_set(e, ERR_REFUSED, "%s in the Redis of the hosts is not of our key (%s)", key,
			       p->fleet->key_setting);
	if (!result_unpack(p->name, entry, len, json))
		return err_set(e, ERR_REFUSED, "%s in the Redis of the hosts cannot be unpacked", key);
	memcpy(p->seen, sealed.data, SEAL_LEN);
	p->seen[SEAL_LEN] = '\0';
	return 1;
}

int
fleet_write(struct fleet_place *p, int64_t deadline, const char *json, size_t len, struct err *e)
{
	AUTO_FREE char *ttl = mem_printf("%d", FLEET_KEEP_S);
	AUTO_BUF struct buf entry = BUF_INIT(FLEET_ENTRY_MAX);
	AUTO_BUF struct buf sealed = BUF_INIT(SEALED_MAX);
	AUTO_FREE char *key = mem_printf(ENTRY, p->kind, p->name);
	struct question q = { .script = write_script, .key = key, .n_args = 3 };

	result_pack(p->name, json, len, &entry);
	if (entry.is_full)
		return err_set(e, ERR_NO_SPACE, "what is kept of this (%s) is larger than %zu bytes, packed",
			       p->kind, FLEET_ENTRY_MAX);
	if (read_files(p->fleet, e) < 0)
		return -1;
	seal_add(p->fleet->mac_key, p->kind, p->name, entry.data, entry.len, &sealed);
	q.args[0] = (struct redis_arg){ p->seen, strlen(p->seen) };
	q.args[1] = (struct redis_arg){ sealed.data, sealed.len };
	q.args[2] = (struct redis_arg){ ttl, strlen(ttl) };
	if (ask(p->fleet, &q, sooner(deadline, TEXTS_WAIT_MS), e) < 0)
		return -1;
	if (q.number != 1)
		return 0;
	memcpy(p->seen, sealed.data, SEAL_LEN);
	p->seen[SEAL_LEN] = '\0';
	return 1;
}

/* ---- turns ---- */

static void
say_unknown(struct fleet *f, const struct err *e)
{
	AUTO_FREE char *safe = str_safe(e->text, 300);

	if (!f->was_said && f->log)
		log_line(f->log, LOG_WARN, "DefectDojo: hosts do not wait for each other at a test: %s", safe);
	f->was_said = true;
}

/* 1 ours, 0 another's, -1. */
static int
ask_turn(const struct fleet_place *p, const char *key, const char *owner, const char *hold_ms,
	 int64_t deadline, struct err *e)
{
	struct question q = { .script = take_script,
			      .key = key,
			      .args = { { owner, strlen(owner) }, { hold_ms, strlen(hold_ms) } },
			      .n_args = 2 };

	if (ask(p->fleet, &q, sooner(deadline, TURN_ASK_MS), e) < 0)
		return -1;
	if (q.number < 0 || q.number > TURN_MAX_MS)
		return err_set(e, ERR_REFUSED, "%s has no end that is ours: it does not count", key);
	return q.number == 0;
}

static char *
holder_of(const struct fleet_place *p, const char *key, int64_t deadline)
{
	AUTO_BUF struct buf value = BUF_INIT(1024);
	struct question q = { .key = key, .value = &value };

	if (ask(p->fleet, &q, sooner(deadline, TURN_ASK_MS), NULL) < 0 || q.rc != 1)
		return mem_strdup("another host");
	buf_add(&value, " ", 1);
	value.data[strcspn(value.data, " ")] = '\0';
	return str_safe(value.data, HOST_SHOWN);
}

enum fleet_turn
fleet_take_turn(const struct fleet_place *p, const char *delivery_id, int64_t hold_s, int64_t deadline,
		char **ret_holder)
{
	AUTO_FREE char *key = mem_printf(TURN, p->name);
	AUTO_FREE char *owner = mem_printf("%s %s", p->fleet->host, delivery_id);
	AUTO_FREE char *hold_ms = mem_printf("%lld", (long long)hold_s * 1000);
	int64_t until = sooner(deadline, TURN_WAIT_MS);

	for (;;) {
		struct err e = ERR_INIT;
		int rc = ask_turn(p, key, owner, hold_ms, deadline, &e);

		if (rc > 0)
			return FLEET_OURS;
		if (rc < 0) {
			say_unknown(p->fleet, &e);
			return FLEET_UNKNOWN;
		}
		if (clock_left_ms(until) <= TURN_STEP_MS)
			break;
		poll(NULL, 0, TURN_STEP_MS);
	}
	*ret_holder = holder_of(p, key, deadline);
	return FLEET_TAKEN;
}

/* Should it not come to pass it ends by itself. */
void
fleet_give_turn(const struct fleet_place *p, const char *delivery_id)
{
	AUTO_FREE char *key = mem_printf(TURN, p->name);
	AUTO_FREE char *owner = mem_printf("%s %s", p->fleet->host, delivery_id);
	struct question q = {
		.script = give_script, .key = key, .args = { { owner, strlen(owner) } }, .n_args = 1
	};

	(void)!ask(p->fleet, &q, clock_deadline(TURN_ASK_MS), NULL);
}

/* ---- order ---- */

int64_t
fleet_newest(const struct fleet_place *p, int64_t deadline)
{
	AUTO_BUF struct buf sealed = BUF_INIT(1024);
	AUTO_FREE char *key = mem_printf(NEWEST, p->newest);
	AUTO_FREE char *text = NULL;
	struct question q = { .key = key, .value = &sealed };
	const char *entry;
	int64_t newest_s;
	size_t len;

	/* one that is not ours tells of nothing */
	if (ask(p->fleet, &q, sooner(deadline, TURN_ASK_MS), NULL) < 0 || q.rc == 0 ||
	    !seal_open(p->fleet->mac_key, KIND_NEWEST, p->newest, buf_str(&sealed), sealed.len, &entry, &len))
		return 0;
	text = mem_strndup(entry, len);
	return str_parse_int(text, 0, INT64_MAX, &newest_s, NULL) < 0 ? 0 : newest_s;
}

void
fleet_note_delivered(const struct fleet_place *p, int64_t made_s, int64_t now_s)
{
	AUTO_BUF struct buf sealed = BUF_INIT(1024);
	AUTO_FREE char *key = mem_printf(NEWEST, p->newest);
	AUTO_FREE char *ttl = mem_printf("%d", FLEET_KEEP_S);
	AUTO_FREE char *text = mem_printf("%lld", (long long)made_s);
	int64_t deadline = clock_deadline(TURN_ASK_MS), newest_s = fleet_newest(p, deadline);
	struct question q = { .script = note_script, .key = key, .n_args = 2 };

	if ((made_s <= newest_s && newest_s <= now_s + FLEET_AHEAD_MAX_S) || read_files(p->fleet, NULL) < 0)
		return;
	seal_add(p->fleet->mac_key, KIND_NEWEST, p->newest, text, strlen(text), &sealed);
	q.args[0] = (struct redis_arg){ sealed.data, sealed.len };
	q.args[1] = (struct redis_arg){ ttl, strlen(ttl) };
	(void)!ask(p->fleet, &q, deadline, NULL);
}

/* ---- how it is ---- */

/* The value of "name:value" in lines, as far as it fits. */
static bool
info_value(const char *info, const char *name, char *ret, size_t size)
{
	size_t len = strlen(name);

	for (const char *p = info; *p; p += strspn(p, "\r\n")) {
		size_t n = strcspn(p, "\r\n");

		if (n > len && strncmp(p, name, len) == 0 && p[len] == ':') {
			snprintf(ret, size, "%.*s", (int)(n - len - 1), p + len + 1);
			return true;
		}
		p += n;
	}
	return false;
}

static void
look_at_keeping(struct redis *r, int64_t deadline, struct fleet_health *ret)
{
	AUTO_BUF struct buf info = BUF_INIT(INFO_MAX);
	AUTO_BUF struct buf more = BUF_INIT(INFO_MAX);
	char limit[32], journal[8];

	if (redis_info(r, "memory", deadline, &info, NULL) < 0 ||
	    redis_info(r, "persistence", deadline, &more, NULL) < 0)
		return;
	ret->is_known = info_value(buf_str(&info), "maxmemory", limit, sizeof(limit)) &&
			info_value(buf_str(&info), "maxmemory_policy", ret->policy, sizeof(ret->policy)) &&
			info_value(buf_str(&more), "aof_enabled", journal, sizeof(journal));
	ret->has_limit = ret->is_known && !str_eq(limit, "0");
	ret->has_journal = ret->is_known && str_eq(journal, "1");
}

int
fleet_look(struct fleet *f, int64_t deadline, struct fleet_health *ret, struct err *e)
{
	AUTO_BUF struct buf value = BUF_INIT(1024);
	struct question get = { .key = PROBE, .value = &value };
	struct question eval = { .script = probe_script, .key = PROBE };

	*ret = (struct fleet_health){ .setting = f->setting, .url = f->to.url };
	if (ask(f, &get, deadline, e) < 0 || ask(f, &eval, deadline, e) < 0)
		return -1;
	look_at_keeping(f->redis, deadline, ret);
	/* whoever may not ask that has been told so */
	redis_free(take_ptr(f->redis));
	return 0;
}

bool
fleet_may_evict(const struct fleet_health *h)
{
	return h->is_known && h->has_limit && !str_eq(h->policy, "noeviction") &&
	       !str_eq(h->policy, "volatile-ttl");
}
