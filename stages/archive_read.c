#include "stages/archive_read.h"

#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "stages/archive_entries.h"
#include "stages/archive_file.h"
#include "stages/archive_keep.h"
#include "stages/archive_kind.h"
#include "stages/docker_archive.h"
#include "stages/image_label.h"
#include "stages/image_names.h"
#include "stages/image_store.h"
#include "stages/layer_store.h"
#include "stages/oci_archive.h"

#define FOLDERS_MAX 16
#define NOTES_MAX 8 /* different ones that are said */

static void
image_free(struct archive_image *m)
{
	mem_free_at(&m->layout_name);
	strv_free(&m->tags);
	strv_free(&m->hidden);
	mem_free_at(&m->platform);
	image_config_free(m->config);
	mem_free_at(&m->layers);
}

void
archive_images_free(struct archive_images *l)
{
	for (size_t i = 0; i < l->n; i++)
		image_free(&l->v[i]);
	mem_free_at(&l->v);
	strv_free(&l->notes);
	*l = (struct archive_images){ 0 };
}

static int
no_image(bool *ret_is_image, const char *why, struct err *e)
{
	*ret_is_image = false;
	return err_set(e, ERR_REFUSED, "no image: %s", why);
}

/* --- the table of entries --- */

static int
read_entries(const struct archive_input *in, struct entries *t, struct source *src, int fd, struct keep *keep,
	     struct err *e)
{
	const struct tar_limits limits = { (uint64_t)in->limits->max_size, (size_t)in->limits->max_name,
					   (size_t)in->limits->max_pax };
	AUTO(tar) struct tar *tar = tar_new(src, &limits);
	struct tar_entry from;
	bool has = true;

	for (;;) {
		struct entry *n;

		if (tar_next(tar, &has, &from, e) < 0)
			return -1;
		if (!has)
			break;
		n = entries_add(t, &from);
		if (!n || n->type != TAR_FILE)
			continue;
		n->place.fd = keep ? -1 : fd;
		n->place.offset = from.offset;
		if (keep && keep_take(keep, tar, n, e) < 0)
			return -1;
	}
	entries_finish(t);
	return 0;
}

/* --- what kind of image archive that is --- */

/* index.json alone may be anybody's: it is an index when it lists manifests. */
static bool
has_oci_index(const struct image_limits *l, const struct entries *t)
{
	const struct entry *n = entries_find(t, "index.json");
	AUTO_FREE char *text = NULL;
	AUTO_JSON cJSON *root = NULL;
	struct err ignored = ERR_INIT;
	size_t len = 0;

	if (!(t->marks & HAS_INDEX_JSON))
		return false;
	/* What cannot be told is taken for one. */
	if (t->fault.kind != ERR_NONE || (t->marks & HAS_OCI_LAYOUT) || !n || n->type != TAR_FILE)
		return true;
	if (n->place.fd < 0 || archive_read_entry(n, "index.json", l->json_size, &text, &len, &ignored) < 0 ||
	    json_parse_deep(text, len, l->json_size, l->json_depth, 0, &root, &ignored) < 0)
		return false;
	return json_get(root, "manifests") != NULL;
}

/* https://github.com/containers/image/blob/main/docs/containers-transports.5.md, dir: */
static bool
is_dir_layout(const struct entries *t)
{
	static const char begins[] = "Directory Transport Version: ";
	const struct entry *n = entries_find(t, "version");
	AUTO_FREE char *text = NULL;
	struct err ignored = ERR_INIT;
	size_t len = 0;

	return (t->marks & HAS_VERSION) && (t->marks & HAS_MANIFEST_JSON) && n && n->type == TAR_FILE &&
	       n->place.fd >= 0 && archive_read_entry(n, "version", 128, &text, &len, &ignored) == 0 &&
	       str_has_prefix(text, begins);
}

static int
read_manifest(const struct image_limits *l, const struct entries *t, struct docker_manifest **ret,
	      struct err *e)
{
	const struct entry *n = NULL;
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	if (entries_resolve(t, "manifest.json", "manifest.json", "missing manifest", &n, e) < 0 ||
	    archive_read_entry(n, "manifest.json", l->json_size, &text, &len, e) < 0)
		return -1;
	return docker_manifest_parse(text, len, l, ret, e);
}

/* --- plans --- */

/* What one archive's JSON gave. */
struct reading {
	const struct archive_input *in;
	const struct entries *t;
	struct image_limits limits;
	struct image_plans plans;
	struct strv notes;
	bool is_any; /* some layout was there */
};

