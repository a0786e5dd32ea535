#include "base/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

struct wire {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl; /* NULL: plain */
};

void
wire_free(struct wire *w)
{
	if (!w)
		return;
	SSL_free(w->ssl);
	SSL_CTX_free(w->ctx);
	mem_close_at(&w->fd);
	mem_free_at(&w);
}

static int
wait_for(int fd, short events, int64_t deadline, struct err *e)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int n;

	do
		n = poll(&pfd, 1, clock_poll_timeout(deadline));
	while ((n < 0 && errno == EINTR) || (n == 0 && clock_left_ms(deadline) > 0));
	if (n < 0)
		return err_errno(e, "poll");
	return n == 0 ? err_set(e, ERR_TIMEOUT, "no answer in time") : 0;
}

static int
connect_to(const struct addrinfo *a, int64_t deadline, struct err *e)
{
	AUTO_FD int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	int no = 0, on = 1;
	socklen_t len = sizeof(no);

	if (fd < 0)
		return err_errno(e, "socket");
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return err_errno(e, "connect");
		if (wait_for(fd, POLLOUT, deadline, e) < 0)
			return -1;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &no, &len) < 0 || no) {
			errno = no ? no : errno;
			return err_errno(e, "connect");
		}
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return take_fd(fd);
}

static int
connect_any(const struct wire_settings *s, int64_t deadline, struct err *e)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int rc = getaddrinfo(s->host, s->port, &hints, &list), fd = -1;

	if (rc != 0)
		return err_set(e, ERR_FAILED, "%s: %s", s->host, gai_strerror(rc));
	for (const struct addrinfo *a = list; a && fd < 0 && clock_left_ms(deadline) > 0; a = a->ai_next) {
		err_clear(e);
		fd = connect_to(a, deadline, e);
	}
	freeaddrinfo(list);
	return fd < 0 && e && e->kind == ERR_NONE ? err_set(e, ERR_TIMEOUT, "no answer in time") : fd;
}

/* What OpenSSL has to say, for people. */
static int
ssl_fault(const struct wire *w, const char *what, struct err *e)
{
	long verdict = w->ssl ? SSL_get_verify_result(w->ssl) : X509_V_OK;
	const char *why = verdict != X509_V_OK ? X509_verify_cert_error_string(verdict)
					       : ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return err_set(e, ERR_FAILED, "%s: %s", what, why ? why : "the connection was closed");
}

/* After a call that did not succeed: 0 when it is to be called again. */
static int
ssl_again(const struct wire *w, int rc, const char *what, int64_t deadline, struct err *e)
{
	switch (SSL_get_error(w->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(w->fd, POLLIN, deadline, e);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(w->fd, POLLOUT, deadline, e);
	default:
		return ssl_fault(w, what, e);
	}
}

static int
start_tls(struct wire *w, const struct wire_settings *s, int64_t deadline, struct err *e)
{
	struct in6_addr address;
	bool is_address =
		inet_pton(AF_INET, s->host, &address) == 1 || inet_pton(AF_INET6, s->host, &address) == 1;
	int rc;

	w->ctx = SSL_CTX_new(TLS_client_method());
	if (!w->ctx || SSL_CTX_set_min_proto_version(w->ctx, TLS1_2_VERSION) != 1)
		return ssl_fault(w, "TLS", e);
	SSL_CTX_set_verify(w->ctx, SSL_VERIFY_PEER, NULL);
	if (str_is_empty(s->ca_file) ? SSL_CTX_set_default_verify_paths(w->ctx) != 1
				     : SSL_CTX_load_verify_locations(w->ctx, s->ca_file, NULL) != 1)
		return ssl_fault(w, str_is_empty(s->ca_file) ? "the system's CA certificates" : s->ca_file, e);
	w->ssl = SSL_new(w->ctx);
	if (!w->ssl || SSL_set_fd(w->ssl, w->fd) != 1)
		return ssl_fault(w, "TLS", e);
	if (is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(w->ssl), s->host) != 1
		       : SSL_set1_host(w->ssl, s->host) != 1 || SSL_set_tlsext_host_name(w->ssl, s->host) != 1)
		return ssl_fault(w, "TLS", e);
	while ((rc = SSL_connect(w->ssl)) != 1)
		if (ssl_again(w, rc, "TLS", deadline, e) < 0)
			return -1;
	return 0;
}

int
wire_open(const struct wire_settings *s, int64_t deadline, struct wire **ret, struct err *e)
{
	AUTO(wire) struct wire *w = mem_alloc(sizeof(*w));

	w->fd = connect_any(s, deadline, e);
	if (w->fd < 0 || (s->has_tls && start_tls(w, s, deadline, e) < 0))
		return err_wrap(e, "%s:%s", s->host, s->port);
	*ret = take_ptr(w);
	return 0;
}

int
wire_write(struct wire *w, const void *p, size_t n, int64_t deadline, struct err *e)
{
	const char *at = p;

	while (n > 0) {
		size_t done = 0;

		if (w->ssl) {
			int rc = SSL_write_ex(w->ssl, at, n, &done);

			if (rc != 1 && ssl_again(w, rc, "TLS", deadline, e) < 0)
				return -1;
		} else {
			ssize_t rc = send(w->fd, at, n, MSG_NOSIGNAL);

			if (rc < 0 && errno != EAGAIN && errno != EINTR)
				return err_errno(e, "send");
			if (rc < 0 && wait_for(w->fd, POLLOUT, deadline, e) < 0)
				return -1;
			done = rc > 0 ? (size_t)rc : 0;
		}
		at += done;
		n -= done;
		if (n > 0 && clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "no answer in time");
	}
	return 0;
}

ssize_t
wire_read(struct wire *w, void *p, size_t n, int64_t deadline, struct err *e)
{
	for (;;) {
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "no answer in time");
		if (w->ssl) {
			size_t done = 0;
			int rc = SSL_read_ex(w->ssl, p, n, &done);

			if (rc == 1)
				return (ssize_t)done;
			if (ssl_again(w, rc, "TLS", deadline, e) < 0)
				return -1;
		} else {
			ssize_t rc = recv(w->fd, p, n, 0);

			if (rc > 0)
				return rc;
			if (rc == 0)
				return err_set(e, ERR_FAILED, "the connection was closed");
			if (errno != EAGAIN && errno != EINTR)
				return err_errno(e, "recv");
			if (wait_for(w->fd, POLLIN, deadline, e) < 0)
				return -1;
		}
	}
}
