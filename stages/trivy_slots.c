#include "stages/trivy_slots.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"

#define DIR_NAME "trivy-slots"
#define LOOK_AGAIN_MS 50
#define QUEUE_PASS_MS 250 /* who is first in the queue and finds a slot is through by then */

int
trivy_slots_make(const char *cache_dir, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int parent = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int fd = -1;

	if (parent < 0)
		return err_errno(e, "%s", cache_dir);
	if (fs_mkdirs(parent, DIR_NAME, 0700, e) < 0)
		return err_wrap(e, "%s", cache_dir);
	if (uid == (uid_t)-1)
		return 0;
	fd = fs_open_dir(parent, DIR_NAME, e);
	if (fd < 0)
		return err_wrap(e, "%s", cache_dir);
	if (fchown(fd, uid, gid) < 0)
		return err_errno(e, "%s/" DIR_NAME, cache_dir);
	return 0;
}

int
trivy_slots_open(const char *cache_dir, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/" DIR_NAME, cache_dir);
	int fd = fs_open_dir(AT_FDCWD, path, e);

	if (fd >= 0 || e->no != ENOENT)
		return fd;
	err_clear(e);
	if (trivy_slots_make(cache_dir, (uid_t)-1, (gid_t)-1, e) < 0)
		return -1;
	return fs_open_dir(AT_FDCWD, path, e);
}

/* One of the slots if one is free now, -1 with ERR_TIMEOUT if not. */
static int
try_slots(int dirfd, int64_t n, struct err *e)
{
	for (int64_t k = 0; k < n; k++) {
		char name[32];
		int fd;

		err_clear(e);
		snprintf(name, sizeof(name), "slot-%jd", (intmax_t)k);
		fd = fs_lock(dirfd, name, 0, e);
		if (fd >= 0 || e->kind != ERR_TIMEOUT)
			return fd;
	}
	return -1;
}

int
trivy_slots_take(int dirfd, int64_t n, int64_t deadline, const struct log *log, struct err *e)
{
	int64_t soon = clock_deadline(QUEUE_PASS_MS);
	AUTO_FD int queue = fs_lock(dirfd, "queue", soon < deadline ? soon : deadline, e);
	bool has_said = false;

	for (;;) {
		int fd = queue < 0 ? -1 : try_slots(dirfd, n, e);

		if (fd >= 0)
			return fd;
		if (e->kind != ERR_TIMEOUT)
			return -1;
		if (log && !has_said)
			log_line(log, LOG_NOTE,
				 "waiting: %jd scans run on this host already (trivy.parallel)", (intmax_t)n);
		has_said = true;
		err_clear(e);
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT,
				       "no free scan slot of %jd on this host (trivy.parallel)", (intmax_t)n);
		if (queue < 0)
			queue = fs_lock(dirfd, "queue", deadline, e);
		else
			poll(NULL, 0, LOOK_AGAIN_MS);
		if (queue < 0 && e->kind != ERR_TIMEOUT)
			return -1;
	}
}
