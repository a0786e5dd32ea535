#include "stages/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"

#define NAME_DIGITS 20
#define TICKETS_MAX 100000
#define LOCK_WAIT_MS 10000
/* Where the kernel tells nothing (too many watches), and for what it forgets to tell. */
#define LOOK_AGAIN_MS 1000
#define LOOK_AGAIN_BLIND_MS 50

struct queue_ticket {
	int dirfd, fd;
	char name[NAME_DIGITS + 1];
};

static bool
is_ticket(const char *name)
{
	return strlen(name) == NAME_DIGITS && name[strspn(name, "0123456789")] == '\0';
}

/* Its owner lives. Shared, so that those who look do not take each other for an owner. */
static bool
is_held(int dirfd, const char *name)
{
	AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
}

/* Under the lock: removes the tickets of the dead; the highest number that is left. */
static int
sweep(int dirfd, uint64_t *ret_last, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, e);
	struct dirent *entry;
	size_t n = 0;
	int rc = -1;

	*ret_last = 0;
	while (dir && (rc = fs_next(dir, &entry, e)) > 0) {
		uint64_t number;

		if (!is_ticket(entry->d_name))
			continue;
		if (!is_held(dirfd, entry->d_name)) {
			unlinkat(dirfd, entry->d_name, 0);
			continue;
		}
		number = strtoull(entry->d_name, NULL, 10);
		if (number > *ret_last)
			*ret_last = number;
		if (++n >= TICKETS_MAX)
			return err_set(e, ERR_NO_SPACE, "%d wait already", TICKETS_MAX);
	}
	return rc < 0 ? err_wrap(e, "queue") : 0;
}

static int
draw(int dirfd, struct queue_ticket *t, struct err *e)
{
	AUTO_FD int lock = fs_lock(dirfd, "lock", clock_deadline(LOCK_WAIT_MS), e);
	uint64_t last;

	if (lock < 0 || sweep(dirfd, &last, e) < 0)
		return -1;
	snprintf(t->name, sizeof(t->name), "%0*ju", NAME_DIGITS, (uintmax_t)(last + 1));
	t->fd = openat(dirfd, t->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	/* nobody removes it before it is locked: that is done under the lock only */
	if (t->fd < 0 || flock(t->fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(e, "queue: %s", t->name);
	return 0;
}

static int
count_before(const struct queue_ticket *t, int64_t *ret, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(t->dirfd, e);
	struct dirent *entry;
	int rc = -1;

	*ret = 0;
	while (dir && (rc = fs_next(dir, &entry, e)) > 0)
		if (is_ticket(entry->d_name) && strcmp(entry->d_name, t->name) < 0 &&
		    is_held(t->dirfd, entry->d_name))
			++*ret;
	return rc < 0 ? err_wrap(e, "queue") : 0;
}

/* Tells of tickets that go and of owners that die: both close what was open for writing. */
static int
watch(int dirfd)
{
	AUTO_FD int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	if (fd < 0 || inotify_add_watch(fd, path, IN_CLOSE_WRITE | IN_DELETE | IN_ONLYDIR) < 0)
		return -1;
	return take_fd(fd);
}

static int
wait_for_change(int watch_fd, const struct queue_wait *w, struct err *e)
{
	struct pollfd fds[2] = { { .fd = watch_fd, .events = POLLIN },
				 { .fd = w->stop_fd ? *w->stop_fd : -1, .events = POLLIN } };
	int64_t left = clock_left_ms(w->deadline);
	int64_t again = watch_fd >= 0 ? LOOK_AGAIN_MS : LOOK_AGAIN_BLIND_MS;
	char events[4096];

	if (left == 0)
		return err_set(e, ERR_TIMEOUT, "its turn did not come in time");
	if (poll(fds, 2, (int)(left < again ? left : again)) < 0 && errno != EINTR)
		return err_errno(e, "queue");
	if (fds[1].revents & POLLIN)
		return err_set(e, ERR_FAILED, "stopped while it waited for its turn");
	while (watch_fd >= 0 && read(watch_fd, events, sizeof(events)) > 0)
		;
	return 0;
}

static int
wait_for_turn(const struct queue_ticket *t, const struct queue_wait *w, struct err *e)
{
	AUTO_FD int watch_fd = -1;
	int64_t before, said = -1;

	if (count_before(t, &before, e) < 0)
		return -1;
	if (before < w->n)
		return 0;
	watch_fd = watch(t->dirfd);
	for (;;) {
		/* after the watch was set, so that nothing is missed */
		if (count_before(t, &before, e) < 0)
			return -1;
		if (before < w->n)
			return 0;
		if (w->say && before != said)
			w->say(w->arg, w->n, before - w->n);
		said = before;
		if (wait_for_change(watch_fd, w, e) < 0)
			return -1;
	}
}

int
queue_take(int dirfd, const struct queue_wait *w, struct queue_ticket **ret, struct err *e)
{
	AUTO(queue_ticket) struct queue_ticket *t = mem_alloc(sizeof(*t));

	t->fd = -1;
	t->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	if (t->dirfd < 0)
		return err_errno(e, "queue");
	if (draw(t->dirfd, t, e) < 0 || wait_for_turn(t, w, e) < 0)
		return -1;
	*ret = take_ptr(t);
	return 0;
}

void
queue_ticket_free(struct queue_ticket *t)
{
	if (!t)
		return;
	/* the name first, while it is certainly ours */
	if (t->fd >= 0)
		unlinkat(t->dirfd, t->name, 0);
	mem_close_at(&t->fd);
	mem_close_at(&t->dirfd);
	mem_free_at(&t);
}
