#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fs.h"

/* One packet and room for one descriptor. */
struct packet {
	struct iovec io;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct msghdr m;
};

static void
packet_init(struct packet *k, const void *p, size_t n)
{
	*k = (struct packet){ .io = { (void *)(uintptr_t)p, n } };
	k->m = (struct msghdr){ .msg_iov = &k->io,
				.msg_iovlen = 1,
				.msg_control = k->control,
				.msg_controllen = sizeof(k->control) };
}

ssize_t
fs_send_fd(int socket, const void *p, size_t n, int fd, int flags)
{
	struct packet k;
	struct cmsghdr *c;
	ssize_t sent;

	packet_init(&k, p, n);
	c = CMSG_FIRSTHDR(&k.m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	do
		sent = sendmsg(socket, &k.m, flags);
	while (sent < 0 && errno == EINTR);
	return sent;
}

ssize_t
fs_receive_fd(int socket, void *p, size_t n, int flags, int *ret_fd)
{
	struct packet k;
	const struct cmsghdr *c;
	ssize_t got;

	packet_init(&k, p, n);
	do
		got = recvmsg(socket, &k.m, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	c = got > 0 ? CMSG_FIRSTHDR(&k.m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return got;
}

static bool
wait_ready(int fd, short events, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int n;

	do
		n = poll(&pfd, 1, clock_poll_timeout(deadline));
	while (n < 0 && errno == EINTR);
	return n > 0;
}

bool
fs_send_all(int socket, const void *p, size_t n, int64_t deadline)
{
	for (const char *at = p; n > 0;) {
		ssize_t done;

		if (!wait_ready(socket, POLLOUT, deadline))
			return false;
		done = send(socket, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}

bool
fs_receive_all(int socket, void *p, size_t n, int64_t deadline)
{
	for (char *at = p; n > 0;) {
		ssize_t done;

		if (!wait_ready(socket, POLLIN, deadline))
			return false;
		done = recv(socket, at, n, MSG_DONTWAIT);
		if (done < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}
