/*
 * Where the blocking findings of an image come from, and which changes would fix the most of them. Trivy names the
 * layer, the image's history the build step of each layer. Pure; for people, never for the verdict.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "stages/inspection.h"

/* Blocking findings that one build step brought in. */
struct explain_step {
	char *name; /* "the base image", "RUN npm ci"; safe to print */
	bool is_base, is_known;
	size_t *findings; /* indexes in the report: worst first, then those with a fix, then by package and id */
	size_t n_findings;
};

/* What somebody can do about some of them: "raise lodash to 4.17.21"; safe to print. */
struct explain_change {
	char *text;
	size_t n_fixed; /* blocking findings that it would fix and those before it would not */
};

#define EXPLAIN_CHANGES_MAX 5

struct explanation {
	struct explain_step *steps; /* with findings only, in the image's order; an unknown layer comes last */
	size_t n_steps;
	size_t n_blocking, n_fixable;
	struct explain_change changes[EXPLAIN_CHANGES_MAX]; /* what fixes the most first; none when nothing has a fix */
	size_t n_changes;
};

/* Of an image that has a report and was judged. */
void explain_image(const struct image *m, struct explanation *ret);
void explain_free(struct explanation *x); /* what it owns */
#define AUTO_EXPLANATION __attribute__((cleanup(explain_free)))

/* The history's words as a line of a Dockerfile: no shell, no BuildKit marks, no build arguments (they may be secrets). Owned by the caller. */
char *explain_step_name(const char *created_by);

/* Index of the layer with this diff id, n_layers when there is none. */
size_t explain_find_layer(const struct image *m, const char *diff_id);
/* What to call the step of a layer; index n_layers: unknown. Owned by the caller. */
char *explain_layer_name(const struct image *m, size_t layer);

/* Indexes of all findings, or of the blocking ones, in the order of struct explain_step. Owned by the caller. */
size_t *explain_sorted(const struct image *m, bool only_blocking, size_t *ret_n);
