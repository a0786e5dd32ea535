#include "tests/unit/canned_server.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define REQUEST_MAX (64 * 1024 * 1024)
#define REQUESTS_MAX 64
#define EARLY (64 * 1024)

struct canned {
	int fd, stop[2];
	char url[64];
	pthread_t thread;
	pthread_mutex_t lock;
	struct canned_reply replies[REQUESTS_MAX];
	size_t n_replies;
	char *requests[REQUESTS_MAX];
	size_t n_requests;
};

static void
must(bool is_true, const char *what)
{
	if (!is_true) {
		perror(what);
		abort();
	}
}

/* Reads until `max` bytes, or all that Content-Length announces. */
static void
read_request(int fd, struct buf *b, size_t max, bool head_only)
{
	size_t wanted = SIZE_MAX;

	while (b->len < wanted && b->len < max) {
		char chunk[16384];
		ssize_t n = read(fd, chunk, sizeof(chunk));
		const char *end, *length;

		if (n <= 0)
			return;
		buf_add(b, chunk, (size_t)n);
		end = strstr(buf_str(b), "\r\n\r\n");
		if (wanted != SIZE_MAX || !end)
			continue;
		if (head_only)
			return;
		length = strcasestr(buf_str(b), "\r\nContent-Length:");
		wanted = (size_t)(end + 4 - buf_str(b)) +
			 (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
	}
}

static void
write_text(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void
keep(struct canned *c, struct buf *b)
{
	pthread_mutex_lock(&c->lock);
	if (c->n_requests < REQUESTS_MAX)
		c->requests[c->n_requests++] = mem_strndup(buf_str(b), b->len);
	pthread_mutex_unlock(&c->lock);
}

static void
serve(struct canned *c, int fd, const struct canned_reply *r)
{
	AUTO_BUF struct buf b = BUF_INIT(REQUEST_MAX);
	struct linger reset = { .l_onoff = 1 };
	char byte;

	if (r->manner != CANNED_ANSWER_BLIND)
		read_request(fd, &b, r->manner == CANNED_RESET_EARLY ? EARLY : REQUEST_MAX,
			     r->manner == CANNED_ANSWER_EARLY);
	keep(c, &b);
	switch (r->manner) {
	case CANNED_ANSWER:
	case CANNED_ANSWER_BLIND:
		write_text(fd, r->text);
		break;
	case CANNED_HANG:
		must(read(c->stop[0], &byte, 1) >= 0, "read");
		break;
	case CANNED_RESET_EARLY:
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		break;
	case CANNED_ANSWER_EARLY:
		write_text(fd, r->text);
		shutdown(fd, SHUT_WR);
		while (read(fd, &byte, 1) > 0)
			;
		break;
	}
}

static void *
run(void *arg)
{
	struct canned *c = arg;

	for (size_t i = 0;; i++) {
		int fd = accept(c->fd, NULL, NULL);

		if (fd < 0)
			return NULL;
		if (i < c->n_replies)
			serve(c, fd, &c->replies[i]);
		close(fd);
	}
}

struct canned *
canned_start(const struct canned_reply *replies, size_t n)
{
	struct canned *c = mem_alloc(sizeof(*c));
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	must(n <= REQUESTS_MAX, "too many replies");
	if (n)
		memcpy(c->replies, replies, n * sizeof(*replies));
	c->n_replies = n;
	pthread_mutex_init(&c->lock, NULL);
	must(pipe(c->stop) == 0, "pipe");
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(c->fd >= 0 && bind(c->fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(c->fd, 16) == 0 &&
		     getsockname(c->fd, (struct sockaddr *)&a, &len) == 0,
	     "listen");
	snprintf(c->url, sizeof(c->url), "http://127.0.0.1:%u", ntohs(a.sin_port));
	must(pthread_create(&c->thread, NULL, run, c) == 0, "thread");
	return c;
}

void
canned_stop(struct canned *c)
{
	close(c->stop[1]);
	shutdown(c->fd, SHUT_RDWR);
	pthread_join(c->thread, NULL);
	close(c->fd);
	close(c->stop[0]);
	for (size_t i = 0; i < c->n_requests; i++)
		free(c->requests[i]);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

const char *
canned_url(const struct canned *c)
{
	return c->url;
}

size_t
canned_count(struct canned *c)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = c->n_requests;
	pthread_mutex_unlock(&c->lock);
	return n;
}

const char *
canned_request(struct canned *c, size_t index)
{
	const char *s;

	pthread_mutex_lock(&c->lock);
	s = index < c->n_requests ? c->requests[index] : NULL;
	pthread_mutex_unlock(&c->lock);
	return s;
}

char *
canned_json(const char *status, const char *body)
{
	return mem_printf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
			  status, strlen(body), body);
}
