/* What images and their reports are called: from tags and archive names, both the job's own words. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A reference as engines accept it: 1 to 512 printable ASCII characters without blanks. */
bool image_is_tag(const char *tag);

/* "registry.example.com:5000/group/app:1@sha256:…" gives "group/app"; owned by the caller. */
char *image_repository(const char *tag);

/*
 * An archive's name without directories and without .tar, .tar.gz and so on: "tar_images/app.tar"
 * gives "app". Never empty; no control characters and no slash; at most 200 bytes. Owned by the caller.
 */
char *image_stem(const char *archive_name);
