#include "stages/oci_archive.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "stages/archive_file.h"
#include "stages/image_label.h"
#include "stages/image_names.h"
#include "stages/oci_manifest.h"

/* Of a descriptor on the way down: what it says, and what the one above it said. Any of the names may be what it is loaded as. */
struct inherited {
	const char *name, *second_name, *platform;
	const struct inherited *above; /* NULL at the top */
};

struct walk {
	const struct oci_layout_at *at;
	struct image_plans *plans;
	struct strv *notes;
	size_t n_seen;
};

static int walk_index(struct walk *w, const struct oci_manifest *m, const struct inherited *from,
		      unsigned depth, struct err *e);

/* The entry of a descriptor, NULL when it is not there. */
static int
find_blob(const struct walk *w, const struct oci_descriptor *d, const char *suffix, const struct entry **ret,
	  struct err *e)
{
	const char *hex = strchr(d->digest, ':') + 1;
	const char *algo = d->algo == HASH_SHA512 ? "sha512" : "sha256";
	AUTO_FREE char *name = w->at->is_dir ? mem_printf("%s%s%s", w->at->top, hex, suffix)
					     : mem_printf("%sblobs/%s/%s", w->at->top, algo, hex);

	*ret = entries_find(w->at->t, name);
	if (*ret && (*ret)->type != TAR_FILE)
		return err_set(e, ERR_REFUSED, "type: %s is not a file", name);
	if (!*ret && d->has_data)
		return err_set(e, ERR_REFUSED, "data: %s lies in its descriptor alone, which few readers see",
			       d->digest);
	return 0;
}

/* --- is it an image? --- */

/* Also where that cannot be told. */
static bool
has_rootfs(const struct walk *w, const struct entry *n)
{
	static const char *const known[] = { "rootfs", NULL };
	AUTO_FREE char *text = NULL;
	AUTO_JSON cJSON *root = NULL;
	struct err ignored = ERR_INIT;
	size_t len = 0;

	if (n->place.fd < 0)
		return n->size > w->at->limits->json_size;
	if (archive_read_entry(n, "config", w->at->limits->json_size, &text, &len, &ignored) < 0)
		return true;
	/* What a strict reader does not take may be one to another. */
	if (json_parse_deep(text, len, w->at->limits->json_size, w->at->limits->json_depth, 0, &root,
			    &ignored) < 0)
		return text[strspn(text, " \t\r\n")] == '{';
	/* "Rootfs" is one to some engines. */
	return cJSON_GetObjectItemCaseSensitive(root, "rootfs") ||
	       image_check_names(root, known, &ignored) < 0;
}

/* By name and by content nothing that an engine could unpack. */
static int
is_no_layer(const struct walk *w, const struct oci_descriptor *d, bool *ret, struct err *e)
{
	const struct entry *n = NULL;
	enum archive_kind kind = ARCHIVE_OTHER;

	if (find_blob(w, d, "", &n, e) < 0 || (n && archive_entry_kind(n, &kind, e) < 0))
		return -1;
	*ret = !oci_is_layer(d->media_type) && kind == ARCHIVE_OTHER;
	return 0;
}

static void
add_note(struct walk *w, const char *media_type)
{
	const char *what =
		!strcmp(media_type, "application/vnd.in-toto+json") ? "an attestation" : "an artifact";
	AUTO_FREE char *safe = str_safe(str_is_empty(media_type) ? "of unknown kind" : media_type, 80);

	strv_addf(w->notes, "%s (%s)", what, safe);
}

/* *ret is false for what was noted and is passed over. */
static int
tell_image(struct walk *w, const struct oci_manifest *m, const struct oci_descriptor *d, bool *ret,
	   struct err *e)
{
	const struct entry *config = NULL;
	bool is_inert = m->n > 0;

	*ret = false;
	if (!m->has_config) {
		if (m->n)
			return err_set(e, ERR_REFUSED, "manifest %s has no config", d->digest);
		add_note(w, d->media_type);
		return 0;
	}
	if (find_blob(w, &m->config, "", &config, e) < 0)
		return -1;
	if (!oci_is_config(m->config.media_type) && (!config || !has_rootfs(w, config))) {
		/* An empty config says nothing; what hangs on it does. */
		add_note(w, m->n && !strcmp(m->config.media_type, "application/vnd.oci.empty.v1+json")
				    ? m->v[0].media_type
				    : m->config.media_type);
		return 0;
	}
	for (size_t i = 0; i < m->n && is_inert; i++)
		if (is_no_layer(w, &m->v[i], &is_inert, e) < 0)
			return -1;
	if (is_inert) {
		add_note(w, m->v[0].media_type);
		return 0;
	}
	*ret = true;
	return 0;
}

/* --- an image --- */

