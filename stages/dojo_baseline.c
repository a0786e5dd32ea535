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

#define CLEAN_S 1	   /* as good_s: let pass without a finding, before any that there may be */
#define ENGAGEMENTS_MAX 20 /* of one name */
#define TESTS_MAX 500	   /* of one engagement */
#define TYPE "\n**Type:** "

/* An engagement in which findings of the branch are. */
struct place {
	const struct dojo_product *product;
	int64_t engagement;
	char *name; /* of the engagement */
};

struct reading {
	const struct dojo_branch *b;
	const struct place *at;
	struct baselines *to;
	size_t first; /* of those in `to` that are ours */
};

/* ---- where it is ---- */

static bool
is_engagement(const struct dojo_branch *b, const char *name)
{
	return b->engagement ? str_eq(name, b->engagement)
			     : name && name_ends_are_of(b->engagement_ends, name);
}

static char *
engagements_path(const struct dojo_branch *b, int64_t product)
{
	AUTO_FREE char *name = b->engagement ? http_escape(b->engagement) : NULL;

	return mem_printf("/engagements/?product=%" PRId64 "%s%s&limit=%d", product, name ? "&name=" : "",
			  name ? name : "", name ? ENGAGEMENTS_MAX : DOJO_ENGAGEMENTS_MAX);
}

typedef int place_visit(struct dojo *dojo, const struct place *at, int64_t deadline, void *arg, struct err *e);

