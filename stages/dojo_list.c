#include "stages/dojo_list.h"

#include <inttypes.h>

#include "base/json.h"

#define PAGE 100

/* Rows come by id, so one that was shown before is the last one or an error. */
static int
take_id(const cJSON *row, int64_t *last, struct err *e)
{
	int64_t id = json_int(row, "id", -1);

	if (id < 0 || id <= *last)
		return err_set(e, ERR_FAILED, "DefectDojo's rows are not in the order that was asked for");
	*last = id;
	return 0;
}

int
dojo_list(struct dojo *dojo, const char *path, int64_t deadline, dojo_row *each, void *arg, struct err *e)
{
	int64_t total = -1, n = 0, last = -1;

	do {
		AUTO_FREE char *at = mem_printf("%s&limit=%d&offset=%" PRId64, path, PAGE, n);
		AUTO_JSON cJSON *page = NULL;
		const cJSON *rows, *row;
		int64_t count;

		if (dojo_get_json(dojo, at, DOJO_PAGE_MAX, deadline, &page, e) < 0)
			return -1;
		rows = json_array(page, "results");
		count = json_int(page, "count", -1);
		if (!rows || count < 0)
			return err_set(e, ERR_FAILED, "DefectDojo's answer is no list");
		if (count > DOJO_READ_ROWS_MAX)
			return err_set(e, ERR_FAILED,
				       "DefectDojo has %" PRId64 " rows where %d are read at most", count,
				       DOJO_READ_ROWS_MAX);
		if (total >= 0 && count != total)
			return err_set(e, ERR_FAILED, "DefectDojo's findings changed while they were read");
		total = count;
		if (cJSON_GetArraySize(rows) == 0 && n < total)
			break;
		cJSON_ArrayForEach(row, rows)
		{
			if (take_id(row, &last, e) < 0 || each(row, arg, e) < 0)
				return -1;
			n++;
		}
	} while (n < total);
	if (n != total)
		return err_set(e, ERR_FAILED, "DefectDojo counts %" PRId64 " rows and shows %" PRId64, total,
			       n);
	return 0;
}
