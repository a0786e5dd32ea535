#include "stages/archive_read.h"

#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "stages/archive_entries.h"
#include "stages/archive_file.h"
#include "stages/archive_keep.h"
#include "stages/archive_kind.h"
#include "stages/docker_archive.h"
#include "stages/docker_manifest.h"
#include "stages/image_names.h"

static void
image_free(struct archive_image *m)
{
	mem_free_at(&m->layout_name);
	strv_free(&m->tags);
	mem_free_at(&m->platform);
	image_config_free(m->config);
	mem_free_at(&m->layer_sizes);
}

void
archive_images_free(struct archive_images *l)
{
	for (size_t i = 0; i < l->n; i++)
		image_free(&l->v[i]);
	mem_free_at(&l->v);
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
read_entries(struct entries *t, struct source *src, int fd, struct keep *keep, uint64_t size_max,
	     struct err *e)
{
	AUTO(tar) struct tar *tar = tar_new(src, size_max);
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
has_oci_index(const struct entries *t)
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
	if (n->place.fd < 0 ||
	    archive_read_entry(n, "index.json", IMAGE_CONFIG_MAX, &text, &len, &ignored) < 0 ||
	    json_parse(text, len, IMAGE_CONFIG_MAX, 0, &root, &ignored) < 0)
		return false;
	return json_get(root, "manifests") != NULL;
}

static int
other_kind(const struct entries *t, bool *ret_is_image, struct err *e)
{
	const char *kind = NULL;

	if (has_oci_index(t) || (t->marks & HAS_OCI_LAYOUT))
		kind = "an OCI layout in a tar";
	else if ((t->marks & HAS_REPOSITORIES) && (t->marks & HAS_LAYER_TAR))
		kind = "a docker-archive without manifest.json, as Docker before 1.10 wrote it";
	else if (t->marks & HAS_FOLDER_LAYOUT)
		kind = "an OCI layout in a folder of a tar";
	if (!kind)
		return no_image(ret_is_image,
				t->marks & HAS_MANIFEST_JSON ? "manifest.json is no list of images"
				: t->n ? "the tar has neither manifest.json nor index.json"
				       : "the tar is empty",
				e);
	if (t->fault.kind != ERR_NONE) {
		*e = t->fault;
		return -1;
	}
	return err_set(e, ERR_UNSUPPORTED, "not supported yet: %s", kind);
}

static int
read_manifest(const struct entries *t, size_t max_layers, struct docker_manifest **ret, struct err *e)
{
	const struct entry *n = NULL;
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	if (entries_resolve(t, "manifest.json", "manifest.json", "missing manifest", &n, e) < 0 ||
	    archive_read_entry(n, "manifest.json", IMAGE_MANIFEST_MAX, &text, &len, e) < 0)
		return -1;
	return docker_manifest_parse(text, len, max_layers, ret, e);
}

static int
unpack_entries(const struct archive_input *in, const struct entries *t, const struct keep *keep,
	       struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	AUTO(docker_manifest) struct docker_manifest *m = NULL;
	AUTO_FREE char *name = NULL;

	if (!(t->marks & HAS_MANIFEST_JSON))
		return other_kind(t, ret_is_image, e);
	if (t->fault.kind != ERR_NONE) {
		*e = t->fault;
		return -1;
	}
	if (read_manifest(t, (size_t)in->limits->max_layers, &m, e) < 0)
		return -1;
	if (!m)
		return other_kind(t, ret_is_image, e);
	if (m->n_images > 1)
		return err_set(e, ERR_UNSUPPORTED,
			       "not supported yet: several images in one archive (manifest.json names %zu)",
			       m->n_images);
	name = mem_printf("%s-1", in->stem);
	ret->v = mem_array(1, sizeof(*ret->v));
	ret->n = 1;
	return docker_archive_unpack(in, t, m, keep ? keep_dirfd(keep) : -1, name, &ret->v[0], e);
}

/* --- plain and compressed --- */

static int
read_plain(const struct archive_input *in, struct entries *t, struct archive_images *ret, bool *ret_is_image,
	   struct err *e)
{
	AUTO(source) struct source *src = source_new_file(in->fd, 0, in->size);

	if (read_entries(t, src, in->fd, NULL, (uint64_t)in->limits->max_size, e) < 0)
		return -1;
	return unpack_entries(in, t, NULL, ret, ret_is_image, e);
}

static struct source *
new_gzip(const struct archive_input *in)
{
	const struct source_limits limits = { (uint64_t)in->limits->max_size,
					      (uint64_t)in->limits->max_ratio };

	return source_new_gzip(in->fd, 0, in->size, &limits, NULL);
}

/* Whether what is compressed is a tar at all; what cannot even be begun is none. */
static bool
has_tar_inside(const struct archive_input *in)
{
	AUTO(source) struct source *src = new_gzip(in);
	unsigned char head[ARCHIVE_KIND_BYTES];
	struct err ignored = ERR_INIT;
	size_t got = 0;

	return source_read(src, head, sizeof(head), &got, &ignored) == 0 &&
	       archive_kind_of(head, got) == ARCHIVE_TAR;
}

static int
read_gzip(const struct archive_input *in, struct entries *t, struct archive_images *ret, bool *ret_is_image,
	  struct err *e)
{
	AUTO(source) struct source *src = NULL;
	AUTO(keep) struct keep *keep = NULL;
	AUTO_FREE char *name = mem_printf("%s-kept", in->stem);

	if (!has_tar_inside(in))
		return no_image(ret_is_image, "the gzip holds no tar", e);
	src = new_gzip(in);
	if (keep_new(in->work_fd, name, (uint64_t)in->limits->max_size, &keep, e) < 0 ||
	    read_entries(t, src, -1, keep, (uint64_t)in->limits->max_size, e) < 0)
		return -1;
	return unpack_entries(in, t, keep, ret, ret_is_image, e);
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
		return read_gzip(in, t, ret, ret_is_image, e);
	case ARCHIVE_ZSTD:
	case ARCHIVE_XZ:
	case ARCHIVE_BZIP2:
		break;
	}
	return err_set(e, ERR_UNSUPPORTED, "not supported yet: an archive compressed with %s",
		       archive_kind_word(kind));
}

int
archive_read(const struct archive_input *in, struct archive_images *ret, bool *ret_is_image, struct err *e)
{
	struct archive_images images = { 0 };
	struct err ignored = ERR_INIT, own = ERR_INIT;
	struct entries t;
	int rc;

	*ret_is_image = true;
	entries_init(&t, (size_t)in->limits->max_entries);
	rc = read_any(in, &t, &images, ret_is_image, &own);
	entries_free(&t);
	if (rc == 0) {
		*ret = images;
		return 0;
	}
	/* Layouts may be half made. What cannot be removed goes with the work directory. */
	for (size_t i = 0; i < images.n; i++) {
		AUTO_FREE char *name = mem_printf("%s-%zu", in->stem, i + 1);

		(void)!fs_remove_tree(in->work_fd, name, &ignored);
	}
	archive_images_free(&images);
	if (e)
		*e = own;
	return -1;
}