static int
visit_engagements(struct dojo *dojo, const struct dojo_branch *b, const struct dojo_product *product,
		  int64_t deadline, place_visit *visit, void *arg, struct err *e)
{
	AUTO_FREE char *path = engagements_path(b, product->id);
	AUTO_FREE char *what = mem_printf("engagements of %s", product->name);
	AUTO_STRV struct strv seen = { 0 };
	AUTO_JSON cJSON *page = NULL;
	const cJSON *row;

	if (dojo_list_page(dojo, path, what, deadline, &page, e) < 0)
		return -1;
	cJSON_ArrayForEach(row, json_array(page, "results"))
	{
		const char *name = json_str(row, "name");
		struct place at = { .product = product, .engagement = json_int(row, "id", -1) };
		int rc;

		if (json_int(row, "product", -1) != product->id || at.engagement < 0 ||
		    !is_engagement(b, name))
			continue;
		if (strv_has(&seen, name))
			return err_set(e, ERR_FAILED, "DefectDojo has two engagements of that name");
		strv_add(&seen, name);
		at.name = seen.v[seen.n - 1];
		rc = visit(dojo, &at, deadline, arg, e);
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* Every engagement that deliveries of the branch can be in; none where there is no such product. */
static int
visit_places(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, place_visit *visit, void *arg,
	     struct err *e)
{
	const struct dojo_question q = { .product = b->product,
					 .prefix = b->product_ends ? b->product_ends->prefix : NULL,
					 .suffix = b->product_ends ? b->product_ends->suffix : NULL };
	AUTO_DOJO_PRODUCTS struct dojo_products l = { 0 };

	if (dojo_find_products(dojo, &q, deadline, &l, e) < 0)
		return -1;
	for (size_t k = 0; k < l.n; k++)
		if (visit_engagements(dojo, b, &l.v[k], deadline, visit, arg, e) < 0)
			return -1;
	return 0;
}

/* ---- what it has ---- */

/* Of this branch, by what the row itself says. */
static bool
is_ours(const struct reading *r, const cJSON *row)
{
	const cJSON *test = json_object(json_object(row, "related_fields"), "test");
	const cJSON *engagement = json_object(test, "engagement");

	return json_int(engagement, "id", -1) == r->at->engagement &&
	       json_int(json_object(engagement, "product"), "id", -1) == r->at->product->id &&
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
baseline_of(struct reading *r, const char *image)
{
	struct baselines *l = r->to;

	for (size_t k = r->first; k < l->n; k++)
		if (str_eq(l->v[k].image, image))
			return &l->v[k];
	if (l->n >= BASELINES_GIVEN_MAX)
		return NULL;
	l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n] = (struct baseline){ .branch = mem_strdup(r->b->branch),
					.image = mem_strdup(image),
					.build_id = mem_strdup(""),
					.made_s = clock_wall_s() };
	return &l->v[l->n++];
}

static int64_t
created_of(const cJSON *row)
{
	const char *text = json_str(row, "created");
	int64_t s;

	/* not known: after all that was ever let pass */
	return text && clock_parse_rfc3339(text, &s, NULL) == 0 ? s : INT64_MAX;
}

/* Was it there when the branch was last let pass? *ret_good_s: until when all was, of its test. */
static bool
was_let_pass(const cJSON *row, int64_t *ret_good_s)
{
	const cJSON *test = json_object(json_object(row, "related_fields"), "test");
	int64_t created_s = created_of(row);

	if (baseline_mark(json_str(test, "build_id"), ret_good_s))
		return created_s <= *ret_good_s;
	*ret_good_s = created_s == INT64_MAX ? 0 : created_s;
	return true;
}

static int
take_row(const cJSON *row, void *arg, struct err *e)
{
	struct reading *r = arg;
	const char *id = dojo_vulnerability_of(row), *service = json_str(row, "service");
	const char *package = json_str(row, "component_name"), *version = json_str(row, "component_version");
	const char *description = json_str(row, "description");
	const char *type = description ? strstr(description, TYPE) : NULL;
	char image[KEPT_KEY_SIZE];
	AUTO_FREE char *kind = NULL;
	struct baseline *b;
	int64_t good_s;

	if (!id || !package || !type || !is_ours(r, row) || !is_there(row))
		return 0;
	if (!was_let_pass(row, &good_s) && r->b->is_own)
		return 0;
	baseline_place(r->at->product->name, r->at->name, service ? service : "", image);
	b = baseline_of(r, image);
	if (!b || b->n >= BASELINE_KEYS_MAX)
		return err_set(e, ERR_FAILED, "DefectDojo has more of %s than is compared with", r->b->branch);
	b->good_s = b->good_s > good_s ? b->good_s : good_s;
	type += strlen(TYPE);
	kind = mem_strndup(type, strcspn(type, "\r\n"));
	b->keys = mem_resize(b->keys, b->n + 1, sizeof(*b->keys));
	identity_key_of(&(struct identity){ .project = r->b->project,
					    .image = image,
					    .type = kind,
					    .package = package,
					    .version = version ? version : "",
					    .id = id,
					    .place = "" },
			b->keys[b->n++]);
	return 0;
}

/* ---- questions ---- */

typedef void test_visit(const struct place *at, const cJSON *row, const char *build_id, void *arg);

struct tests {
	const struct dojo_branch *b;
	test_visit *visit;
	void *arg;
};

/* Of the branch, by what the row itself says, and once delivered to. */
static int
each_test(struct dojo *dojo, const struct place *at, int64_t deadline, void *arg, struct err *e)
{
	const struct tests *x = arg;
	AUTO_FREE char *path =
		mem_printf("/tests/?engagement=%" PRId64 "&limit=%d", at->engagement, TESTS_MAX);
	AUTO_FREE char *what = mem_printf("tests of %s", x->b->branch);
	AUTO_JSON cJSON *page = NULL;
	const cJSON *row;

	if (dojo_list_page(dojo, path, what, deadline, &page, e) < 0)
		return -1;
	cJSON_ArrayForEach(row, json_array(page, "results"))
	{
		const char *build_id = json_str(row, "build_id");

		if (json_int(row, "engagement", -1) == at->engagement &&
		    str_eq(json_str(row, "branch_tag"), x->b->branch) && !str_is_empty(build_id))
			x->visit(at, row, build_id, x->arg);
	}
	return 0;
}

static void
add_build(const struct place *at, const cJSON *row, const char *build_id, void *arg)
{
	(void)at;
	(void)row;
	strv_add(arg, build_id);
}

static void
add_delivered(const struct place *at, const cJSON *row, const char *build_id, void *arg)
{
	struct reading *r = arg;
	const char *title = json_str(row, "title");
	char image[KEPT_KEY_SIZE];
	struct baseline *b;
	int64_t good_s;

	if (!baseline_mark(build_id, &good_s))
		good_s = CLEAN_S;
	/* nothing there was ever let pass */
	if (good_s == 0)
		return;
	baseline_delivered(at->product->name, at->name, title ? title : "", image);
	b = baseline_of(r, image);
	if (b)
		b->good_s = good_s;
}

int
dojo_read_delivered(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct baselines *ret,
		    struct err *e)
{
	struct reading r = { .b = b, .to = ret, .first = ret->n };
	struct tests x = { .b = b, .visit = add_delivered, .arg = &r };

	return visit_places(dojo, b, deadline, each_test, &x, e);
}

int
dojo_read_builds(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct strv *ret,
		 struct err *e)
{
	struct tests x = { .b = b, .visit = add_build, .arg = ret };

	return visit_places(dojo, b, deadline, each_test, &x, e);
}

static int
add_baselines(struct dojo *dojo, const struct place *at, int64_t deadline, void *arg, struct err *e)
{
	static const char *const filters[] = { "is_mitigated=false", "false_p=true", "out_of_scope=true" };
	struct reading *r = arg;

	r->at = at;
	for (size_t k = 0; k < MEM_COUNT(filters); k++) {
		AUTO_FREE char *path =
			mem_printf("/findings/?test__engagement=%" PRId64 "&%s&related_fields=true&o=id",
				   at->engagement, filters[k]);

		if (dojo_list(dojo, path, deadline, take_row, r, e) < 0)
			return -1;
	}
	return 0;
}

int
dojo_read_baselines(struct dojo *dojo, const struct dojo_branch *b, int64_t deadline, struct baselines *ret,
		    struct err *e)
{
	struct reading r = { .b = b, .to = ret, .first = ret->n };

	if (visit_places(dojo, b, deadline, add_baselines, &r, e) < 0)
		return -1;
	for (size_t k = r.first; k < ret->n; k++)
		baseline_sort(&ret->v[k]);
	return 0;
}
