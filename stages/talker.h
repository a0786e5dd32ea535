/*
 * The process that talks to container engines for the scanner, which has no right to. It has it, which is root's by another name,
 * and so it parses nothing of a job (engine.h).
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "stages/inspection.h"

struct talker {
	pid_t pid; /* 0: none */
	int fd;	   /* the scanner's end; -1: none */
};

/* None where the inspection asks no engine. `ret` is empty at the call. */
int talker_start(const struct inspection *i, struct talker *ret, struct err *e);
void talker_end(struct talker *t);
#define AUTO_TALKER __attribute__((cleanup(talker_end)))
