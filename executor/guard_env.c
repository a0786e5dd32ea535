#include "executor/guard_env.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define ENV_FILE "gitlab_runner_env"

/* Names; one that ends in `*` is a prefix. Letters of either case: proxies have both. */
static const char *const ruling[] = {
	"PATH",	       "LD_*",		 "GLIBC_TUNABLES",  "GCONV_PATH", "LOCPATH",
	"NLSPATH",     "MALLOC_*",	 "BASH*",	    "ENV",	  "SHELLOPTS",
	"IFS",	       "CDPATH",	 "GLOBIGNORE",	    "EXECIGNORE", "PS4",
	"FUNCNEST",    "PROMPT_COMMAND", "POSIXLY_CORRECT", "GIT_*",	  "SSH_*",
	"HOME",	       "XDG_*",		 "TMPDIR",	    "CI_*",	  "TIDEWAITER_*",
	"HTTP_PROXY",  "HTTPS_PROXY",	 "ALL_PROXY",	    "NO_PROXY",	  "SSL_CERT_*",
	"HOSTALIASES", "LOCALDOMAIN",	 "RES_OPTIONS",	    "GODEBUG",
};

static bool
is_ruling(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < MEM_COUNT(ruling); i++) {
		size_t n = strlen(ruling[i]);
		bool is_prefix = ruling[i][n - 1] == '*';

		n -= is_prefix ? 1 : 0;
		if ((is_prefix ? len >= n : len == n) && strncasecmp(name, ruling[i], n) == 0)
			return true;
	}
	return false;
}

/* As `read -r` and `export` take it: blanks around do not count, NAME+=value appends. */
static bool
is_kept(const char *line, size_t len)
{
	size_t n = 0;

	while (len > 0 && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	while (n < len && line[n] != '=' && line[n] != '+' && line[n] != ' ' && line[n] != '\t' &&
	       line[n] != '[')
		n++;
	/* An option of export; and bash drops NULs, so a name with one in it is another name. */
	return len > 0 && line[0] != '-' && !memchr(line, '\0', len) && !is_ruling(line, n);
}

void
guard_filter_env(const char *text, size_t len, struct buf *kept)
{
	size_t at = 0;

	while (at < len) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - (text + at)) + 1 : len - at;

		/* The rest without a newline is not read by the script; written after a removed line it still is none. */
		if (is_kept(text + at, end ? n - 1 : n))
			buf_add(kept, text + at, n);
		at += n;
	}
}

/* <project>.tmp beneath the slot's builds directory. Descriptor, or -1; ENOENT: none. */
static int
open_temp_dir(const struct plan *p, struct err *e)
{
	size_t len = strlen(p->builds_dir);
	AUTO_FREE char *below = NULL;
	AUTO_FD int builds = -1;

	if (strncmp(p->project_dir, p->builds_dir, len) != 0 || p->project_dir[len] != '/')
		return err_set(e, ERR_FAILED, "project directory %s is not below %s", p->project_dir,
			       p->builds_dir);
	below = mem_printf("%s.tmp", p->project_dir + len + 1);
	builds = fs_open_dir(AT_FDCWD, p->builds_dir, e);
	if (builds < 0)
		return -1;
	return fs_open_beneath(builds, below, O_RDONLY | O_DIRECTORY, 0, e);
}

static int
rewrite(int dirfd, const struct stat *st, const struct buf *kept, struct err *e)
{
	AUTO_FD int fd = -1;

	if (fs_publish(dirfd, ENV_FILE, buf_str(kept), kept->len, 0600, 0, e) < 0)
		return -1;
	fd = openat(dirfd, ENV_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (geteuid() == 0 && fchown(fd, st->st_uid, st->st_gid) < 0))
		return err_errno(e, ENV_FILE);
	return 0;
}

static int
clean_file(int dirfd, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, ENV_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	AUTO_BUF struct buf kept = BUF_INIT(GUARD_ENV_MAX);
	struct stat st;
	size_t len;

	if (fd < 0 && errno == ENOENT)
		return 0;
	/* A link, a FIFO, a directory, a hill of bytes: the script makes the file anew. */
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > GUARD_ENV_MAX)
		return fs_remove_tree(dirfd, ENV_FILE, e);
	if (fs_read_fd_max(fd, GUARD_ENV_MAX, &text, &len, e) < 0)
		return -1;
	guard_filter_env(text, len, &kept);
	return kept.len == len ? 0 : rewrite(dirfd, &st, &kept, e);
}

int
guard_clean_env(const struct plan *p, struct err *e)
{
	struct err why = ERR_INIT;
	AUTO_FD int dir = -1;

	if (str_is_empty(p->project_dir))
		return 0;
	dir = open_temp_dir(p, &why);
	if (dir >= 0)
		return clean_file(dir, e);
	if (why.no == ENOENT)
		return 0;
	if (e)
		*e = why;
	return -1;
}
