/* Which rules of a policy are ever reached. */
#pragma once

#include "stages/policy.h"

/*
 * What takes all that rule `k` matches before it is asked: "rule all in line 3", or several ("rules tags in line 3 and rest in line 8");
 * owned by the caller. NULL: something may be left for it. Told by what stands there, so that what is named is true, and more may be:
 * globs are compared as the same words, as one name or one that begins like it, and several rules as those of protected and others, tags
 * and branches.
 */
char *policy_taken_by(const struct policy *p, size_t k, int64_t today_s);
