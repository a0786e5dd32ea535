#include "stages/unpack_engine.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/scan.h"
#include "stages/unpack.h"

#define NAME_SHOWN 200

static bool
is_absent(const struct err *e)
{
	return e->no == ENOENT || e->no == ECONNREFUSED;
}

/* The engine as a whole cannot be judged: an archive of its name says so. */
static void
add_fault(struct inspection *i, size_t engine, const char *why)
{
	struct archive *a = inspection_add_archive(i);

	a->name = mem_printf("images in the engine at %s", i->opt->images.engine_sockets.v[engine]);
	a->fd = -1;
	err_set(&a->fault, ERR_FAILED, "%s", why);
}

/* The job left it as an archive, too: then it is judged by what it is called in the engine as well. */
static bool
add_names_to_inspected(struct inspection *i, const struct engine_image *m)
{
	bool is_there = false;

	for (size_t k = 0; k < i->n_images; k++) {
		struct image *known = &i->images[k];

		if (!str_eq(known->config_digest, m->id))
			continue;
		for (size_t t = 0; t < m->tags.n; t++)
			if (!strv_has(&known->tags, m->tags.v[t]))
				strv_add(&known->tags, m->tags.v[t]);
		is_there = true;
	}
	return is_there;
}

static void
unpack_image(struct inspection *i, size_t engine, const struct engine_image *m)
{
	AUTO_FREE char *safe = str_safe(m->tags.v[0], NAME_SHOWN);
	struct archive *a;

	if (add_names_to_inspected(i, m))
		return;
	a = inspection_add_archive(i);
	a->name = mem_strdup(m->tags.v[0]);
	a->fd = -1;
	a->in_engine = m;
	a->engine = engine;
	log_line(i->log, LOG_NOTE, "%s is taken from the engine at %s", safe,
		 i->opt->images.engine_sockets.v[engine]);
	unpack_archive(i, i->n_archives - 1);
}

/* A name that another job, or a stranger, moved meanwhile stands for something that nobody looked at. */
static void
check_names(struct inspection *i, size_t engine, size_t first)
{
	AUTO_ENGINE_IMAGES struct engine_images now = { 0 };
	struct err e = ERR_INIT;
	int rc = first < i->n_archives ? engine_list(i->engine_fd, engine, &now, &e) : 0;

	for (size_t at = first; at < i->n_archives; at++) {
		struct archive *a = &i->archives[at];

		if (!a->in_engine || a->is_ignored || a->fault.kind != ERR_NONE)
			continue;
		if (rc < 0)
			a->fault = e;
		else if (!engine_has(&now, a->in_engine))
			err_set(&a->fault, ERR_FAILED,
				"changed: its name stands for another image now than when it was read");
		if (a->fault.kind != ERR_NONE)
			scan_withdraw(i, at);
	}
}

static int
find_new(struct inspection *i, size_t engine, struct engine_images *ret, size_t *ret_n_untagged, struct err *e)
{
	const struct engine_before *b = &i->engines[engine];
	AUTO_ENGINE_IMAGES struct engine_images before = { 0 };
	AUTO_ENGINE_IMAGES struct engine_images after = { 0 };

	if (engine_list(i->engine_fd, engine, &after, e) < 0)
		return -1;
	if (b->fault)
		return err_set(e, ERR_FAILED, "what it had before the job is not known: %s", b->fault);
	if (!b->was_there)
		return err_set(e, ERR_FAILED,
			       "it was not there before the job, so what it had then is not known");
	if (engine_parse_list(b->text, b->len, &before, e) < 0)
		return err_wrap(e, "before the job");
	engine_diff(&before, &after, &i->opt->images.engine_names, ret, ret_n_untagged);
	return 0;
}

static void
look_at(struct inspection *i, size_t engine, struct engine_images *diff)
{
	size_t first = i->n_archives, n_untagged = 0;
	struct err e = ERR_INIT;

	if (find_new(i, engine, diff, &n_untagged, &e) < 0) {
		if (!is_absent(&e))
			add_fault(i, engine, e.text);
		else if (i->engines[engine].was_there)
			add_fault(i, engine, "it was there before the job and is gone now");
		return;
	}
	if (n_untagged > 0)
		log_line(i->log, LOG_NOTE, "%zu new image%s without a name in the engine at %s: not inspected",
			 n_untagged, n_untagged == 1 ? "" : "s", i->opt->images.engine_sockets.v[engine]);
	for (size_t k = 0; k < diff->n; k++)
		unpack_image(i, engine, &diff->v[k]);
	check_names(i, engine, first);
}

void
unpack_engines(struct inspection *i, struct unpack_engines *ret)
{
	if (!i->engines)
		return;
	ret->n = i->opt->images.engine_sockets.n;
	ret->diffs = mem_array(ret->n + 1, sizeof(*ret->diffs));
	for (size_t k = 0; k < ret->n; k++)
		look_at(i, k, &ret->diffs[k]);
}

void
unpack_engines_free(struct unpack_engines *l)
{
	for (size_t k = 0; k < l->n; k++)
		engine_images_free(&l->diffs[k]);
	mem_free_at(&l->diffs);
	l->n = 0;
}
