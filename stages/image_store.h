/*
 * From plans to layouts: the layers of all images of an archive are stored and verified in one go, each file once, and
 * then linked into a layout per image.
 */
#pragma once

#include "base/err.h"
#include "stages/archive_read.h"
#include "stages/image_plan.h"

/*
 * Plans of one image id are one image under all their names. `keep_fd`: where entries have files of their own, or -1.
 * Makes <stem>-1, <stem>-2, … below in->work_fd; on an error what was made may stay behind (image_store_remove). ERR_REFUSED
 * as layer_store.h says, "forged layer: …" where one file cannot be two layers, "size: …".
 */
int image_store(const struct archive_input *in, const struct entries *t, int keep_fd,
		struct image_plans *plans, struct archive_images *ret, struct err *e);
/* All that was made for n images. */
void image_store_remove(const struct archive_input *in, size_t n);
