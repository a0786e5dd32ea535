/*
 * What the gate knows besides the report: triage and baselines, as the fetcher handed them over, checked once more by whoever judges.
 */
#pragma once

#include "stages/baseline.h"
#include "stages/fetcher.h"
#include "stages/fix_recorder.h"
#include "stages/policy.h"
#include "stages/triage.h"

struct known {
	struct triage *triage; /* NULL: nothing is known, or it is too old */
	struct baselines baselines;
	struct fixes fixes; /* filled by the gate where the policy asks for it */
	bool lacks_branches;
	struct strv notes; /* lines for people: what could not be had, how old it is */
};
void known_free(struct known *k); /* what it owns */
#define AUTO_KNOWN __attribute__((cleanup(known_free)))

/*
 * Waits for the fetcher until its deadline, for the triage and for what DefectDojo has of other branches only where that is needed.
 * Whatever fails is a note. i->fetcher NULL: nothing is known, and nothing is said. `ret` is empty at the call.
 */
void known_take(const struct inspection *i, bool needs_triage, bool needs_branches, struct known *ret);

/* For one image: what policy_known asks; lives as long as the answers. */
struct known_image {
	struct triage_query query;
	const struct known *known;
	const int64_t *fix_since_s; /* of each finding; NULL: nobody asked */
	const char *own;	    /* the job's branch, where it leaves a baseline; NULL */
	char *image, *service, *product, *project;
	char *branch, *fitted_branch; /* triage_query */
	size_t *baselines;	      /* indexes of those of this image in known->baselines, one per branch */
	size_t n_baselines;
	int64_t good_s; /* of the job's own branch, as DefectDojo has it (baseline.h) */
};
void known_image_free(struct known_image *k);
#define AUTO_KNOWN_IMAGE __attribute__((cleanup(known_image_free)))
/* Fills *storage, and *ret with look-ups into it. */
void known_of_image(const struct known *k, const struct inspection *i, const struct image *m,
		    struct known_image *storage, struct policy_known *ret);