static int
plan_layout(struct reading *r, const char *top, bool is_dir, struct err *e)
{
	const struct oci_layout_at at = { .t = r->t,
					  .top = top,
					  .index = is_dir ? "manifest.json" : "index.json",
					  .is_dir = is_dir,
					  .limits = &r->limits };

	r->is_any = true;
	return oci_archive_plan(&at, &r->plans, &r->notes, e);
}

/* Both layouts in one archive: engines differ in which they read. `n_docker` plans of manifest.json come first. */
static int
match_layouts(struct reading *r, size_t n_docker, struct err *e)
{
	for (size_t i = 0; i < n_docker; i++) {
		struct image_plan *d = &r->plans.v[i];
		const char *other = NULL;
		bool has_match = false;

		for (size_t k = n_docker; k < r->plans.n; k++) {
			struct image_plan *o = &r->plans.v[k];

			if (image_plan_is_same(d, o)) {
				image_plan_join(d, o);
				has_match = true;
			} else if (!strcmp(d->image_id, o->image_id)) {
				other = o->manifest_digest;
			}
		}
		if (!has_match && other)
			return err_set(e, ERR_REFUSED,
				       "index.json: manifest %s names other layers than manifest.json", other);
		if (!has_match)
			return err_set(e, ERR_REFUSED,
				       "index.json: it does not name the image of manifest.json with config %s",
				       d->config_digest);
	}
	return 0;
}

/* <folder>/oci-layout: a tar of a directory that is a layout. */
static int
plan_folders(struct reading *r, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < r->t->n && (r->t->marks & HAS_FOLDER_LAYOUT); i++) {
		const char *name = r->t->v[i].name, *slash = strchr(name, '/');
		AUTO_FREE char *top = NULL;

		if (!slash || strcmp(slash, "/oci-layout") != 0)
			continue;
		if (++n > FOLDERS_MAX)
			return err_set(e, ERR_REFUSED, "images: image layouts in more than %d folders",
				       FOLDERS_MAX);
		top = mem_strndup(name, (size_t)(slash - name) + 1);
		if (plan_layout(r, top, false, e) < 0)
			return -1;
	}
	return 0;
}

static int
plan_all(struct reading *r, struct err *e)
{
	const struct entries *t = r->t;
	bool has_index = has_oci_index(&r->limits, t) || (t->marks & HAS_OCI_LAYOUT);
	bool is_dir = is_dir_layout(t);
	AUTO(docker_manifest) struct docker_manifest *m = NULL;
	size_t n_docker = 0;

	if (!(t->marks & (HAS_MANIFEST_JSON | HAS_FOLDER_LAYOUT)) && !has_index)
		return 0;
	if (t->fault.kind != ERR_NONE) {
		if (e)
			*e = t->fault;
		return -1;
	}
	if ((t->marks & HAS_MANIFEST_JSON) && !is_dir && read_manifest(&r->limits, t, &m, e) < 0)
		return -1;
	if (m) {
		r->is_any = true;
		if (docker_archive_plan(t, m, &r->limits, &r->plans, e) < 0)
			return -1;
		n_docker = r->plans.n;
	}
	if (has_index && plan_layout(r, "", false, e) < 0)
		return -1;
	if (m && (t->marks & HAS_INDEX_JSON) && match_layouts(r, n_docker, e) < 0)
		return -1;
	if (is_dir && plan_layout(r, "", true, e) < 0)
		return -1;
	return plan_folders(r, e);
}

/* --- which of them --- */

static size_t
count_images(const struct image_plans *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += image_plans_first(l, i) == i;
	return n;
}

static bool
is_wanted(const struct archive_input *in, const struct image_plan *p)
{
	AUTO_FREE char *platform = image_config_platform(p->config);

	return p->is_loaded || image_is_platform(&in->limits->platforms, platform) ||
	       (!str_is_empty(p->said_platform) && image_is_platform(&in->limits->platforms, p->said_platform));
}

/* Where an archive has several, those of other platforms may be left out. */
static int
choose(struct reading *r, struct err *e)
{
	size_t n = count_images(&r->plans);

	if (n > (size_t)r->in->limits->max_images)
		return err_set(e, ERR_REFUSED,
			       "images: the archive has %zu, more than the %lld that are allowed "
			       "(images.max_images)",
			       n, (long long)r->in->limits->max_images);
	for (size_t i = 0; n > 1 && i < r->plans.n;) {
		AUTO_FREE char *platform = image_config_platform(r->plans.v[i].config);

		if (is_wanted(r->in, &r->plans.v[i])) {
			i++;
			continue;
		}
		strv_addf(&r->notes, "an image for %s, which images.platforms does not name", platform);
		image_plans_remove(&r->plans, i);
	}
	if (n > 1 && !r->plans.n)
		return err_set(e, ERR_UNSUPPORTED,
			       "platform: none of the %zu images is for a platform that images.platforms names",
			       n);
	return 0;
}

