/*
 * Whose a slot's processes and files are: its user's, and those of the numbers that are subordinate to him (subuid(5)), which
 * rootless engines run and write as.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/subid.h"
#include "executor/plan.h"

struct host_ids {
	uid_t uid;
	struct subid_ranges subs;
};

/* For slot users alone: an error where host_kill_check_uid() says one. */
int host_ids_load(const struct plan *p, struct host_ids *ret, struct err *e);
bool host_ids_has(const struct host_ids *ids, uid_t uid);
/* A subordinate number. Never root's, never our own, and none that is an account's on this host, whatever /etc/subuid says. */
bool host_ids_is_sub(const struct host_ids *ids, uid_t uid);
