/* Ranges of subordinate ids: subuid(5) and subgid(5), "user:first:count" by lines. No file is an empty file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define SUBID_FIRST 100000 /* as login.defs(5) has it */
#define SUBID_COUNT 65536
#define SUBID_RANGES_MAX 64 /* of one user; more are not looked at */

struct subid_range {
	uint64_t first, last;
};

/* Does the user have a range? When not, *ret_free is one of SUBID_COUNT numbers that nobody has. */
int subid_find(const char *path, const char *user, bool *ret_has, struct subid_range *ret_free, struct err *e);
int subid_find_in(const char *text, const char *user, bool *ret_has, struct subid_range *ret_free,
		  struct err *e);

struct subid_ranges {
	struct subid_range v[SUBID_RANGES_MAX];
	size_t n;
};

/* The ranges of a user, who may be named by his number, as far as no line of somebody else's reaches into them. */
int subid_ranges(const char *path, const char *user, uid_t uid, struct subid_ranges *ret, struct err *e);
void subid_ranges_in(const char *text, const char *user, uid_t uid, struct subid_ranges *ret);
bool subid_ranges_has(const struct subid_ranges *r, uint64_t id);
