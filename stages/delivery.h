/*
 * A delivery: one report on its way to DefectDojo. One file, so that rename(2)
 * publishes it whole: a line of JSON (the form fields of reimport-scan and what
 * the queue needs), a newline, then the report's bytes. The report stage writes
 * deliveries into inspection.out_fd as "delivery-<n>"; the upload stage takes
 * them into the spool.
 */
#pragma once

#include <stdint.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

#define DELIVERY_PREFIX "delivery-" /* of their names in inspection.out_fd; a number follows */
#define DELIVERY_HEAD_MAX (64 * 1024)
#define DELIVERY_REPORT_MAX (100 * 1024 * 1024) /* bytes: DefectDojo 3.2.0 refuses more (FACTS.md, 2) */
#define DELIVERY_TAGS_MAX 64

struct delivery {
	char *server;	  /* base URL, "" for the outbox */
	char *token_file; /* set by the upload stage: whose token it was meant for; never the token */
	char *project; /* set by the upload stage: path of the project, its settings say where to and as whom */
	char *product_type, *product, *engagement, *test; /* test: test_title */
	char *service;	   /* from the image repository; never changes for a test */
	char *environment; /* "" unset */
	char *version, *branch, *commit, *build_id;
	struct strv tags;
	int active, verified;	/* enum tristate */
	char *minimum_severity; /* "" unset */
	bool keeps_old;		/* it closes nothing: not all of the image was seen */
	int64_t created_s;	/* wall clock */
	int64_t n_findings;	/* our own count, for the reckoning with DefectDojo's answer */
	/* How the project wants it sent, as of when it was taken in: set by the upload stage. age_max_s -1: nobody knows any more. */
	bool keep_text;
	int64_t timeout_ms, age_max_s;
	int64_t n_distinct; /* of them different to DefectDojo (delivery_mend.h), 0: not counted, all */
	char *report;	    /* bytes; NULL when it was opened and not read */
	size_t report_len;
};

void delivery_free(struct delivery *d); /* what it owns */
#define AUTO_DELIVERY __attribute__((cleanup(delivery_free)))

/* Members that are NULL are written as "". ERR_REFUSED where head or report are over their limits. */
int delivery_write(int dirfd, const char *name, const struct delivery *d, unsigned publish_flags,
		   struct err *e);
int delivery_read(int dirfd, const char *name, struct delivery *ret, struct err *e);

/* A delivery without its report in memory. */
struct delivery_file {
	int fd;	      /* read-only; a regular file with one link */
	off_t offset; /* where the report begins; it has delivery.report_len bytes */
};
#define DELIVERY_FILE_INIT \
	{                  \
		.fd = -1   \
	}
#define AUTO_DELIVERY_FILE __attribute__((cleanup(delivery_file_close)))
void delivery_file_close(struct delivery_file *f);

/* Everything in *ret is checked: UTF-8, no control characters (they become '?'), counts and lengths. ENOENT in e->no. */
int delivery_open(int dirfd, const char *name, struct delivery *ret, struct delivery_file *ret_file,
		  struct err *e);
/* Writes the head of `d` and copies the report of `from`, as delivery_write() does. */
int delivery_copy(int dirfd, const char *name, const struct delivery *d, const struct delivery_file *from,
		  unsigned publish_flags, struct err *e);

/* The first line alone, without its newline. *ret has no report; its report_len is what the head claims. */
int delivery_parse_head(const char *text, size_t len, struct delivery *ret, struct err *e);

/*
 * Makes every value fit DefectDojo 3.2.0 (FACTS.md, 2): lengths in code points (version 100; branch, commit and build id
 * 150; service 200; test 255; product 255; engagement 300), no blanks at their ends, tags without spaces, commas and quotes. What was too long
 * ends in '~' and eight digits of its SHA-256, so that two long names stay two. Doing it twice changes nothing more.
 */
void delivery_fit(struct delivery *d);
void delivery_fit_text(char **text, size_t max); /* one value, in the same way; valid UTF-8 */

/* 16 hex digits that stand for product, engagement and test (fitted): deliveries with the same key go one at a time. */
#define DELIVERY_KEY_SIZE 17
void delivery_key(const struct delivery *d, char out[DELIVERY_KEY_SIZE]);
