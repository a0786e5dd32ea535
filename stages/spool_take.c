#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/spool.h"

#define STALE_S 3600 /* a temporary name of that age has no writer any more */
#define FORGOTTEN_S (7 * 24 * 3600)
/* Longer than many jobs take one after the other on a slow disk: who gives up here loses a report. */
#define TAKE_WAIT_MS 60000
#define USAGE_NAME "usage"
#define USAGE_MAX 4096 /* bytes */
#define USAGE_GOOD_S 60
#define BESIDE_SIZE 2048 /* bytes, at most in the main: the head of a delivery and its state */
#define TIME_DIGITS 20	 /* as in spool.c: of an id, before its key */

/* ---- ids ---- */

static void
format_time(char out[TIME_DIGITS + 1])
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	snprintf(out, TIME_DIGITS + 1, "%04u%02u%02u%02u%02u%02u%06u", (unsigned)(tm.tm_year + 1900) % 10000U,
		 (unsigned)(tm.tm_mon + 1) % 100U, (unsigned)tm.tm_mday % 100U, (unsigned)tm.tm_hour % 100U,
		 (unsigned)tm.tm_min % 100U, (unsigned)tm.tm_sec % 100U,
		 (unsigned)(now.tv_nsec / 1000) % 1000000U);
}

/* The next number after a string of digits. */
static void
increment(char *digits)
{
	for (size_t i = strlen(digits); i-- > 0;) {
		if (digits[i] != '9') {
			digits[i]++;
			return;
		}
		digits[i] = '0';
	}
}

/* ---- bounds ---- */

