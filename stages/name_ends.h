/*
 * What an image has no say in: the beginning and the end of a name that a template makes of it ("{project_path}: {image}"). Whoever
 * must not choose another project's name has these.
 */
#pragma once

#include "base/mem.h"
#include "stages/job_facts.h"

struct name_ends {
	char *prefix, *suffix; /* "" where it begins or ends with what is the image's */
};
void name_ends_free(struct name_ends *x); /* what it owns */
#define AUTO_NAME_ENDS __attribute__((cleanup(name_ends_free)))

/* False: the template takes nothing of an image, or is none; then *ret stays as it is. */
bool name_ends_of(const char *tmpl, const struct job_facts *job, struct name_ends *ret);

/*
 * Can two projects come to one name? False where the template takes an image, and nothing stands between that and the project which
 * neither has: "{project_path}-{image}" is the same for image x-y of a/b as for image y of a/b-x.
 */
bool name_ends_are_certain(const char *tmpl);

/* As it is delivered: without blanks at its ends, and shortened where it was too long (delivery.h), then by its prefix alone. */
bool name_ends_are_of(const struct name_ends *x, const char *name);
