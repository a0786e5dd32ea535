#include "stages/policy_feed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "stages/confine.h"
#include "stages/policy.h"
#include "stages/policy_git.h"

#define MARGIN_MS 5000
#define LINE_MAX_LEN ((size_t)16384) /* bytes of name, origin or note */

struct policy_feed {
	pid_t pid, parent;
	int end_fd;    /* hung up when the process has ended */
	int answer_fd; /* a file in memory */
	int64_t deadline;
};

/* In front of the texts, in their order. */
struct head {
	struct err fault;
	int64_t fetched_s;
	size_t text, name, origin, note; /* bytes of each; SIZE_MAX: there is none */
};

static size_t
size_of(const char *s)
{
	return s ? strlen(s) : SIZE_MAX;
}

static int
write_answer(int fd, const struct policy_source *s)
{
	struct head h = { .fault = s->fault,
			  .fetched_s = s->fetched_s,
			  .text = s->text ? s->len : SIZE_MAX,
			  .name = size_of(s->name),
			  .origin = size_of(s->origin),
			  .note = size_of(s->note) };

	if (fs_write_all(fd, &h, sizeof(h), NULL) < 0 ||
	    (s->text && fs_write_all(fd, s->text, s->len, NULL) < 0) ||
	    (s->name && fs_write_all(fd, s->name, h.name, NULL) < 0) ||
	    (s->origin && fs_write_all(fd, s->origin, h.origin, NULL) < 0))
		return -1;
	return s->note ? fs_write_all(fd, s->note, h.note, NULL) : 0;
}

/* In the child; does not return. */
static void
feed_main(const struct policy_feed *f, const struct options *o, const char *state_dir, uid_t uid, gid_t gid,
	  unsigned flags)
{
	AUTO_POLICY_SOURCE struct policy_source s = { 0 };

	if (confine_beside(uid, gid, f->parent, &s.fault) < 0)
		_exit(1);
	policy_git_load(o, state_dir, flags, NULL, &s);
	_exit(write_answer(f->answer_fd, &s) < 0);
}

/* From here on, and in all that is forked, the answer can be read alone: the scanner is not to write what the fetcher parses. */
static int
keep_reading(struct policy_feed *f, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/proc/self/fd/%d", f->answer_fd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(e, "open");
	close(f->answer_fd);
	f->answer_fd = fd;
	return 0;
}

static int
feed_start(const struct options *o, const char *state_dir, uid_t uid, gid_t gid, unsigned flags,
	   struct policy_feed *f, struct err *e)
{
	AUTO_FD int held = -1;
	int ends[2];

	if (policy_git_make_dir(state_dir, uid, gid, e) < 0)
		return -1;
	f->answer_fd = memfd_create("policy", MFD_CLOEXEC);
	if (f->answer_fd < 0 || fchmod(f->answer_fd, 0600) < 0)
		return err_errno(e, "memfd_create");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	f->end_fd = ends[0];
	held = ends[1];
	f->deadline = clock_deadline(2 * o->policy.fetch_timeout + MARGIN_MS);
	fflush(NULL);
	f->pid = fork();
	if (f->pid < 0)
		return err_errno(e, "fork");
	if (f->pid == 0)
		feed_main(f, o, state_dir, uid, gid, flags);
	return keep_reading(f, e);
}

void
policy_feed_begin(const struct options *o, const char *state_dir, uid_t uid, gid_t gid, unsigned flags,
		  struct policy_source *ret)
{
	struct policy_feed *f;

	if (str_is_empty(o->policy.url)) {
		policy_source_load(&o->policy, ret);
		return;
	}
	f = mem_alloc(sizeof(*f));
	*f = (struct policy_feed){ .pid = -1, .parent = getpid(), .end_fd = -1, .answer_fd = -1 };
	ret->feed = f;
	if (feed_start(o, state_dir, uid, gid, flags, f, &ret->fault) == 0)
		return;
	err_wrap(&ret->fault, "policy of %s", o->policy.url);
	policy_feed_free(take_ptr(ret->feed));
}

/* ---- reading ---- */

static bool
has_ended(const struct policy_feed *f)
{
	struct pollfd pfd = { .fd = f->end_fd, .events = POLLIN };

	for (;;) {
		int n = poll(&pfd, 1, clock_poll_timeout(f->deadline));

		if (n < 0 && errno == EINTR)
			continue;
		return n > 0;
	}
}

/* Where it has its place: no descriptor's position is touched, for others read the same file. */
static bool
read_text(int fd, off_t *at, size_t size, size_t max, char **ret)
{
	AUTO_FREE char *s = NULL;

	if (size == SIZE_MAX)
		return true;
	if (size > max)
		return false;
	s = mem_alloc(size + 1);
	if (pread(fd, s, size, *at) != (ssize_t)size)
		return false;
	*at += (off_t)size;
	*ret = take_ptr(s);
	return true;
}

static bool
read_answer(const struct policy_feed *f, struct policy_source *ret)
{
	AUTO_FREE struct head *h = mem_alloc(sizeof(*h));
	off_t at = sizeof(*h);

	if (pread(f->answer_fd, h, sizeof(*h), 0) != sizeof(*h) ||
	    !memchr(h->fault.text, '\0', sizeof(h->fault.text)) || (unsigned)h->fault.kind > ERR_NO_SPACE)
		return false;
	if (!read_text(f->answer_fd, &at, h->text, POLICY_MAX, &ret->text) ||
	    !read_text(f->answer_fd, &at, h->name, LINE_MAX_LEN, &ret->name) ||
	    !read_text(f->answer_fd, &at, h->origin, LINE_MAX_LEN, &ret->origin) ||
	    !read_text(f->answer_fd, &at, h->note, LINE_MAX_LEN, &ret->note))
		return false;
	ret->len = ret->text ? h->text : 0;
	ret->fetched_s = h->fetched_s;
	ret->fault = h->fault;
	return ret->text || ret->fault.kind != ERR_NONE;
}

void
policy_feed_wait(struct policy_source *s)
{
	struct policy_source got = { 0 };

	if (!s->feed)
		return;
	if (!has_ended(s->feed)) {
		err_set(&got.fault, ERR_TIMEOUT, "the policy did not come in time (policy.fetch_timeout)");
	} else if (!read_answer(s->feed, &got)) {
		policy_source_free(&got);
		err_set(&got.fault, ERR_FAILED, "the process that brings the policy ended early");
	}
	policy_source_free(s);
	*s = got;
}

void
policy_feed_free(struct policy_feed *f)
{
	if (!f)
		return;
	mem_close_at(&f->end_fd);
	mem_close_at(&f->answer_fd);
	/* a copy of it in a process that was forked has no child to end */
	if (f->pid > 0 && f->parent == getpid())
		proc_kill(f->pid);
	mem_free_at(&f);
}
