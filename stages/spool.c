#include "stages/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"

#define STALE_S 3600 /* a temporary name of that age has no writer any more */
#define TAKE_WAIT_MS 5000
#define TIME_DIGITS 20	  /* yyyymmddhhmmss and microseconds */
#define LISTED_MAX 200000 /* names in one directory */

/* ---- ids ---- */

bool
spool_is_id(const char *name)
{
	return strlen(name) == TIME_DIGITS + 1 + DELIVERY_KEY_SIZE - 1 &&
	       strspn(name, "0123456789") == TIME_DIGITS && name[TIME_DIGITS] == '-' &&
	       str_is_hex(name + TIME_DIGITS + 1, DELIVERY_KEY_SIZE - 1);
}

const char *
spool_key(const char *id)
{
	return id + TIME_DIGITS + 1;
}

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

/* ---- directories ---- */

static int
open_dir(int dirfd, const char *name, int *ret, struct err *e)
{
	if (fs_mkdirs(dirfd, name, 0700, e) < 0)
		return -1;
	*ret = fs_open_dir(dirfd, name, e);
	return *ret < 0 ? -1 : 0;
}

int
spool_open(const char *state_dir, struct spool **ret, struct err *e)
{
	AUTO(spool) struct spool *s = mem_alloc(sizeof(*s));
	AUTO_FD int state_fd = -1;
	struct stat st;

	s->fd = s->new_fd = s->dead_fd = s->lock_fd = -1;
	s->path = mem_printf("%s/spool", state_dir);
	/* O_PATH: the courier may pass through it, not read it. */
	state_fd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (state_fd < 0)
		return err_errno(e, "spool %s", s->path);
	if (open_dir(state_fd, "spool", &s->fd, e) < 0)
		return err_wrap(e, "spool %s (see tidewaiter setup)", s->path);
	if (fstat(s->fd, &st) < 0)
		return err_errno(e, "spool %s", s->path);
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return err_set(e, ERR_FAILED,
			       "spool %s: owner %u, mode %o; expected owner %u, mode 700 (see tidewaiter setup)",
			       s->path, st.st_uid, st.st_mode & 07777, geteuid());
	if (open_dir(s->fd, "new", &s->new_fd, e) < 0 || open_dir(s->fd, "dead", &s->dead_fd, e) < 0 ||
	    open_dir(s->fd, "lock", &s->lock_fd, e) < 0)
		return err_wrap(e, "spool %s", s->path);
	*ret = take_ptr(s);
	return 0;
}

void
spool_free(struct spool *s)
{
	mem_close_at(&s->fd);
	mem_close_at(&s->new_fd);
	mem_close_at(&s->dead_fd);
	mem_close_at(&s->lock_fd);
	mem_free_at(&s->path);
	mem_free_at(&s);
}

/* A directory stream of its own: reading must not move the descriptor that others share. */
static DIR *
open_stream(int dirfd, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		err_errno(e, "spool");
	else
		take_fd(fd);
	return dir;
}

static int
list_ids(int dirfd, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *dir = open_stream(dirfd, e);
	const struct dirent *entry;

	if (!dir)
		return -1;
	while ((entry = readdir(dir)) && ret->n < LISTED_MAX) {
		if (spool_is_id(entry->d_name))
			strv_add(ret, entry->d_name);
	}
	strv_sort(ret);
	return 0;
}

int
spool_ids(const struct spool *s, struct strv *ret, struct err *e)
{
	return list_ids(s->new_fd, ret, e);
}

