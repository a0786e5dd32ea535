#include "stages/image_store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "stages/image_names.h"
#include "stages/layer_hidden.h"
#include "stages/layer_store.h"
#include "stages/layer_watch.h"
#include "stages/oci_layout.h"
#include "stages/room.h"

/* Others write what they announced, or are done, long before that. */
#define ROOM_WAIT_MS (10 * 60 * 1000)

struct making {
	const struct archive_input *in;
	const struct entries *t;
	struct image_plans *plans;
	struct layer_job *jobs; /* one per entry that is a layer */
	size_t n_jobs;
	size_t *job_of;		      /* entry → its job + 1, 0 none */
	int pool_fd;		      /* where all layers are, before they are linked into layouts */
	bool *has_layout;	      /* of images */
	struct layer_watch **watches; /* of jobs, for package lists behind links; NULL where the entry has one */
	atomic_size_t watch_left;
	struct room_claim *claim; /* of what is to be written */
};

static void
making_free(struct making *k)
{
	room_claim_free(take_ptr(k->claim));
	for (size_t i = 0; i < k->n_jobs; i++) {
		mem_free_at(&k->jobs[i].what);
		if (k->watches)
			layer_watch_free(k->watches[i]);
	}
	mem_free_at(&k->watches);
	mem_free_at(&k->has_layout);
	mem_free_at(&k->jobs);
	mem_free_at(&k->job_of);
	mem_close_at(&k->pool_fd);
}

static char *
pool_name(const struct archive_input *in)
{
	return mem_printf("%s-layers", in->stem);
}

static char *
layout_name(const struct archive_input *in, size_t number)
{
	return mem_printf("%s-%zu", in->stem, number);
}

void
image_store_remove(const struct archive_input *in, size_t n)
{
	AUTO_FREE char *pool = pool_name(in);
	struct err ignored = ERR_INIT;

	/* What cannot be removed goes with the work directory. */
	(void)!fs_remove_tree(in->work_fd, pool, &ignored);
	for (size_t i = 1; i <= n; i++) {
		AUTO_FREE char *name = layout_name(in, i);

		(void)!fs_remove_tree(in->work_fd, name, &ignored);
	}
}

/* --- what is to be stored --- */

static struct layer_job *
job_of(const struct making *k, const struct plan_layer *l)
{
	size_t at = k->job_of[l->from - k->t->v];

	return at ? &k->jobs[at - 1] : NULL;
}

/* The same once all layers have theirs. */
static struct layer_job *
job_made_of(const struct making *k, const struct plan_layer *l)
{
	return &k->jobs[k->job_of[l->from - k->t->v] - 1];
}

/* A file that serves as two layers is stored once; it cannot be two different things. */
static int
add_job(struct making *k, const struct plan_layer *l, const char *diff_id, struct err *e)
{
	struct layer_job *j = job_of(k, l);

	if (!j) {
		k->jobs = mem_resize(k->jobs, k->n_jobs + 1, sizeof(*k->jobs));
		j = &k->jobs[k->n_jobs++];
		*j = (struct layer_job){ .from = l->from,
					 .what = mem_strdup(l->what),
					 .named_as = l->named_as,
					 .diff_id = diff_id };
		k->job_of[l->from - k->t->v] = k->n_jobs;
	}
	if (strcmp(j->diff_id, diff_id) != 0)
		return err_set(e, ERR_REFUSED,
			       "forged layer: %s is the same file as %s, but the image's config says %s and %s",
			       l->what, j->what, diff_id, j->diff_id);
	if (l->digest[0])
		j->stored_digest = l->digest;
	return 0;
}

static int
collect_jobs(struct making *k, struct err *e)
{
	k->job_of = mem_array(k->t->n + 1, sizeof(*k->job_of));
	for (size_t i = 0; i < k->plans->n; i++) {
		const struct image_plan *p = &k->plans->v[i];

		for (size_t n = 0; n < p->n_layers; n++)
			if (add_job(k, &p->layers[n], p->config->diff_ids.v[n], e) < 0)
				return -1;
	}
	return 0;
}

/* What the headers announce, before the disk notices. Compressed layers announce their least. */
static int
check_room(struct making *k, struct err *e)
{
	uint64_t announced = 0, wanted = 0;
	AUTO_FREE char *size = NULL;

	for (size_t i = 0; i < k->n_jobs; i++) {
		if (k->jobs[i].from->place.work_name)
			continue;
		announced += k->jobs[i].from->size;
		if (!k->jobs[i].is_known)
			wanted += k->jobs[i].from->size;
	}
	size = str_human_size(announced);
	if (announced > (uint64_t)k->in->limits->max_size) {
		AUTO_FREE char *max = str_format_size(k->in->limits->max_size);

		return err_set(e, ERR_REFUSED,
			       "size: the layers have %s, more than the %s that are allowed (images.max_size)",
			       size, max);
	}
	return room_claim(k->in->claims_fd ? *k->in->claims_fd : -1, k->in->work_fd, wanted,
			  "the layers have", clock_deadline(ROOM_WAIT_MS), &k->claim, e);
}

