/*
 * Bounds on a YAML text that are kept before libyaml's loader sees it: the time of that grows with the square of the depth (100 KB of "[" take
 * it 20 s) and of the number of anchors (1 MiB of them 75 s), that of the events with the text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct yaml_bounds {
	unsigned depth_max;
	bool is_plain; /* without anchors and tags */
	enum err_kind kind;
};

/* -1 with an error of that kind, "name:line: …", if it is beyond. What is no YAML is left to the loader. */
int yaml_check(const char *name, const char *text, size_t len, const struct yaml_bounds *b, struct err *e);
