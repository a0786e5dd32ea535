#include "stages/inspection.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "stages/ignore_files.h"
#include "stages/policy.h"

#define NAME_SHOWN_MAX 100 /* code points */

const char *const verdict_words[] = { "pass", "warn", "undecided", "block", NULL };

enum verdict
verdict_worse(enum verdict a, enum verdict b)
{
	return a > b ? a : b;
}

enum verdict
verdict_of_reaction(int reaction)
{
	switch ((enum reaction)reaction) {
	case REACT_PASS:
		return VERDICT_PASS;
	case REACT_WARN:
		return VERDICT_WARN;
	case REACT_FAIL:
		return VERDICT_BLOCK;
	}
	return VERDICT_BLOCK;
}

static void
archive_free(struct archive *a)
{
	free(a->name);
	mem_close_at(&a->fd);
	snapshot_free(&a->snapshot);
	layout_files_free(&a->files);
}

static void
image_free(struct image *m)
{
	strv_free(&m->tags);
	strv_free(&m->hidden);
	free(m->os);
	free(m->architecture);
	free(m->platform);
	for (size_t i = 0; i < m->n_layers; i++)
		free(m->layers[i].created_by);
	free(m->layers);
	free(m->layout);
	free(m->label);
	free(m->repository);
	free(m->report_name);
	report_free(m->report);
	strv_free(&m->reasons);
	free(m->is_blocking);
	free(m->was_known);
	if (m->decision)
		decision_free(m->decision);
	free(m->decision);
}

void
inspection_free(struct inspection *i)
{
	for (size_t k = 0; k < i->n_archives; k++)
		archive_free(&i->archives[k]);
	free(take_ptr(i->archives));
	for (size_t k = 0; k < i->n_images; k++)
		image_free(&i->images[k]);
	free(take_ptr(i->images));
	i->n_archives = i->n_images = 0;
	strv_free(&i->reasons);
	strv_free(&i->notes);
	policy_free(take_ptr(i->policy));
	if (i->ignores)
		ignore_list_free(i->ignores);
	free(take_ptr(i->ignores));
	free(take_ptr(i->trivy_version));
}

bool
inspection_has_archives(const struct inspection *i)
{
	for (size_t k = 0; k < i->n_archives; k++) {
		if (!i->archives[k].is_ignored)
			return true;
	}
	return false;
}

struct archive *
inspection_add_archive(struct inspection *i)
{
	i->archives = mem_resize(i->archives, i->n_archives + 1, sizeof(*i->archives));
	i->archives[i->n_archives] = (struct archive){ .fd = -1 };
	return &i->archives[i->n_archives++];
}

struct image *
inspection_add_image(struct inspection *i)
{
	i->images = mem_resize(i->images, i->n_images + 1, sizeof(*i->images));
	i->images[i->n_images] = (struct image){ 0 };
	return &i->images[i->n_images++];
}

int
inspection_mode(const struct inspection *i)
{
	return i->mode != GATE_OFF ? i->mode : i->opt->gate.mode;
}

/* Two images of one name are told apart by their archives. */
static bool
is_name_shared(const struct inspection *i, const struct image *m)
{
	for (size_t k = 0; k < i->n_images; k++) {
		if (&i->images[k] != m && str_eq(i->images[k].label, m->label))
			return true;
	}
	return false;
}

char *
inspection_image_name(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *label = str_safe(m->label, NAME_SHOWN_MAX);
	AUTO_FREE char *archive = NULL;

	if (!is_name_shared(i, m) || m->archive >= i->n_archives)
		return take_ptr(label);
	archive = str_safe(i->archives[m->archive].name, NAME_SHOWN_MAX);
	return mem_printf("%s (%s)", label, archive);
}
