/*
 * A table of findings in the job log: package, installed version, the version that fixes it, severity; below each its id, what it
 * is, and what excused it once. At most 80 columns.
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"

/*
 * Of findings in the order of explain_sorted() those that differ in nothing but their place are one row: first[k] is an index in the image's
 * report, count[k] in how many places it is. Both have room for n; how many rows there are.
 */
size_t render_log_group(const struct image *m, const size_t *findings, size_t n, size_t *first, size_t *count);

/* n rows of these. */
void render_log_add_table(const struct inspection *i, struct buf *out, const struct image *m,
			  const size_t *first, const size_t *count, size_t n);
