/*
 * A bound on what the ignore files of a commit may cost the gate: whoever writes them also makes the image, so that the number of globs and
 * of findings to try them on are both his, and time is their product.
 */
#pragma once

#include "stages/ignore_files.h"
#include "stages/inspection.h"

/*
 * Bytes of globs by bytes of what they are tried on, of entries and findings of the same id, in all images; a package counts as
 * IGNORE_WORK_PACKAGE. Some seconds.
 */
#define IGNORE_WORK_MAX 20000000
#define IGNORE_WORK_PACKAGE 20

/* Beyond it no entry that names paths or packages counts: it goes, and a note says so. */
void ignore_list_bound(struct ignore_list *l, const struct inspection *i);