static void
watch_layers(struct making *k)
{
	k->watches = mem_array(k->n_jobs + 1, sizeof(struct layer_watch *));
	atomic_init(&k->watch_left, LAYER_WATCH_ALL_MAX);
	for (size_t i = 0; i < k->n_jobs; i++) {
		if (k->jobs[i].from->place.watch)
			continue;
		k->watches[i] = layer_watch_new(&k->watch_left);
		k->jobs[i].see = layer_watch_see;
		k->jobs[i].see_arg = k->watches[i];
	}
}

static int
open_pool(struct making *k, struct err *e)
{
	AUTO_FREE char *pool = pool_name(k->in);

	if (mkdirat(k->in->work_fd, pool, 0700) < 0)
		return err_errno(e, "mkdir %s", pool);
	k->pool_fd = fs_open_dir(k->in->work_fd, pool, e);
	return k->pool_fd < 0 ? -1 : 0;
}

/* --- the layouts --- */

static const char *
digits(const char *digest)
{
	return strchr(digest, ':') + 1;
}

/* Trivy knows no digest but SHA-256. */
static int
digest_for_trivy(const struct making *k, const struct layer_job *j, char out[HASH_DIGEST_MAX], struct err *e)
{
	AUTO_FD int fd = -1;

	if (str_has_prefix(j->diff_id, "sha256:")) {
		snprintf(out, HASH_DIGEST_MAX, "%s", j->diff_id);
		return 0;
	}
	fd = openat(k->pool_fd, digits(j->diff_id), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_errno(e, "open") : hash_of_fd(HASH_SHA256, fd, out, e);
}

static int
link_layers(const struct making *k, const struct image_plan *p, int blobs_fd, struct archive_image *m,
	    struct err *e)
{
	m->layers = mem_array(p->n_layers + 1, sizeof(*m->layers));
	for (size_t i = 0; i < p->n_layers; i++) {
		const struct layer_job *j = job_made_of(k, &p->layers[i]);
		struct archive_layer *l = &m->layers[i];

		l->size = j->size;
		if (digest_for_trivy(k, j, l->scanned_digest, e) < 0)
			return -1;
		if (linkat(k->pool_fd, digits(j->diff_id), blobs_fd, digits(l->scanned_digest), 0) < 0 &&
		    errno != EEXIST) /* the same layer twice in one image */
			return err_errno(e, "link");
	}
	return 0;
}

/* The config with the diff_ids of the same layers by SHA-256; NULL where it has no others. */
static char *
translate_config(const struct making *k, const struct image_plan *p, const struct archive_layer *layers)
{
	AUTO_JSON cJSON *root = NULL;
	struct err ignored = ERR_INIT;
	struct image_limits limits;
	bool has_other = false;
	cJSON *list;

	image_limits_of(k->in->limits, &limits);
	for (size_t i = 0; i < p->n_layers; i++)
		has_other = has_other || strcmp(p->config->diff_ids.v[i], layers[i].scanned_digest) != 0;
	if (!has_other || image_limits_parse(&limits, p->config_text, p->config_len, &root, &ignored) < 0)
		return NULL;
	list = cJSON_CreateArray();
	for (size_t i = 0; i < p->n_layers; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(layers[i].scanned_digest));
	cJSON_ReplaceItemInObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "rootfs"), "diff_ids",
					       list);
	return json_print(root);
}

static int
write_layout(const struct making *k, const struct image_plan *p, struct archive_image *m, struct err *e)
{
	AUTO_FREE struct oci_blob *layers = mem_array(p->n_layers + 1, sizeof(*layers));
	struct oci_blob config = { m->scanned_digest, p->config_len };
	AUTO_FREE char *other = NULL;
	AUTO_FD int layout_fd = -1;
	AUTO_FD int blobs_fd = -1;

	if (oci_layout_make(k->in->work_fd, m->layout_name, &layout_fd, &blobs_fd, e) < 0 ||
	    link_layers(k, p, blobs_fd, m, e) < 0)
		return -1;
	for (size_t i = 0; i < p->n_layers; i++)
		layers[i] = (struct oci_blob){ m->layers[i].scanned_digest, m->layers[i].size };
	other = translate_config(k, p, m->layers);
	if (other)
		config.size = strlen(other);
	hash_of(HASH_SHA256, other ? other : p->config_text, config.size, m->scanned_digest);
	if (oci_layout_add_config(blobs_fd, m->scanned_digest, other ? other : p->config_text, config.size,
				  e) < 0)
		return -1;
	return oci_layout_finish(layout_fd, blobs_fd, &config, layers, p->n_layers, e);
}

