/*
 * Stage scan: one Trivy per image, several at once within trivy.parallel.
 *
 * Reads images (layout, config_digest, label, tags, fault), opt->trivy, work_fd, work_dir, cache_dir. Fills each image's report,
 * or its fault where there is none; trivy_version and db_updated_s. Images that have a fault already are left alone.
 */
#pragma once

#include "stages/pipeline.h"

extern const struct stage stage_scan;

/*
 * Is this report about that image, from a version we support? A report of another image, or one that Trivy kept from before,
 * must never count for this one.
 */
int scan_check_report(const struct report *r, const struct image *m, const char *trivy_path, struct err *e);
