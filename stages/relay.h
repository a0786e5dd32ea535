/*
 * What stands between a Trivy that has no network and the Trivy server of the settings: a small HTTP/1.1 server on a socket of
 * the scanner's network. It knows the calls of Trivy's client and passes these alone on, with the server's token in place of
 * the one that this inspection's Trivy was given, over TLS where the URL says so. So Trivy has neither a way to anywhere else nor
 * the token.
 */
#pragma once

#include <stdint.h>

#include "base/log.h"

#define RELAY_TOKEN_HEADER "Trivy-Token" /* Trivy's default */

struct relay_settings {
	const char *server;	 /* base URL */
	const char *token;	 /* of the server, NULL: none */
	const char *ca_file;	 /* NULL or "": the system's authorities */
	const char *local_token; /* what a request must bring */
	int64_t answer_max;	 /* bytes */
	int64_t timeout;	 /* ms of one call */
	const struct log *log;
};

/* Answers on listen_fd for ever. */
void relay_serve(int listen_fd, const struct relay_settings *s);
