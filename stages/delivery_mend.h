/*
 * A Trivy report, made so that DefectDojo 3.2.0 takes all of it or we know before (FACTS.md, 1.6 and 2): it drops content
 * without a word, falls over values half way through, and writes the least severe findings first when it does.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

/* Code points that DefectDojo has room for; what is longer ends in '~' and a digest (delivery_fit_text()). */
#define DELIVERY_ID_MAX 50
#define DELIVERY_VERSION_MAX 100 /* of a package */
#define DELIVERY_PACKAGE_MAX 500
#define DELIVERY_PLACE_MAX 4000 /* a path or a target */

struct delivery_mending {
	int64_t n_findings; /* that DefectDojo will read */
	/* of them with a hash of their own and open: so many at least are in its statistics, however often they stand in the report */
	int64_t n_distinct;
	size_t n_shortened; /* values longer than its columns; they end in '~' and a digest, as in delivery_fit() */
	size_t n_repaired; /* nulls, severities, targets, lists of strings */
	size_t n_dropped;  /* entries that are no objects, which it cannot read */
	/* What had to go for size_max: links and scores first, which are no part of a finding's identity, then long descriptions. */
	enum { MEND_KEPT_ALL, MEND_DROPPED_LINKS, MEND_CUT_TEXTS } went;
};

/*
 * Mends `report` (SchemaVersion 2, as report_parse() accepts it) in place and prints it; *ret_text is owned by the caller.
 * ERR_REFUSED when it stays larger than size_max.
 */
int delivery_mend(cJSON *report, size_t size_max, char **ret_text, struct delivery_mending *ret,
		  struct err *e);
