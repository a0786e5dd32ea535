/*
 * What happens around an inspection in the run phase, and its connection to `tidewaiter inspect`.
 *
 * `tidewaiter inspect run --tmpdir DIR`     after the last user step of a matching job that succeeded. Reads the plan,
 *     writes PLAN_INSPECTION_NAME, prints the job log section on stdout. Exit: 0 go on, 1 blocked (in enforce mode), 3 undecided and
 *     enforced (system failure); anything else is a system failure too.
 * `tidewaiter inspect verify --tmpdir DIR`  before and after stages that store caches or artifacts: inspected archives unchanged?
 *     0 unchanged, 1 changed or appeared (named on stdout).
 * `tidewaiter inspect publish --tmpdir DIR` writes the report files into the project directory anew, just before an upload.
 * `tidewaiter inspect withhold --tmpdir DIR` moves blocked and uninspected archives out of the project directory (enforce).
 */
#pragma once

#include "base/err.h"
#include "executor/plan.h"
