/* One verb of `tidewaiter` = one file that ends in one `const struct command`, listed in cli/main.c. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/options.h"

/* Exit codes of the CLI (DESIGN.md, Failure). */
enum cli_exit { CLI_OK = 0, CLI_BLOCKED = 1, CLI_USAGE = 2, CLI_UNDECIDED = 3 };

struct cli {
	const char *config_path; /* --config, or the default */
	bool has_config_path;	 /* it was given */
	struct log log;		 /* stderr */
};

struct command {
	const char *name;
	const char *summary; /* one line for `tidewaiter --help` */
	/* `tidewaiter VERB --help` is help (usage, what it does), the options, and notes (exit codes). */
	const char *help;
	const struct cli_options *options; /* one for each action of the verb */
	size_t n_options;
	const char *notes; /* NULL: help has all */
	bool is_internal;  /* not listed */
	/*
	 * argv[0] is the verb; --config is taken out already. Exit code of the program, or -1 with e
	 * set: ERR_USAGE and ERR_SETTINGS exit with 2, ERR_REFUSED with 1, the rest with 3.
	 */
	int (*run)(struct cli *cli, int argc, char **argv, struct err *e);
};

extern const struct command command_scan, command_rehearse, command_config, command_doctor, command_spool,
	command_setup, command_inspect, command_db, command_policy;
