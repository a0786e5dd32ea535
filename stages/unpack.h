/*
 * Stage unpack (place: scanner). Reads inspection.archives (fd, id, name), fills inspection.images and the
 * archives' `fault` and `is_ignored`.
 *
 * Every image becomes an OCI layout below work_dir (archive-<n>-<m>), uncompressed, each layer checked against the
 * image's config. An archive that cannot be read gets a fault and leaves nothing behind.
 *
 * A fault's text does not name the archive: who prints it puts archive.name in front. It begins with the rule that
 * was broken: "forged layer: layer 3 of 7 (x.tar) is not what the image's config says it is (sha256:…, expected
 * sha256:…)"; kind ERR_REFUSED, or ERR_UNSUPPORTED ("platform: …"), ERR_NO_SPACE, ERR_FAILED.
 */
#pragma once

#include "base/err.h"
#include "stages/inspection.h"

/* One archive that has no fault yet, index `at`. Writes what it finds into `i`; never fails as a whole. */
void unpack_archive(struct inspection *i, size_t at);
/* tar_images/ at any depth: there a file that is no image is a fault, elsewhere it is ignored. So it is with files given by name. */
bool unpack_must_be_image(const struct inspection *i, const struct archive *a);