/* What the files of one directory amount to. Also removes what writers that died have left. */
static int
measure(int dirfd, size_t *ret_n, uint64_t *size, struct err *e)
{
	AUTO_DIR DIR *dir = open_stream(dirfd, e);
	const struct dirent *entry;

	if (!dir)
		return -1;
	*ret_n = 0;
	while ((entry = readdir(dir))) {
		const char *name = entry->d_name;
		struct stat st;

		if (str_eq(name, ".") || str_eq(name, "..") ||
		    fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (name[0] == '.' && st.st_mtime < clock_wall_s() - STALE_S) {
			unlinkat(dirfd, name, 0);
			continue;
		}
		*size += (uint64_t)st.st_size;
		if (spool_is_id(name))
			++*ret_n;
	}
	return 0;
}

int
spool_usage(const struct spool *s, struct spool_usage *ret, struct err *e)
{
	*ret = (struct spool_usage){ 0 };
	if (measure(s->new_fd, &ret->n_new, &ret->size, e) < 0 ||
	    measure(s->dead_fd, &ret->n_dead, &ret->size, e) < 0)
		return -1;
	return 0;
}

/* ---- taking in ---- */

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
	return (int64_t)(u->n_new + u->n_dead) > count_max(b) / 5 * 4 ||
	       u->size > (uint64_t)size_max(b) / 5 * 4;
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

/* An id after all that are there, for the clock may have been set back. */
static int
next_id(const struct spool *s, const struct delivery *d, char **ret, struct err *e)
{
	AUTO_STRV struct strv ids = { 0 };
	char now[TIME_DIGITS + 1], last[TIME_DIGITS + 1] = "", key[DELIVERY_KEY_SIZE];

	if (list_ids(s->new_fd, &ids, e) < 0)
		return -1;
	if (ids.n > 0)
		snprintf(last, sizeof(last), "%.*s", TIME_DIGITS, ids.v[ids.n - 1]);
	format_time(now);
	if (strcmp(now, last) <= 0) {
		memcpy(now, last, sizeof(now));
		increment(now);
	}
	delivery_key(d, key);
	*ret = mem_printf("%s-%s", now, key);
	return 0;
}

int
spool_take(struct spool *s, const struct delivery *d, const struct delivery_file *from,
	   const struct spool_bounds *bounds, char **ret_id, struct spool_usage *ret_usage, struct err *e)
{
	AUTO_FD int lock = fs_lock(s->lock_fd, "take", clock_deadline(TAKE_WAIT_MS), e);
	AUTO_FREE char *id = NULL;
	struct spool_usage u;

	if (lock < 0 || spool_usage(s, &u, e) < 0)
		return -1;
	u.n_new++;
	u.size += d->report_len;
	if (check_bounds(s, &u, bounds, e) < 0 || next_id(s, d, &id, e) < 0 ||
	    delivery_copy(s->new_fd, id, d, from, FS_DURABLE, e) < 0)
		return -1;
	*ret_id = take_ptr(id);
	*ret_usage = u;
	return 0;
}

/* ---- listing ---- */

static void
free_item(struct spool_item *i)
{
	delivery_free(&i->delivery);
	spool_state_free(&i->state);
}

void
spool_items_free(struct spool_items *l)
{
	for (size_t i = 0; i < l->n; i++)
		free_item(&l->v[i]);
	mem_free_at(&l->v);
	l->n = 0;
}

static int
list_place(int dirfd, bool is_dead, struct spool_items *l, struct err *e)
{
	AUTO_STRV struct strv ids = { 0 };

	if (list_ids(dirfd, &ids, e) < 0)
		return -1;
	l->v = mem_resize(l->v, l->n + ids.n + 1, sizeof(*l->v));
	for (size_t i = 0; i < ids.n; i++) {
		AUTO_DELIVERY_FILE struct delivery_file f = DELIVERY_FILE_INIT;
		struct spool_item *item = &l->v[l->n];
		struct stat st;

		*item = (struct spool_item){ .is_dead = is_dead };
		snprintf(item->id, sizeof(item->id), "%s", ids.v[i]);
		if (fstatat(dirfd, item->id, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* delivered meanwhile */
		item->size = (uint64_t)st.st_size;
		item->is_broken = delivery_open(dirfd, item->id, &item->delivery, &f, &item->fault) < 0;
		if (spool_state_read(dirfd, item->id, &item->state, e) < 0) {
			free_item(item);
			return -1;
		}
		l->n++;
	}
	return 0;
}

int
spool_list(const struct spool *s, struct spool_items *ret, struct err *e)
{
	AUTO_SPOOL_ITEMS struct spool_items l = { 0 };

	if (list_place(s->new_fd, false, &l, e) < 0 || list_place(s->dead_fd, true, &l, e) < 0)
		return -1;
	*ret = l;
	l = (struct spool_items){ 0 };
	return 0;
}

/* ---- what a person wants ---- */

/* Holds the lock of the delivery's test, or says who does. */
static int
lock_for_person(struct spool *s, const char *id, struct err *e)
{
	int fd;

	if (!spool_is_id(id)) {
		AUTO_FREE char *safe = str_safe(id, SPOOL_ID_MAX);

		return err_set(e, ERR_USAGE, "%s is no id of a delivery (see: tidewaiter spool list)", safe);
	}
	fd = spool_lock(s, spool_key(id), clock_deadline(1000), e);
	if (fd < 0)
		return err_wrap(e, "%s, or another one of its test, is just being sent", id);
	return fd;
}

static bool
is_there(int dirfd, const char *id)
{
	return faccessat(dirfd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int
spool_drop(struct spool *s, const char *id, struct err *e)
{
	int lock = lock_for_person(s, id, e);
	int rc = -1;

	if (lock < 0)
		return -1;
	if (is_there(s->new_fd, id))
		rc = spool_remove(s->new_fd, id, e);
	else if (is_there(s->dead_fd, id))
		rc = spool_remove(s->dead_fd, id, e);
	else
		err_set(e, ERR_USAGE, "there is no delivery %s", id);
	spool_unlock(s, spool_key(id), lock);
	return rc;
}

/* What was sent once is asked for first, whoever wants it again. */
static int
revive(struct spool *s, const char *id, struct err *e)
{
	bool is_dead = !is_there(s->new_fd, id);
	int from = is_dead ? s->dead_fd : s->new_fd;
	struct spool_state st = { 0 };
	AUTO_FREE char *state_name = mem_printf("%s.state", id);
	int rc;

	if (is_dead && !is_there(s->dead_fd, id))
		return err_set(e, ERR_USAGE, "there is no delivery %s", id);
	if (spool_state_read(from, id, &st, e) < 0)
		return -1;
	st.next_s = 0;
	st.faults = 0;
	st.n_500 = 0;
	rc = spool_state_write(s->new_fd, id, &st, e);
	spool_state_free(&st);
	if (rc < 0 || !is_dead)
		return rc;
	if (renameat(s->dead_fd, id, s->new_fd, id) < 0)
		return err_errno(e, "revive %s", id);
	if ((unlinkat(s->dead_fd, state_name, 0) < 0 && errno != ENOENT) || fsync(s->new_fd) < 0 ||
	    fsync(s->dead_fd) < 0)
		return err_errno(e, "revive %s", id);
	return 0;
}

int
spool_retry(struct spool *s, const char *id, struct err *e)
{
	int lock = lock_for_person(s, id, e);
	int rc;

	if (lock < 0)
		return -1;
	rc = revive(s, id, e);
	spool_unlock(s, spool_key(id), lock);
	return rc;
}

/* ---- locks ---- */

int
spool_lock(const struct spool *s, const char *key, int64_t deadline, struct err *e)
{
	for (;;) {
		AUTO_FD int fd = fs_lock(s->lock_fd, key, deadline, e);
		struct stat ours, there;

		if (fd < 0)
			return -1;
		if (fstat(fd, &ours) < 0)
			return err_errno(e, "lock %s", key);
		/* Whoever held it before may have removed the file: then it keeps nobody out. */
		if (fstatat(s->lock_fd, key, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    there.st_ino == ours.st_ino && there.st_dev == ours.st_dev)
			return take_fd(fd);
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "lock %s", key);
	}
}

void
spool_unlock(const struct spool *s, const char *key, int fd)
{
	AUTO_STRV struct strv ids = { 0 };
	bool is_wanted = false;

	if (list_ids(s->new_fd, &ids, NULL) < 0)
		is_wanted = true;
	for (size_t i = 0; i < ids.n; i++)
		is_wanted = is_wanted || str_eq(spool_key(ids.v[i]), key);
	if (!is_wanted)
		unlinkat(s->lock_fd, key, 0);
	close(fd);
}
