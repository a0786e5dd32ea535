/* Lists of DefectDojo's API, read whole: for dojo_read.c and dojo_findings.c. */
#pragma once

#include "stages/dojo.h"

#define DOJO_READ_ROWS_MAX 10000 /* of one question */
#define DOJO_PAGE_MAX \
	(16 * 1024 * 1024) /* bytes of one page; a row has 3 KB, its description up to some dozens */

/* -1 ends it. */
typedef int dojo_row(const cJSON *row, void *arg, struct err *e);

/*
 * All rows, page by page, by offset. `path` is behind /api/v2 and has a query that orders by id. What does not add up is an error: a list that
 * changes meanwhile, rows out of order or twice, more or fewer than `count`.
 */
int dojo_list(struct dojo *dojo, const char *path, int64_t deadline, dojo_row *each, void *arg, struct err *e);

/*
 * A list that has to be shown on one page, since DefectDojo does not order it by id. `path` names the limit; fewer rows than `count` are an error,
 * in which `what` stands ("tests of main"). *ret is owned by the caller; its array is "results".
 */
int dojo_list_page(struct dojo *dojo, const char *path, const char *what, int64_t deadline, cJSON **ret,
		   struct err *e);
