/* What images and their reports are called: from tags and archive names, both the job's own words. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* A reference as engines accept it: 1 to 512 printable ASCII characters without blanks. */
bool image_is_tag(const char *tag);

/* Does a list of "all", "linux", "linux/amd64", "linux/arm64/v8" name this platform? What is not known ("") is named always. */
bool image_is_platform(const struct strv *list, const char *platform);

/* Docker writes "app:1", containerd "docker.io/library/app:1" for the same. */
bool image_is_same_name(const char *a, const char *b);

/* "registry.example.com:5000/group/app:1@sha256:…" gives "group/app"; owned by the caller. */
char *image_repository(const char *tag);

/* A bare tag, as an OCI layout may have ("1.0"), is one of `stem`; no tag ("") is the stem itself. Owned by the caller. */
char *image_full_name(const char *stem, const char *tag);

/*
 * "app" of an archive that holds one image, else with name and tag ("all", "group/app:1" gives "all-app-1"), or platform
 * ("all-linux-arm64"), "" for none of them. At most 200 bytes. Owned by the caller.
 */
char *image_report_stem(const char *stem, const char *tag, const char *platform);

/*
 * An archive's name without directories and without .tar, .tar.gz and so on: "tar_images/app.tar"
 * gives "app". Never empty; no control characters and no slash; at most 200 bytes. Owned by the caller.
 */
char *image_stem(const char *archive_name);
