/*
 * Versions in the order of the ecosystem they belong to. What a version is has no common answer; these are the orders of
 *   Debian  deb-version(7): epoch, "~" before the end
 *   RPM     rpmvercmp: epoch, "~" before the end, "^" behind it
 *   Alpine  apk: _alpha _beta _pre _rc before the end, _cvs … _p behind it, -rN
 *   general SemVer 2.0 where it is one; else numbers as numbers, a leading v and what follows + do not count, words after
 *           "-", and words such as rc or alpha, come before the end. For npm, Go, PyPI, NuGet, Cargo and the rest: exact
 *           for releases; of their pre-releases those that look like SemVer's. PyPI's "1.0-1" is read as SemVer's.
 *   Maven   the same, but that words behind "-" which say nothing of before or after ("32.0-jre") come behind the end
 */
#pragma once

#include <stdbool.h>

enum version_order { VERSION_GENERAL, VERSION_DEBIAN, VERSION_RPM, VERSION_ALPINE, VERSION_MAVEN };

/* By Trivy's type of a result: "debian", "redhat", "alpine", "npm" … */
enum version_order version_order_of(const char *type);

/* <0, 0, >0 */
int version_compare(enum version_order order, const char *a, const char *b);

/* The same by runs of digits and others, "~" before the end: near enough to all of these orders for advice. */
int version_compare_loose(const char *a, const char *b);
