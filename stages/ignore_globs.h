/*
 * Globs of a .trivyignore.yaml, which Trivy gives to doublestar (https://pkg.go.dev/github.com/bmatcuk/doublestar/v4#hdr-Patterns), as
 * those of str_glob(): alternatives become patterns of their own, `**` beside other characters is `*`, and a last `/` with `**` is of
 * what stands before it, too.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#define IGNORE_GLOB_MAX 1024 /* bytes */
#define IGNORE_GLOB_BRACES 16
#define IGNORE_GLOB_ALTERNATIVES 64

/* Adds what it stands for. ERR_REFUSED: a bracket, quote or brace is not closed, or it is over the limits; nothing was added. */
int ignore_globs_add(const char *glob, struct strv *ret, struct err *e);
