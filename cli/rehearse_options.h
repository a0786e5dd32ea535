/* What `tidewaiter rehearse` is asked for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "cli/options.h"

struct rehearse_options {
	const char *job, *file, *stage, *image, *ref, *target_branch, *default_branch, *out,
		*programs;  /* NULL: not given; file has a default */
	char *project;	    /* NULL: none */
	char *project_path; /* GROUP/PROJECT */
	struct strv script, after_script, artifacts;
	struct strv variables; /* NAME=VALUE */
	int64_t timeout_ms;
	bool is_tag, is_unprotected, keep;
};

extern const struct cli_options rehearse_options_table;

/* argv[0] is the verb. `ret` is empty before and rehearse_options_free()'s afterwards, after an error, too. Errors are ERR_USAGE. */
int rehearse_options_parse(int argc, char **argv, struct rehearse_options *ret, struct err *e);
void rehearse_options_free(struct rehearse_options *o);
/* Is the job made of flags, not read from a file? */
bool rehearse_options_has_own_job(const struct rehearse_options *o);
