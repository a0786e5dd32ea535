/*
 * Files. Everything is opened O_CLOEXEC; nothing follows a symbolic link in
 * its last component unless it says so. Paths below a directory that a
 * stranger can write go through fs_open_beneath().
 */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/*
 * Descriptors 0 to 2 that whoever started us left closed are taken by /dev/null, opened the wrong way round so that their
 * use still fails: no file that is opened later becomes standard output by its number.
 */
int fs_hold_standard(struct err *e);
/* Everything that was printed to stdout is written, or "standard output: …" is the error: the last thing that main() does. */
int fs_flush_standard(struct err *e);

/* What makes a file the same file. */
struct fs_identity {
	uint64_t dev, ino;
	int64_t size;	  /* bytes */
	int64_t mtime_ns; /* since the epoch */
	int64_t ctime_ns;
};

void fs_identity_of(const struct stat *st, struct fs_identity *ret);
bool fs_identity_equal(const struct fs_identity *a, const struct fs_identity *b);

/* openat2(2) with RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS. Descriptor, or -1. ENOENT: -1 with e->no = ENOENT. */
int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct err *e);
int fs_open_dir(int dirfd, const char *path, struct err *e); /* O_DIRECTORY|O_NOFOLLOW; dirfd may be AT_FDCWD */
/* The names in a directory, from the first on; dirfd stays the caller's. NULL: it cannot be read. */
DIR *fs_list(int dirfd, struct err *e);
/* The next but "." and "..": 1; behind the last 0. -1: what comes is not known, which is not the same as that there is nothing. */
int fs_next(DIR *dir, struct dirent **ret, struct err *e);
/* The same of one that is made, mode 0700, where it is not there, and given to uid and gid where uid is not (uid_t)-1. */
int fs_make_dir_of(int dirfd, const char *path, uid_t uid, gid_t gid, struct err *e);

/* A whole regular file of at most max bytes; NUL behind it that does not count. */
int fs_read_max(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len, struct err *e);
int fs_read_fd_max(int fd, size_t max, char **ret_text, size_t *ret_len, struct err *e);
/* The same of a file that a person or the settings name, which may be a link: of certificates many are. */
int fs_read_named(const char *path, size_t max, char **ret_text, size_t *ret_len, struct err *e);

/*
 * A secret: a regular file, readable by nobody but its owner and a group that is ours or root's, writable by
 * its owner alone, owned by root or us, no link, at most 64 KiB; one trailing newline removed.
 */
int fs_read_secret(const char *path, char **ret, struct err *e);

/*
 * sendmsg(2) and recvmsg(2) of one packet over a Unix socket with one descriptor along (SCM_RIGHTS, unix(7)). Bytes sent or
 * received, -1 with errno; interrupted calls are made again. *ret_fd, the caller's and close-on-exec, is set only where one came.
 */
ssize_t fs_send_fd(int socket, const void *p, size_t n, int fd, int flags);
ssize_t fs_receive_fd(int socket, void *p, size_t n, int flags, int *ret_fd);
/* All n bytes over a socket, waiting for either side until the deadline. False: not in time, or the other end is gone. */
bool fs_send_all(int socket, const void *p, size_t n, int64_t deadline);
bool fs_receive_all(int socket, void *p, size_t n, int64_t deadline);

/* write(2) until all is written. */
int fs_write_all(int fd, const void *p, size_t n, struct err *e);

enum fs_publish {
	FS_DURABLE = 1 << 0, /* fsync of file and directory */
};
/* Write a temporary name beside it, (fsync,) rename over `name`, (fsync of the directory). */
int fs_publish(int dirfd, const char *name, const void *p, size_t n, mode_t mode, unsigned flags,
	       struct err *e);

/* mkdir -p below dirfd. Links to directories are followed (/var/run): for directories of root, not of strangers. */
int fs_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e);

/*
 * Removes a tree without following links or crossing mounts, bounded in depth
 * by descriptors, not by recursion on names. "Not there" is success. Directories
 * that their owner made unreadable are made readable first.
 */
int fs_remove_tree(int dirfd, const char *name, struct err *e);
/* The same of "a/b/c" below dirfd: no link is followed on the way (fs_open_beneath()). */
int fs_remove_beneath(int dirfd, const char *path, struct err *e);

/* copy_file_range(2) with a fallback; exactly `len` bytes from offset, else an error. */
int fs_copy(int from, off_t offset, int to, uint64_t len, struct err *e);

/* Bytes free for us on the filesystem of fd. */
int fs_space_left(int fd, uint64_t *ret_bytes, struct err *e);

/* An exclusive flock(2) on a file that is made when it is not there. Waits until the deadline: ERR_TIMEOUT. Descriptor; closing it unlocks. */
int fs_lock(int dirfd, const char *name, int64_t deadline, struct err *e);
