/*
 * The images of a docker-archive: manifest.json says which entries each is made of, its config what they must be. One of
 * the kinds of archives; archive_read.c picks it.
 */
#pragma once

#include "base/err.h"
#include "stages/archive_entries.h"
#include "stages/docker_manifest.h"
#include "stages/image_plan.h"

/* One plan per image of `m`, in its order. ERR_REFUSED "missing config: …", "forged config: …", "missing layer: …", "layers: …". */
int docker_archive_plan(const struct entries *t, const struct docker_manifest *m,
			const struct image_limits *limits, struct image_plans *ret, struct err *e);
