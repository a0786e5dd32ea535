/*
 * An image's config (OCI Image Format Specification 1.1, config.md; Docker's
 * is the same with more in it), parsed strictly as far as it is used.
 *
 * Refusals are ERR_REFUSED and name the member: "rootfs", "diff_ids",
 * "history".
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/image_limits.h"

struct image_config {
	char *os, *architecture, *variant; /* "" when absent */
	struct strv diff_ids;		   /* none for an image without layers */
	char **created_by;		   /* one per layer, NULL where the history does not say */
	/*
	 * How many of the first layers come with the base image, 0 unknown. A guess, since nothing
	 * records it: a base image ends with its CMD or ENTRYPOINT (the last one that still has layers
	 * behind it), or where steps by BuildKit follow steps of another builder, whichever is later.
	 * Where neither is there, the first layer alone if it is a root filesystem by its words
	 * ("ADD file:… in /", "ADD rootfs", debuerreotype).
	 */
	size_t base_layers;
};

int image_config_parse(const char *text, size_t len, const struct image_limits *limits,
		       struct image_config **ret, struct err *e);
/* "linux/arm64/v8", "" where os or architecture is not said; owned by the caller. */
char *image_config_platform(const struct image_config *c);
void image_config_free(struct image_config *c);
MEM_AUTO_DECLARE(image_config)
