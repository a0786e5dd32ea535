#include "stages/git_child.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"

#define OBJECT_MAX ((size_t)64 << 20) /* bytes of one object in a pack, where libgit2 can be told */
#define OBJECTS_MAX ((size_t)1 << 20) /* of one pack */
#define WINDOW ((size_t)16 << 20)     /* of a pack that is mapped at once */
#define WINDOWS_MAX ((size_t)256 << 20)
#define SHOWN_MAX 300 /* code points of what libgit2 says */

/* In front of the bytes. */
struct head {
	int rc;
	struct err e;
	size_t len;
};

int
git_fault(struct err *e, const char *fmt, ...)
{
	const git_error *last = git_error_last();
	int no = errno;
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *why = str_safe(last && last->message ? last->message : "no reason given", SHOWN_MAX);
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	if (last && last->klass == GIT_ERROR_OS && (no == ENOSPC || no == EDQUOT || no == EFBIG))
		return err_set(e, ERR_NO_SPACE, "%s: %s", text, why);
	return err_set(e, ERR_FAILED, "%s: %s", text, why);
}

/* ---- the child ---- */

static int
limit(int what, uint64_t max, struct err *e)
{
	struct rlimit l = { .rlim_cur = max, .rlim_max = max };

	return setrlimit(what, &l) < 0 ? err_errno(e, "setrlimit") : 0;
}

static int
set_limits(const struct git_limits *l, struct err *e)
{
	if (limit(RLIMIT_CORE, 0, e) < 0)
		return -1;
	if (l->file_max > 0 && limit(RLIMIT_FSIZE, l->file_max, e) < 0)
		return -1;
#if !defined(__SANITIZE_ADDRESS__)
	if (l->memory_max > 0 && limit(RLIMIT_AS, l->memory_max, e) < 0)
		return -1;
#endif
	return 0;
}

static int
start_library(struct err *e)
{
	static const int levels[] = { GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM,
				      GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL };

	if (git_libgit2_init() < 0)
		return git_fault(e, "libgit2");
	for (size_t i = 0; i < MEM_COUNT(levels); i++)
		if (git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "") < 0)
			return git_fault(e, "libgit2: search path");
	if (git_libgit2_opts(GIT_OPT_SET_TEMPLATE_PATH, "") < 0 ||
	    git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 1) < 0 ||
	    git_libgit2_opts(GIT_OPT_ENABLE_CACHING, 0) < 0 ||
	    git_libgit2_opts(GIT_OPT_SET_MWINDOW_SIZE, WINDOW) < 0 ||
	    git_libgit2_opts(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, WINDOWS_MAX) < 0 ||
	    git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECTS, OBJECTS_MAX) < 0)
		return git_fault(e, "libgit2: options");
#ifdef HAVE_GIT_PACK_MAX_OBJECT_SIZE /* without it set_limits() alone stands in the way of a large one */
	if (git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECT_SIZE, OBJECT_MAX) < 0)
		return git_fault(e, "libgit2: options");
#endif
	return 0;
}

static int
set_home(const char *home, struct err *e)
{
	int rc = home ? setenv("HOME", home, 1) : unsetenv("HOME");

	return rc < 0 ? err_errno(e, "HOME") : 0;
}

/* Does not return. */
static void
child_main(const struct git_limits *l, git_work *work, void *arg, pid_t parent, int to)
{
	struct head *h = mem_alloc(sizeof(*h));
	struct buf out = BUF_INIT(l->answer_max);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* a file that is too large and a connection that is gone are errors, not deaths */
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	if (proc_die_with(parent) != 0)
		_exit(1);
	if (set_limits(l, &h->e) < 0 || set_home(l->home, &h->e) < 0 || start_library(&h->e) < 0)
		h->rc = -1;
	else
		h->rc = work(arg, &out, &h->e);
	if (h->rc == 0 && out.is_full)
		h->rc = err_set(&h->e, ERR_NO_SPACE, "more than %zu bytes", l->answer_max);
	h->len = h->rc == 0 ? out.len : 0;
	if (fs_write_all(to, h, sizeof(*h), NULL) < 0 || fs_write_all(to, buf_str(&out), h->len, NULL) < 0)
		_exit(1);
	_exit(0);
}

/* ---- the parent ---- */

/* All that it writes until it ends. False: its time was over, or we were stopped. */
static bool
collect(const struct git_limits *l, int from, struct buf *all)
{
	struct pollfd fds[2] = { { .fd = from, .events = POLLIN },
				 { .fd = l->stop_fd ? *l->stop_fd : -1, .events = POLLIN } };

	for (;;) {
		char piece[16384];
		ssize_t n;
		int ready = poll(fds, 2, clock_poll_timeout(l->deadline));

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0 || (fds[1].revents & (POLLIN | POLLERR)))
			return false;
		if (!fds[0].revents)
			continue;
		n = read(from, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return true;
		buf_add(all, piece, (size_t)n);
	}
}

static int
take_answer(const struct git_limits *l, const struct buf *all, int status, struct buf *ret, struct err *e)
{
	struct head *h = (struct head *)(void *)all->data;

	if (all->is_full || all->len < sizeof(*h) || all->len - sizeof(*h) != h->len ||
	    h->len > l->answer_max || !memchr(h->e.text, '\0', sizeof(h->e.text))) {
		const struct proc_result how = { .end = WIFSIGNALED(status) ? PROC_SIGNALLED : PROC_EXITED,
						 .code = WIFSIGNALED(status) ? WTERMSIG(status)
									     : WEXITSTATUS(status) };
		AUTO_FREE char *words = proc_describe(&how);

		return err_set(e, ERR_FAILED, "the process that reads Git %s", words);
	}
	if (h->rc < 0) {
		if (e)
			*e = h->e;
		return -1;
	}
	buf_add(ret, all->data + sizeof(*h), h->len);
	return ret->is_full ? err_set(e, ERR_NO_SPACE, "more than %zu bytes", ret->max) : 0;
}

int
git_child_run(const struct git_limits *l, git_work *work, void *arg, struct buf *ret, struct err *e)
{
	AUTO_BUF struct buf all = BUF_INIT(sizeof(struct head) + l->answer_max);
	AUTO_FD int from = -1;
	AUTO_FD int to = -1;
	pid_t parent = getpid(), pid;
	bool is_whole;
	int ends[2], status = 0;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	from = ends[0];
	to = ends[1];
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0) {
		close(take_fd(from));
		child_main(l, work, arg, parent, to);
	}
	mem_close_at(&to);
	is_whole = collect(l, from, &all);
	if (!is_whole)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!is_whole)
		return err_set(e, ERR_TIMEOUT, "it took longer than its time");
	return take_answer(l, &all, status, ret, e);
}
