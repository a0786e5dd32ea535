/*
 * The findings of all images as GitLab's Code Quality report, which a merge request compares with its target's:
 * https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
 * A finding's fingerprint is its identity (identity.h), so that it is the same one whatever tag, registry, branch or point release its image
 * has, and whatever words its advisory; what blocks is a "blocker". What is excused by an exception, an ignore file or triage is
 * left out.
 */
#pragma once

#include "base/json.h"
#include "stages/inspection.h"

#define RENDER_QUALITY_FILE "gl-code-quality-report.json"
#define RENDER_QUALITY_MAX 5000 /* findings; the worst ones come first */

cJSON *render_quality(const struct inspection *i); /* owned by the caller */
