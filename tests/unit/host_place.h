/*
 * A place below /tmp for unit tests of the host job environment, and a plan of a job in it. Faults fail the test.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "executor/plan.h"

#define PLACE_WAIT_MS 30000 /* for what must happen */

struct place {
	char dir[64];
	struct plan plan;
};

/* cmocka's setup and teardown, with the place as state. A job that is not separated, whoever runs the test. */
int place_setup(void **state);
/*
 * A job with a user of its own: a number that nobody else has and no account. Its processes see what the plan's directories
 * hold though they lie below /tmp. Without root only the plan is there.
 */
int place_setup_separated(void **state);
int place_teardown(void **state);

uid_t place_job_uid(void); /* of the separated one */

void place_prepare(const struct plan *p);
/* Exit code of a script. */
int place_run(const struct plan *p, const char *text);
int place_script(const char *text, size_t len); /* its descriptor */

bool place_has(const char *dir, const char *name);
void place_wait_for(const char *dir, const char *name);
char *place_read(const char *dir, const char *name); /* owned by the caller */
int64_t place_read_number(const char *dir, const char *name);
