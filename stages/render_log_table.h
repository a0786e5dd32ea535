/*
 * A table of findings in the job log: package, installed version, the version that fixes it, severity; below each its id, what it
 * is, and what excused it once. At most 80 columns.
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"

/* `findings`: n indexes in the image's report, in the order of the rows. */
void render_log_add_table(const struct inspection *i, struct buf *out, const struct image *m,
			  const size_t *findings, size_t n);
