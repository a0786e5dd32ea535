/*
 * Whether an image has a package list that engines load and Trivy does not
 * see, judged by what was kept of its layers (stages/layer_watch.h).
 *
 * Trivy takes regular files by the names that stand in the layer's tar. So a
 * list is hidden when, in the image as it is at the end, it or a directory
 * above it is a symbolic link (unless that leads to a list that Trivy does
 * see, as with Fedora's /var/lib/rpm and with merged /usr); when it is a hard
 * link or no ordinary file; when it is written through a link that leads to
 * its directory, by an engine that unpacks layers one upon the other or each
 * by itself; when readers differ in its name. Where it cannot be told it
 * counts as hidden. A link that leads to nothing hides nothing.
 */
#pragma once

#include <stddef.h>

#include "base/str.h"
#include "stages/layer_watch.h"

/* `layers`: bottom first; one may stand several times. Adds a line for people for each hidden list, a few at most. */
void layer_hidden_find(const struct layer_facts *const *layers, size_t n, struct strv *ret);
