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

	s->fd = s->new_fd = s->dead_fd = s->lock_fd = s->server_fd = -1;
	s->path = mem_printf("%s/spool", state_dir);
	s->state_dir = mem_strdup(state_dir);
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
	    open_dir(s->fd, "lock", &s->lock_fd, e) < 0 || open_dir(s->fd, "server", &s->server_fd, e) < 0)
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
	mem_close_at(&s->server_fd);
	mem_free_at(&s->path);
	mem_free_at(&s->state_dir);
	mem_free_at(&s);
}

bool
spool_is_in_place(const struct spool *s)
{
	AUTO_FREE char *path = mem_printf("%s/new", s->path);
	struct stat ours, there;

	return fstat(s->new_fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
	       ours.st_dev == there.st_dev;
}

int
spool_each_id(int dirfd, bool (*each)(const char *id, void *arg), void *arg, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, e);
	struct dirent *entry;
	int rc = -1;

	while (dir && (rc = fs_next(dir, &entry, e)) > 0) {
		if (spool_is_id(entry->d_name) && !each(entry->d_name, arg))
			break;
	}
	return rc < 0 ? err_wrap(e, "spool") : 0;
}

static int
list_ids(int dirfd, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, e);
	struct dirent *entry;
	int rc = dir ? 0 : -1;

	while (dir && ret->n < LISTED_MAX && (rc = fs_next(dir, &entry, e)) > 0) {
		if (spool_is_id(entry->d_name))
			strv_add(ret, entry->d_name);
	}
	strv_sort(ret);
	return rc < 0 ? err_wrap(e, "spool") : 0;
}

int
spool_ids(const struct spool *s, struct strv *ret, struct err *e)
{
	return list_ids(s->new_fd, ret, e);
}

int
spool_dead_ids(const struct spool *s, struct strv *ret, struct err *e)
{
	return list_ids(s->dead_fd, ret, e);
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
		if (item->is_broken && item->fault.no == ENOENT)
			continue;
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
	AUTO_FREE char *state_name = mem_printf("%s.state", id), *answer_name = mem_printf("%s.answer", id);
	int rc;

	if (is_dead && !is_there(s->dead_fd, id))
		return err_set(e, ERR_USAGE, "there is no delivery %s", id);
	if (spool_state_read(from, id, &st, e) < 0)
		return -1;
	st.next_s = 0;
	st.faults = 0;
	st.n_500 = 0;
	st.revived_s = clock_wall_s();
	rc = spool_state_write(s->new_fd, id, &st, e);
	spool_state_free(&st);
	if (rc < 0 || !is_dead)
		return rc;
	if (renameat(s->dead_fd, id, s->new_fd, id) < 0)
		return err_errno(e, "revive %s", id);
	if ((unlinkat(s->dead_fd, state_name, 0) < 0 && errno != ENOENT) ||
	    (unlinkat(s->dead_fd, answer_name, 0) < 0 && errno != ENOENT) || fsync(s->new_fd) < 0 ||
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

struct wanted {
	const char *key;
	bool is_wanted;
};

static bool
look_for_key(const char *id, void *arg)
{
	struct wanted *w = arg;

	w->is_wanted = str_eq(spool_key(id), w->key);
	return !w->is_wanted;
}

void
spool_unlock(const struct spool *s, const char *key, int fd)
{
	struct wanted w = { .key = key };

	if (spool_each_id(s->new_fd, look_for_key, &w, NULL) == 0 && !w.is_wanted)
		unlinkat(s->lock_fd, key, 0);
	close(fd);
}
