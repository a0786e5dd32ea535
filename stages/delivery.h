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
#include "base/str.h"

#define DELIVERY_HEAD_MAX (64 * 1024)
#define DELIVERY_REPORT_MAX (100 * 1024 * 1024) /* bytes: DefectDojo 3.2.0 refuses more (FACTS.md, 2) */

struct delivery {
	char *server;	    /* base URL, "" for the outbox */
	char *product_type, *product, *engagement, *test; /* test: test_title */
	char *service;	    /* from the image repository; never changes for a test */
	char *environment;  /* "" unset */
	char *version, *branch, *commit, *build_id;
	struct strv tags;
	int active, verified;	 /* enum tristate */
	char *minimum_severity;	 /* "" unset */
	int64_t created_s;	 /* wall clock */
	int64_t n_findings;	 /* our own count, for the reckoning with DefectDojo's answer */
	char *report;		 /* bytes */
	size_t report_len;
};

void delivery_free(struct delivery *d); /* what it owns */
int delivery_write(int dirfd, const char *name, const struct delivery *d, unsigned publish_flags, struct err *e);
int delivery_read(int dirfd, const char *name, struct delivery *ret, struct err *e);
