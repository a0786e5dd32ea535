#include "stages/ignore_work.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* What the entries of one id ask to be tried. */
struct asked {
	const char *id;
	uint64_t n_bytes, n_packages;
};

static int
compare(const void *a, const void *b)
{
	return strcmp(((const struct asked *)a)->id, ((const struct asked *)b)->id);
}

/* Sorted, each id once. */
static size_t
sum_up(const struct ignore_list *l, struct asked *all)
{
	size_t n = 0;

	for (size_t k = 0; k < l->n; k++) {
		all[k] = (struct asked){ .id = l->v[k].id, .n_packages = l->v[k].purls.n };
		for (size_t p = 0; p < l->v[k].paths.n; p++)
			all[k].n_bytes += strlen(l->v[k].paths.v[p]) + 1;
	}
	if (l->n > 0)
		qsort(all, l->n, sizeof(*all), compare);
	for (size_t k = 0; k < l->n; k++) {
		if (n > 0 && strcmp(all[n - 1].id, all[k].id) == 0) {
			all[n - 1].n_bytes += all[k].n_bytes;
			all[n - 1].n_packages += all[k].n_packages;
		} else {
			all[n++] = all[k];
		}
	}
	return n;
}

static uint64_t
work_of(const struct asked *all, size_t n, const struct report *r)
{
	uint64_t work = 0;

	for (size_t k = 0; k < r->n_findings; k++) {
		const struct finding *f = &r->findings[k];
		const struct asked wanted = { .id = f->id };
		const struct asked *x = bsearch(&wanted, all, n, sizeof(*all), compare);

		if (x)
			work += x->n_bytes * (strlen(f->path) + strlen(f->target) + 1) +
				x->n_packages * IGNORE_WORK_PACKAGE;
		if (work > IGNORE_WORK_MAX)
			break;
	}
	return work;
}

static void
drop_narrow(struct ignore_list *l)
{
	size_t n = 0;

	for (size_t k = 0; k < l->n; k++) {
		if (l->v[k].paths.n == 0 && l->v[k].purls.n == 0)
			l->v[n++] = l->v[k];
		else
			ignore_entry_free(&l->v[k]);
	}
	if (n < l->n)
		strv_addf(&l->notes,
			  "%zu entries of the commit's ignore files do not count: they name so many paths or packages that "
			  "trying them on what was found would take too long",
			  l->n - n);
	l->n = n;
}

void
ignore_list_bound(struct ignore_list *l, const struct inspection *i)
{
	AUTO_FREE struct asked *all = mem_array(l->n + 1, sizeof(*all));
	size_t n = sum_up(l, all);
	uint64_t work = 0;

	for (size_t k = 0; n > 0 && k < i->n_images && work <= IGNORE_WORK_MAX; k++)
		if (i->images[k].report)
			work += work_of(all, n, i->images[k].report);
	if (work > IGNORE_WORK_MAX)
		drop_narrow(l);
}
