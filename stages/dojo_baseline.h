/*
 * What DefectDojo shows of a branch, as baselines: for hosts that did not inspect that branch themselves (baseline.h). A finding counts as
 * there when it is open, or was taken out by triage (false positive, out of scope) and not by its end.
 */
#pragma once

#include "stages/baseline.h"
#include "stages/dojo.h"

struct dojo_branch {
	const char *product, *engagement, *branch; /* exactly as they were delivered */
	const char *project;
};

/*
 * The build ids with which the tests of that branch were last uploaded to; none where there is no such branch. So whoever keeps a baseline
 * knows whether it is of the last inspection. -1 where that cannot be told, too.
 */
int dojo_read_builds(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct strv *ret,
		     struct err *e);

/*
 * One baseline per service, which is taken for the image: for settings whose template is "{image}". Without places: of a package of a
 * language that lies in several, DefectDojo has one finding open, and closes the others as its duplicates. Adds to *ret.
 */
int dojo_read_baselines(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline,
			struct baselines *ret, struct err *e);
