/*
 * YAML 1.1 (libyaml) as JSON: every scalar a string, aliases followed, merge keys (<<) merged, a sequence with the tag
 * !reference an object {"!reference": […]}. Keys must be scalars; of a key twice the last counts, as in GitLab.
 */
#pragma once

#include "base/json.h"

/* At most nodes_max nodes after aliases are followed and JSON_DEPTH_MAX deep. Errors are ERR_REFUSED with the line. */
int rehearse_yaml_parse(const char *name, const char *text, size_t len, size_t nodes_max, cJSON **ret,
			struct err *e);
