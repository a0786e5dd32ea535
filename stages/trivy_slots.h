/*
 * trivy.parallel bounds the Trivy processes of a host, over all jobs: a slot is a lock on one of that many files. Whoever waits
 * holds the lock on "queue", so that the others come after it. A process that dies lets go of its locks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/log.h"

/* Makes the directory of the locks below cache_dir, for uid and gid where uid is not (uid_t)-1. Idempotent. */
int trivy_slots_make(const char *cache_dir, uid_t uid, gid_t gid, struct err *e);

/* Descriptor of that directory, made where it is missing and we may. */
int trivy_slots_open(const char *cache_dir, struct err *e);

/* Waits for one of n slots; says so on the log (may be NULL) when it has to. Descriptor; closing it frees the slot. ERR_TIMEOUT. */
int trivy_slots_take(int dirfd, int64_t n, int64_t deadline, const struct log *log, struct err *e);
