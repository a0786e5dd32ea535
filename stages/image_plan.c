#include "stages/image_plan.h"

#include <string.h>

#include "base/mem.h"
#include "stages/archive_file.h"
#include "stages/image_label.h"
#include "stages/image_names.h"

static void
plan_free(struct image_plan *p)
{
	mem_free_at(&p->config_text);
	image_config_free(p->config);
	for (size_t i = 0; i < p->n_layers; i++) {
		mem_free_at(&p->layers[i].what);
		mem_free_at(&p->layers[i].named_as);
	}
	mem_free_at(&p->layers);
	strv_free(&p->tags);
	mem_free_at(&p->said_platform);
}

void
image_plans_free(struct image_plans *l)
{
	for (size_t i = 0; i < l->n; i++)
		plan_free(&l->v[i]);
	mem_free_at(&l->v);
	*l = (struct image_plans){ 0 };
}

struct image_plan *
image_plans_add(struct image_plans *l)
{
	l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n] = (struct image_plan){ 0 };
	return &l->v[l->n++];
}

int
image_plan_read_config(struct image_plan *p, const struct entry *from, const char *expected,
		       const struct image_limits *limits, struct err *e)
{
	AUTO_FREE char *safe = str_safe(from->name, 120);
	AUTO_FREE char *what = mem_printf("config %s", safe);
	enum hash_algo algo = HASH_SHA256;
	const char *hex;

	if (expected && hash_parse_digest(expected, &algo, &hex) < 0)
		return err_set(e, ERR_REFUSED, "%s: its descriptor has no digest", what);
	if (archive_read_entry(from, what, limits->json_size, &p->config_text, &p->config_len, e) < 0)
		return -1;
	hash_of(HASH_SHA256, p->config_text, p->config_len, p->image_id);
	hash_of(algo, p->config_text, p->config_len, p->config_digest);
	if (expected && strcmp(expected, p->config_digest) != 0)
		return err_set(e, ERR_REFUSED, "forged config: %s is %s, not %s as its descriptor says", safe,
			       p->config_digest, expected);
	if (image_config_parse(p->config_text, p->config_len, limits, &p->config, e) < 0)
		return e && e->kind == ERR_REFUSED ? err_wrap(e, "%s", what) : -1;
	return 0;
}

bool
image_plan_is_same(const struct image_plan *a, const struct image_plan *b)
{
	if (strcmp(a->image_id, b->image_id) != 0 || a->n_layers != b->n_layers)
		return false;
	for (size_t i = 0; i < a->n_layers; i++)
		if (a->layers[i].from != b->layers[i].from)
			return false;
	return true;
}

/* Names that say no more than those of manifest.json: the same one in containerd's words, and a bare tag. */
static void
drop_known_names(const struct strv *known, struct strv *names)
{
	AUTO_STRV struct strv kept = { 0 };

	for (size_t i = 0; i < names->n; i++) {
		const char *name = names->v[i];
		bool is_known = !strpbrk(name, "/:");

		for (size_t k = 0; k < known->n; k++)
			is_known = is_known || image_is_same_name(known->v[k], name);
		if (!is_known)
			strv_add(&kept, name);
	}
	strv_free(names);
	*names = kept;
	kept = (struct strv){ 0 };
}

void
image_plan_join(struct image_plan *d, struct image_plan *o)
{
	memcpy(d->manifest_digest, o->manifest_digest, sizeof(d->manifest_digest));
	memcpy(d->config_digest, o->config_digest, sizeof(d->config_digest));
	mem_free_at(&d->said_platform);
	d->said_platform = mem_strdup(o->said_platform);
	o->is_loaded = true;
	if (d->tags.n)
		drop_known_names(&d->tags, &o->tags);
}

void
image_plans_remove(struct image_plans *l, size_t at)
{
	plan_free(&l->v[at]);
	memmove(&l->v[at], &l->v[at + 1], (l->n - at - 1) * sizeof(*l->v));
	l->n--;
}

size_t
image_plans_first(const struct image_plans *l, size_t at)
{
	size_t i = 0;

	while (i < at && strcmp(l->v[i].image_id, l->v[at].image_id) != 0)
		i++;
	return i;
}
