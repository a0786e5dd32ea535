/*
 * Package URLs: https://github.com/package-url/purl-spec. "pkg:type/namespace/name@version?qualifiers#subpath", of which only type and
 * name must be there.
 */
#pragma once

#include <stdbool.h>

/* "pkg:", a type and a name. Of text that is none the functions below say that it matches nothing and is no image. */
bool purl_is(const char *text);

/*
 * Is all that `pattern` says so of `purl`? Type, namespace and name must be the same, and version, qualifiers and subpath where the
 * pattern has them; what it does not have may be anything. %XX is what it means, qualifiers may stand in any order, and case does not
 * count where the type says that it does not (Debian's names, not Maven's). An epoch may stand in the version or be a qualifier of `purl`.
 */
bool purl_matches(const char *pattern, const char *purl);

/*
 * The repository of an image, without registry, that pkg:oci/name?repository_url=…&arch=… is, and its architecture, NULL where any is
 * meant; both owned by the caller. NULL: it is no image, or one of a digest, a tag or of something else that is not known here.
 */
char *purl_image(const char *purl, char **ret_arch);
