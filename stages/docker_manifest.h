/*
 * manifest.json of a docker-archive:
 * [{"Config": name, "RepoTags": [tag…] or null, "Layers": [name…] or null}]
 * https://github.com/moby/docker-image-spec/blob/main/spec.md
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct docker_manifest {
	size_t n_images; /* as many as it lists; what follows is of the first */
	char *config;	 /* names in the archive */
	struct strv layers;
	struct strv tags;
};

/*
 * Refusals begin with "manifest.json" or "layers". *ret is NULL, which is no error, for an object: that is
 * another format's file of the same name.
 */
int docker_manifest_parse(const char *text, size_t len, size_t max_layers, struct docker_manifest **ret,
			  struct err *e);
void docker_manifest_free(struct docker_manifest *m);
MEM_AUTO_DECLARE(docker_manifest)

/*
 * The SHA-256 that a name in the archive claims for its bytes: "<hex>.json", "sha256:<hex>", "<hex>.tar",
 * "<hex>.tar.gz", "blobs/sha256/<hex>" and with an ending. Writes "sha256:…" of 72 bytes with the NUL; false when it claims none.
 */
bool docker_claimed_digest(const char *name, char out[72]);
bool docker_is_blob(const char *name); /* blobs/sha256/…: the digest is of the bytes as stored, always */
