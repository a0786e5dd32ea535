/*
 * Part of stage unpack: images that live only in a container engine (engine.h) and were not there before the job. Each
 * becomes an archive without a file in inspection.archives, named as the image.
 */
#pragma once

#include "stages/engine.h"
#include "stages/inspection.h"

/* What the images point to while they are inspected. */
struct unpack_engines {
	struct engine_images *diffs; /* one per engine */
	size_t n;
};

/* Nothing where inspection.engines is NULL. Never fails as a whole: what cannot be known is an archive with a fault. */
void unpack_engines(struct inspection *i, struct unpack_engines *ret);
void unpack_engines_free(struct unpack_engines *l);
