#include "stages/oci_index.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "stages/archive_file.h"
#include "stages/image_names.h"

#define IN_TOTO "application/vnd.in-toto+json"

struct walk {
	const struct entries *t;
	const struct oci_expected *expected;
	size_t n_seen;
	bool has_match;
};

static int walk_index(struct walk *w, const char *text, size_t len, unsigned depth, struct err *e);

static int
parse(const char *text, size_t len, cJSON **ret, struct err *e)
{
	static const char *const known[] = { "schemaVersion", "mediaType", "artifactType", "config", "layers",
					     "manifests",     "subject",   "annotations",  NULL };
	AUTO_JSON cJSON *root = NULL;

	if (json_parse(text, len, IMAGE_CONFIG_MAX, JSON_UNIQUE, &root, e) < 0) {
		if (e)
			e->kind = ERR_REFUSED;
		return -1;
	}
	if (!cJSON_IsObject(root))
		return err_set(e, ERR_REFUSED, "it is no JSON object");
	if (image_check_names(root, known, e) < 0)
		return -1;
	*ret = take_ptr(root);
	return 0;
}

/* The entry of a descriptor; NULL when it is not in the archive. */
static int
find_blob(const struct walk *w, const cJSON *descriptor, const struct entry **ret, const char **ret_digest,
	  struct err *e)
{
	static const char *const known[] = { "mediaType",   "digest", "size",	  "urls",
					     "annotations", "data",   "platform", NULL };
	const char *digest = json_str(descriptor, "digest"), *hex;
	enum hash_algo algo;
	char name[96];

	if (image_check_names(descriptor, known, e) < 0)
		return -1;
	if (!digest || hash_parse_digest(digest, &algo, &hex) < 0)
		return err_set(e, ERR_REFUSED, "a descriptor has no digest");
	if (algo != HASH_SHA256)
		return err_set(e, ERR_UNSUPPORTED, "not supported yet: blobs named by SHA-512");
	snprintf(name, sizeof(name), "blobs/sha256/%s", hex);
	*ret = entries_find(w->t, name);
	*ret_digest = digest;
	if (*ret && (*ret)->type != TAR_FILE)
		return err_set(e, ERR_REFUSED, "type: %s is not a file", name);
	return 0;
}

static bool
is_attestation(const cJSON *manifest)
{
	const cJSON *layers = json_array(manifest, "layers"), *layer;

	cJSON_ArrayForEach(layer, layers)
	{
		if (!str_eq(json_str(layer, "mediaType"), IN_TOTO))
			return false;
	}
	return layers && layers->child;
}

static bool
has_same_layers(const struct walk *w, const cJSON *manifest)
{
	const cJSON *layers = json_array(manifest, "layers"), *layer;
	const struct strv *names = w->expected->layers;
	size_t i = 0;

	cJSON_ArrayForEach(layer, layers)
	{
		const char *digest = json_str(layer, "digest"), *hex;
		enum hash_algo algo;

		if (i >= names->n || !digest || hash_parse_digest(digest, &algo, &hex) < 0 ||
		    !str_has_prefix(names->v[i], "blobs/sha256/") || strcmp(names->v[i] + 13, hex) != 0)
			return false;
		i++;
	}
	return i == names->n;
}

static int
check_manifest(struct walk *w, const cJSON *manifest, const char *digest, struct err *e)
{
	const char *config = json_str(json_object(manifest, "config"), "digest");

	if (is_attestation(manifest))
		return 0;
	if (!config)
		return err_set(e, ERR_REFUSED, "manifest %s has no config", digest);
	if (strcmp(config, w->expected->config_digest) != 0)
		return err_set(e, ERR_UNSUPPORTED,
			       "not supported yet: several images in one archive (index.json also names the one of config %s)",
			       config);
	if (!has_same_layers(w, manifest))
		return err_set(e, ERR_REFUSED, "manifest %s names other layers than manifest.json", digest);
	w->has_match = true;
	return 0;
}

static int
walk_descriptor(struct walk *w, const cJSON *descriptor, unsigned depth, struct err *e)
{
	const struct entry *blob = NULL;
	const char *digest = NULL;
	AUTO_FREE char *text = NULL;
	AUTO_JSON cJSON *root = NULL;
	char real[HASH_DIGEST_MAX];
	size_t len = 0;
	int64_t size = json_int(descriptor, "size", -1);

	if (++w->n_seen > OCI_MANIFESTS_MAX)
		return err_set(e, ERR_REFUSED, "it names more than %d manifests", OCI_MANIFESTS_MAX);
	if (find_blob(w, descriptor, &blob, &digest, e) < 0)
		return -1;
	if (!blob)
		return 0;
	if (archive_read_entry(blob, digest, IMAGE_CONFIG_MAX, &text, &len, e) < 0)
		return -1;
	hash_of(HASH_SHA256, text, len, real);
	if (strcmp(real, digest) != 0 || size != (int64_t)len)
		return err_set(e, ERR_REFUSED, "forged manifest: %s has %zu bytes and is %s", digest, len,
			       real);
	if (parse(text, len, &root, e) < 0)
		return err_wrap(e, "%s", digest);
	if (json_array(root, "manifests"))
		return walk_index(w, text, len, depth + 1, e);
	return check_manifest(w, root, digest, e);
}

static int
walk_index(struct walk *w, const char *text, size_t len, unsigned depth, struct err *e)
{
	AUTO_JSON cJSON *root = NULL;
	const cJSON *descriptor;

	if (depth > OCI_INDEX_DEPTH)
		return err_set(e, ERR_REFUSED, "indexes within indexes, deeper than %d", OCI_INDEX_DEPTH);
	if (parse(text, len, &root, e) < 0)
		return -1;
	if (!json_array(root, "manifests"))
		return err_set(e, ERR_REFUSED, "it has no list of manifests");
	cJSON_ArrayForEach(descriptor, json_array(root, "manifests"))
	{
		if (walk_descriptor(w, descriptor, depth, e) < 0)
			return -1;
	}
	return 0;
}

int
oci_index_check(const struct entries *t, const char *text, size_t len, const struct oci_expected *expected,
		struct err *e)
{
	struct walk w = { .t = t, .expected = expected };

	if (walk_index(&w, text, len, 0, e) < 0)
		return e && e->kind == ERR_UNSUPPORTED ? -1 : err_wrap(e, "index.json");
	if (!w.has_match)
		return err_set(e, ERR_REFUSED, "index.json: it does not name the image of manifest.json");
	return 0;
}