/* All names of one image, in the archive's order. */
static void
collect_tags(const struct image_plans *l, const struct image_plan *p, struct strv *ret)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct image_plan *q = &l->v[i];

		for (size_t n = 0; n < q->tags.n && !strcmp(q->image_id, p->image_id); n++)
			if (!strv_has(ret, q->tags.v[n]))
				strv_add(ret, q->tags.v[n]);
	}
}

static void
find_hidden(const struct making *k, const struct image_plan *p, struct strv *ret)
{
	AUTO_FREE const struct layer_facts **facts =
		mem_array(p->n_layers + 1,
			  sizeof(const struct layer_facts *)); /* NOLINT(bugprone-sizeof-expression) */

	for (size_t i = 0; i < p->n_layers; i++) {
		const struct layer_job *j = job_made_of(k, &p->layers[i]);

		facts[i] = layer_watch_facts(j->from->place.watch ? j->from->place.watch
								  : k->watches[j - k->jobs]);
	}
	layer_hidden_find(facts, p->n_layers, ret);
}

static void
add_image(const struct making *k, const struct image_plan *p, struct archive_images *ret)
{
	struct archive_image *m = &ret->v[ret->n++];

	*m = (struct archive_image){ .layout_name = layout_name(k->in, ret->n) };
	collect_tags(k->plans, p, &m->tags);
	m->platform = image_config_platform(p->config);
	if (!m->platform[0] && !str_is_empty(p->said_platform)) {
		mem_free_at(&m->platform);
		m->platform = mem_strdup(p->said_platform);
	}
	memcpy(m->manifest_digest, p->manifest_digest, sizeof(m->manifest_digest));
	memcpy(m->config_digest, p->config_digest, sizeof(m->config_digest));
}

/* One per config, in the order of the archive. */
static void
add_images(struct making *k, struct archive_images *ret)
{
	ret->v = mem_array(k->plans->n + 1, sizeof(*ret->v));
	k->has_layout = mem_array(k->plans->n + 1, sizeof(*k->has_layout));
	for (size_t i = 0; i < k->plans->n; i++)
		if (image_plans_first(k->plans, i) == i)
			add_image(k, &k->plans->v[i], ret);
}

static bool
is_all_known(const struct making *k, const struct image_plan *p)
{
	for (size_t i = 0; i < p->n_layers; i++)
		if (!job_made_of(k, &p->layers[i])->is_known)
			return false;
	return true;
}

/* The layouts that are not there yet; `only_known`: of images whose layers are all in the pool. */
static int
write_layouts(struct making *k, bool only_known, struct archive_images *ret, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < k->plans->n; i++) {
		const struct image_plan *p = &k->plans->v[i];
		struct archive_image *m = &ret->v[n];

		if (image_plans_first(k->plans, i) != i)
			continue;
		if (k->has_layout[n++] || (only_known && !is_all_known(k, p)))
			continue;
		if (write_layout(k, p, m, e) < 0)
			return -1;
		k->has_layout[n - 1] = true;
		if (k->in->on_ready)
			k->in->on_ready(k->in->on_ready_arg, m);
	}
	return 0;
}

/* What is known when all bytes have passed. */
static void
finish_images(struct making *k, struct archive_images *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < k->plans->n; i++) {
		struct image_plan *p = &k->plans->v[i];

		if (image_plans_first(k->plans, i) != i)
			continue;
		find_hidden(k, p, &ret->v[n].hidden);
		ret->v[n++].config = take_ptr(p->config);
	}
}

static int
make_all(struct making *k, int keep_fd, struct archive_images *ret, struct err *e)
{
	const struct options_images *o = k->in->limits;
	const struct layer_limits limits = { .size_max = (uint64_t)o->max_size,
					     .layer_max = (uint64_t)o->max_layer_size,
					     .ratio_max = (uint64_t)o->max_ratio,
					     .window_max = (uint64_t)o->max_window,
					     .threads = layer_threads(o->threads),
					     .cache = k->in->cache };
	AUTO_FREE char *pool = pool_name(k->in);

	if (collect_jobs(k, e) < 0 || open_pool(k, e) < 0)
		return -1;
	layer_store_known(k->jobs, k->n_jobs, k->pool_fd, &limits);
	if (check_room(k, e) < 0)
		return -1;
	watch_layers(k);
	add_images(k, ret);
	if (write_layouts(k, true, ret, e) < 0 ||
	    layer_store(k->jobs, k->n_jobs, k->pool_fd, keep_fd, &limits, e) < 0 ||
	    write_layouts(k, false, ret, e) < 0)
		return -1;
	finish_images(k, ret);
	return fs_remove_tree(k->in->work_fd, pool, e);
}

int
image_store(const struct archive_input *in, const struct entries *t, int keep_fd, struct image_plans *plans,
	    struct archive_images *ret, struct err *e)
{
	struct making k = { .in = in, .t = t, .plans = plans, .pool_fd = -1 };
	int rc = make_all(&k, keep_fd, ret, e);

	making_free(&k);
	return rc;
}
