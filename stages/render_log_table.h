/*
 * A table of findings in the job log: package, installed version, the version that fixes it, severity; below each its id and what it
 * is. At most 80 columns.
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"

/* `findings`: n indexes in the report, in the order of the rows. */
void render_log_add_table(const struct inspection *i, struct buf *out, const struct report *r,
			  const size_t *findings, size_t n);
