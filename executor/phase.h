/*
 * The four executables of the custom executor. Each main_*.c calls phase_main() with its phase.
 * Exit codes are the runner's: 0, $BUILD_FAILURE_EXIT_CODE, $SYSTEM_FAILURE_EXIT_CODE; phase_exit() in phase.c is the
 * one place where they are decided.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"

struct phase_context {
	const char *config_path; /* --config or NULL */
	const char *tmpdir;	 /* $TMPDIR */
	int tmpdir_fd;
	struct log log; /* stderr */
	int n_args;
	char **args; /* what is left: for run, script and stage */
};

/* How a phase ended, mapped to the runner's exit codes by phase.c. */
enum phase_end {
	PHASE_OK,
	PHASE_JOB_FAILED, /* job_code says with what */
	PHASE_SYSTEM_FAILED,
};

struct phase_result {
	enum phase_end end;
	int job_code; /* written to BUILD_EXIT_CODE_FILE: the script's, 128+n for a signal, 90 for blocked */
};

#define PHASE_CODE_BLOCKED 90

struct phase {
	const char *name;    /* "config" … */
	const char *usage;   /* its arguments, for --help: "" or " SCRIPT STAGE" */
	const char *summary; /* what it does, for --help */
	const char *details; /* what it reads, writes and needs, limits with units, for --help; lines that end in \n */
	int n_args_min;	    /* run: 2; 0: none are allowed */
	bool is_in_job_log; /* its output is read in the job log (all but cleanup) */
	/* -1 with e set is a system failure, whatever ret says. */
	int (*run)(struct phase_context *c, struct phase_result *ret, struct err *e);
};

extern const struct phase phase_config, phase_prepare, phase_run, phase_cleanup;

/*
 * The whole of a protocol program: reads the arguments and what the runner says in the environment, opens TMPDIR, unlinks
 * BUILD_EXIT_CODE_FILE, runs the phase, logs its error, writes BUILD_EXIT_CODE_FILE for PHASE_JOB_FAILED (runners older
 * than 17 name none: their jobs fail with 1). The umask is 022 from here on, SIGPIPE ignored, descriptors 0 to 2 are
 * taken (fs_hold_standard()); output that could not be written is an error. Returns the exit code.
 */
int phase_main(const struct phase *p, int argc, char **argv);
