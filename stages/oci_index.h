/*
 * index.json of an OCI layout (OCI Image Format Specification 1.1) where an
 * archive holds both layouts: what it names must be what manifest.json names,
 * since engines differ in which of the two they read.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "stages/archive_entries.h"

#define OCI_INDEX_DEPTH 4     /* indexes within indexes */
#define OCI_MANIFESTS_MAX 256 /* descriptors in all */

/* The image as manifest.json has it. */
struct oci_expected {
	const char *config_digest;
	const struct strv *layers; /* names as manifest.json has them: blobs/sha256/<hex> */
};

/*
 * Walks index.json. Manifests that are named but not there are ordinary (partly pulled images), and so are
 * attestations, if all their layers are in-toto statements. ERR_REFUSED where both differ ("index.json: …"),
 * ERR_UNSUPPORTED where it names more images than the one. `text`: the bytes of index.json.
 */
int oci_index_check(const struct entries *t, const char *text, size_t len,
		    const struct oci_expected *expected, struct err *e);
