#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define SECRET_MAX (64 * 1024)
#define COPY_BLOCK (256 * 1024)
#define LOCK_POLL_MS 20

int
fs_hold_standard(struct err *e)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* the lowest number that is free is this one; children keep it, as they would keep a real one */
		if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
			return err_errno(e, "/dev/null");
	}
	return 0;
}

int
fs_flush_standard(struct err *e)
{
	/* What failed before the last flush has left its mark alone; errno is then what it was by now. */
	bool has_failed = ferror(stdout) != 0;

	if (fflush(stdout) != 0)
		return err_errno(e, "standard output");
	return has_failed ? err_set(e, ERR_FAILED, "standard output: not all of it could be written") : 0;
}

void
fs_identity_of(const struct stat *st, struct fs_identity *ret)
{
	*ret = (struct fs_identity){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
		.ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
	};
}

bool
fs_identity_equal(const struct fs_identity *a, const struct fs_identity *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns;
}

int
fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct err *e)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		/* O_TMPFILE holds the bits of O_DIRECTORY */
		.mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	/* EAGAIN: the kernel saw a rename race and could not be sure */
	for (int tries = 0; tries < 100; tries++) {
		fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	if (fd >= 0)
		return fd;
	err_errno(e, "%s", path);
	if (errno == ELOOP && e)
		snprintf(e->text, sizeof(e->text), "%s: a symbolic link is in the way", path);
	else if (errno == EXDEV && e)
		snprintf(e->text, sizeof(e->text), "%s: leads out of its directory", path);
	return -1;
}

int
fs_open_dir(int dirfd, const char *path, struct err *e)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		err_errno(e, "%s", path);
	return fd;
}

DIR *
fs_list(int dirfd, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir)
		take_fd(fd);
	else
		err_errno(e, "directory");
	return dir;
}

int
fs_next(DIR *dir, struct dirent **ret, struct err *e)
{
	do {
		errno = 0;
		*ret = readdir(dir);
		if (!*ret)
			return errno ? err_errno(e, "directory") : 0;
	} while (strcmp((*ret)->d_name, ".") == 0 || strcmp((*ret)->d_name, "..") == 0);
	return 1;
}

int
fs_read_fd_max(int fd, size_t max, char **ret_text, size_t *ret_len, struct err *e)
{
	AUTO_BUF struct buf b = BUF_INIT(max);
	AUTO_FREE char *block = mem_alloc(COPY_BLOCK);
	ssize_t n;

	for (;;) {
		n = read(fd, block, COPY_BLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, "read");
		if (n == 0)
			break;
		buf_add(&b, block, (size_t)n);
		if (b.is_full)
			return err_set(e, ERR_REFUSED, "larger than %zu bytes", max);
	}
	*ret_len = b.len;
	*ret_text = buf_take(&b);
	return 0;
}

