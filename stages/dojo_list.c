#include "stages/dojo_list.h"

#include <inttypes.h>

#include "base/json.h"

#define PAGE 100

struct listing {
	int64_t total, n, last; /* rows there are and were taken, the id of the last; -1 before the first */
};

/* Rows come by id, so one that was shown before is the last one or an error. */
static int
take_id(const cJSON *row, struct listing *l, struct err *e)
{
	int64_t id = json_int(row, "id", -1);

	if (id < 0 || id <= l->last)
		return err_set(e, ERR_FAILED, "DefectDojo's rows are not in the order that was asked for");
	l->last = id;
	l->n++;
	return 0;
}

static int
check_count(const cJSON *page, struct listing *l, struct err *e)
{
	int64_t count = json_int(page, "count", -1);

	if (!json_array(page, "results") || count < 0)
		return err_set(e, ERR_FAILED, "DefectDojo's answer is no list");
	if (count > DOJO_READ_ROWS_MAX)
		return err_set(e, ERR_FAILED, "DefectDojo has %" PRId64 " rows where %d are read at most",
			       count, DOJO_READ_ROWS_MAX);
	if (l->total >= 0 && count != l->total)
		return err_set(e, ERR_FAILED, "DefectDojo's findings changed while they were read");
	l->total = count;
	return 0;
}

/*
 * Each page but the first begins with the last row of the one before it: when one goes and another comes in between, the count is the
 * same, but a row would be passed over.
 */
static int
take_page(const cJSON *page, struct listing *l, dojo_row *each, void *arg, struct err *e)
{
	const cJSON *row = json_array(page, "results")->child;

	if (row && l->n > 0) {
		if (json_int(row, "id", -1) != l->last)
			return err_set(e, ERR_FAILED, "DefectDojo's findings changed while they were read");
		row = row->next;
	}
	for (; row; row = row->next)
		if (take_id(row, l, e) < 0 || each(row, arg, e) < 0)
			return -1;
	return 0;
}

int
dojo_list(struct dojo *dojo, const char *path, int64_t deadline, dojo_row *each, void *arg, struct err *e)
{
	struct listing l = { .total = -1, .last = -1 };
	int64_t before;

	do {
		AUTO_FREE char *at =
			mem_printf("%s&limit=%d&offset=%" PRId64, path, PAGE, l.n > 0 ? l.n - 1 : 0);
		AUTO_JSON cJSON *page = NULL;

		before = l.n;
		if (dojo_get_json(dojo, at, DOJO_PAGE_MAX, deadline, &page, e) < 0 ||
		    check_count(page, &l, e) < 0 || take_page(page, &l, each, arg, e) < 0)
			return -1;
	} while (l.n < l.total && l.n > before);
	if (l.n != l.total)
		return err_set(e, ERR_FAILED, "DefectDojo counts %" PRId64 " rows and shows %" PRId64,
			       l.total, l.n);
	return 0;
}

int
dojo_list_page(struct dojo *dojo, const char *path, const char *what, int64_t deadline, cJSON **ret,
	       struct err *e)
{
	AUTO_JSON cJSON *page = NULL;
	const cJSON *rows;

	if (dojo_get_json(dojo, path, DOJO_PAGE_MAX, deadline, &page, e) < 0)
		return -1;
	rows = json_array(page, "results");
	if (!rows || json_int(page, "count", -1) != cJSON_GetArraySize(rows))
		return err_set(e, ERR_FAILED, "DefectDojo does not show all %s", what);
	*ret = take_ptr(page);
	return 0;
}