static int
say_no_image(const struct reading *r, bool *ret_is_image, struct err *e)
{
	const struct entries *t = r->t;
	AUTO_FREE char *notes = archive_join_notes(&r->notes);
	AUTO_FREE char *why = NULL;

	if (r->is_any) {
		why = notes ? mem_printf("the index names none that is there, only %s", notes)
			    : mem_strdup("the index names none");
		return no_image(ret_is_image, why, e);
	}
	if ((t->marks & HAS_REPOSITORIES) && (t->marks & HAS_LAYER_TAR))
		return err_set(e, ERR_REFUSED,
			       "missing manifest: a docker-archive without manifest.json, as Docker before 1.10 wrote it");
	return no_image(ret_is_image,
			t->marks & HAS_MANIFEST_JSON ? "manifest.json is no list of images"
			: t->n			     ? "the tar has neither manifest.json nor index.json"
						     : "the tar is empty",
			e);
}

static int
unpack_reading(struct reading *r, const struct keep *keep, struct archive_images *ret, bool *ret_is_image,
	       struct err *e)
{
	if (plan_all(r, e) < 0)
		return -1;
	if (!r->plans.n)
		return say_no_image(r, ret_is_image, e);
	if (choose(r, e) < 0 || image_store(r->in, r->t, keep ? keep_dirfd(keep) : -1, &r->plans, ret, e) < 0)
		return -1;
	strv_copy(&ret->notes, &r->notes);
	return 0;
}

static int
unpack_entries(const struct archive_input *in, const struct entries *t, const struct keep *keep,
	       struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	struct reading r = { .in = in, .t = t };
	int rc;

	image_limits_of(in->limits, &r.limits);
	rc = unpack_reading(&r, keep, ret, ret_is_image, e);

	image_plans_free(&r.plans);
	strv_free(&r.notes);
	return rc;
}

/* "2 attestations" would have to know plurals: "an attestation (…), twice" does not. */
char *
archive_join_notes(const struct strv *notes)
{
	AUTO_STRV struct strv out = { 0 };

	for (size_t i = 0; i < notes->n && out.n < NOTES_MAX; i++) {
		size_t same = 0, before = 0;

		for (size_t k = 0; k < notes->n; k++) {
			same += !strcmp(notes->v[k], notes->v[i]);
			before += k < i && !strcmp(notes->v[k], notes->v[i]);
		}
		if (before)
			continue;
		if (same > 1)
			strv_addf(&out, "%s, %zu times", notes->v[i], same);
		else
			strv_add(&out, notes->v[i]);
	}
	return out.n ? strv_join(&out, "; ") : NULL;
}

/* --- plain and compressed --- */

static int
read_plain(const struct archive_input *in, struct entries *t, struct archive_images *ret, bool *ret_is_image,
	   struct err *e)
{
	AUTO(source) struct source *src = source_new_file(in->fd, 0, in->size);

	if (read_entries(in, t, src, in->fd, NULL, e) < 0)
		return -1;
	return unpack_entries(in, t, NULL, ret, ret_is_image, e);
}

static struct source *
new_compressed(const struct archive_input *in, enum archive_kind kind)
{
	const struct source_limits limits = { .out_max = (uint64_t)in->limits->max_size,
					      .ratio_max = (uint64_t)in->limits->max_ratio,
					      .window_max = (uint64_t)in->limits->max_window };

	return source_new_compressed(kind, source_new_file(in->fd, 0, in->size), &limits, NULL);
}

/* Whether what is compressed is a tar at all; what cannot even be begun is none. */
static bool
has_tar_inside(const struct archive_input *in, enum archive_kind kind)
{
	AUTO(source) struct source *src = new_compressed(in, kind);
	unsigned char head[ARCHIVE_KIND_BYTES];
	struct err ignored = ERR_INIT;
	size_t got = 0;

	return source_read(src, head, sizeof(head), &got, &ignored) == 0 &&
	       archive_kind_of(head, got) == ARCHIVE_TAR;
}

