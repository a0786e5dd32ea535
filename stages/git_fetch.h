/*
 * One file of one commit of a Git repository elsewhere, by way of a bare clone that is kept between calls. Nothing is checked
 * out; submodules, hooks and configuration of the repository have no effect. For git_child_run().
 *
 * https:// (the certificate and its name always verified), http://, ssh:// and user@host:path (the server's key must stand in
 * $HOME/.ssh/known_hosts), file://. A redirect to another host or
 * away from TLS is an error.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct git_fetch {
	const char *url, *ref, *path;
	const char *clone; /* absolute path of the bare clone, made where it is missing; nobody else uses it meanwhile */
	const char *credentials_file, *ssh_key_file, *ca_file, *proxy; /* "": none */
	uint64_t fetch_max;					       /* bytes of what comes */
	size_t blob_max;					       /* bytes of the file */
};

/* A struct git_fetch; adds the commit in hexadecimal digits, a newline and the file's bytes. */
int git_fetch_work(void *arg, struct buf *out, struct err *e);
