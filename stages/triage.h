/*
 * What people have said of findings in DefectDojo, as far as it excuses any: accepted risks, false positives, what is out of
 * scope. Fetched by the courier's confinement (dojo_read.h, fetcher.h), kept on disk, judged from as checked JSON by the scanner,
 * who never sees the token. The gate judges the local report and only subtracts: what is ambiguous, too old or not known excuses
 * nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "stages/policy.h"
#include "stages/report.h"

#define TRIAGE_MAX (16 * 1024 * 1024) /* bytes of its JSON */
#define TRIAGE_ENTRIES_MAX 20000

/* One finding of DefectDojo that somebody has excused. */
struct triage_entry {
	char *id, *component, *version; /* exactly as Trivy has them */
	char *place;			/* file_path there; identity_place() here */
	char *service;			/* the image */
	char *product;			/* whose test it is */
	char *branch;	 /* the test's, of a tag "refs/tags/v1"; "" where tests are not made by branch */
	int kind;	 /* enum accepted_kind */
	int64_t until_s; /* the first second it does not count; 0: no end */
	int severity;	 /* enum severity, when it was accepted, as far as that is known: never higher */
	int64_t finding, test; /* their ids */
	char by[40];	       /* "DefectDojo finding 17", by triage_settle() */
	bool is_anywhere; /* of a package of a language, whose places DefectDojo does not tell apart: it has it at no other one */
	bool is_closed;	  /* DefectDojo has closed it: it says what it says, and contradicts no other */
	bool is_doubtful; /* the same test has the same finding active, too: nothing is excused */
};

struct triage {
	int64_t fetched_s; /* wall clock */
	char *product;	   /* what was asked for: one, or with {image} where each image has its own */
	char *note;	   /* "" or what is missing from it, for people */
	struct triage_entry *v;
	size_t n;
};

void triage_free(struct triage *t);
MEM_AUTO_DECLARE(triage)
struct triage_entry *triage_add(struct triage *t); /* empty; pointers into it end their life here */
/* Two of one test that are open and say different things of one finding: both are doubtful. Sorts. */
void triage_settle(struct triage *t);

/* Strict: every member there and of its type, none twice, none unknown. */
int triage_parse(const char *text, size_t len, struct triage **ret, struct err *e);
int triage_from_json(const cJSON *j, struct triage **ret, struct err *e);
cJSON *triage_to_json(const struct triage *t);
char *triage_print(const struct triage *t); /* one line; owned by the caller */

/* Not from the future, and no older than max_age_ms. */
bool triage_is_fresh(const struct triage *t, int64_t now_s, int64_t max_age_ms);

/*
 * Whole, asked for after the job began and a moment ago: who triages and starts the job again is always heard, so nobody is asked twice by
 * one job. job_began_s 0: never.
 */
bool triage_is_of_job(const struct triage *t, int64_t job_began_s, int64_t now_s);
#define TRIAGE_MOMENT_S 60

/* The findings of one image of this inspection. Must live as long as the answers. */
struct triage_query {
	const struct triage *triage; /* settled */
	const struct report *report;
	const char *image;	       /* identity_image() */
	const char *service, *product; /* as its findings are uploaded: report_service(), report_product() */
	/* The job's branch as DefectDojo has it, which may be shortened, and as it is; NULL: not known. */
	const char *fitted_branch, *branch;
};

/*
 * The nth entry that is about exactly this finding (id, component, version, service, product, and the place unless it counts anywhere) and
 * not doubtful; false: there are no more. As policy_known.accepted, arg is a struct triage_query. Whether it counts here is the policy's to say.
 */
bool triage_match(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret);
