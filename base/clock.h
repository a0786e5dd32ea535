/*
 * Time. Deadlines are points of CLOCK_MONOTONIC in milliseconds; waiting always
 * takes one. CLOCK_DEADLINE_NEVER never passes.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define CLOCK_DEADLINE_NEVER INT64_MAX

int64_t clock_mono_ms(void);
int64_t clock_deadline(int64_t timeout_ms); /* now + timeout, saturating; timeout < 0: never */
int64_t clock_left_ms(int64_t deadline);    /* 0 when it has passed */
int clock_poll_timeout(int64_t deadline);   /* for poll(2): -1, or ms capped to INT_MAX, rounded up */
int64_t clock_wall_s(void);		    /* seconds since the epoch */

/* RFC 3339 ("2026-01-02T03:04:05.678901234Z", any offset), seconds since the epoch. */
int clock_parse_rfc3339(const char *s, int64_t *ret_s, struct err *e);
/* "2026-01-02T03:04:05Z"; out has room for 32 bytes. */
void clock_format_rfc3339(int64_t s, char out[32]);