static int
read_config(struct walk *w, const struct oci_manifest *m, struct image_plan *p, struct err *e)
{
	const struct entry *n = NULL;

	if (find_blob(w, &m->config, "", &n, e) < 0)
		return -1;
	if (!n)
		return err_set(e, ERR_REFUSED, "missing config: %s is not in the archive", m->config.digest);
	if (n->size != m->config.size)
		return err_set(e, ERR_REFUSED, "forged config: %s has %llu bytes, its descriptor says %llu",
			       m->config.digest, (unsigned long long)n->size,
			       (unsigned long long)m->config.size);
	if (image_plan_read_config(p, n, m->config.digest, w->at->limits, e) < 0)
		return -1;
	if (p->config->diff_ids.n != m->n)
		return err_set(e, ERR_REFUSED, "layers: the manifest names %zu, the image's config %zu", m->n,
			       p->config->diff_ids.n);
	return 0;
}

static int
find_layer(struct walk *w, const struct oci_descriptor *d, size_t number, size_t n_layers,
	   struct plan_layer *l, struct err *e)
{
	l->what = mem_printf("layer %zu of %zu (%s)", number, n_layers, d->digest);
	snprintf(l->digest, sizeof(l->digest), "%s", d->digest);
	if (d->is_elsewhere)
		return err_set(e, ERR_REFUSED,
			       "foreign layer: %s is said to lie elsewhere (urls), where its bytes are not checked",
			       l->what);
	if (find_blob(w, d, "", &l->from, e) < 0)
		return -1;
	if (!l->from)
		return err_set(e, ERR_REFUSED, "missing layer: %s is not in the archive", l->what);
	l->named_as = mem_strdup(l->from->name);
	if (l->from->size != d->size)
		return err_set(e, ERR_REFUSED, "forged layer: %s has %llu bytes, its descriptor says %llu",
			       l->what, (unsigned long long)l->from->size, (unsigned long long)d->size);
	return 0;
}

/* A bare "1.0" of org.opencontainers.image.ref.name is taken as it stands. */
static void
add_name(struct image_plan *p, const char *name)
{
	if (!str_is_empty(name) && !strv_has(&p->tags, name))
		strv_add(&p->tags, name);
}

static void
add_names(struct image_plan *p, const struct inherited *from)
{
	for (; from; from = from->above) {
		add_name(p, from->name);
		add_name(p, from->second_name);
	}
}

static int
plan_image(struct walk *w, const struct oci_manifest *m, const struct oci_descriptor *d,
	   const struct inherited *from, struct err *e)
{
	struct image_plan *p = image_plans_add(w->plans);

	snprintf(p->manifest_digest, sizeof(p->manifest_digest), "%s", d->digest);
	p->said_platform = mem_strdup(from->platform);
	add_names(p, from);
	if (read_config(w, m, p, e) < 0)
		return -1;
	p->layers = mem_array(m->n + 1, sizeof(*p->layers));
	for (; p->n_layers < m->n; p->n_layers++)
		if (find_layer(w, &m->v[p->n_layers], p->n_layers + 1, m->n, &p->layers[p->n_layers], e) < 0) {
			p->n_layers++;
			return -1;
		}
	return 0;
}

/* --- the walk --- */

static bool
was_planned(struct walk *w, const struct oci_descriptor *d, const struct inherited *from)
{
	for (size_t i = 0; i < w->plans->n; i++) {
		if (strcmp(w->plans->v[i].manifest_digest, d->digest) != 0)
			continue;
		add_names(&w->plans->v[i], from);
		return true;
	}
	return false;
}

static int
read_document(const struct walk *w, const struct entry *blob, const struct oci_descriptor *d,
	      struct oci_manifest **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	char real[HASH_DIGEST_MAX];
	size_t len = 0;

	if (archive_read_entry(blob, d->digest, w->at->limits->json_size, &text, &len, e) < 0)
		return -1;
	hash_of(d->algo, text, len, real);
	if (strcmp(real, d->digest) != 0 || d->size != len)
		return err_set(e, ERR_REFUSED, "forged manifest: %s has %zu bytes and is %s", d->digest, len,
			       real);
	if (oci_manifest_parse(text, len, w->at->limits, ret, e) < 0)
		return err_wrap(e, "%s", d->digest);
	return 0;
}

static int
check_kind(const struct oci_manifest *m, const struct oci_descriptor *d, struct err *e)
{
	if ((oci_is_index(d->media_type) && m->kind != OCI_INDEX) ||
	    (oci_is_manifest(d->media_type) && m->kind == OCI_INDEX))
		return err_set(e, ERR_REFUSED, "media type: %s is not what its descriptor says: %s",
			       d->digest, d->media_type);
	return 0;
}

