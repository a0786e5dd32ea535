#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/spool.h"

#define BACKOFF_MAX_S 3600
#define STATE_MAX 8192 /* bytes */
/* After so long those that wait for one that tries look again. */
#define TRIAL_S 60
/* A time that no backoff and no Retry-After gives comes from a clock that was wrong. */
#define UNTIL_MAX_S (7 * 3600)

int64_t
spool_backoff_s(int64_t base_s, int64_t faults)
{
	int64_t s = base_s;
	uint32_t dice = 0;

	for (int64_t i = 1; i < faults && s < BACKOFF_MAX_S; i++)
		s *= 2;
	if (s > BACKOFF_MAX_S)
		s = BACKOFF_MAX_S;
	if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != (ssize_t)sizeof(dice))
		dice = (uint32_t)getpid();
	return s - (int64_t)(dice % (uint32_t)(s / 5 + 1));
}

void
spool_breaker_look(const struct spool *s, const char *key, struct spool_breaker *ret)
{
	AUTO_JSON cJSON *j = NULL;
	const char *reason;
	int64_t now = clock_wall_s();

	*ret = (struct spool_breaker){ 0 };
	if (json_load(s->server_fd, key, STATE_MAX, 0, &j, NULL) < 0)
		return;
	reason = json_str(j, "reason");
	ret->faults = json_int(j, "faults", 0);
	ret->until_s = json_int(j, "until_s", 0);
	ret->opened_s = json_int(j, "opened_s", 0);
	snprintf(ret->reason, sizeof(ret->reason), "%s", reason ? reason : "");
	ret->is_open = ret->until_s > now && ret->until_s <= now + UNTIL_MAX_S;
}

static int
store(const struct spool *s, const char *key, const struct spool_breaker *b, struct err *e)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;

	json_add_int(j, "faults", b->faults);
	json_add_int(j, "until_s", b->until_s);
	json_add_int(j, "opened_s", b->opened_s);
	json_add_str(j, "reason", b->reason);
	text = json_print(j);
	/* Not durable: what a crash forgets is asked again. */
	return fs_publish(s->server_fd, key, text, strlen(text), 0600, 0, e);
}

/* -1: somebody else is at it, or it cannot be had. */
static int
lock_breaker(const struct spool *s, const char *key, int64_t wait_ms)
{
	AUTO_FREE char *name = mem_printf("%s.lock", key);

	return fs_lock(s->server_fd, name, clock_deadline(wait_ms), NULL);
}

int
spool_breaker_enter(const struct spool *s, const char *key, struct spool_breaker *ret)
{
	AUTO_FREE char *name = mem_printf("%s.trial.lock", key);
	AUTO_FD int trial = -1;
	struct err why = ERR_INIT;

	spool_breaker_look(s, key, ret);
	if (ret->is_open || ret->faults == 0)
		return -1;
	trial = fs_lock(s->server_fd, name, clock_deadline(0), &why);
	/* Another one may have tried meanwhile. */
	spool_breaker_look(s, key, ret);
	if (ret->is_open || ret->faults == 0)
		return -1;
	ret->until_s = clock_wall_s() + TRIAL_S;
	if (trial < 0 && why.kind == ERR_TIMEOUT)
		ret->is_open = true;
	else
		(void)store(s, key, ret, NULL); /* for those that only look */
	return take_fd(trial);
}

int
spool_breaker_open(const struct spool *s, const char *key, const char *reason, int64_t base_s,
		   int64_t retry_after_s, int64_t *ret_until_s, struct err *e)
{
	AUTO_FD int lock = lock_breaker(s, key, 1000);
	struct spool_breaker b;
	int64_t wait_s;

	(void)lock; /* where it cannot be had, two faults at once may count as one */
	spool_breaker_look(s, key, &b);
	if (b.faults == 0)
		b.opened_s = clock_wall_s();
	b.faults++;
	wait_s = spool_backoff_s(base_s, b.faults);
	if (retry_after_s > wait_s)
		wait_s = retry_after_s;
	b.until_s = clock_wall_s() + wait_s;
	snprintf(b.reason, sizeof(b.reason), "%s", reason);
	*ret_until_s = b.until_s;
	if (store(s, key, &b, e) < 0)
		return err_wrap(e, "spool %s", s->path);
	return 0;
}

void
spool_breaker_close(const struct spool *s, const char *key)
{
	struct stat st;

	/* The lock's file stays: whoever waits for it holds it. */
	if (fstatat(s->server_fd, key, &st, AT_SYMLINK_NOFOLLOW) == 0)
		unlinkat(s->server_fd, key, 0);
}

char *
spool_breaker_describe(const struct spool_breaker *b)
{
	int64_t wait_s = b->until_s - clock_wall_s();
	AUTO_FREE char *wait = str_human_duration((wait_s > 1 ? wait_s : 1) * 1000);

	return mem_printf("DefectDojo is not asked for %s, after %lld fault%s: %s", wait,
			  (long long)b->faults, b->faults == 1 ? "" : "s", b->reason);
}
