/*
 * The job log of a rehearsal: what comes out of the executables, line by line, as GitLab would show it. Section
 * markers are taken out, colours where they are not wanted, secrets become [MASKED].
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/str.h"

#define REHEARSE_LINE_MAX (64 * 1024) /* bytes; longer lines come in parts */

struct rehearse_log {
	FILE *to;
	bool has_colour;
	struct buf line;
	struct strv secrets;
	/* A file of the rehearsal's own, and the admin's that it stands for: the first is shown as the second. NULL: none. */
	const char *stand_in, *original;
};

void rehearse_log_init(struct rehearse_log *l, FILE *to, bool has_colour);
void rehearse_log_free(struct rehearse_log *l);
void rehearse_log_write(struct rehearse_log *l, const char *data, size_t len);
/* What has no newline behind it yet gets one. */
void rehearse_log_end_line(struct rehearse_log *l);
/* A line of the runner's own in one of its colours (LOG_CYAN …). */
void rehearse_log_say(struct rehearse_log *l, const char *sgr, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
