/*
 * The scanner has no network and no secret; what it needs of either is done by a process outside of its confinement, which runs
 * as the courier and ends with it: look-ups in the Redis that the hosts share (result_remote.h), and calls to the Trivy server
 * (relay.h). It parses nothing of a job but what the scanner makes of it: messages with heads of fixed size, and Trivy's calls.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "stages/options.h"

struct outside {
	pid_t pid;
	int results_fd; /* the scanner's end; -1: no Redis */
	int net_fd;	/* the scanner's network; -1: an empty one */
	int port;	/* of the relay on 127.0.0.1, 0: no Trivy server */
	char token[65]; /* what Trivy says to the relay */
};

/* NULL in *ret where the settings ask for nothing of the kind. uid (uid_t)-1: nothing is separated. */
int outside_start(const struct options_trivy *opt, const struct log *log, uid_t uid, gid_t gid,
		  struct outside **ret, struct err *e);
void outside_free(struct outside *o); /* ends it */
MEM_AUTO_DECLARE(outside)
