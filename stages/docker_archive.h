/*
 * The image of a docker-archive: manifest.json says which entries it is made
 * of, its config what they must be. Everything is verified on its way into an
 * OCI layout. One of the kinds of archives; the table in archive_read.c picks it.
 */
#pragma once

#include "base/err.h"
#include "stages/archive_entries.h"
#include "stages/archive_read.h"
#include "stages/image_config.h"

/*
 * `m` is the archive's manifest, of one image. Makes the layout `name` below in->work_fd and fills *ret; on
 * an error what was made may stay behind and the caller removes `name`.
 */
struct docker_manifest;
int docker_archive_unpack(const struct archive_input *in, const struct entries *t,
			  const struct docker_manifest *m, int keep_fd, const char *name,
			  struct archive_image *ret, struct err *e);
