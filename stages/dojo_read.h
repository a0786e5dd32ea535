/*
 * Reading back from DefectDojo what people have said of findings. Its filters fail open (unknown ones are ignored, odd values give
 * nothing or everything; shared/defectdojo/FACTS.md, 4), so a filter only saves work: every row is checked again here, rows are
 * counted against `count`, pages are asked for by offset, and the link to the next page is never followed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/dojo.h"
#include "stages/triage.h"

#define DOJO_READ_TESTS_MAX 64	  /* whose active findings are read, to see what is ambiguous */
#define DOJO_READ_PRODUCTS_MAX 32 /* of one project, where each image has its own */

/* Whose triage is asked for. */
struct dojo_question {
	const char *product; /* exactly this; NULL: all whose names begin and end so, one end being more than "" */
	const char *prefix, *suffix;
	const char *label;  /* of all that, for triage.product */
	const char *branch; /* NULL: none */
	bool has_branches;  /* tests are made by branch, so a finding is of the branch of its test */
};

/*
 * All that is excused there; nothing where there is no such product. Tests of the branch come first; of those that were not looked at
 * for ambiguity nothing is kept, and note says so. -1: the server did not answer, or not in a way that adds up.
 */
int dojo_read_triage(struct dojo *dojo, const struct dojo_question *q, int64_t deadline, struct triage **ret,
		     struct err *e);

/* One row of /findings/ as an entry. False: nothing in it excuses anything, or not beyond doubt. `ret` is empty at the call. */
bool dojo_read_entry(const cJSON *row, struct triage_entry *ret);

/* A finding of a test, for bringing it up to date. */
struct dojo_finding {
	int64_t id;
	char *title, *severity, *description, *mitigation; /* as DefectDojo has them */
	char *vulnerability, *component, *version, *place, *service;
	bool has_loose_place; /* dojo_has_loose_place(): `place` is where it was first seen */
	int64_t accepted_s;   /* when it was last accepted, 0: it was not */
};
struct dojo_findings {
	struct dojo_finding *v;
	size_t n;
};
void dojo_findings_free(struct dojo_findings *l);
#define AUTO_DOJO_FINDINGS __attribute__((cleanup(dojo_findings_free)))
/* All findings of a test that are not closed, duplicates too. */
int dojo_read_findings(struct dojo *dojo, int64_t test, int64_t deadline, struct dojo_findings *ret,
		       struct err *e);
/*
 * PATCH of severity ("Critical"), mitigation and description, and of nothing else; NULL ones stay as they are. *ret_accepted_s: as in
 * dojo_finding, when that was done.
 */
int dojo_update_finding(struct dojo *dojo, int64_t finding, const char *severity, const char *mitigation,
			const char *description, int64_t deadline, int64_t *ret_accepted_s, struct err *e);

/* hash_code_fields of a Trivy test, which are those of all; *ret is empty where the user sees none. */
int dojo_read_hash_fields(struct dojo *dojo, int64_t deadline, struct strv *ret, struct err *e);

/*
 * The line that an update leaves in a description when it raises a severity, and what it says to whoever accepted the finding
 * before: DefectDojo itself keeps no history. Lines of others can only lower what counts as accepted.
 */
#define DOJO_RAISED "**Severity raised:** "
struct dojo_raised {
	enum severity from, to;
	int64_t at_s;	 /* INT64_MAX: not understood */
	int64_t since_s; /* it was never below `to` before; 0: it may have been, ever since it was there */
};
char *dojo_raised_line(const struct dojo_raised *r); /* owned by the caller */
/* Such a line and nothing else, of len bytes. False: it is none. */
bool dojo_read_raised(const char *line, size_t len, struct dojo_raised *ret);
enum severity dojo_severity_at(const char *description, enum severity now, int64_t accepted_s);

/* "Critical", "Info" for UNKNOWN */
const char *dojo_severity_word(enum severity s);
bool dojo_parse_severity(const char *word, enum severity *ret);
/* Of a row; NULL where there is not exactly one. */
const char *dojo_vulnerability_of(const cJSON *row);
bool dojo_has_tag(const cJSON *row, const char *tag);
/*
 * Of a package of a language whose place is in no hash of the server's: it has a path of its own. Where the target is the path (.deps.json, Go
 * and Rust binaries) it stands in the description, which is in the hash.
 */
bool dojo_has_loose_place(const cJSON *row);

/* Of exactly that name. *ret -1: there is none. */
int dojo_find_product(struct dojo *dojo, const char *name, int64_t deadline, int64_t *ret, struct err *e);

struct dojo_product {
	int64_t id;
	char *name;
};
struct dojo_products {
	struct dojo_product v[DOJO_READ_PRODUCTS_MAX];
	size_t n, n_more; /* n_more: for which there was no room */
};
void dojo_products_free(struct dojo_products *l);
#define AUTO_DOJO_PRODUCTS __attribute__((cleanup(dojo_products_free)))
/* `ret` is empty at the call. */
int dojo_find_products(struct dojo *dojo, const struct dojo_question *q, int64_t deadline,
		       struct dojo_products *ret, struct err *e);
