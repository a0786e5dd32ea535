/*
 * What a person reads in the job log or on a terminal: a line per image, a table of what blocks, grouped by the build step that
 * brought it in, and in plain words the verdict and what to do. At most 80 columns. All text of strangers passes str_add_safe().
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"

#define RENDER_LOG_MAX (4 * 1024 * 1024) /* bytes */

/* Images, tables, faults. In a job's log the mode audit leaves the tables out; by hand (files given by name) they are always there. */
void render_log_details(const struct inspection *i, struct buf *out);

/* One line for the head of the section: "Tidewaiter: 2 images inspected, blocked". */
void render_log_title(const struct inspection *i, struct buf *out);

/* The verdict, why, and what to do: what must be read by who reads nothing else. One sentence in a job's log in the mode audit. */
void render_log_verdict(const struct inspection *i, struct buf *out);

/* "2026-01-02 03:04 UTC", or "an unknown time" for 0. */
void render_time(int64_t wall_s, char out[32]);

/* "4 CRITICAL, 6 HIGH, 1 LOW" by severity, worst first; "" without findings. */
void render_counts(const struct report *r, struct buf *out);
