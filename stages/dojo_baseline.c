#include "stages/dojo_baseline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/dojo_list.h"
#include "stages/dojo_read.h"

#define ENGAGEMENTS_MAX 20
#define TESTS_MAX 500 /* of one engagement */
#define TYPE "\n**Type:** "

struct reading {
	const struct dojo_branch *b;
	int64_t product, engagement;
	struct baselines *to;
	size_t first; /* of those in `to` that are ours */
};

/* *ret -1: there is none. */
static int
find_engagement(struct dojo *dojo, const struct dojo_branch *b, int64_t product, int64_t deadline,
		int64_t *ret, struct err *e)
{
	AUTO_FREE char *name = http_escape(b->engagement);
	AUTO_FREE char *path = mem_printf("/engagements/?product=%" PRId64 "&name=%s&limit=%d", product, name,
					  ENGAGEMENTS_MAX);
	AUTO_JSON cJSON *page = NULL;
	const cJSON *row;

	*ret = -1;
	if (dojo_get_json(dojo, path, DOJO_PAGE_MAX, deadline, &page, e) < 0)
		return -1;
	cJSON_ArrayForEach(row, json_array(page, "results"))
	{
		if (json_int(row, "product", -1) != product || !str_eq(json_str(row, "name"), b->engagement))
			continue;
		if (*ret >= 0)
			return err_set(e, ERR_FAILED, "DefectDojo has two engagements of that name");
		*ret = json_int(row, "id", -1);
	}
	return 0;
}

/* Of this branch, by what the row itself says. */
static bool
is_ours(const struct reading *r, const cJSON *row)
{
	const cJSON *test = json_object(json_object(row, "related_fields"), "test");
	const cJSON *engagement = json_object(test, "engagement");

	return json_int(engagement, "id", -1) == r->engagement &&
	       json_int(json_object(engagement, "product"), "id", -1) == r->product &&
	       str_eq(json_str(test, "branch_tag"), r->b->branch);
}

static bool
is_there(const cJSON *row)
{
	const cJSON *mitigated = json_get(row, "is_mitigated");

	return cJSON_IsFalse(mitigated) || json_bool(row, "false_p", false) ||
	       json_bool(row, "out_of_scope", false);
}

static struct baseline *
baseline_of(struct reading *r, const char *service)
{
	struct baselines *l = r->to;

	for (size_t k = r->first; k < l->n; k++)
		if (str_eq(l->v[k].image, service))
			return &l->v[k];
	if (l->n >= BASELINES_GIVEN_MAX)
		return NULL;
	l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n] = (struct baseline){ .branch = mem_strdup(r->b->branch),
					.image = mem_strdup(service),
					.build_id = mem_strdup(""),
					.made_s = clock_wall_s() };
	return &l->v[l->n++];
}

static int
take_row(const cJSON *row, void *arg, struct err *e)
{
	struct reading *r = arg;
	const char *id = dojo_vulnerability_of(row), *service = json_str(row, "service");
	const char *package = json_str(row, "component_name"), *version = json_str(row, "component_version");
	const char *description = json_str(row, "description");
	const char *type = description ? strstr(description, TYPE) : NULL;
	AUTO_FREE char *kind = NULL;
	struct baseline *b;

	if (!id || !package || !type || str_is_empty(service) || !is_ours(r, row) || !is_there(row))
		return 0;
	b = baseline_of(r, service);
	if (!b || b->n >= BASELINE_KEYS_MAX)
		return err_set(e, ERR_FAILED, "DefectDojo has more of %s than is compared with", r->b->branch);
	type += strlen(TYPE);
	kind = mem_strndup(type, strcspn(type, "\r\n"));
	b->keys = mem_resize(b->keys, b->n + 1, sizeof(*b->keys));
	identity_key_of(&(struct identity){ .project = r->b->project,
					    .image = service,
					    .type = kind,
					    .package = package,
					    .version = version ? version : "",
					    .id = id,
					    .place = "" },
			b->keys[b->n++]);
	return 0;
}

/* *ret_engagement -1: there is no such branch. */
static int
find_branch(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, int64_t *ret_product,
	    int64_t *ret_engagement, struct err *e)
{
	*ret_engagement = -1;
	if (dojo_find_product(dojo, b->product, deadline, ret_product, e) < 0)
		return -1;
	return *ret_product < 0 ? 0 : find_engagement(dojo, b, *ret_product, deadline, ret_engagement, e);
}

int
dojo_read_builds(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct strv *ret,
		 struct err *e)
{
	AUTO_FREE char *path = NULL;
	AUTO_JSON cJSON *page = NULL;
	const cJSON *rows, *row;
	int64_t product, engagement;

	if (find_branch(dojo, b, deadline, &product, &engagement, e) < 0)
		return -1;
	if (engagement < 0)
		return 0;
	path = mem_printf("/tests/?engagement=%" PRId64 "&limit=%d", engagement, TESTS_MAX);
	if (dojo_get_json(dojo, path, DOJO_PAGE_MAX, deadline, &page, e) < 0)
		return -1;
	rows = json_array(page, "results");
	if (!rows || json_int(page, "count", -1) != cJSON_GetArraySize(rows))
		return err_set(e, ERR_FAILED, "DefectDojo does not show all tests of %s", b->branch);
	cJSON_ArrayForEach(row, rows)
	{
		const char *build_id = json_str(row, "build_id");

		if (json_int(row, "engagement", -1) == engagement &&
		    str_eq(json_str(row, "branch_tag"), b->branch) && !str_is_empty(build_id))
			strv_add(ret, build_id);
	}
	return 0;
}

int
dojo_read_baselines(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct baselines *ret,
		    struct err *e)
{
	static const char *const filters[] = { "is_mitigated=false", "false_p=true", "out_of_scope=true" };
	struct reading r = { .b = b, .to = ret, .first = ret->n };

	if (find_branch(dojo, b, deadline, &r.product, &r.engagement, e) < 0)
		return -1;
	for (size_t k = 0; r.engagement >= 0 && k < MEM_COUNT(filters); k++) {
		AUTO_FREE char *path =
			mem_printf("/findings/?test__engagement=%" PRId64 "&%s&related_fields=true&o=id",
				   r.engagement, filters[k]);

		if (dojo_list(dojo, path, deadline, take_row, &r, e) < 0)
			return -1;
	}
	for (size_t k = r.first; k < ret->n; k++)
		baseline_sort(&ret->v[k]);
	return 0;
}
