/*
 * Versions in the order of the ecosystem they belong to. What a version is has no common answer; these are the orders of
 *   Debian  deb-version(7): epoch, "~" before the end
 *   RPM     rpmvercmp: epoch, "~" before the end, "^" behind it
 *   Alpine  apk: _alpha _beta _pre _rc before the end, _cvs … _p behind it, -rN
 *   SemVer  2.0.0: npm, Go, Cargo, NuGet and their kin; a leading v, and any number of numbers
 *   PyPI    PEP 440
 *   gems    Gem::Version
 *   Maven   https://maven.apache.org/pom.html#version-order-specification
 *   general numbers as numbers, a leading v and what follows + do not count, words after "-", and words such as rc or alpha,
 *           come before the end: for the rest, and for what is no version of its kind
 */
#pragma once

#include <stdbool.h>

enum version_order {
	VERSION_GENERAL,
	VERSION_DEBIAN,
	VERSION_RPM,
	VERSION_ALPINE,
	VERSION_SEMVER,
	VERSION_PYPI,
	VERSION_GEM,
	VERSION_MAVEN,
};

/* By Trivy's type of a result: "debian", "redhat", "alpine", "npm" … */
enum version_order version_order_of(const char *type);

/* <0, 0, >0 */
int version_compare(enum version_order order, const char *a, const char *b);
