/*
 * Since when there are fixes (fix_dates.h), as the hosts of a fleet know it: all of it in one entry of the Redis that they share
 * (fleet.h), as a host keeps it itself. The earliest date that any of them knows counts for all. A host asks when it sees a fix that is new to it; it keeps what it
 * was told, so a Redis that is down, or that lost everything, takes no date away from a host that has it.
 */
#pragma once

#include "stages/fix_dates.h"
#include "stages/fleet.h"

/* Nothing where nothing is there yet. `ret` is empty at the call. */
int fix_share_read(struct fleet_place *p, int64_t deadline, struct fix_dates *ret, struct err *e);
/* Puts in what lies below dirfd and is not in `others`, or later there; what other hosts write meanwhile stays. */
int fix_share_write(struct fleet_place *p, int dirfd, struct fix_dates *others, int64_t deadline,
		    struct err *e);
