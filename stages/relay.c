#include "stages/relay.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/mem.h"
#include "base/str.h"

#define HEAD_MAX (16 * 1024)	    /* bytes of a request's head */
#define BODY_MAX (64 * 1024 * 1024) /* of what follows it */
#define READ_WAIT_MS 30000
#define CONNECTIONS_MAX 32
#define CONNECT_TIMEOUT_MS 5000

/* What Trivy 0.74 asks of a server, and nothing that takes anything away. */
static const struct {
	const char *line;
	bool has_body;
} calls[] = {
	{ "GET /version ", false },
	{ "POST /twirp/trivy.cache.v1.Cache/MissingBlobs ", true },
	{ "POST /twirp/trivy.cache.v1.Cache/PutArtifact ", true },
	{ "POST /twirp/trivy.cache.v1.Cache/PutBlob ", true },
	{ "POST /twirp/trivy.scanner.v1.Scanner/Scan ", true },
};

struct connection {
	int fd;
	const struct relay_settings *s;
	atomic_int *n_open;
};

struct request {
	const char *path; /* owned by the caller of parse_head */
	bool has_body, has_token;
	size_t body_len;
};

static bool
read_some(int fd, struct buf *b, int64_t deadline)
{
	char block[16384];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&pfd, 1, clock_poll_timeout(deadline)) <= 0)
		return false;
	n = recv(fd, block, sizeof(block), 0);
	if (n <= 0)
		return false;
	buf_add(b, block, (size_t)n);
	return !b->is_full;
}

static bool
parse_header(const struct relay_settings *s, const char *line, size_t len, struct request *q)
{
	static const char length[] = "Content-Length:", token[] = RELAY_TOKEN_HEADER ":";
	static const char encoding[] = "Transfer-Encoding:", packed[] = "Content-Encoding:";
	AUTO_FREE char *text = mem_strndup(line, len);
	int64_t n;

	if (!strncasecmp(text, encoding, strlen(encoding)) || !strncasecmp(text, packed, strlen(packed)))
		return false;
	if (!strncasecmp(text, length, strlen(length))) {
		const char *value = text + strlen(length);

		if (str_parse_int(value + strspn(value, " "), 0, BODY_MAX, &n, NULL) < 0)
			return false;
		q->body_len = (size_t)n;
	}
	if (!strncasecmp(text, token, strlen(token))) {
		const char *value = text + strlen(token);

		value += strspn(value, " ");
		q->has_token = strlen(value) == strlen(s->local_token) &&
			       CRYPTO_memcmp(value, s->local_token, strlen(value)) == 0;
	}
	return true;
}

/* `head` ends in an empty line; false: not one of the calls. */
static bool
parse_head(const struct relay_settings *s, const char *head, struct request *q)
{
	const char *line = strstr(head, "\r\n");

	for (size_t k = 0; k < MEM_COUNT(calls); k++) {
		if (!str_has_prefix(head, calls[k].line))
			continue;
		q->path = strchr(calls[k].line, '/');
		q->has_body = calls[k].has_body;
	}
	if (!q->path || !line)
		return false;
	for (line += 2; !str_has_prefix(line, "\r\n"); line = strstr(line, "\r\n") + 2)
		if (!parse_header(s, line, strcspn(line, "\r\n"), q) || !strstr(line, "\r\n"))
			return false;
	return true;
}

static void
answer(int fd, int status, const char *type, const char *body, size_t len)
{
	AUTO_BUF struct buf b = BUF_INIT(len + 1024);

	buf_printf(&b, "HTTP/1.1 %d .\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		   status, *type ? type : "application/octet-stream", len);
	buf_add(&b, body, len);
	fs_write_all(fd, b.data, b.len, NULL);
}

/* A word of ours, in the form in which Trivy shows faults of its server. */
static void
answer_fault(int fd, int status, const char *words)
{
	AUTO_BUF struct buf b = BUF_INIT(1024);

	buf_printf(&b, "{\"code\":\"unavailable\",\"msg\":\"%s\"}", words);
	answer(fd, status, "application/json", b.data, b.len);
}

static void
pass_on(const struct connection *c, const struct request *q, const char *body)
{
	const struct relay_settings *s = c->s;
	const struct http_settings settings = { .ca_file = s->ca_file,
						.authorization = s->token,
						.authorization_header = RELAY_TOKEN_HEADER,
						.content_type = q->has_body ? "application/protobuf" : NULL,
						.connect_timeout_ms = CONNECT_TIMEOUT_MS };
	AUTO_FREE char *url = mem_printf("%s%.*s", s->server, (int)strcspn(q->path, " "), q->path);
	const struct http_request r = { .url = url,
					.data = q->has_body ? body : NULL,
					.data_len = q->body_len,
					.body_max = (size_t)s->answer_max,
					.deadline = clock_deadline(s->timeout) };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	AUTO(http) struct http *h = NULL;
	struct err e = ERR_INIT;

	if (http_new(&settings, &h, &e) < 0 || http_send(h, &r, &a, &e) < 0)
		log_line(s->log, LOG_WARN, "Trivy server (trivy.server): %s", e.text);
	else if (a.end != HTTP_ANSWERED)
		log_line(s->log, LOG_WARN, "Trivy server (trivy.server): %s", a.fault);
	else
		return answer(c->fd, a.status, a.content_type, buf_str(&a.body), a.body.len);
	answer_fault(c->fd, 502, "the Trivy server (trivy.server) cannot be reached");
}

static void
serve(const struct connection *c)
{
	AUTO_BUF struct buf in = BUF_INIT(HEAD_MAX + BODY_MAX);
	int64_t deadline = clock_deadline(READ_WAIT_MS);
	AUTO_FREE char *head = NULL;
	const char *end = NULL;
	struct request q = { 0 };
	size_t head_len;

	while (!(end = in.len ? memmem(in.data, in.len, "\r\n\r\n", 4) : NULL))
		if (in.len > HEAD_MAX || !read_some(c->fd, &in, deadline))
			return;
	head_len = (size_t)(end - in.data) + 4;
	head = mem_strndup(in.data, head_len);
	if (strlen(head) != head_len || !parse_head(c->s, head, &q))
		return answer_fault(c->fd, 403, "not a call that is passed on");
	if (!q.has_token)
		return answer_fault(c->fd, 401, "not this inspection's token");
	while (in.len < head_len + q.body_len)
		if (!read_some(c->fd, &in, deadline))
			return;
	pass_on(c, &q, in.data + head_len);
}

static void *
serve_thread(void *arg)
{
	struct connection *c = arg;

	serve(c);
	close(c->fd);
	atomic_fetch_sub(c->n_open, 1);
	free(c);
	return NULL;
}

void
relay_serve(int listen_fd, const struct relay_settings *s)
{
	static atomic_int n_open;

	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		struct connection *c;
		pthread_t thread;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			return;
		c = mem_alloc(sizeof(*c));
		*c = (struct connection){ .fd = fd, .s = s, .n_open = &n_open };
		if (atomic_fetch_add(&n_open, 1) >= CONNECTIONS_MAX ||
		    pthread_create(&thread, NULL, serve_thread, c) != 0) {
			atomic_fetch_sub(&n_open, 1);
			close(fd);
			free(c);
			continue;
		}
		pthread_detach(thread);
	}
}
