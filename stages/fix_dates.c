#include "stages/fix_dates.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define FILE_NAME "dates"
#define LOCK_NAME "lock"
#define MAGIC "TWFIXES1"
#define DAY_S INT64_C(86400)
#define RENEW_S (7 * DAY_S) /* else every job would write */
/* 2026-01-01: a clock that says less was never set, and what it dates would have no time left when it is. */
#define CLOCK_SET_S INT64_C(1767225600)

/* In the byte order of the host. */
struct head {
	char magic[8];
	uint64_t n;
	uint64_t sum; /* CRC-32 of the records: against damage, and no library has to be set up for it */
};

_Static_assert(sizeof(struct head) == 24 && sizeof(struct fix_date) == 32, "written as they are in memory");

/* ---- the file ---- */

void
fix_dates_free(struct fix_dates *d)
{
	mem_free_at(&d->v);
	d->n = 0;
}

static uint64_t
sum_of(const struct fix_date *v, size_t n)
{
	return crc32_z(0, (const unsigned char *)v, n * sizeof(*v));
}

/* How many records there are, in a file of `len` bytes. */
static int
check_head(const struct head *h, uint64_t len, size_t *ret_n, struct err *e)
{
	if (memcmp(h->magic, MAGIC, sizeof(h->magic)) != 0)
		return err_set(e, ERR_REFUSED, "it is not of this format");
	if (h->n > FIX_DATES_MAX || len != sizeof(*h) + h->n * sizeof(struct fix_date))
		return err_set(e, ERR_REFUSED, "it is cut off, or holds too much");
	*ret_n = (size_t)h->n;
	return 0;
}

static int
check_records(const struct head *h, const struct fix_dates *d, struct err *e)
{
	if (sum_of(d->v, d->n) != h->sum)
		return err_set(e, ERR_REFUSED, "its checksum is wrong");
	for (size_t k = 0; k < d->n; k++)
		if (d->v[k].since_s < CLOCK_SET_S || d->v[k].seen_s < CLOCK_SET_S ||
		    (k > 0 && fix_key_compare(&d->v[k - 1].key, &d->v[k].key) >= 0))
			return err_set(e, ERR_REFUSED, "record %zu is none", k + 1);
	return 0;
}

int
fix_dates_parse(const char *text, size_t len, struct fix_dates *ret, struct err *e)
{
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	struct head head;

	if (len < sizeof(head))
		return err_set(e, ERR_REFUSED, "it is cut off");
	memcpy(&head, text, sizeof(head));
	if (check_head(&head, len, &d.n, e) < 0)
		return -1;
	d.v = mem_array(d.n + 1, sizeof(*d.v));
	memcpy(d.v, text + sizeof(head), d.n * sizeof(*d.v));
	if (check_records(&head, &d, e) < 0)
		return -1;
	*ret = d;
	d = (struct fix_dates){ 0 };
	return 0;
}

void
fix_dates_print(const struct fix_dates *d, char **ret_text, size_t *ret_len)
{
	struct head head = { .n = d->n, .sum = sum_of(d->v, d->n) };
	char *text = mem_alloc(sizeof(head) + d->n * sizeof(*d->v));

	memcpy(head.magic, MAGIC, sizeof(head.magic));
	memcpy(text, &head, sizeof(head));
	if (d->n > 0)
		memcpy(text + sizeof(head), d->v, d->n * sizeof(*d->v));
	*ret_text = text;
	*ret_len = sizeof(head) + d->n * sizeof(*d->v);
}

/* Not less than n bytes, which is what the file has. */
static int
read_exactly(int fd, void *p, size_t n, struct err *e)
{
	for (char *at = p; n > 0;) {
		ssize_t done = read(fd, at, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? err_errno(e, "read") : err_set(e, ERR_REFUSED, "it is cut off");
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

/* Straight into its place: a copy of megabytes would cost more than all else. */
static int
read_whole(int fd, uint64_t len, struct fix_dates *ret, struct err *e)
{
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	struct head head;

	if (read_exactly(fd, &head, sizeof(head), e) < 0 || check_head(&head, len, &d.n, e) < 0)
		return -1;
	d.v = mem_array(d.n + 1, sizeof(*d.v));
	if (read_exactly(fd, d.v, d.n * sizeof(*d.v), e) < 0 || check_records(&head, &d, e) < 0)
		return -1;
	*ret = d;
	d = (struct fix_dates){ 0 };
	return 0;
}

int
fix_dates_read(int dirfd, struct fix_dates *ret, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st, dir;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0 || fstat(dirfd, &dir) < 0)
		return err_errno(e, FILE_NAME);
	/* root looks, too, so it is the directory that says whose it is; without a link it was replaced just now */
	if (!S_ISREG(st.st_mode) || st.st_nlink > 1 || st.st_uid != dir.st_uid ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)))
		return err_set(e, ERR_REFUSED,
			       FILE_NAME ": not a file that belongs to user %u and that nobody else may write",
			       (unsigned)dir.st_uid);
	return read_whole(fd, (uint64_t)st.st_size, ret, e) < 0 ? err_wrap(e, FILE_NAME) : 0;
}

