#include "stages/unpack.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/proc.h"
#include "stages/archive_read.h"
#include "stages/early_result.h"
#include "stages/image_label.h"
#include "stages/pipeline.h"
#include "stages/scan.h"
#include "stages/shared.h"
#include "stages/unpack_engine.h"

bool
unpack_must_be_image(const struct inspection *i, const struct archive *a)
{
	return i->project_fd < 0 || a->in_engine || str_has_prefix(a->name, "tar_images/") ||
	       strstr(a->name, "/tar_images/");
}

static int
check_file(int fd, const struct fs_identity *id, struct err *e)
{
	struct fs_identity now;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "fstat");
	fs_identity_of(&st, &now);
	if (!fs_identity_equal(&now, id))
		return err_set(e, ERR_REFUSED,
			       "changed: the file is not the same any more as when it was opened");
	return 0;
}

/* Of a directory its files; what is put beside them meanwhile is found when the archives are compared. */
static int
check_same(const struct archive *a, struct err *e)
{
	if (!a->is_dir)
		return check_file(a->fd, &a->id, e);
	for (size_t k = 0; k < a->files.n; k++)
		if (check_file(a->files.v[k].fd, &a->files.v[k].id, e) < 0)
			return -1;
	return 0;
}

static bool
is_name_taken(const struct inspection *i, const char *name)
{
	for (size_t k = 0; k < i->n_images; k++)
		/* Some filesystems take names for the same that differ by case only. */
		if (i->images[k].report_name && !strcasecmp(i->images[k].report_name, name))
			return true;
	return false;
}

static char *
unique_name(const struct inspection *i, const char *stem)
{
	AUTO_FREE char *name = mem_strdup(stem);

	for (unsigned n = 2; is_name_taken(i, name); n++) {
		mem_free_at(&name);
		name = mem_printf("%s-%u", stem, n);
	}
	return take_ptr(name);
}

static struct layer *
make_layers(const struct archive_image *from)
{
	const struct image_config *c = from->config;
	struct layer *layers = mem_array(c->diff_ids.n + 1, sizeof(*layers));

	for (size_t n = 0; n < c->diff_ids.n; n++) {
		snprintf(layers[n].diff_id, sizeof(layers[n].diff_id), "%s", c->diff_ids.v[n]);
		memcpy(layers[n].scanned_digest, from->layers[n].scanned_digest, HASH_DIGEST_MAX);
		layers[n].size = from->layers[n].size;
		layers[n].created_by = mem_strdup(c->created_by[n]);
	}
	return layers;
}

static const char *
first_tag(const struct archive_image *m)
{
	return m->tags.n ? m->tags.v[0] : "";
}

/* How many of the archive's images go by the same name. */
static size_t
n_named_so(const struct archive_images *l, const struct archive_image *m)
{
	size_t n = 0;

	for (size_t k = 0; k < l->n; k++)
		n += image_is_same_name(first_tag(&l->v[k]), first_tag(m));
	return n;
}

/* An image in an engine has no file; its name without directories does for one. */
static char *
stem_of(const struct archive *a)
{
	char *stem = image_stem(a->name);

	for (char *p = stem; a->in_engine && (p = strpbrk(p, ":@"));)
		*p = '-';
	return stem;
}

/* Within the archive: images of different names are told apart by these, images of one name by their platforms. */
static void
name_image(const struct inspection *i, struct image *m, const struct archive_images *l,
	   const struct archive_image *from)
{
	AUTO_FREE char *stem = stem_of(&i->archives[m->archive]);
	size_t n_same = n_named_so(l, from);
	const char *platform = n_same > 1 ? from->platform : "";
	const char *tag = first_tag(from);
	AUTO_FREE char *name = image_full_name(stem, tag);
	AUTO_FREE char *file = image_report_stem(stem, n_same < l->n ? tag : "", platform);

	m->label = *platform ? mem_printf("%s (%s)", name, platform) : mem_strdup(name);
	m->repository = *tag ? image_repository(name) : mem_strdup(stem);
	m->report_name = unique_name(i, file);
}

static void
add_image(struct inspection *i, size_t at, const struct archive_images *l, const struct archive_image *from)
{
	struct image *m = inspection_add_image(i);

	m->archive = at;
	strv_copy(&m->tags, &from->tags);
	strv_copy(&m->hidden, &from->hidden);
	memcpy(m->config_digest, from->config_digest, sizeof(m->config_digest));
	memcpy(m->scanned_digest, from->scanned_digest, sizeof(m->scanned_digest));
	memcpy(m->manifest_digest, from->manifest_digest, sizeof(m->manifest_digest));
	m->os = mem_strdup(from->config->os);
	m->architecture = mem_strdup(from->config->architecture);
	m->platform = mem_strdup(from->platform);
	m->layers = make_layers(from);
	m->n_layers = from->config->diff_ids.n;
	m->base_layers = from->config->base_layers;
	m->layout = mem_printf("%s/%s", i->work_dir, from->layout_name);
	name_image(i, m, l, from);
	scan_start(i, at, m->layout, m->scanned_digest);
}

