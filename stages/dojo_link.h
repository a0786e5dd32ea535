/*
 * Where people find things in DefectDojo: addresses of its pages, not of its API. Owned by the caller; NULL where the base URL is
 * refused (http_base_url()), which is told elsewhere.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* The base URL of the setting defectdojo.url, without a trailing slash; a trailing /api/v2 is taken off. */
int dojo_base_url(const char *url, char **ret, struct err *e);

/* The page of a test: known when a delivery was answered. */
char *dojo_link_test(const char *url, int64_t test_id);

/* The list of products of exactly this name: one, or none yet. True before a delivery and after it. */
char *dojo_link_product(const char *url, const char *product);