static int
walk_manifest(struct walk *w, const struct oci_manifest *m, const struct oci_descriptor *d,
	      const struct inherited *from, struct err *e)
{
	bool is_image = false;

	if (m->n > w->at->limits->layers)
		return err_set(e, ERR_REFUSED,
			       "layers: manifest %s names %zu, more than the %zu that are allowed", d->digest,
			       m->n, w->at->limits->layers);
	if (tell_image(w, m, d, &is_image, e) < 0)
		return -1;
	if (is_image && plan_image(w, m, d, from, e) < 0) {
		AUTO_FREE char *why = mem_strdup(e ? e->text : "");
		AUTO_FREE char *safe = str_safe(from->name ? from->name : d->digest, 100);

		return e ? err_set(e, e->kind, "%s: in image %s", why, safe) : -1;
	}
	return 0;
}

static int
walk_descriptor(struct walk *w, const struct oci_descriptor *d, const struct inherited *above, unsigned depth,
		struct err *e)
{
	const struct inherited own = { d->name, d->second_name, *d->platform ? d->platform : above->platform,
				       above };
	AUTO(oci_manifest) struct oci_manifest *m = NULL;
	const struct entry *blob = NULL;
	bool is_known = oci_is_index(d->media_type) || oci_is_manifest(d->media_type) || !*d->media_type;

	if (++w->n_seen > w->at->limits->manifests)
		return err_set(e, ERR_REFUSED, "%s: it names more than the %zu manifests that are allowed",
			       w->at->index, w->at->limits->manifests);
	if (was_planned(w, d, &own))
		return 0;
	if (find_blob(w, d, ".manifest.json", &blob, e) < 0)
		return -1;
	if (!blob) {
		strv_addf(w->notes, "a manifest that is named but not there (%s)",
			  *own.platform ? own.platform : "of unknown platform");
		return 0;
	}
	/* An index may name anything; what is no manifest by name is one to nobody unless it reads as one. */
	if (!is_known && (blob->size > w->at->limits->json_size || blob->place.fd < 0)) {
		add_note(w, d->media_type);
		return 0;
	}
	if (read_document(w, blob, d, &m, e) < 0) {
		if (is_known || !e || str_has_prefix(e->text, "forged"))
			return -1;
		err_clear(e);
		add_note(w, d->media_type);
		return 0;
	}
	if (check_kind(m, d, e) < 0)
		return -1;
	switch (m->kind) {
	case OCI_INDEX:
		return walk_index(w, m, &own, depth + 1, e);
	case OCI_MANIFEST:
		return walk_manifest(w, m, d, &own, e);
	case OCI_OTHER:
		add_note(w, d->media_type);
		return 0;
	}
	return 0;
}

static int
walk_index(struct walk *w, const struct oci_manifest *m, const struct inherited *from, unsigned depth,
	   struct err *e)
{
	if (depth > w->at->limits->index_depth)
		return err_set(e, ERR_REFUSED, "%s: indexes within indexes, deeper than %u", w->at->index,
			       w->at->limits->index_depth);
	for (size_t i = 0; i < m->n; i++)
		if (walk_descriptor(w, &m->v[i], from, depth, e) < 0)
			return -1;
	return 0;
}

/* The file at the top has no descriptor; where it is a manifest itself (dir:), it gets one. */
static int
walk_top(struct walk *w, const char *text, size_t len, struct err *e)
{
	static const struct inherited nothing = { NULL, NULL, "", NULL };
	AUTO(oci_manifest) struct oci_manifest *m = NULL;
	struct oci_descriptor d = { .algo = HASH_SHA256, .size = len };
	char media_type[] = "";

	if (oci_manifest_parse(text, len, w->at->limits, &m, e) < 0)
		return err_wrap(e, "%s", w->at->index);
	if (m->kind == OCI_INDEX)
		return walk_index(w, m, &nothing, 0, e);
	if (!w->at->is_dir || m->kind != OCI_MANIFEST)
		return err_set(e, ERR_REFUSED, "%s: it has no list of manifests", w->at->index);
	d.media_type = media_type;
	hash_of(HASH_SHA256, text, len, d.digest);
	return walk_manifest(w, m, &d, &nothing, e);
}

int
oci_archive_plan(const struct oci_layout_at *at, struct image_plans *ret, struct strv *notes, struct err *e)
{
	struct walk w = { .at = at, .plans = ret, .notes = notes };
	AUTO_FREE char *name = mem_printf("%s%s", at->top, at->index);
	AUTO_FREE char *text = NULL;
	const struct entry *n = NULL;
	size_t len = 0;

	if (entries_resolve(at->t, name, at->index, "missing index", &n, e) < 0 ||
	    archive_read_entry(n, at->index, at->limits->json_size, &text, &len, e) < 0)
		return -1;
	return walk_top(&w, text, len, e);
}
