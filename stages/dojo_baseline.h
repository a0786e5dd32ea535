/*
 * What DefectDojo shows of a branch, as baselines: for hosts that did not inspect that branch themselves (baseline.h). A finding counts as
 * there when it is open, or was taken out by triage (false positive, out of scope) and not by its end.
 */
#pragma once

#include "stages/baseline.h"
#include "stages/dojo.h"
#include "stages/name_ends.h"

struct dojo_branch {
	/* Exactly as they were delivered; NULL, where each image has its own: all whose names have these ends. */
	const char *product, *engagement;
	const struct name_ends *product_ends, *engagement_ends;
	const char *branch, *project;
	/* Asked for by a job of that very branch: what a delivery that was blocked has brought there is left out (BASELINE_BLOCKED). */
	bool is_own;
};
#define DOJO_ENGAGEMENTS_MAX 500 /* of one product, where each image has its own */

/*
 * The build ids with which the tests of that branch were last uploaded to; none where there is no such branch. So whoever keeps a baseline
 * knows whether it is of the last inspection. -1 where that cannot be told, too.
 */
int dojo_read_builds(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct strv *ret,
		     struct err *e);

/*
 * An empty baseline for each test of that branch that something was delivered to, whose image is its baseline_delivered(): an image of which
 * nothing is open there is another thing than one that nobody has seen. Adds to *ret.
 */
int dojo_read_delivered(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline,
			struct baselines *ret, struct err *e);

/*
 * One baseline per product, engagement and service, whose image is the baseline_place() of these: whoever looks for one knows the names with
 * which his image is delivered, and an image is never told by a name. Without places: of a package of a language that lies in several,
 * DefectDojo has one finding open, and closes the others as its duplicates. Adds to *ret. Of products DOJO_READ_PRODUCTS_MAX are looked at.
 */
int dojo_read_baselines(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline,
			struct baselines *ret, struct err *e);