static int
read_file(int dirfd, const char *path, int flags, size_t max, char **ret_text, size_t *ret_len, struct err *e)
{
	/* O_NONBLOCK: a FIFO must not hold us; it means nothing for a regular file */
	AUTO_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
	struct stat st;

	if (fd < 0)
		return err_errno(e, "%s", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_REFUSED, "%s: not a regular file", path);
	if (fs_read_fd_max(fd, max, ret_text, ret_len, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}

int
fs_read_max(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len, struct err *e)
{
	return read_file(dirfd, path, O_NOFOLLOW, max, ret_text, ret_len, e);
}

int
fs_read_named(const char *path, size_t max, char **ret_text, size_t *ret_len, struct err *e)
{
	return read_file(AT_FDCWD, path, 0, max, ret_text, ret_len, e);
}

int
fs_read_secret(const char *path, char **ret, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	AUTO_FREE char *text = NULL;
	struct stat st;
	size_t len;

	if (fd < 0 && errno == EACCES)
		return err_errno(e,
				 "%s: user %u may not read it: sudo tidewaiter setup, or chown it and see the directories above",
				 path, (unsigned)geteuid());
	/* setup gives it to the courier: nobody may choose by a link what that is */
	if (fd < 0 && errno == ELOOP)
		return err_set(e, ERR_SETTINGS, "%s: a symbolic link; name the file that it leads to", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SETTINGS, "%s: not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, ERR_SETTINGS, "%s: holds a secret, but belongs to user %u", path,
			       (unsigned)st.st_uid);
	if (st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
		return err_set(e, ERR_SETTINGS,
			       "%s: holds a secret, but its mode is %04o; chmod 0600 (or 0640) it", path,
			       (unsigned)(st.st_mode & 07777));
	/* Root keeps what it hands to a service's group. */
	if ((st.st_mode & S_IRGRP) && geteuid() != 0 && st.st_gid != 0 && st.st_gid != getegid())
		return err_set(e, ERR_SETTINGS,
			       "%s: holds a secret, but group %u can read it, which is not ours; chmod 0600 it",
			       path, (unsigned)st.st_gid);
	if (fs_read_fd_max(fd, SECRET_MAX, &text, &len, e) < 0)
		return err_wrap(e, "%s", path);
	if (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len > 0 && text[len - 1] == '\r')
		text[--len] = '\0';
	if (len == 0 || strlen(text) != len)
		return err_set(e, ERR_SETTINGS, "%s: empty, or no text", path);
	*ret = take_ptr(text);
	return 0;
}

int
fs_write_all(int fd, const void *p, size_t n, struct err *e)
{
	const char *at = p;

	while (n > 0) {
		ssize_t done = write(fd, at, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN) {
			struct pollfd pfd = { .fd = fd, .events = POLLOUT };

			poll(&pfd, 1, -1);
			continue;
		}
		if (done < 0)
			return err_errno(e, "write");
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

/* ".name.XXXXXX", with 48 random bits: names in a directory of strangers cannot be guessed */
static char *
temporary_name(const char *name)
{
	uint64_t r = 0;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		abort();
	return mem_printf(".%.200s.%012jx", name, (uintmax_t)(r & 0xffffffffffff));
}

static int
write_and_rename(int dirfd, const char *temporary, const char *name, const void *p, size_t n, mode_t mode,
		 unsigned flags, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return err_errno(e, "%s", name);
	if (fs_write_all(fd, p, n, e) < 0)
		return err_wrap(e, "%s", name);
	/* the umask does not decide what we promised */
	if (fchmod(fd, mode) < 0 || ((flags & FS_DURABLE) && fsync(fd) < 0))
		return err_errno(e, "%s", name);
	if (renameat(dirfd, temporary, dirfd, name) < 0)
		return err_errno(e, "%s", name);
	if ((flags & FS_DURABLE) && fsync(dirfd) < 0)
		return err_errno(e, "%s: its directory", name);
	return 0;
}

int
fs_publish(int dirfd, const char *name, const void *p, size_t n, mode_t mode, unsigned flags, struct err *e)
{
	AUTO_FREE char *temporary = temporary_name(name);

	if (write_and_rename(dirfd, temporary, name, p, n, mode, flags, e) < 0) {
		unlinkat(dirfd, temporary, 0);
		return -1;
	}
	return 0;
}

int
fs_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e)
{
	AUTO_FREE char *copy = mem_strdup(path);
	AUTO_FD int at = open("/proc/self/cwd", O_PATH | O_CLOEXEC);
	char *save = NULL;

	if (*path == '/' || dirfd != AT_FDCWD) {
		if (at >= 0)
			close(at);
		at = *path == '/' ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)
				  : fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	}
	if (at < 0)
		return err_errno(e, "%s", path);
	for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		int next;

		if (mkdirat(at, part, mode) < 0 && errno != EEXIST)
			return err_errno(e, "%s: mkdir %s", path, part);
		/*
		 * A link on the way is the admin's business, e.g. /var/run; beneath a
		 * directory of strangers fs_open_beneath() is the one to use.
		 */
		next = openat(at, part, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (next < 0)
			return err_errno(e, "%s: %s", path, part);
		close(at);
		at = next;
	}
	return 0;
}

int
fs_make_dir_of(int dirfd, const char *path, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int fd = -1;

	if (fs_mkdirs(dirfd, path, 0700, e) < 0)
		return -1;
	fd = fs_open_dir(dirfd, path, e);
	if (fd < 0)
		return -1;
	if (uid != (uid_t)-1 && fchown(fd, uid, gid) < 0)
		return err_errno(e, "%s", path);
	return take_fd(fd);
}

static int
copy_by_hand(int from, off_t offset, int to, uint64_t len, struct err *e)
{
	AUTO_FREE char *block = mem_alloc(COPY_BLOCK);

	while (len > 0) {
		ssize_t n = pread(from, block, len < COPY_BLOCK ? (size_t)len : COPY_BLOCK, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, "read");
		if (n == 0)
			return err_set(e, ERR_FAILED, "file ends %ju bytes early", (uintmax_t)len);
		if (fs_write_all(to, block, (size_t)n, e) < 0)
			return -1;
		offset += n;
		len -= (uint64_t)n;
	}
	return 0;
}

int
fs_copy(int from, off_t offset, int to, uint64_t len, struct err *e)
{
	while (len > 0) {
		size_t chunk = len < (1U << 30) ? (size_t)len : 1U << 30;
		ssize_t n = copy_file_range(from, &offset, to, NULL, chunk, 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* other filesystems, pipes, append mode, special files: by hand from here */
		if (n <= 0 && (n == 0 || errno == EXDEV || errno == EINVAL || errno == ENOSYS ||
			       errno == EBADF || errno == EOPNOTSUPP || errno == EPERM))
			return copy_by_hand(from, offset, to, len, e);
		if (n < 0)
			return err_errno(e, "copy");
		len -= (uint64_t)n;
	}
	return 0;
}

int
fs_space_left(int fd, uint64_t *ret_bytes, struct err *e)
{
	struct statvfs st;

	if (fstatvfs(fd, &st) < 0)
		return err_errno(e, "free space");
	*ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

/* flock(2) knows no deadline: asked again every 20 ms, and waited for without one where there is none. */
static int
lock_until(int fd, int64_t deadline)
{
	if (deadline == CLOCK_DEADLINE_NEVER) {
		while (flock(fd, LOCK_EX) < 0)
			if (errno != EINTR)
				return -1;
		return 0;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int64_t left = clock_left_ms(deadline);

		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		if (left == 0) {
			errno = EWOULDBLOCK;
			return -1;
		}
		poll(NULL, 0, left < LOCK_POLL_MS ? (int)left : LOCK_POLL_MS);
	}
	return 0;
}

int
fs_lock(int dirfd, const char *name, int64_t deadline, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno(e, "%s", name);
	if (lock_until(fd, deadline) < 0) {
		if (errno == EWOULDBLOCK)
			return err_set(e, ERR_TIMEOUT, "%s: held by another process", name);
		return err_errno(e, "%s", name);
	}
	return take_fd(fd);
}
