/*
 * A known_hosts file as OpenSSH reads it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), written anew as libssh2 does, which libgit2 uses: that gives up
 * at the first line it does not understand or that is longer than 4 KiB, takes a key that is marked as revoked for one of a host "@revoked", and
 * speaks the algorithm of a host's first line alone, of RSA with SHA-1 alone, which no server of today does.
 */
#pragma once

#include <stddef.h>

/*
 * One host to a line, RSA behind the others. Without comments, revoked keys, authorities, and what is not understood: a server of which
 * only such is known is not known. Owned by the caller.
 */
char *known_hosts_rewrite(const char *text, size_t len);
