/*
 * Where Trivy looks for the packages of an operating system, by path: the
 * analyzers of 0.74.0 (pkg/fanal/analyzer/pkg and .../os). It reads regular
 * files of these names only, and follows no link.
 */
#pragma once

#include <stdbool.h>

/* Cleaned paths without a slash in front, NULL at the end. */
extern const char *const package_lists[];
#define PACKAGE_LIST_DIR "var/lib/dpkg/status.d" /* every file right in it is one */

/* Files that say which distribution and release it is; without one Trivy looks up no package of it. */
extern const char *const package_os_files[];
/* Of these the ones that nothing else stands in for: Trivy knows Debian, Ubuntu and Alpine by them alone. */
extern const char *const package_os_files_alone[];

bool package_list_is(const char *path);	      /* one of the lists, or a file right in the directory */
bool package_list_is_above(const char *path); /* a directory that a list lies in, at any depth */
/* By its last parts: what may land on a list where a directory above is reached through a link. */
bool package_list_may_be(const char *path);
bool package_os_file_is(const char *path);
