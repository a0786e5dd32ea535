/*
 * A TCP connection, plain or TLS 1.2 and newer (certificate and name always verified), on which everything has a deadline.
 * The names of the system's resolver are looked up without one: who cannot wait for that does it in another process or thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"

struct wire;

struct wire_settings {
	const char *host; /* name or address, IPv6 without brackets */
	const char *port;
	bool has_tls;
	const char *ca_file; /* PEM; NULL or "": the system's authorities */
};

int wire_open(const struct wire_settings *s, int64_t deadline, struct wire **ret, struct err *e);
void wire_free(struct wire *w);
MEM_AUTO_DECLARE(wire)

int wire_write(struct wire *w, const void *p, size_t n, int64_t deadline, struct err *e); /* all of it */
/* At least one byte, at most n; how many, or -1. The end of the stream is an error. */
ssize_t wire_read(struct wire *w, void *p, size_t n, int64_t deadline, struct err *e);
