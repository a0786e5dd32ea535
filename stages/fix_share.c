#include "stages/fix_share.h"

#define TRIES 3

int
fix_share_read(struct fleet_place *p, int64_t deadline, struct fix_dates *ret, struct err *e)
{
	AUTO_BUF struct buf text = BUF_INIT(FLEET_ENTRY_MAX);
	int rc = fleet_read(p, deadline, &text, e);

	return rc > 0 ? fix_dates_parse(text.data, text.len, ret, e) : rc;
}

int
fix_share_write(struct fleet_place *p, int dirfd, struct fix_dates *others, int64_t deadline, struct err *e)
{
	for (int k = 0; k < TRIES; k++) {
		AUTO_FIX_DATES struct fix_dates own = { 0 };
		AUTO_FIX_DATES struct fix_dates all = { 0 };
		AUTO_FREE char *text = NULL;
		size_t len;
		int rc;

		if (fix_dates_read(dirfd, &own, e) < 0)
			return -1;
		if (!fix_dates_join(others, &own, &all))
			return 0;
		fix_dates_print(&all, &text, &len);
		rc = fleet_write(p, deadline, text, len, e);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
		/* another host came first */
		fix_dates_free(others);
		if (fix_share_read(p, deadline, others, e) < 0)
			return -1;
	}
	return err_set(e, ERR_TIMEOUT, "other hosts wrote there all the time");
}
