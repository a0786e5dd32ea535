/*
 * A client for one DefectDojo server (API v2, as observed on 3.2.0): uploads a delivery, asks whether one landed, and
 * proves what a token may do. Nothing here sends twice; whether and when is the spool's matter.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/http.h"
#include "base/mem.h"
#include "stages/delivery.h"
#include "stages/options.h"

struct dojo_settings {
	const char *url;	/* base URL; a trailing /api/v2 is taken off */
	const char *token_file; /* read by dojo_new(), see fs_read_secret() */
	const char *ca_file;	/* "" or NULL: the system's */
	const char *proxy;	/* "" or NULL: none */
	/* "" or NULL: none. The key is a secret, see fs_read_secret(); without a key file it is in the certificate's. */
	const char *client_cert_file, *client_key_file;
};
void dojo_settings_of(const struct options_defectdojo *o, struct dojo_settings *ret); /* points into o */
/* 16 hex digits that stand for the server and for what we show it: another URL, token or certificate is another key. */
void dojo_settings_key(const struct dojo_settings *s, char out[DELIVERY_KEY_SIZE]);

struct dojo;

/* ERR_SETTINGS for the URL; a token that cannot be read is an error that names the file. */
int dojo_new(const struct dojo_settings *s, struct dojo **ret, struct err *e);
void dojo_free(struct dojo *d);
MEM_AUTO_DECLARE(dojo)

/* Now, in seconds since the epoch, as its last answer said it; by this host's clock where none did. */
int64_t dojo_clock_s(const struct dojo *d);

/* What becomes of a delivery after an answer. */
enum dojo_verdict {
	DOJO_DELIVERED, /* DefectDojo has confirmed it */
	DOJO_RETRY,	/* it may go through by itself in a while */
	DOJO_WAIT, /* its fate is open, or an administrator has to mend something first; it is kept and tried slowly */
	DOJO_DEAD, /* the same request will never be accepted */
};
extern const char *const dojo_verdict_words[]; /* "delivered", "retry", "wait", "dead" */

#define DOJO_BODY_MAX 4096 /* bytes; errors of DefectDojo are shorter, pages of HTML are not */

struct dojo_answer {
	enum dojo_verdict verdict;
	bool is_server_wide;	  /* any other delivery to this server would fare the same now */
	bool may_run;		  /* the server may still be at work on it */
	bool was_sent;		  /* it was handed over whole: DefectDojo may have stored it */
	int tries_max;		  /* so often is this answer worth another try; 0: no limit */
	int status;		  /* HTTP, 0: no answer */
	int64_t retry_after_s;	  /* -1: the server said nothing */
	int64_t date_s;		  /* the server's clock, 0: unknown */
	char reason[512];	  /* one line for people, fit for a terminal */
	const char *fix;	  /* what an administrator can do about it; static, NULL when delivered */
	char body[DOJO_BODY_MAX]; /* the beginning of the answer as it came; no text, for a file */
	size_t body_len;

	/* DOJO_DELIVERED, as far as the answer had them */
	int64_t test_id;
	bool has_counts;
	bool is_first; /* the upload created the test: counts hold n_created alone */
	int64_t n_created, n_untouched, n_reactivated, n_closed;
	int64_t n_triaged; /* of the test, false positive or out of scope: matched findings of these are in no other count */
};

/* The table of answers to POST /api/v2/reimport-scan/. */
void dojo_classify(const struct http_answer *a, struct dojo_answer *ret);

/* POST /api/v2/reimport-scan/. -1 only for faults on our side (a file that cannot be read, a CA file). */
int dojo_reimport(struct dojo *dojo, const struct delivery *d, const struct delivery_file *file,
		  int64_t deadline, struct dojo_answer *ret, struct err *e);

/* True, with *ret a line for people, where created + untouched + reactivated do not explain our own count. */
bool dojo_is_short(const struct delivery *d, const struct dojo_answer *a, char **ret);

enum dojo_fate {
	DOJO_LANDED, /* GET /api/v2/test_imports/ has a row with its build id and service */
	DOJO_ABSENT, /* no such row: it never arrived, was given up, or is still being worked on */
};

/* -1 when the server did not answer the question; e->no is EHOSTDOWN where no other question would be answered now. */
int dojo_ask_fate(struct dojo *dojo, const struct delivery *d, int64_t deadline, enum dojo_fate *ret,
		  struct err *e);

/* An upload without a file: proves token, permission and fields, and leaves nothing behind (FACTS.md, 1.8). */
struct dojo_probe {
	bool is_accepted;
	struct dojo_answer answer; /* why not, and the server's clock */
};
int dojo_probe(struct dojo *dojo, const struct delivery *d, int64_t deadline, struct dojo_probe *ret,
	       struct err *e);

struct dojo_user {
	char *name; /* owned by the caller */
	bool is_staff, is_superuser;
};
/* GET /api/v2/user_profile/ */
int dojo_whoami(struct dojo *dojo, int64_t deadline, struct dojo_user *ret, struct err *e);
/* info.version of GET /api/v2/oa3/schema/; owned by the caller. About 800 KB. */
int dojo_version(struct dojo *dojo, int64_t deadline, char **ret, struct err *e);

/* What an administrator can do about the last question that had no answer; static, never NULL. */
const char *dojo_fix(const struct dojo *dojo);

/* For dojo_read.c. `path` is behind /api/v2; anything but 200 with JSON is an error, which is the server's own words. */
int dojo_get_json(struct dojo *dojo, const char *path, size_t max, int64_t deadline, cJSON **ret,
		  struct err *e);
/* e->no is EHOSTDOWN where no other question would be answered now, EACCES where the token may not do that. */
int dojo_patch_json(struct dojo *dojo, const char *path, const cJSON *body, int64_t deadline, cJSON **ret,
		    struct err *e);
