/* Ranges of versions, as policies have them: what a comparison means is the ecosystem's order. */
#pragma once

#include <stdbool.h>

#include "stages/version_order.h"

/* "<3.0.15", ">=1.2,<2", "=1.2": comparisons, all of which hold; "" holds for any version. */
#define VERSION_RANGE_PARTS_MAX 8
bool version_is_range(const char *range);
bool version_in_range(enum version_order order, const char *version, const char *range);
