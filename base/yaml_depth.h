/*
 * A bound on how deep a YAML text is nested, kept before libyaml's loader sees the text: the time of that grows with
 * the square of the depth (100 KB of "[" take it 20 s), that of the events with the text.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* -1 with an error of this kind, "name:line: …", if it is nested deeper. What is no YAML is left to the loader. */
int yaml_depth_check(const char *name, const char *text, size_t len, unsigned depth_max, enum err_kind kind,
		     struct err *e);
