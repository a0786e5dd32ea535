#include "stages/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define ID_MAX 200
#define TAG_MAX 4096
#define NO_TAG "<none>:<none>"

void
engine_images_free(struct engine_images *l)
{
	for (size_t i = 0; i < l->n; i++) {
		mem_free_at(&l->v[i].id);
		strv_free(&l->v[i].tags);
	}
	mem_free_at(&l->v);
	l->n = 0;
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(((const struct engine_image *)a)->id, ((const struct engine_image *)b)->id);
}

/* An image that is listed once per name is one image. */
static void
merge_same(struct engine_images *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (n > 0 && str_eq(l->v[n - 1].id, l->v[i].id)) {
			for (size_t k = 0; k < l->v[i].tags.n; k++)
				strv_add(&l->v[n - 1].tags, l->v[i].tags.v[k]);
			mem_free_at(&l->v[i].id);
			strv_free(&l->v[i].tags);
			continue;
		}
		l->v[n++] = l->v[i];
	}
	l->n = n;
}

static int
parse_image(const cJSON *j, struct engine_image *ret, struct err *e)
{
	AUTO_STRV struct strv tags = { 0 };
	const char *id = NULL;

	if (json_need_str(j, "Id", &id, e) < 0)
		return -1;
	if (!*id || strlen(id) > ID_MAX)
		return err_set(e, ERR_FAILED, "Id is empty or longer than %d bytes", ID_MAX);
	json_strv(j, "RepoTags", &tags);
	ret->id = mem_strdup(id);
	for (size_t i = 0; i < tags.n; i++) {
		if (!str_eq(tags.v[i], NO_TAG) && strlen(tags.v[i]) <= TAG_MAX)
			strv_add(&ret->tags, tags.v[i]);
	}
	return 0;
}

int
engine_parse_list(const char *text, size_t len, struct engine_images *ret, struct err *e)
{
	AUTO_ENGINE_IMAGES struct engine_images l = { 0 };
	AUTO_JSON cJSON *root = NULL;
	const cJSON *j;

	if (json_parse(text, len, ENGINE_LIST_MAX, 0, &root, e) < 0)
		return err_wrap(e, "the list of images");
	if (!cJSON_IsArray(root) || cJSON_GetArraySize(root) > ENGINE_IMAGES_MAX)
		return err_set(e, ERR_FAILED, "the list of images is no array of at most %d",
			       ENGINE_IMAGES_MAX);
	l.v = mem_array((size_t)cJSON_GetArraySize(root) + 1, sizeof(*l.v));
	cJSON_ArrayForEach(j, root)
	{
		if (parse_image(j, &l.v[l.n++], e) < 0)
			return err_wrap(e, "the list of images");
	}
	qsort(l.v, l.n, sizeof(*l.v), compare_ids);
	merge_same(&l);
	*ret = l;
	l = (struct engine_images){ 0 };
	return 0;
}

static const struct engine_image *
find(const struct engine_images *l, const char *id)
{
	const struct engine_image key = { .id = (char *)id };

	return l->n ? bsearch(&key, l->v, l->n, sizeof(*l->v), compare_ids) : NULL;
}

static bool
has_tag(const struct engine_image *m, const char *tag)
{
	for (size_t i = 0; m && i < m->tags.n; i++) {
		if (str_eq(m->tags.v[i], tag))
			return true;
	}
	return false;
}

void
engine_diff(const struct engine_images *before, const struct engine_images *after, const struct strv *globs,
	    struct engine_images *ret, size_t *ret_n_untagged)
{
	ret->v = mem_array(after->n + 1, sizeof(*ret->v));
	ret->n = 0;
	*ret_n_untagged = 0;
	for (size_t i = 0; i < after->n; i++) {
		const struct engine_image *m = &after->v[i], *old = find(before, m->id);
		struct engine_image *to = &ret->v[ret->n];

		*ret_n_untagged += !old && m->tags.n == 0;
		for (size_t k = 0; k < m->tags.n; k++) {
			if (!has_tag(old, m->tags.v[k]) && str_glob_any(globs, m->tags.v[k]))
				strv_add(&to->tags, m->tags.v[k]);
		}
		if (to->tags.n == 0)
			continue;
		to->id = mem_strdup(m->id);
		ret->n++;
	}
}

bool
engine_has(const struct engine_images *l, const struct engine_image *m)
{
	const struct engine_image *now = find(l, m->id);

	for (size_t i = 0; i < m->tags.n; i++) {
		if (!has_tag(now, m->tags.v[i]))
			return false;
	}
	return now != NULL;
}
