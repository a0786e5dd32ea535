#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/http_local.h"
#include "base/mem.h"
#include "stages/engine.h"

#define LIST_PATH "/images/json"
#define LIST_TIMEOUT_MS 60000
#define REASON_MAX 512
#define PIPE_SIZE (1024 * 1024)

enum kind { KIND_LIST, KIND_EXPORT };

/* What the process that parses asks for; a pipe to write to comes with it. */
struct request {
	uint32_t kind, engine, len;
	char names[ENGINE_NAMES_MAX]; /* len bytes, a NUL behind each */
};

struct reply {
	int32_t rc, no;
	char reason[REASON_MAX];
};

static bool
write_on(void *arg, const void *p, size_t n)
{
	return fs_write_all(*(const int *)arg, p, n, NULL) == 0;
}

int
engine_fetch_list(const char *socket, struct buf *ret, struct err *e)
{
	AUTO(http_local) struct http_local *h = NULL;

	if (http_local_new(socket, &h, e) < 0)
		return -1;
	return http_local_get_text(h, LIST_PATH, clock_deadline(LIST_TIMEOUT_MS), ret, e);
}

/* ---- who talks to engines ---- */

static bool
is_request(const struct request *r, size_t len, const struct strv *sockets)
{
	const size_t head = offsetof(struct request, names);

	if (len < head || len - head != r->len || r->engine >= sockets->n)
		return false;
	if (r->kind == KIND_LIST)
		return r->len == 0;
	return r->kind == KIND_EXPORT && r->len > 1 && r->names[r->len - 1] == '\0';
}

static char *
target_of(const struct request *r)
{
	AUTO_BUF struct buf b = BUF_INIT(ENGINE_NAMES_MAX * 8);

	if (r->kind == KIND_LIST)
		return mem_strdup(LIST_PATH);
	buf_add_str(&b, "/images/get");
	for (const char *at = r->names; at < r->names + r->len; at += strlen(at) + 1) {
		AUTO_FREE char *name = http_escape(at);

		buf_printf(&b, "%cnames=%s", at == r->names ? '?' : '&', name);
	}
	return buf_take(&b);
}

static int
serve_one(const char *socket, const struct request *r, int to, int64_t export_timeout_ms, struct err *e)
{
	AUTO(http_local) struct http_local *h = NULL;
	AUTO_FREE char *target = target_of(r);
	const struct http_local_sink sink = { write_on, &to };

	if (http_local_new(socket, &h, e) < 0)
		return -1;
	return http_local_get(h, target, &sink,
			      clock_deadline(r->kind == KIND_LIST ? LIST_TIMEOUT_MS : export_timeout_ms), e);
}

void
engine_serve(int fd, const struct strv *sockets, int64_t export_timeout_ms)
{
	AUTO_FREE struct request *r = mem_alloc(sizeof(*r));

	/* a reader that refuses an archive goes away in the midst of it */
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		AUTO_FD int to = -1;
		struct reply reply = { .rc = -1 };
		struct err e = ERR_INIT;
		ssize_t got = fs_receive_fd(fd, r, sizeof(*r), 0, &to);

		if (got <= 0)
			return;
		if (to < 0 || !is_request(r, (size_t)got, sockets))
			err_set(&e, ERR_FAILED, "no valid request");
		else
			reply.rc = serve_one(sockets->v[r->engine], r, to, export_timeout_ms, &e);
		mem_close_at(&to);
		reply.no = e.no;
		strncpy(reply.reason, e.text, sizeof(reply.reason) - 1);
		if (send(fd, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply))
			return;
	}
}

/* ---- who parses ---- */

static int
ask(int fd, const struct request *r, int *ret_from, struct err *e)
{
	AUTO_FD int from = -1;
	AUTO_FD int to = -1;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	from = ends[0];
	to = ends[1];
	/* as much as an ordinary process may have; smaller is only slower */
	(void)fcntl(to, F_SETPIPE_SZ, PIPE_SIZE);
	if (fs_send_fd(fd, r, offsetof(struct request, names) + r->len, to, MSG_NOSIGNAL) < 0)
		return err_errno(e, "the process that talks to engines");
	*ret_from = take_fd(from);
	return 0;
}

int
engine_export_end(int fd, struct err *e)
{
	struct reply reply;
	int none = -1;

	if (fs_receive_fd(fd, &reply, sizeof(reply), 0, &none) != sizeof(reply))
		return err_set(e, ERR_FAILED, "the process that talks to engines is gone");
	if (reply.rc == 0)
		return 0;
	err_set(e, ERR_FAILED, "%.*s", REASON_MAX, reply.reason);
	if (e)
		e->no = reply.no;
	return -1;
}

static int
read_all(int from, struct buf *b, struct err *e)
{
	char chunk[16384];
	ssize_t got;

	while ((got = read(from, chunk, sizeof(chunk))) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		buf_add(b, chunk, (size_t)got);
		if (b->is_full)
			return err_set(e, ERR_NO_SPACE, "the list of images has more than %zu bytes", b->max);
	}
	return 0;
}

int
engine_list(int fd, size_t engine, struct engine_images *ret, struct err *e)
{
	AUTO_FREE struct request *r = mem_alloc(sizeof(*r));
	AUTO_BUF struct buf body = BUF_INIT(ENGINE_LIST_MAX);
	AUTO_FD int from = -1;
	struct err end = ERR_INIT;
	int rc;

	r->kind = KIND_LIST;
	r->engine = (uint32_t)engine;
	if (ask(fd, r, &from, e) < 0)
		return -1;
	rc = read_all(from, &body, e);
	mem_close_at(&from);
	/* the reply is taken in any case, or the next question would get it */
	if (engine_export_end(fd, &end) < 0 && rc == 0) {
		if (e)
			*e = end;
		return -1;
	}
	return rc < 0 ? -1 : engine_parse_list(buf_str(&body), body.len, ret, e);
}

/* By its names, so that the archive says them; by id where there are none. */
int
engine_export_start(int fd, size_t engine, const struct engine_image *m, int *ret_from, struct err *e)
{
	AUTO_FREE struct request *r = mem_alloc(sizeof(*r));

	r->kind = KIND_EXPORT;
	r->engine = (uint32_t)engine;
	for (size_t i = 0; i < m->tags.n || i == 0; i++) {
		const char *name = m->tags.n ? m->tags.v[i] : m->id;
		size_t len = strlen(name) + 1;

		if (len > sizeof(r->names) - r->len)
			return err_set(e, ERR_NO_SPACE, "its names have more than %d bytes", ENGINE_NAMES_MAX);
		memcpy(r->names + r->len, name, len);
		r->len += (uint32_t)len;
	}
	return ask(fd, r, ret_from, e);
}
