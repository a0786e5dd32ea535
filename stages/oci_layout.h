/*
 * An OCI layout directory with one image and uncompressed layers, the form that Trivy reads fastest:
 * oci-layout, index.json, blobs/sha256/ (OCI Image Format Specification 1.1, image-layout.md).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct oci_blob {
	const char *digest; /* "sha256:…" */
	uint64_t size;
};

/* Makes `name` below dirfd with blobs/sha256 in it; descriptors of both, closed by the caller. */
int oci_layout_make(int dirfd, const char *name, int *ret_layout_fd, int *ret_blobs_fd, struct err *e);
/* The config as it is, byte for byte: its digest stays the image's id. `digest` is its own. */
int oci_layout_add_config(int blobs_fd, const char *digest, const char *text, size_t len, struct err *e);
/* The manifest, index.json and oci-layout, when all blobs are there. */
int oci_layout_finish(int layout_fd, int blobs_fd, const struct oci_blob *config,
		      const struct oci_blob *layers, size_t n_layers, struct err *e);
