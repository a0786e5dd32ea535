/* The settings' file: whoever can write it is root, for it names programs, users and directories. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "executor/settings.h"

static const char *
us(void)
{
	return geteuid() == 0 ? "root" : "you";
}

/* As an ordinary user a group may write: on many systems everybody has a group of his own. */
static int
check_owner(const char *what, const struct stat *st, struct err *e)
{
	mode_t others = geteuid() == 0 ? S_IWGRP | S_IWOTH : S_IWOTH;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(e, ERR_SETTINGS,
			       "%s belongs to uid %u, and would rule what runs as %s, allowed is root%s: chown it",
			       what, st->st_uid, us(), geteuid() == 0 ? "" : " or you");
	if (S_ISLNK(st->st_mode))
		return 0;
	/* A directory such as /tmp: others may add to it, and not replace what is there. */
	if ((st->st_mode & others) && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return err_set(e, ERR_SETTINGS,
			       "%s is writable by others than %s (mode %04o), and would rule what runs as %s: chmod %s it",
			       what, us(), st->st_mode & 07777, us(), geteuid() == 0 ? "go-w" : "o-w");
	return 0;
}

/* A directory and all above it: who can rename one of them can put another in its place. */
static int
check_dirs_up(const char *dir, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;

	if (!realpath(dir, path))
		return err_errno(e, "%s", dir);
	for (;;) {
		char *slash = strrchr(path, '/');

		if (stat(path[0] ? path : "/", &st) < 0)
			return err_errno(e, "%s", path);
		if (check_owner(path[0] ? path : "/", &st, e) < 0)
			return -1;
		if (!slash || path[1] == '\0')
			return 0;
		*slash = '\0';
	}
}

static char *
directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
}

/* The file may be a link (configuration management makes them): both it and its target are looked at. */
static int
check_place(const char *path, struct err *e)
{
	AUTO_FREE char *dir = directory_of(path), *target_dir = NULL;
	char target[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_errno(e, "%s", path);
	if (check_owner(path, &st, e) < 0 || check_dirs_up(dir, e) < 0)
		return -1;
	if (!S_ISLNK(st.st_mode))
		return 0;
	if (!realpath(path, target))
		return err_errno(e, "%s", path);
	target_dir = directory_of(target);
	return check_dirs_up(target_dir, e);
}

static int
open_trusted(const char *path, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_SETTINGS,
			       "%s is not there: make it with `tidewaiter config show --example` or name another with --config FILE",
			       path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SETTINGS, "%s is %s, allowed is a regular file", path,
			       S_ISDIR(st.st_mode) ? "a directory" : "no file");
	if (st.st_size > SETTINGS_MAX)
		return err_set(e, ERR_SETTINGS, "%s has %lld bytes, allowed are %d", path,
			       (long long)st.st_size, SETTINGS_MAX);
	if (check_owner(path, &st, e) < 0 || check_place(path, e) < 0)
		return -1;
	return take_fd(fd);
}

int
settings_read_text(const char *path, char **ret, size_t *ret_len, struct err *e)
{
	AUTO_FD int fd = open_trusted(path, e);

	if (fd < 0)
		return -1;
	if (fs_read_fd_max(fd, SETTINGS_MAX, ret, ret_len, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}