/* What lies beside a delivery that is gone: whoever removed it, or gave it up, died before the rest. */
static bool
is_orphan(int dirfd, const char *name)
{
	size_t len = strcspn(name, ".");
	AUTO_FREE char *id = mem_strndup(name, len);

	return spool_is_id(id) && (str_eq(name + len, ".state") || str_eq(name + len, ".answer")) &&
	       faccessat(dirfd, id, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* What the files of one directory amount to. Also removes what writers that died have left. */
static int
measure(int dirfd, size_t *ret_n, uint64_t *size, int64_t *oldest_s, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, e);
	struct dirent *entry;
	int rc = -1;

	*ret_n = 0;
	while (dir && (rc = fs_next(dir, &entry, e)) > 0) {
		const char *name = entry->d_name;
		struct stat st;

		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (st.st_mtime < clock_wall_s() - STALE_S && (name[0] == '.' || is_orphan(dirfd, name))) {
			unlinkat(dirfd, name, 0);
			continue;
		}
		*size += (uint64_t)st.st_size;
		if (!spool_is_id(name))
			continue;
		++*ret_n;
		if (*oldest_s == 0 || st.st_mtime < *oldest_s)
			*oldest_s = st.st_mtime;
	}
	return rc < 0 ? err_wrap(e, "spool") : 0;
}

/* Breakers of tokens and servers that are no more. */
static void
sweep_breakers(const struct spool *s)
{
	AUTO_DIR DIR *dir = fs_list(s->server_fd, NULL);
	struct dirent *entry;
	struct stat st;

	while (dir && fs_next(dir, &entry, NULL) > 0) {
		if (fstatat(s->server_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtime < clock_wall_s() - FORGOTTEN_S)
			unlinkat(s->server_fd, entry->d_name, 0);
	}
}

int
spool_usage(const struct spool *s, struct spool_usage *ret, struct err *e)
{
	int64_t dead_s = 0;

	*ret = (struct spool_usage){ 0 };
	if (measure(s->new_fd, &ret->n_new, &ret->size, &ret->oldest_s, e) < 0 ||
	    measure(s->dead_fd, &ret->n_dead, &ret->size, &dead_s, e) < 0)
		return -1;
	sweep_breakers(s);
	return 0;
}

void
spool_bounds_of(const struct options_defectdojo *o, struct spool_bounds *ret)
{
	*ret = (struct spool_bounds){ .count_max = o->spool_count_max,
				      .size_max = o->spool_size_max,
				      .age_max_s = o->spool_age_max / 1000,
				      .supersedes = o->supersede };
}

static int64_t
count_max(const struct spool_bounds *b)
{
	return b->count_max > 0 ? b->count_max : SPOOL_COUNT_DEFAULT;
}

static int64_t
size_max(const struct spool_bounds *b)
{
	return b->size_max > 0 ? b->size_max : SPOOL_SIZE_DEFAULT;
}

bool
spool_is_nearly_full(const struct spool_usage *u, const struct spool_bounds *b)
{
	return (int64_t)(u->n_new + u->n_dead) > count_max(b) / 2 || u->size > (uint64_t)size_max(b) / 2;
}

bool
spool_is_getting_old(const struct spool_usage *u, const struct spool_bounds *b)
{
	return b->age_max_s > 0 && u->oldest_s > 0 && clock_wall_s() - u->oldest_s > b->age_max_s / 2;
}

char *
spool_warning(const struct spool *s, const struct spool_usage *u, const struct spool_bounds *b)
{
	AUTO_FREE char *size = str_human_size(u->size), *max = str_human_size((uint64_t)size_max(b));
	AUTO_FREE char *age = str_human_duration(b->age_max_s * 1000);

	if (spool_is_nearly_full(u, b))
		return mem_printf("spool %s is more than half full: %zu wait, %zu are dead, %s; beyond %lld or %s no report is kept "
				  "(defectdojo.spool_count_max, spool_size_max)",
				  s->path, u->n_new, u->n_dead, size, (long long)count_max(b), max);
	if (spool_is_getting_old(u, b))
		return mem_printf("spool %s: %zu wait, the oldest for more than half of defectdojo.spool_age_max; after %s it is given up",
				  s->path, u->n_new, age);
	return NULL;
}

static int
check_bounds(const struct spool *s, const struct spool_usage *u, const struct spool_bounds *b, struct err *e)
{
	AUTO_FREE char *size = NULL, *max = NULL;

	if ((int64_t)(u->n_new + u->n_dead) > count_max(b))
		return err_set(e, ERR_NO_SPACE,
			       "spool %s is full: %zu deliveries (%zu of them dead), at most %lld", s->path,
			       u->n_new + u->n_dead - 1, u->n_dead, (long long)count_max(b));
	if (u->size > (uint64_t)size_max(b)) {
		size = str_human_size(u->size);
		max = str_human_size((uint64_t)size_max(b));
		return err_set(e, ERR_NO_SPACE, "spool %s is full: it would hold %s, at most %s", s->path,
			       size, max);
	}
	return 0;
}

/* ---- what was measured a moment ago ---- */

/* Ten thousand files take longer to look at than a job may wait: what was measured is good for a while, and only ever too much. */
static bool
recall_usage(const struct spool *s, struct spool_usage *ret, int64_t *ret_measured_s)
{
	AUTO_JSON cJSON *j = NULL;
	int64_t now = clock_wall_s(), n_new, n_dead, size;

	if (json_load(s->lock_fd, USAGE_NAME, USAGE_MAX, 0, &j, NULL) < 0)
		return false;
	*ret_measured_s = json_int(j, "measured_s", 0);
	n_new = json_int(j, "n_new", -1);
	n_dead = json_int(j, "n_dead", -1);
	size = json_int(j, "size", -1);
	if (*ret_measured_s > now || *ret_measured_s < now - USAGE_GOOD_S || n_new < 0 || n_dead < 0 ||
	    size < 0)
		return false;
	*ret = (struct spool_usage){ .n_new = (size_t)n_new,
				     .n_dead = (size_t)n_dead,
				     .size = (uint64_t)size,
				     .oldest_s = json_int(j, "oldest_s", 0) };
	return true;
}

static void
remember_usage(const struct spool *s, const struct spool_usage *u, int64_t measured_s)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;

	json_add_int(j, "measured_s", measured_s);
	json_add_int(j, "n_new", (int64_t)u->n_new);
	json_add_int(j, "n_dead", (int64_t)u->n_dead);
	json_add_int(j, "size", (int64_t)u->size);
	json_add_int(j, "oldest_s", u->oldest_s);
	text = json_print(j);
	(void)!fs_publish(s->lock_fd, USAGE_NAME, text, strlen(text), 0600, 0, NULL);
}

/* With a newcomer of `size` bytes. Where that would be worth a word it is measured, whatever was known. */
static int
usage_with(const struct spool *s, size_t size, const struct spool_bounds *b, struct spool_usage *ret,
	   int64_t *ret_measured_s, struct err *e)
{
	if (recall_usage(s, ret, ret_measured_s)) {
		ret->n_new++;
		ret->size += size + BESIDE_SIZE;
		if (!spool_is_nearly_full(ret, b) && !spool_is_getting_old(ret, b))
			return 0;
	}
	*ret_measured_s = clock_wall_s();
	if (spool_usage(s, ret, e) < 0)
		return -1;
	ret->n_new++;
	ret->size += size + BESIDE_SIZE;
	return 0;
}

/* ---- superseding ---- */

/* Older deliveries of one test that were never sent, each with its test's lock held. */
struct olders {
	struct strv ids;
	int lock; /* of the test, -1 none */
};

static void
olders_release(const struct spool *s, struct olders *o, const char *key)
{
	strv_free(&o->ids);
	if (o->lock >= 0)
		spool_unlock(s, key, o->lock);
	o->lock = -1;
}

struct of_key {
	const char *key;
	struct strv *ids;
};

static bool
add_of_key(const char *id, void *arg)
{
	const struct of_key *k = arg;

	if (str_eq(spool_key(id), k->key))
		strv_add(k->ids, id);
	return true;
}

/* Two images can share a test: then their services tell them apart, and neither is news of the other. */
static bool
is_superseded(const struct spool *s, const char *id, const struct delivery *by)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file f = DELIVERY_FILE_INIT;
	struct spool_state st = { 0 };
	bool is_unsent;

	if (delivery_open(s->new_fd, id, &d, &f, NULL) < 0 || spool_state_read(s->new_fd, id, &st, NULL) < 0)
		return false;
	is_unsent = st.sent_s == 0 && !st.is_sending;
	spool_state_free(&st);
	/* one that closes nothing says less than one that does */
	return is_unsent && str_eq(d.service, by->service) && str_eq(d.server, by->server) &&
	       (!by->keeps_old || d.keeps_old);
}