/* What cannot be read twice is kept as it passes. Takes `from` over. */
static int
read_once(const struct archive_input *in, struct source *from, struct entries *t, struct archive_images *ret,
	  bool *ret_is_image, struct err *e)
{
	AUTO(source)
	struct source *src = layer_threads(in->limits->threads) > 1 ? source_new_ahead(from) : from;
	AUTO(keep) struct keep *keep = NULL;
	AUTO_FREE char *name = mem_printf("%s-kept", in->stem);

	if (keep_new(in->work_fd, name, (uint64_t)in->limits->max_size, (uint64_t)in->limits->max_json,
		     in->cache, &keep, e) < 0 ||
	    read_entries(in, t, src, -1, keep, e) < 0)
		return -1;
	return unpack_entries(in, t, keep, ret, ret_is_image, e);
}

static int
read_compressed(const struct archive_input *in, enum archive_kind kind, struct entries *t,
		struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	if (!has_tar_inside(in, kind)) {
		AUTO_FREE char *why = mem_printf("the %s holds no tar", archive_kind_word(kind));

		return no_image(ret_is_image, why, e);
	}
	return read_once(in, new_compressed(in, kind), t, ret, ret_is_image, e);
}

/* The files of a directory as if they stood in a tar. */
static int
read_directory(const struct archive_input *in, struct entries *t, struct archive_images *ret,
	       bool *ret_is_image, struct err *e)
{
	uint64_t size = 0;

	for (size_t i = 0; i < in->n_files; i++) {
		const struct layout_file *f = &in->files[i];
		const struct tar_entry from = { .type = TAR_FILE,
						.name = f->name,
						.link = "",
						.size = (uint64_t)f->id.size,
						.number = i + 1 };
		struct entry *n = entries_add(t, &from);

		size += from.size;
		if (n)
			n->place.fd = snapshot_fd(&f->snapshot, f->fd);
	}
	entries_finish(t);
	if (size > (uint64_t)in->limits->max_size) {
		AUTO_FREE char *human = str_human_size(size), *max = str_format_size(in->limits->max_size);

		return err_set(e, ERR_REFUSED,
			       "size: the directory has %s, more than the %s that are allowed (images.max_size)",
			       human, max);
	}
	return unpack_entries(in, t, NULL, ret, ret_is_image, e);
}

static int
read_any(const struct archive_input *in, struct entries *t, struct archive_images *ret, bool *ret_is_image,
	 struct err *e)
{
	AUTO(source) struct source *src = source_new_file(in->fd, 0, in->size);
	unsigned char head[ARCHIVE_KIND_BYTES];
	enum archive_kind kind;
	size_t got = 0;

	if (in->size > (uint64_t)in->limits->max_size) {
		AUTO_FREE char *size = str_human_size(in->size), *max = str_format_size(in->limits->max_size);

		return err_set(e, ERR_REFUSED,
			       "size: the archive has %s, more than the %s that are allowed (images.max_size)",
			       size, max);
	}
	if (source_read(src, head, sizeof(head), &got, e) < 0)
		return -1;
	kind = archive_kind_of(head, got);
	switch (kind) {
	case ARCHIVE_OTHER:
		return no_image(ret_is_image,
				in->size ? "neither a tar nor a compressed one" : "the file is empty", e);
	case ARCHIVE_TAR:
		return read_plain(in, t, ret, ret_is_image, e);
	case ARCHIVE_GZIP:
	case ARCHIVE_ZSTD:
	case ARCHIVE_XZ:
	case ARCHIVE_BZIP2:
		return read_compressed(in, kind, t, ret, ret_is_image, e);
	}
	return err_set(e, ERR_FAILED, "an archive of unknown kind");
}

static int
read_file(const struct archive_input *in, struct entries *t, struct archive_images *ret, bool *ret_is_image,
	  struct err *e)
{
	if (in->files)
		return read_directory(in, t, ret, ret_is_image, e);
	/* a pipe gives a plain tar */
	if (in->is_stream)
		return read_once(in, source_new_stream(in->fd, (uint64_t)in->limits->max_size), t, ret,
				 ret_is_image, e);
	return read_any(in, t, ret, ret_is_image, e);
}

int
archive_read(const struct archive_input *in, struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	struct archive_images images = { 0 };
	struct err own = ERR_INIT;
	struct entries t;
	int rc;

	*ret_is_image = true;
	entries_init(&t, (size_t)in->limits->max_entries);
	t.links_max = (unsigned)in->limits->max_link_chain;
	rc = read_file(in, &t, &images, ret_is_image, &own);
	entries_free(&t);
	if (rc == 0) {
		*ret = images;
		return 0;
	}
	image_store_remove(in, images.n);
	archive_images_free(&images);
	if (e)
		*e = own;
	return -1;
}
