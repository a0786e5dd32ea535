/*
 * The images of an OCI layout (OCI Image Format Specification 1.1, image-layout.md), in a tar or a directory, and of
 * the layout `dir:` of skopeo, Podman and Buildah, whose blobs lie beside manifest.json under their bare digits.
 *
 * Indexes are followed into indexes, to a bound. Every manifest that is there is looked at, whatever its descriptor
 * calls it. It is an image when its config has a rootfs, and passed over when
 *  - it is named and not in the archive (ordinary in images that were pulled for one platform),
 *  - its config is none of an image (a Helm chart, a build cache),
 *  - nothing of what it calls layers can be unpacked by anybody: neither by media type nor by its bytes a tar (an
 *    attestation, a signature).
 * A manifest that is an image and lacks its config or a layer is refused.
 */
#pragma once

#include "base/err.h"
#include "stages/archive_entries.h"
#include "stages/image_plan.h"

struct oci_layout_at {
	const struct entries *t;
	const char *top;   /* of the names in it: "" or "<folder>/" */
	const char *index; /* "index.json", or "manifest.json" of dir: */
	bool is_dir;	   /* of the layout dir: */
	const struct image_limits *limits;
};

/*
 * Adds one plan per manifest, in order of the index; one that is named twice has both names. `notes`: what was passed
 * over, a text each ("an attestation (application/vnd.in-toto+json)"). ERR_REFUSED "forged manifest: …", "missing layer: …",
 * "foreign layer: …", "forged layer: …" (size), "index.json: …".
 */
int oci_archive_plan(const struct oci_layout_at *at, struct image_plans *ret, struct strv *notes,
		     struct err *e);
