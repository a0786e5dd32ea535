/*
 * `tidewaiter spool serve`: delivers what comes into the spool, until SIGTERM or SIGINT. One process (root, where it was
 * started by root, to read the settings again at SIGHUP) looks after some that deliver as the courier user, each the tests
 * of its part, so that reports of one test go in order and those of different tests at the same time.
 */
#pragma once

#include "base/err.h"
#include "cli/command.h"

#define SERVE_PARTS_DEFAULT 4
#define SERVE_PARTS_MAX 64

/* CLI_OK after a signal to end, within two seconds whatever is on its way: it is asked for at the next start. */
int spool_serve(const struct cli *cli, unsigned n_parts, struct err *e);
