/*
 * HTTP(S) requests by libcurl, for one server and one secret. HTTP/1.1 (RFC 9112), multipart/form-data (RFC 7578)
 * with a Content-Length. Never followed: redirects. Never read: the environment's proxies, .netrc, curl's own
 * configuration. TLS 1.2 or newer, the certificate and its name are always verified. Every request has a deadline
 * and a limit on the answer's body. The value of the Authorization header appears in no message.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct http_settings {
	const char *ca_file;		  /* PEM; NULL or "": the system's authorities */
	const char *proxy;		  /* URL; NULL or "": none */
	const char *authorization;	  /* value of the header, a secret; NULL: none sent */
	const char *authorization_header; /* its name; NULL: "Authorization" */
	const char *content_type;	  /* of bodies; NULL: the library's */
	const char *client_cert_file;	  /* PEM; NULL or "": none is shown */
	const char *client_key;		  /* PEM, a secret; NULL: it is in client_cert_file */
	int64_t connect_timeout_ms;	  /* 0: 10 s */
};

/* One part of a form: text when `value` is set, else `len` bytes of `fd` from `offset` on, sent as a file. */
struct http_part {
	const char *name;
	const char *value;
	int fd;
	off_t offset;
	uint64_t len; /* bytes */
	const char *file_name, *content_type;
};

struct http_request {
	const char *url;
	const struct http_part *parts; /* NULL: GET; else POST of a form */
	size_t n_parts;
	const void *data; /* POST of these bytes, with content_type, where there are no parts; NULL: none */
	size_t data_len;
	bool is_patch;	  /* PATCH instead; data is JSON, with its Content-Type */
	size_t body_max;  /* bytes of the answer's body that are kept; what is longer is cut */
	int64_t deadline; /* CLOCK_MONOTONIC ms, not CLOCK_DEADLINE_NEVER */
};

enum http_end {
	HTTP_ANSWERED,	  /* status, headers and the whole body */
	HTTP_CUT,	  /* status and headers, the body only in part */
	HTTP_BROKEN,	  /* connected, but no answer came back */
	HTTP_TIMED_OUT,	  /* the deadline passed; a status may be there */
	HTTP_UNREACHABLE, /* no connection: name, address, port, proxy */
	HTTP_UNTRUSTED,	  /* TLS: the certificate was not accepted, or no TLS is spoken there */
};

struct http_answer {
	enum http_end end;
	int status;	       /* 0: none came */
	char content_type[64]; /* lower case, without parameters; "" when absent */
	int64_t retry_after_s; /* -1: absent; at most six hours */
	int64_t date_s;	       /* the server's clock, seconds since the epoch; 0: absent */
	struct buf body;
	bool was_connected; /* a connection to the server (or proxy) was made */
	bool was_sent;	    /* the whole request was handed to the network: it may have taken effect */
	char fault[384];    /* for people, "" when HTTP_ANSWERED */
};

struct http;

/* The settings are copied. A ca_file that cannot be read is found at the first request. */
int http_new(const struct http_settings *s, struct http **ret, struct err *e);
void http_free(struct http *h); /* the secret is wiped */
MEM_AUTO_DECLARE(http)

/*
 * Sends and waits. 0 whatever the network and the server did, *ret says it; -1 for faults on our side (an impossible
 * URL, a CA file or a part that cannot be read). *ret must be empty or freed before, the caller frees it afterwards.
 */
int http_send(struct http *h, const struct http_request *r, struct http_answer *ret, struct err *e);

#define HTTP_ANSWER_INIT            \
	{                           \
		.retry_after_s = -1 \
	}
#define AUTO_HTTP_ANSWER __attribute__((cleanup(http_answer_free)))
void http_answer_free(struct http_answer *a); /* what it owns */

/*
 * A base URL from settings: http or https, a host, no user, query or fragment. *ret is it without slashes at its end,
 * owned by the caller. The message never repeats a password.
 */
int http_base_url(const char *url, char **ret, struct err *e);
char *http_escape(const char *s); /* for a query (RFC 3986), owned by the caller */
