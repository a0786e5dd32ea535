/* Ranges of subordinate ids: subuid(5) and subgid(5), "user:first:count" by lines. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SUBID_FIRST 100000 /* as login.defs(5) has it */
#define SUBID_COUNT 65536

struct subid_range {
	uint64_t first, last;
};

/* Does the user have a range? When not, *ret_free is one of SUBID_COUNT numbers that nobody has. No file is an empty file. */
int subid_find(const char *path, const char *user, bool *ret_has, struct subid_range *ret_free, struct err *e);
int subid_find_in(const char *text, const char *user, bool *ret_has, struct subid_range *ret_free,
		  struct err *e);
