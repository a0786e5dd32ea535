#include "stages/docker_archive.h"

#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "stages/archive_file.h"
#include "stages/docker_manifest.h"
#include "stages/image_names.h"
#include "stages/layer_store.h"
#include "stages/oci_index.h"
#include "stages/oci_layout.h"

struct making {
	const struct archive_input *in;
	const struct entries *t;
	const struct docker_manifest *m;
	char *config_text;
	size_t config_len;
	char config_digest[HASH_DIGEST_MAX];
	struct image_config *config;
	struct layer_job *jobs; /* one per file, in the order of layers */
	size_t n_jobs;
	size_t *job_of; /* layer → job */
};

static void
making_free(struct making *k)
{
	for (size_t i = 0; i < k->n_jobs; i++)
		mem_free_at(&k->jobs[i].what);
	mem_free_at(&k->jobs);
	mem_free_at(&k->job_of);
	mem_free_at(&k->config_text);
	image_config_free(k->config);
}

static int
check_config_name(const struct making *k, const char *name, struct err *e)
{
	AUTO_FREE char *safe = NULL;
	char claimed[72];

	if (!docker_claimed_digest(name, claimed) || !strcmp(claimed, k->config_digest))
		return 0;
	safe = str_safe(name, 120);
	return err_set(e, ERR_REFUSED, "forged config: %s is %s, not what its name says", safe,
		       k->config_digest);
}

static int
read_config(struct making *k, struct err *e)
{
	AUTO_FREE char *safe = str_safe(k->m->config, 120);
	AUTO_FREE char *what = mem_printf("config %s", safe);
	const struct entry *n = NULL;

	if (entries_resolve(k->t, k->m->config, "the config", "missing config", &n, e) < 0 ||
	    archive_read_entry(n, what, IMAGE_CONFIG_MAX, &k->config_text, &k->config_len, e) < 0)
		return -1;
	hash_of(HASH_SHA256, k->config_text, k->config_len, k->config_digest);
	if (check_config_name(k, k->m->config, e) < 0 || check_config_name(k, n->name, e) < 0)
		return -1;
	if (image_config_parse(k->config_text, k->config_len, (size_t)k->in->limits->max_layers, &k->config,
			       e) < 0)
		return e && e->kind == ERR_REFUSED ? err_wrap(e, "%s", what) : -1;
	if (k->config->diff_ids.n != k->m->layers.n)
		return err_set(e, ERR_REFUSED, "layers: manifest.json names %zu, the image's config %zu",
			       k->m->layers.n, k->config->diff_ids.n);
	return 0;
}

/* A file that serves as two layers is stored once; it cannot be two different things. */
static int
find_job(struct making *k, const struct entry *from, const char *diff_id, const char *what, size_t *ret,
	 struct err *e)
{
	size_t i = 0;

	for (; i < k->n_jobs; i++) {
		if (k->jobs[i].from != from)
			continue;
		if (strcmp(k->jobs[i].diff_id, diff_id) != 0)
			return err_set(e, ERR_REFUSED,
				       "forged layer: %s is the same file as %s, but the image's config says %s and %s",
				       what, k->jobs[i].what, diff_id, k->jobs[i].diff_id);
		break;
	}
	*ret = i;
	return 0;
}

static int
find_layers(struct making *k, struct err *e)
{
	const struct strv *names = &k->m->layers;

	k->jobs = mem_array(names->n + 1, sizeof(*k->jobs));
	k->job_of = mem_array(names->n + 1, sizeof(*k->job_of));
	for (size_t i = 0; i < names->n; i++) {
		AUTO_FREE char *which = mem_printf("layer %zu of %zu", i + 1, names->n);
		AUTO_FREE char *safe = str_safe(names->v[i], 120);
		AUTO_FREE char *what = mem_printf("%s (%s)", which, safe);
		const char *diff_id = k->config->diff_ids.v[i];
		const struct entry *from = NULL;

		if (entries_resolve(k->t, names->v[i], which, "missing layer", &from, e) < 0 ||
		    find_job(k, from, diff_id, what, &k->job_of[i], e) < 0)
			return -1;
		if (k->job_of[i] < k->n_jobs)
			continue;
		k->jobs[k->n_jobs++] = (struct layer_job){
			.from = from, .what = take_ptr(what), .named_as = names->v[i], .diff_id = diff_id
		};
	}
	return 0;
}

