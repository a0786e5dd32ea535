/*
 * JSON of images as engines in Go read it: encoding/json takes "layers" for
 * "Layers" (and the Kelvin sign for k). What one reader sees and another does
 * not is refused.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

/* An object's names: none may be one of `known` but for its case. `known` ends with a NULL. */
int image_check_names(const cJSON *o, const char *const *known, struct err *e);
