/* Between version_order.c and the orders of languages. */
#pragma once

#include <stddef.h>

#include "stages/version_order.h"

#define DIGITS "0123456789"

static inline int
version_sign(long n)
{
	return (n > 0) - (n < 0);
}

/* Runs of digits as numbers of any length; both move behind theirs. */
int version_compare_digits(const char **a, const char **b);
size_t version_span_alpha(const char *s);

/* Each takes what is no version of its kind as version_compare_general() does. */
int version_compare_semver(const char *a, const char *b); /* version_general.c */
int version_compare_gem(const char *a, const char *b);
int version_compare_general(const char *a, const char *b);
int version_compare_pypi(const char *a, const char *b);	 /* version_pypi.c */
int version_compare_maven(const char *a, const char *b); /* version_maven.c */