static int
add_images(struct inspection *i, size_t at, const struct archive_images *l, struct err *e)
{
	AUTO_FREE char *notes = archive_join_notes(&l->notes);
	AUTO_FREE char *safe = str_safe(i->archives[at].name, 200);

	if (i->n_images + l->n > (size_t)i->opt->images.max_images)
		return err_set(e, ERR_NO_SPACE, "not inspected: the job left more than %lld images",
			       (long long)i->opt->images.max_images);
	for (size_t k = 0; k < l->n; k++)
		add_image(i, at, l, &l->v[k]);
	if (notes)
		log_line(i->log, LOG_NOTE, "%s also holds what is no image to look at: %s", safe, notes);
	return 0;
}

static size_t
n_image_archives_before(const struct inspection *i, size_t at)
{
	size_t n = 0;

	for (size_t k = 0; k < at; k++)
		n += !i->archives[k].is_ignored;
	return n;
}

struct ready {
	struct inspection *i;
	size_t archive;
};

static void
start_scan(void *arg, const struct archive_image *m)
{
	struct ready *r = arg;
	AUTO_FREE char *layout = mem_printf("%s/%s", r->i->work_dir, m->layout_name);

	scan_start(r->i, r->archive, layout, m->scanned_digest);
}

/* Out of an engine, through a pipe. What the engine did not give to its end is no image, whatever was read of it. */
static int
read_from_engine(const struct inspection *i, const struct archive *a, struct archive_input *in,
		 struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	struct err end = ERR_INIT;
	AUTO_FD int from = -1;
	int rc;

	if (engine_export_start(i->engine_fd, a->engine, a->in_engine, &from, e) < 0)
		return -1;
	in->fd = from;
	in->is_stream = true;
	rc = archive_read(in, ret, ret_is_image, e);
	mem_close_at(&from);
	/* that we took no more (EPIPE) is our own doing, and then we have said why */
	if (engine_export_end(i->engine_fd, &end) == 0 || (rc < 0 && end.no == EPIPE))
		return rc;
	if (e)
		*e = end;
	return -1;
}

static int
read_archive(struct inspection *i, size_t at, struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	const struct archive *a = &i->archives[at];
	AUTO_FREE char *stem = mem_printf("archive-%zu", at);
	struct err ignored = ERR_INIT;
	struct ready ready = { i, at };
	struct archive_input in = { .fd = snapshot_fd(&a->snapshot, a->fd),
				    .size = (uint64_t)a->id.size,
				    .work_fd = i->work_fd,
				    .stem = stem,
				    .files = a->is_dir ? a->files.v : NULL,
				    .n_files = a->files.n,
				    .limits = &i->opt->images,
				    .claims_fd = i->shared && !i->is_early ? &i->shared->slots_fd : NULL,
				    .cache = i->layer_cache,
				    .on_ready = start_scan,
				    .on_ready_arg = &ready };

	if (n_image_archives_before(i, at) >= (size_t)i->opt->images.max_images)
		return err_set(e, ERR_NO_SPACE, "not inspected: the job left more than %lld image archives",
			       (long long)i->opt->images.max_images);
	if (a->in_engine)
		return read_from_engine(i, a, &in, ret, ret_is_image, e);
	/* what early reading left that is of no use is read like any other */
	if (a->early && check_same(a, e) == 0 &&
	    early_result_read(i->work_fd, a->early - 1, &i->opt->images, ret, &ignored) == 0) {
		AUTO_FREE char *safe = str_safe(a->name, 200);

		log_line(i->log, LOG_NOTE, "%s was read while the job ran", safe);
		return 0;
	}
	if (check_same(a, e) < 0 || archive_read(&in, ret, ret_is_image, e) < 0)
		return -1;
	if (i->is_early)
		(void)!early_result_write(i->work_fd, stem, ret, &ignored);
	return check_same(a, e);
}

void
unpack_archive(struct inspection *i, size_t at)
{
	struct archive *a = &i->archives[at];
	struct archive_images images = { 0 };
	struct err e = ERR_INIT;
	bool is_image = true;

	if (read_archive(i, at, &images, &is_image, &e) == 0 && add_images(i, at, &images, &e) == 0) {
		/* all is said */
	} else if (!is_image && !unpack_must_be_image(i, a)) {
		AUTO_FREE char *safe = str_safe(a->name, 200);

		a->is_ignored = true;
		log_line(i->log, LOG_NOTE, "%s is ignored: %s", safe, e.text);
	} else {
		a->fault = e;
	}
	if (a->is_ignored || a->fault.kind != ERR_NONE)
		scan_withdraw(i, at);
	archive_images_free(&images);
}

static int
run(struct inspection *i, struct err *e)
{
	AUTO(layer_cache)
	struct layer_cache *cache =
		layer_cache_open(i->shared ? i->shared->layers_fd : -1, i->opt->images.store_max);

	struct unpack_engines engines = { 0 };

	(void)e;
	i->layer_cache = cache;
	if (i->is_early)
		proc_be_idle();
	for (size_t at = 0; at < i->n_archives; at++)
		if (!i->archives[at].is_ignored && i->archives[at].fault.kind == ERR_NONE)
			unpack_archive(i, at);
	unpack_engines(i, &engines);
	for (size_t at = 0; at < i->n_archives; at++)
		i->archives[at].in_engine = NULL;
	unpack_engines_free(&engines);
	i->layer_cache = NULL;
	layer_cache_trim(cache);
	return 0;
}

const struct stage stage_unpack = { "unpack", STAGE_SCANNER, run };
