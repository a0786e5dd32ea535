/*
 * `gitlab-runner` in the PATH of an upload stage. Says its arguments to the driver and does as it is told (upload.h). It knows
 * no secret and holds no power: what counts is what the driver does.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "executor/upload.h"

#define ANSWER_MAX 4096 /* bytes */

static int
fail(const char *what)
{
	fprintf(stderr, "gitlab-runner (Tidewaiter): %s\n", what);
	return 1;
}

static int
connect_driver(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	int fd;

	if (len == 0 || len >= sizeof(addr.sun_path))
		return -1;
	memcpy(addr.sun_path + 1, name, len);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr,
			       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int
say_args(int fd, int argc, char **argv)
{
	static char text[UPLOAD_ASK_MAX];
	size_t len = 0;
	int i;

	for (i = 1; i < argc; i++) {
		size_t n = strlen(argv[i]) + 1;

		if (n > sizeof(text) - len)
			return -1;
		memcpy(text + len, argv[i], n);
		len += n;
	}
	/* No arguments at all: an empty one, for a message cannot be empty. */
	if (len == 0)
		text[len++] = '\0';
	return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

int
main(int argc, char **argv)
{
	const char *name = getenv(UPLOAD_ENV);
	char answer[ANSWER_MAX + 1];
	ssize_t n;
	int fd = name ? connect_driver(name) : -1;

	if (fd < 0)
		return fail("the driver cannot be reached");
	if (say_args(fd, argc, argv) < 0)
		return fail("too many arguments");
	n = recv(fd, answer, ANSWER_MAX, 0);
	if (n < 2)
		return fail("the driver gave no answer");
	answer[n] = '\0';
	close(fd);
	if (answer[0] == 'e')
		return atoi(answer + 1) & 0xff;
	if (answer[0] != 'x')
		return fail("the driver's answer was not understood");
	unsetenv(UPLOAD_ENV);
	execv(answer + 1, argv);
	return fail("gitlab-runner could not be started");
}
