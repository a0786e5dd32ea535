/*
 * What all inspections of a host share, opened before anything of a job is looked at: directories below cache_dir, by
 * descriptor. The scanner reaches them by these alone: in its mount namespace their names lead nowhere.
 *
 *   inspections/  root's: the queue of inspections (queue.h)
 *   trivy-slots/  the scanner's: the queue of Trivy processes
 *   results/      the scanner's: what Trivy has said (result_cache.h)
 *   layers/       the scanner's: verified layers
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

struct shared {
	int inspections_fd, slots_fd, results_fd,
		layers_fd; /* -1: could not be had, which costs time and no verdict */
};

/* Makes what is missing, for uid and gid where uid is not (uid_t)-1. What cannot be had is said in the log. */
struct shared *shared_open(const char *cache_dir, uid_t uid, gid_t gid, const struct log *log);
void shared_free(struct shared *s);
MEM_AUTO_DECLARE(shared)