/* Both layouts in one archive: engines differ in which they read. */
static int
check_index(const struct making *k, struct err *e)
{
	const struct oci_expected expected = { k->config_digest, &k->m->layers };
	const struct entry *n = NULL;
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	if (!(k->t->marks & HAS_INDEX_JSON))
		return 0;
	if (entries_resolve(k->t, "index.json", "index.json", "missing index", &n, e) < 0 ||
	    archive_read_entry(n, "index.json", IMAGE_CONFIG_MAX, &text, &len, e) < 0)
		return -1;
	return oci_index_check(k->t, text, len, &expected, e);
}

/* What the headers announce, before the disk notices. Compressed layers announce their least. */
static int
check_room(const struct making *k, struct err *e)
{
	uint64_t announced = 0, space = 0;

	for (size_t i = 0; i < k->n_jobs; i++)
		if (!k->jobs[i].from->place.work_name)
			announced += k->jobs[i].from->size;
	AUTO_FREE char *size = str_human_size(announced), *left = NULL;

	if (announced > (uint64_t)k->in->limits->max_size) {
		AUTO_FREE char *max = str_format_size(k->in->limits->max_size);

		return err_set(e, ERR_REFUSED,
			       "size: the layers have %s, more than the %s that are allowed (images.max_size)",
			       size, max);
	}
	if (fs_space_left(k->in->work_fd, &space, e) < 0)
		return -1;
	if (announced <= space)
		return 0;
	left = str_human_size(space);
	return err_set(e, ERR_NO_SPACE, "no space to unpack: the layers have %s, %s are left", size, left);
}

static int
write_layout(struct making *k, int keep_fd, const char *name, struct err *e)
{
	const struct options_images *o = k->in->limits;
	const struct layer_limits limits = { (uint64_t)o->max_size, (uint64_t)o->max_ratio,
					     layer_threads(o->threads) };
	const struct oci_blob config = { k->config_digest, k->config_len };
	AUTO_FREE struct oci_blob *layers = mem_array(k->m->layers.n + 1, sizeof(*layers));
	AUTO_FD int layout_fd = -1;
	AUTO_FD int blobs_fd = -1;

	if (oci_layout_make(k->in->work_fd, name, &layout_fd, &blobs_fd, e) < 0 ||
	    layer_store(k->jobs, k->n_jobs, blobs_fd, keep_fd, &limits, e) < 0 ||
	    oci_layout_add_config(blobs_fd, k->config_digest, k->config_text, k->config_len, e) < 0)
		return -1;
	for (size_t i = 0; i < k->m->layers.n; i++)
		layers[i] = (struct oci_blob){ k->config->diff_ids.v[i], k->jobs[k->job_of[i]].size };
	return oci_layout_finish(layout_fd, blobs_fd, &config, layers, k->m->layers.n, e);
}

static int
make(struct making *k, int keep_fd, const char *name, struct archive_image *ret, struct err *e)
{
	if (read_config(k, e) < 0 || find_layers(k, e) < 0 || check_index(k, e) < 0 || check_room(k, e) < 0 ||
	    write_layout(k, keep_fd, name, e) < 0)
		return -1;
	ret->layout_name = mem_strdup(name);
	ret->platform = image_config_platform(k->config);
	strv_copy(&ret->tags, &k->m->tags);
	memcpy(ret->config_digest, k->config_digest, sizeof(ret->config_digest));
	ret->layer_sizes = mem_array(k->m->layers.n + 1, sizeof(*ret->layer_sizes));
	for (size_t i = 0; i < k->m->layers.n; i++)
		ret->layer_sizes[i] = k->jobs[k->job_of[i]].size;
	ret->config = take_ptr(k->config);
	return 0;
}

int
docker_archive_unpack(const struct archive_input *in, const struct entries *t, const struct docker_manifest *m,
		      int keep_fd, const char *name, struct archive_image *ret, struct err *e)
{
	struct making k = { .in = in, .t = t, .m = m };
	int rc = make(&k, keep_fd, name, ret, e);

	making_free(&k);
	return rc;
}
