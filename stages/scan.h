/*
 * Stage scan: one Trivy per image, several at once within trivy.parallel.
 *
 * Reads images (layout, config_digest, label, tags, fault), opt->trivy, work_fd, work_dir, shared. Fills each image's report,
 * or its fault where there is none; trivy_version and db_updated_s. Images that have a fault already are left alone.
 *
 * Scans can begin before the stage: while other archives are unpacked, and while the bytes of their own archive are still
 * hashed. What a scan found counts only when unpack has put an image with that layout and config into the inspection; the
 * rest is stopped and thrown away, so that the verdict always waits for both.
 */
#pragma once

#include "stages/pipeline.h"

extern const struct stage stage_scan;

struct scan;

/* From here on scan_start() begins scans; without it, as where archives are only told from other files, it does nothing. */
void scan_open(struct inspection *i);
void scan_free(struct scan *s); /* stops what runs */

/*
 * Begins the scan of the image in `layout` (absolute path, complete), which came from archive `archive`. Returns at once.
 * For any thread; once more for the same layout does nothing. Who removes the layout calls scan_withdraw().
 */
void scan_start(struct inspection *i, size_t archive, const char *layout, const char *config_digest);

/* The archive was refused: its scans are stopped, waited for and thrown away. For any thread. */
void scan_withdraw(struct inspection *i, size_t archive);

/*
 * Is this report about that image, from a version we support? A report of another image, or one that Trivy kept from before,
 * must never count for this one.
 */
int scan_check_report(const struct report *r, const char *config_digest, const char *trivy_path,
		      struct err *e);
