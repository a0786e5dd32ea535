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

/* One baseline per service, which is taken for the image: for settings whose template is "{image}". Adds to *ret. */
int dojo_read_baselines(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline,
			struct baselines *ret, struct err *e);