static int64_t
date_of(const void *arg, const struct fix_key *key)
{
	const struct fix_dates *d = arg;
	const struct fix_date *at = d->n > 0 ? bsearch(key, d->v, d->n, sizeof(*d->v), fix_key_compare) : NULL;

	return at ? at->since_s : 0;
}

int
fix_dates_look(int dirfd, const struct report *r, int64_t now_s, int64_t **ret_since_s, struct err *e)
{
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	AUTO_FIX_KEYS struct fix_keys keys = { 0 };
	int64_t *since_s;

	if (fix_dates_read(dirfd, &d, e) < 0)
		return -1;
	fix_keys_make(r, &keys);
	since_s = mem_array(keys.n + 1, sizeof(*since_s));
	for (size_t k = 0; k < keys.n; k++) {
		since_s[k] = fix_keys_date(keys.of[k], date_of, &d);
		if (since_s[k] == 0 && !fix_key_is_none(&keys.of[k][0]))
			since_s[k] = now_s;
	}
	*ret_since_s = since_s;
	return 0;
}

/* ---- what several hosts know ---- */

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static struct fix_date
join_one(const struct fix_date *a, const struct fix_date *b)
{
	return (struct fix_date){ a->key, earlier(a->since_s, b->since_s),
				  a->seen_s > b->seen_s ? a->seen_s : b->seen_s };
}

static bool
is_equal(const struct fix_date *a, const struct fix_date *b)
{
	return a->since_s == b->since_s && a->seen_s == b->seen_s;
}

bool
fix_dates_join(const struct fix_dates *a, const struct fix_dates *b, struct fix_dates *ret)
{
	size_t room = FIX_DATES_MAX - a->n, x = 0, y = 0;
	bool is_other = false;

	ret->v = mem_array(a->n + (b->n < room ? b->n : room) + 1, sizeof(*ret->v));
	while (x < a->n || y < b->n) {
		int order = y == b->n ? -1 : x == a->n ? 1 : fix_key_compare(&a->v[x].key, &b->v[y].key);
		const struct fix_date *one = order > 0 ? &b->v[y] : &a->v[x],
				      *two = order == 0 ? &b->v[y] : one;

		x += order <= 0;
		y += order >= 0;
		if (order > 0 && room == 0)
			continue;
		room -= order > 0;
		ret->v[ret->n] = join_one(one, two);
		is_other = is_other || order > 0 || !is_equal(one, &ret->v[ret->n]);
		ret->n++;
	}
	return is_other;
}

/* ---- merging ---- */

struct merge {
	const struct fix_dates *others; /* NULL: none */
	struct fix_dates old;		/* while it is looked at */
	const struct fix_key *keys;
	size_t n;
	int64_t now_s;
	int64_t *since_s;     /* answers */
	bool has_changed;     /* what is kept is another then */
	size_t n_new, n_full; /* that are put down; for which there is no room */
};

static bool
is_stale(const struct fix_date *d, int64_t now_s)
{
	return now_s - d->seen_s > FIX_UNSEEN_DAYS * DAY_S;
}

/* What is kept of it when it was seen now: others keep their dates where this clock is behind. */
static struct fix_date
seen_now(const struct fix_date *d, int64_t now_s)
{
	struct fix_date seen = *d;

	seen.since_s = earlier(seen.since_s, now_s);
	if (seen.seen_s > now_s || now_s - seen.seen_s > RENEW_S)
		seen.seen_s = now_s;
	return seen;
}

/* Answers what stands there, and counts what does not, and for how much of that there is or can be made room. */
static void
look(struct merge *m)
{
	size_t at = 0, n_new = 0, n_stale = 0, room;

	for (size_t k = 0; k < m->n; k++) {
		const struct fix_date *d;
		struct fix_date seen;

		while (at < m->old.n && fix_key_compare(&m->old.v[at].key, &m->keys[k]) < 0)
			n_stale += is_stale(&m->old.v[at++], m->now_s);
		d = at < m->old.n ? &m->old.v[at] : NULL;
		if (!d || fix_key_compare(&d->key, &m->keys[k]) != 0) {
			n_new++;
			continue;
		}
		at++;
		seen = seen_now(d, m->now_s);
		m->since_s[k] = seen.since_s;
		m->has_changed = m->has_changed || !is_equal(&seen, d);
	}
	for (; at < m->old.n; at++)
		n_stale += is_stale(&m->old.v[at], m->now_s);
	room = FIX_DATES_MAX - m->old.n + n_stale;
	m->n_new = n_new < room ? n_new : room;
	m->n_full = n_new - m->n_new;
	m->has_changed = m->has_changed || m->n_new > 0;
}

