/*
 * manifest.json of a docker-archive:
 * [{"Config": name, "RepoTags": [tag…] or null, "Layers": [name…] or null}]
 * https://github.com/moby/docker-image-spec/blob/main/spec.md
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/image_limits.h"

struct docker_image {
	char *config; /* names in the archive */
	struct strv layers;
	struct strv tags;
};

struct docker_manifest {
	struct docker_image *v;
	size_t n;
};

/*
 * Refusals begin with "manifest.json", "images" or "layers". *ret is NULL, which is no error, for an object: that is
 * another format's file of the same name.
 */
int docker_manifest_parse(const char *text, size_t len, const struct image_limits *limits,
			  struct docker_manifest **ret, struct err *e);
void docker_manifest_free(struct docker_manifest *m);
MEM_AUTO_DECLARE(docker_manifest)

/*
 * The digest that a name in the archive claims for its bytes: "<hex>.json", "sha256:<hex>", "<hex>.tar",
 * "<hex>.tar.gz", "blobs/sha256/<hex>" and with an ending, and "blobs/sha512/<128 hex>". Writes "sha256:…"; false when it claims none.
 */
bool docker_claimed_digest(const char *name, char out[HASH_DIGEST_MAX]);
bool docker_is_blob(const char *name); /* blobs/sha256/…: the digest is of the bytes as stored, always */
