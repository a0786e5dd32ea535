/*
 * Indexes and manifests of OCI (OCI Image Format Specification 1.1: image-index.md, manifest.md, descriptor.md) and
 * Docker's of the same shape (manifest list, schema 2), parsed strictly as far as they are used. No file is looked at.
 *
 * Refusals are ERR_REFUSED.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/image_limits.h"

enum oci_kind {
	OCI_INDEX,    /* it lists manifests */
	OCI_MANIFEST, /* it has a config or layers */
	OCI_OTHER,    /* an object of JSON with neither: somebody's artifact */
};

struct oci_descriptor {
	char *media_type; /* "" when absent */
	char digest[HASH_DIGEST_MAX];
	enum hash_algo algo;
	uint64_t size;
	char *platform; /* "linux/arm64/v8", "" when it does not say */
	char *name; /* what it is called: io.containerd.image.name, else org.opencontainers.image.ref.name, or NULL */
	char *second_name; /* the latter, where both are whole names: some load by the one, some by the other; or NULL */
	bool is_elsewhere; /* it has urls, or its media type says that it is not distributed */
	bool has_data;	   /* it carries its content itself */
};

struct oci_manifest {
	enum oci_kind kind;
	bool has_config;
	struct oci_descriptor config;
	struct oci_descriptor *v; /* layers, or what the index lists */
	size_t n;
};

int oci_manifest_parse(const char *text, size_t len, const struct image_limits *limits,
		       struct oci_manifest **ret, struct err *e);
void oci_manifest_free(struct oci_manifest *m);
MEM_AUTO_DECLARE(oci_manifest)

/* By media type: an index or manifest list; a manifest; an image's config; a layer of an image. */
bool oci_is_index(const char *media_type);
bool oci_is_manifest(const char *media_type);
bool oci_is_config(const char *media_type);
bool oci_is_layer(const char *media_type);