/* What stands there and what is new; those that nobody sees any more go only where that makes room. */
static void
add_new(const struct merge *m, struct fix_dates *ret)
{
	size_t drop = m->old.n + m->n_new > FIX_DATES_MAX ? m->old.n + m->n_new - FIX_DATES_MAX : 0;
	size_t left = m->n_new, at = 0;

	ret->v = mem_array(m->old.n + m->n_new + 1, sizeof(*ret->v));
	for (size_t k = 0; k < m->n || at < m->old.n;) {
		int order = k == m->n ? -1 : 1;

		if (k < m->n && at < m->old.n)
			order = fix_key_compare(&m->old.v[at].key, &m->keys[k]);
		if (order > 0) {
			if (left > 0) {
				ret->v[ret->n++] = (struct fix_date){ m->keys[k], m->now_s, m->now_s };
				left--;
			}
			k++;
		} else if (order == 0) {
			ret->v[ret->n++] = seen_now(&m->old.v[at++], m->now_s);
			k++;
		} else if (drop > 0 && is_stale(&m->old.v[at], m->now_s)) {
			drop--;
			at++;
		} else {
			ret->v[ret->n++] = m->old.v[at++];
		}
	}
}

/* What writers left that were killed. Under the lock nobody else writes. */
static void
drop_leftovers(int dirfd)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, NULL);
	struct dirent *entry;

	while (dir && fs_next(dir, &entry, NULL) > 0)
		if (str_has_prefix(entry->d_name, "." FILE_NAME "."))
			unlinkat(dirfd, entry->d_name, 0);
}

static int
write_all(int dirfd, const struct merge *m, struct err *e)
{
	AUTO_FIX_DATES struct fix_dates all = { 0 };
	AUTO_FREE char *text = NULL;
	size_t len, at = 0;

	add_new(m, &all);
	fix_dates_print(&all, &text, &len);
	drop_leftovers(dirfd);
	if (fs_publish(dirfd, FILE_NAME, text, len, 0600, FS_DURABLE, e) < 0)
		return -1;
	for (size_t k = 0; k < m->n; k++) {
		while (at < all.n && fix_key_compare(&all.v[at].key, &m->keys[k]) < 0)
			at++;
		if (at < all.n && fix_key_compare(&all.v[at].key, &m->keys[k]) == 0)
			m->since_s[k] = all.v[at].since_s;
	}
	return 0;
}

static bool
take_others(struct merge *m)
{
	struct fix_dates joined = { 0 };
	bool is_other = fix_dates_join(&m->old, m->others, &joined);

	fix_dates_free(&m->old);
	m->old = joined;
	return is_other;
}

/* Reads, answers, and with may_write puts down what is new. */
static int
see_once(int dirfd, struct merge *m, bool may_write, struct err *e)
{
	int rc = fix_dates_read(dirfd, &m->old, e);

	m->has_changed = rc == 0 && m->others && take_others(m);
	if (rc == 0)
		look(m);
	if (rc == 0 && may_write && m->has_changed)
		rc = write_all(dirfd, m, e);
	fix_dates_free(&m->old);
	return rc;
}

bool
fix_dates_has_all(int dirfd, const struct fix_key *keys, size_t n, int64_t now_s)
{
	AUTO_FREE int64_t *since_s = mem_array(n + 1, sizeof(*since_s));
	struct merge m = { .keys = keys, .n = n, .now_s = now_s, .since_s = since_s };

	return see_once(dirfd, &m, false, NULL) < 0 || !m.has_changed;
}

int
fix_dates_see(int dirfd, const struct fix_dates *others, const struct fix_key *keys, size_t n, int64_t now_s,
	      int64_t deadline, int64_t *ret_since_s, struct err *e)
{
	struct merge m = { .others = others, .keys = keys, .n = n, .now_s = now_s, .since_s = ret_since_s };
	AUTO_FD int lock = -1;

	for (size_t k = 0; k < n; k++)
		ret_since_s[k] = 0;
	if (now_s < CLOCK_SET_S)
		return err_set(e, ERR_FAILED, "the clock of this host is not set");
	/* mostly all is known, and nobody is to wait for a lock then */
	if (see_once(dirfd, &m, false, e) < 0)
		return -1;
	if (m.has_changed) {
		lock = fs_lock(dirfd, LOCK_NAME, deadline, e);
		if (lock < 0 || see_once(dirfd, &m, true, e) < 0)
			return -1;
	}
	if (m.n_full > 0)
		return err_set(e, ERR_NO_SPACE, FILE_NAME ": full, there is no room for %zu of %zu fixes",
			       m.n_full, n);
	return 0;
}
