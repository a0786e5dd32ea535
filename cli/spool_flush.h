/* `tidewaiter spool flush`. */
#pragma once

#include "base/err.h"
#include "cli/command.h"
#include "executor/settings.h"
#include "stages/spool.h"

struct flush {
	const char *server; /* NULL: all */
	/* The settings file, read before root became the courier, who may not read it. */
	const char *settings_text;
	size_t settings_len;
	int64_t deadline;
	bool is_forced; /* --now */
};

/* Says a line for each delivery that it tried. Exit code: 0 nothing is left, 3 something waits or was given up. */
int spool_flush(const struct cli *cli, const struct settings *s, struct spool *spool, const struct flush *f,
		struct err *e);
