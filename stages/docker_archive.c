#include "stages/docker_archive.h"

#include <string.h>

#include "base/mem.h"

static int
check_config_name(const struct image_plan *p, const char *name, struct err *e)
{
	AUTO_FREE char *safe = NULL;
	char claimed[HASH_DIGEST_MAX], real[HASH_DIGEST_MAX];

	if (!docker_claimed_digest(name, claimed))
		return 0;
	hash_of(str_has_prefix(claimed, "sha512:") ? HASH_SHA512 : HASH_SHA256, p->config_text, p->config_len,
		real);
	if (!strcmp(claimed, real))
		return 0;
	safe = str_safe(name, 120);
	return err_set(e, ERR_REFUSED, "forged config: %s is %s, not what its name says", safe, real);
}

static int
read_config(const struct entries *t, const struct docker_image *d, const struct image_limits *limits,
	    struct image_plan *p, struct err *e)
{
	const struct entry *n = NULL;

	if (entries_resolve(t, d->config, "the config", "missing config", &n, e) < 0 ||
	    image_plan_read_config(p, n, NULL, limits, e) < 0 || check_config_name(p, d->config, e) < 0 ||
	    check_config_name(p, n->name, e) < 0)
		return -1;
	if (p->config->diff_ids.n != d->layers.n)
		return err_set(e, ERR_REFUSED, "layers: manifest.json names %zu, the image's config %zu",
			       d->layers.n, p->config->diff_ids.n);
	return 0;
}

static int
find_layers(const struct entries *t, const struct docker_image *d, struct image_plan *p, struct err *e)
{
	const struct strv *names = &d->layers;

	p->layers = mem_array(names->n + 1, sizeof(*p->layers));
	for (size_t i = 0; i < names->n; i++) {
		AUTO_FREE char *which = mem_printf("layer %zu of %zu", i + 1, names->n);
		AUTO_FREE char *safe = str_safe(names->v[i], 120);
		struct plan_layer *l = &p->layers[p->n_layers];

		if (entries_resolve(t, names->v[i], which, "missing layer", &l->from, e) < 0)
			return -1;
		l->what = mem_printf("%s (%s)", which, safe);
		l->named_as = mem_strdup(names->v[i]);
		p->n_layers++;
	}
	return 0;
}

static int
plan_image(const struct entries *t, const struct docker_image *d, const struct image_limits *limits,
	   struct image_plan *p, struct err *e)
{
	p->is_loaded = true;
	strv_copy(&p->tags, &d->tags);
	if (read_config(t, d, limits, p, e) < 0)
		return -1;
	return find_layers(t, d, p, e);
}

int
docker_archive_plan(const struct entries *t, const struct docker_manifest *m,
		    const struct image_limits *limits, struct image_plans *ret, struct err *e)
{
	for (size_t i = 0; i < m->n; i++) {
		if (plan_image(t, &m->v[i], limits, image_plans_add(ret), e) == 0)
			continue;
		/* The rule stays in front; which of several it was comes behind. */
		if (m->n > 1 && e) {
			AUTO_FREE char *why = mem_strdup(e->text);
			AUTO_FREE char *name =
				str_safe(m->v[i].tags.n ? m->v[i].tags.v[0] : m->v[i].config, 100);

			err_set(e, e->kind, "%s: in image %s", why, name);
		}
		return -1;
	}
	return 0;
}
