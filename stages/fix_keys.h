/* Which fix it is: keys by which what is known of a fix (fix_dates.h) is found again, in another image, job or project. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stages/report.h"

/* What makes it the same flaw in the same package: 128 bits of a SHA-256. All zeros: none. */
struct fix_key {
	uint8_t bytes[16];
};
/* For qsort(3) and bsearch(3), also of what begins with its key. */
int fix_key_compare(const void *a, const void *b);
bool fix_key_is_none(const struct fix_key *key);

/*
 * A finding is known by the flaw's id, and by several names, since whoever makes an image writes most of them, and one that could be changed
 * at will would begin a new time with each build. The earliest date of all counts.
 *
 * One of a system by release and package; by release and the source of the package (Trivy looks up by one of both: Debian and Alpine by the source,
 * Red Hat by the package); and by the version that fixes it, which the advisory says, whatever release the image claims (Alpine's is not what is
 * looked up by). One of a language by ecosystem and name, and by the name without case and marks: Python and NuGet know no other.
 */
#define FIX_KEYS 3
struct fix_keys {
	struct fix_key (*of)[FIX_KEYS]; /* of each finding of the report; zeros where it has no fix, or no source */
	size_t n;
};
void fix_keys_make(const struct report *r, struct fix_keys *ret); /* `ret` is empty at the call */
void fix_keys_free(struct fix_keys *k);				  /* what it owns */
#define AUTO_FIX_KEYS __attribute__((cleanup(fix_keys_free)))
/* Of a finding: the earliest date that is known (0: none is) of its keys, by a look-up of one. */
int64_t fix_keys_date(const struct fix_key of[FIX_KEYS],
		      int64_t (*date_of)(const void *arg, const struct fix_key *key), const void *arg);
