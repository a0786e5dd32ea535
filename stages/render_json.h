/*
 * An inspection as JSON for programs: `tidewaiter scan --json`. Names and words stay as they are; new members may be added. What they are
 * is told in docs/reference/scan-json.md and docs/report.schema.json, which tests/e2e/test_policy_explain.py holds equal to each other
 * and to what is printed.
 */
#pragma once

#include "base/json.h"
#include "stages/inspection.h"

#define RENDER_JSON_FORMAT 1

cJSON *render_json(const struct inspection *i); /* owned by the caller */
/* One of findings[]; owned by the caller. */
cJSON *render_json_finding(const struct inspection *i, const struct image *m, size_t index);