int
spool_ids_of(const struct spool *s, const char *key, struct strv *ret, struct err *e)
{
	struct of_key k = { .key = key, .ids = ret };

	if (spool_each_id(s->new_fd, add_of_key, &k, e) < 0)
		return -1;
	strv_sort(ret);
	return 0;
}

/* A test that is just being sent to is left alone. */
static int
find_olders(const struct spool *s, const struct delivery *d, const char *key, struct olders *ret,
	    struct err *e)
{
	AUTO_STRV struct strv all = { 0 };

	if (spool_ids_of(s, key, &all, e) < 0)
		return -1;
	if (all.n == 0)
		return 0;
	ret->lock = spool_lock(s, key, clock_deadline(0), NULL);
	for (size_t i = 0; i < all.n && ret->lock >= 0; i++) {
		if (is_superseded(s, all.v[i], d))
			strv_add(&ret->ids, all.v[i]);
	}
	return 0;
}

static int
remove_olders(const struct spool *s, const struct olders *o, struct spool_usage *u, struct err *e)
{
	for (size_t i = 0; i < o->ids.n; i++) {
		if (spool_remove(s->new_fd, o->ids.v[i], e) < 0)
			return -1;
		u->n_superseded++;
	}
	return 0;
}

/* What will be gone does not count; what was measured before somebody revived it does not know of it. */
static void
subtract_olders(const struct spool *s, const struct olders *o, struct spool_usage *u)
{
	for (size_t i = 0; i < o->ids.n; i++) {
		struct stat st;

		if (fstatat(s->new_fd, o->ids.v[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		u->n_new -= u->n_new > 1;
		u->size -= (uint64_t)st.st_size < u->size ? (uint64_t)st.st_size : u->size;
	}
}

/* ---- taking in ---- */

struct last {
	char time[TIME_DIGITS + 1];
};

static bool
look_for_last(const char *id, void *arg)
{
	struct last *l = arg;

	if (strncmp(id, l->time, TIME_DIGITS) > 0)
		snprintf(l->time, sizeof(l->time), "%.*s", TIME_DIGITS, id);
	return true;
}

/* An id after all that are there, for the clock may have been set back. */
static int
next_id(const struct spool *s, const char *key, char **ret, struct err *e)
{
	char now[TIME_DIGITS + 1];
	struct last last = { "" };

	if (spool_each_id(s->new_fd, look_for_last, &last, e) < 0)
		return -1;
	format_time(now);
	if (strcmp(now, last.time) <= 0) {
		memcpy(now, last.time, sizeof(now));
		increment(now);
	}
	*ret = mem_printf("%s-%s", now, key);
	return 0;
}

static int
take(struct spool *s, const struct delivery *d, const struct delivery_file *from,
     const struct spool_bounds *bounds, const char *key, struct olders *olders, char **ret_id,
     struct spool_usage *ret_usage, struct err *e)
{
	AUTO_FREE char *id = NULL;
	struct spool_usage u;
	int64_t measured_s = 0;

	if (usage_with(s, d->report_len, bounds, &u, &measured_s, e) < 0 ||
	    (bounds->supersedes && find_olders(s, d, key, olders, e) < 0))
		return -1;
	subtract_olders(s, olders, &u);
	/* In this order: at no moment is there neither. */
	if (check_bounds(s, &u, bounds, e) < 0 || next_id(s, key, &id, e) < 0 ||
	    delivery_copy(s->new_fd, id, d, from, FS_DURABLE, e) < 0 || remove_olders(s, olders, &u, e) < 0)
		return -1;
	remember_usage(s, &u, measured_s);
	*ret_id = take_ptr(id);
	*ret_usage = u;
	return 0;
}

int
spool_take(struct spool *s, const struct delivery *d, const struct delivery_file *from,
	   const struct spool_bounds *bounds, char **ret_id, struct spool_usage *ret_usage, struct err *e)
{
	AUTO_FD int lock = fs_lock(s->lock_fd, "take", clock_deadline(TAKE_WAIT_MS), e);
	struct olders olders = { .lock = -1 };
	char key[DELIVERY_KEY_SIZE];
	int rc;

	if (lock < 0)
		return -1;
	delivery_key(d, key);
	rc = take(s, d, from, bounds, key, &olders, ret_id, ret_usage, e);
	olders_release(s, &olders, key);
	return rc;
}
