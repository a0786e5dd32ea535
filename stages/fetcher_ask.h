/*
 * What the fetcher asks DefectDojo, all of it from facts of the job that are trusted, settings and the policy: nothing that an image
 * or the scanner says goes into a question. In the caller's process, which is the courier's, and before the deadline.
 */
#pragma once

#include "stages/baseline.h"
#include "stages/inspection.h"
#include "stages/kept.h"
#include "stages/triage.h"

/* Nobody waits for it so long. */
#define FETCHER_ASK_MS (5 * 60 * 1000)
#define FETCHER_BRANCHES_MAX 8 /* that are asked for */

/*
 * Asks once and keeps the answer: *ret (NULL: there is no DefectDojo, or it is not to be asked). Where defectdojo.product depends on the image
 * all products are asked for that an image of this project can have. -1: it could not be had.
 */
int fetcher_ask_triage(const struct inspection *i, const struct kept *k, int64_t deadline,
		       struct triage **ret, struct err *e);

/* What was kept of that, however old. NULL: nothing. */
struct triage *fetcher_kept_triage(const struct inspection *i, const struct kept *k);

/* Of branches that the policy's rules for this job compare with. */
struct fetcher_branches {
	struct baselines baselines; /* as DefectDojo has them, of branches that `kept` has nothing of, or not the last */
	struct strv outdated; /* of which what is kept here is not the last delivered inspection */
};
void fetcher_branches_free(struct fetcher_branches *b); /* what it owns */
#define AUTO_FETCHER_BRANCHES __attribute__((cleanup(fetcher_branches_free)))

/* Waits for the policy where that is still on its way. -1: half of it may be in *ret. */
int fetcher_ask_branches(const struct inspection *i, const struct baselines *kept, int64_t deadline,
			 struct fetcher_branches *ret, struct err *e);
