/* How much the JSON of an archive's images may hold: of images.max_* in the settings what concerns it. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"
#include "stages/options.h"

struct image_limits {
	size_t images, layers, manifests; /* of one archive, one image, one archive */
	size_t json_size;		  /* bytes of one document */
	unsigned json_depth;
	unsigned index_depth; /* indexes within index.json */
};

void image_limits_of(const struct options_images *o, struct image_limits *ret);
/* json_parse() within them, names twice refused; every fault is ERR_REFUSED. */
int image_limits_parse(const struct image_limits *l, const char *text, size_t len, cJSON **ret, struct err *e);
