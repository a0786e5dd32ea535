/* dojo_read.h, the products: by name, or by what their names begin and end with. */
#include <inttypes.h>
#include <string.h>

#include "base/http.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/dojo_list.h"
#include "stages/dojo_read.h"

#define PRODUCTS_MAX 20 /* of one name: they differ by case */

/* Names are found without case; exactly this one is wanted. */
int
dojo_find_product(struct dojo *dojo, const char *name, int64_t deadline, int64_t *ret, struct err *e)
{
	AUTO_FREE char *escaped = http_escape(name);
	AUTO_FREE char *path = mem_printf("/products/?name_exact=%s&limit=%d", escaped, PRODUCTS_MAX);
	AUTO_JSON cJSON *page = NULL;
	const cJSON *row;

	*ret = -1;
	if (dojo_list_page(dojo, path, "products of one name", deadline, &page, e) < 0)
		return -1;
	cJSON_ArrayForEach(row, json_array(page, "results"))
	{
		int64_t id = json_int(row, "id", -1);

		if (id < 0 || !str_eq(json_str(row, "name"), name))
			continue;
		if (*ret >= 0)
			return err_set(e, ERR_FAILED, "DefectDojo has two products of that name");
		*ret = id;
	}
	return 0;
}

void
dojo_products_free(struct dojo_products *l)
{
	for (size_t k = 0; k < l->n; k++)
		mem_free_at(&l->v[k].name);
	l->n = 0;
}

struct collecting {
	const struct dojo_question *q;
	struct dojo_products *to;
};

static int
collect(const cJSON *row, void *arg, struct err *e)
{
	struct collecting *c = arg;
	const char *name = json_str(row, "name");

	if (!name || strlen(name) < strlen(c->q->prefix) + strlen(c->q->suffix) ||
	    !str_has_prefix(name, c->q->prefix) || !str_has_suffix(name, c->q->suffix))
		return 0;
	for (size_t k = 0; k < c->to->n; k++)
		if (str_eq(c->to->v[k].name, name))
			return err_set(e, ERR_FAILED, "DefectDojo has two products of one name");
	if (c->to->n < DOJO_READ_PRODUCTS_MAX)
		c->to->v[c->to->n++] =
			(struct dojo_product){ .id = json_int(row, "id", -1), .name = mem_strdup(name) };
	else
		c->to->n_more++;
	return 0;
}

int
dojo_find_products(struct dojo *dojo, const struct dojo_question *q, int64_t deadline,
		   struct dojo_products *ret, struct err *e)
{
	AUTO_FREE char *part = NULL, *path = NULL;
	struct collecting c = { .q = q, .to = ret };
	int64_t id;

	if (q->product) {
		if (dojo_find_product(dojo, q->product, deadline, &id, e) < 0)
			return -1;
		if (id >= 0)
			ret->v[ret->n++] = (struct dojo_product){ .id = id, .name = mem_strdup(q->product) };
		return 0;
	}
	/* a part of the name, whatever its case */
	part = http_escape(strlen(q->prefix) >= strlen(q->suffix) ? q->prefix : q->suffix);
	path = mem_printf("/products/?name=%s&o=id", part);
	return dojo_list(dojo, path, deadline, collect, &c, e);
}
