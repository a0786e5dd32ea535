#include "stages/room.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"

#define PREFIX "claim-"
#define LOCK_WAIT_MS 10000
#define LOOK_AGAIN_MS 100
#define NUMBER_MAX 32 /* bytes */

struct room_claim {
	int dirfd, fd;
	char name[32];
};

/* What a claim that is held says; 0 of one that nobody holds, which is removed. Under the lock. */
static uint64_t
read_claim(int dirfd, const char *name)
{
	AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	int64_t n;
	size_t len;

	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
		unlinkat(dirfd, name, 0);
		return 0;
	}
	if (fs_read_fd_max(fd, NUMBER_MAX, &text, &len, NULL) < 0 ||
	    str_parse_int(text, 0, INT64_MAX, &n, NULL) < 0)
		return 0;
	return (uint64_t)n;
}

static uint64_t
claims_of_others(int dirfd)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, NULL);
	struct dirent *entry;
	uint64_t sum = 0;

	while (dir && fs_next(dir, &entry, NULL) > 0) {
		uint64_t n = str_has_prefix(entry->d_name, PREFIX) ? read_claim(dirfd, entry->d_name) : 0;

		sum = n > UINT64_MAX - sum ? UINT64_MAX : sum + n;
	}
	return sum;
}

static int
write_claim(int dirfd, uint64_t bytes, struct room_claim **ret, struct err *e)
{
	AUTO(room_claim) struct room_claim *c = mem_alloc(sizeof(*c));
	char text[NUMBER_MAX];
	uint64_t random = 0;
	int len = snprintf(text, sizeof(text), "%ju", (uintmax_t)bytes);

	c->fd = -1;
	c->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	if (c->dirfd < 0 || getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_errno(e, "claim");
	snprintf(c->name, sizeof(c->name), PREFIX "%016jx", (uintmax_t)random);
	c->fd = openat(dirfd, c->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (c->fd < 0 || flock(c->fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(e, "claim");
	if (fs_write_all(c->fd, text, (size_t)len, e) < 0)
		return -1;
	*ret = take_ptr(c);
	return 0;
}

static int
say_no(uint64_t bytes, uint64_t space, uint64_t others, const char *what, struct err *e)
{
	AUTO_FREE char *size = str_human_size(bytes);
	AUTO_FREE char *left = str_human_size(space);
	AUTO_FREE char *promised = str_human_size(others);

	if (others == 0)
		return err_set(e, ERR_NO_SPACE, "no space to unpack: %s %s, %s are left", what, size, left);
	return err_set(e, ERR_NO_SPACE,
		       "no space to unpack: %s %s, %s are left, of which other inspections have announced %s",
		       what, size, left, promised);
}

/* 1: claimed; 0: others are in the way; -1. */
static int
try_claim(int claims_fd, int work_fd, uint64_t bytes, uint64_t *ret_space, uint64_t *ret_others,
	  struct room_claim **ret, struct err *e)
{
	AUTO_FD int lock = -1;

	*ret_others = 0;
	if (claims_fd >= 0) {
		lock = fs_lock(claims_fd, "claims", clock_deadline(LOCK_WAIT_MS), e);
		if (lock < 0)
			return -1;
		*ret_others = claims_of_others(claims_fd);
	}
	if (fs_space_left(work_fd, ret_space, e) < 0)
		return -1;
	if (bytes > *ret_space || *ret_others > *ret_space - bytes)
		return 0;
	return claims_fd < 0 || write_claim(claims_fd, bytes, ret, e) == 0 ? 1 : -1;
}

int
room_claim(int claims_fd, int work_fd, uint64_t bytes, const char *what, int64_t deadline,
	   struct room_claim **ret, struct err *e)
{
	uint64_t space, others;
	int rc;

	*ret = NULL;
	while ((rc = try_claim(claims_fd, work_fd, bytes, &space, &others, ret, e)) == 0) {
		if (others == 0 || clock_left_ms(deadline) == 0)
			return say_no(bytes, space, others, what, e);
		poll(NULL, 0, LOOK_AGAIN_MS);
	}
	return rc < 0 ? -1 : 0;
}

void
room_claim_free(struct room_claim *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		unlinkat(c->dirfd, c->name, 0);
	mem_close_at(&c->fd);
	mem_close_at(&c->dirfd);
	mem_free_at(&c);
}
