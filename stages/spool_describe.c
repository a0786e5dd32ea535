/* What came of an attempt, for people. */
#include "base/clock.h"
#include "base/str.h"
#include "stages/spool.h"

void
spool_result_free(struct spool_result *r)
{
	mem_free_at(&r->shortfall);
}

static char *
describe_delivered(const struct spool_result *r)
{
	const struct dojo_answer *a = &r->answer;
	AUTO_FREE char *updated = NULL;

	if (r->was_found)
		return mem_strdup("delivered by an earlier attempt");
	if (!a->has_counts)
		return mem_printf("delivered (test %lld)", (long long)a->test_id);
	if (a->is_first)
		return mem_printf("delivered: %lld new (test %lld, made for it)", (long long)a->n_created,
				  (long long)a->test_id);
	if (r->n_updated > 0)
		updated = mem_printf(", %zu brought up to date", r->n_updated);
	return mem_printf("delivered: %lld new, %lld known, %lld back, %lld closed%s (test %lld)",
			  (long long)a->n_created, (long long)a->n_untouched, (long long)a->n_reactivated,
			  (long long)a->n_closed, updated ? updated : "", (long long)a->test_id);
}

char *
spool_describe(const struct spool_result *r)
{
	int64_t wait_s = r->next_s - clock_wall_s();
	AUTO_FREE char *wait = wait_s > 0 ? str_human_duration(wait_s * 1000) : mem_strdup("no time");

	switch (r->end) {
	case SPOOL_DELIVERED:
		return describe_delivered(r);
	case SPOOL_DIED:
		return mem_printf("given up, kept in dead/: %s", r->answer.reason);
	case SPOOL_LATER:
		return mem_printf("waits in the spool, due in %s: %s", wait, r->answer.reason);
	case SPOOL_SKIPPED:
		break;
	}
	if (r->is_gone)
		return mem_strdup(r->answer.reason);
	return mem_printf("waits in the spool: %s", r->answer.reason);
}
