#include "stages/oci_manifest.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "stages/image_label.h"
#include "stages/image_names.h"

#define PLATFORM_PART_MAX 64

static void
free_descriptor(struct oci_descriptor *d)
{
	mem_free_at(&d->media_type);
	mem_free_at(&d->platform);
	mem_free_at(&d->name);
	mem_free_at(&d->second_name);
}

void
oci_manifest_free(struct oci_manifest *m)
{
	if (!m)
		return;
	free_descriptor(&m->config);
	for (size_t i = 0; i < m->n; i++)
		free_descriptor(&m->v[i]);
	mem_free_at(&m->v);
	mem_free_at(&m);
}

static bool
is_one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(s, *list))
			return true;
	return false;
}

bool
oci_is_index(const char *media_type)
{
	static const char *const types[] = { "application/vnd.oci.image.index.v1+json",
					     "application/vnd.docker.distribution.manifest.list.v2+json",
					     NULL };

	return is_one_of(media_type, types);
}

bool
oci_is_manifest(const char *media_type)
{
	static const char *const types[] = { "application/vnd.oci.image.manifest.v1+json",
					     "application/vnd.docker.distribution.manifest.v2+json", NULL };

	return is_one_of(media_type, types);
}

bool
oci_is_config(const char *media_type)
{
	static const char *const types[] = { "application/vnd.oci.image.config.v1+json",
					     "application/vnd.docker.container.image.v1+json", NULL };

	return is_one_of(media_type, types);
}

bool
oci_is_layer(const char *media_type)
{
	return str_has_prefix(media_type, "application/vnd.oci.image.layer.") ||
	       str_has_prefix(media_type, "application/vnd.docker.image.rootfs.");
}

/* OCI Image Layer Filesystem Changeset, "Non-Distributable Layers", and Docker's word for them. */
static bool
is_not_distributed(const char *media_type)
{
	return oci_is_layer(media_type) &&
	       (strstr(media_type, ".nondistributable.") || strstr(media_type, ".foreign."));
}

static char *
read_platform(const cJSON *o)
{
	const char *parts[] = { json_str(o, "os"), json_str(o, "architecture"), json_str(o, "variant") };
	AUTO_FREE char *text = NULL;

	for (size_t i = 0; i < MEM_COUNT(parts); i++)
		if (parts[i] && strlen(parts[i]) > PLATFORM_PART_MAX)
			return mem_strdup("");
	if (str_is_empty(parts[0]) || str_is_empty(parts[1]))
		return mem_strdup("");
	text = mem_printf("%s/%s%s%s", parts[0], parts[1], str_is_empty(parts[2]) ? "" : "/",
			  parts[2] ? parts[2] : "");
	return str_safe(text, SIZE_MAX);
}

static int
read_names(const cJSON *annotations, struct oci_descriptor *ret, struct err *e)
{
	static const char *const keys[] = { "io.containerd.image.name", "org.opencontainers.image.ref.name" };

	for (size_t i = 0; i < MEM_COUNT(keys); i++) {
		const char *name = json_str(annotations, keys[i]);

		if (str_is_empty(name))
			continue;
		if (ret->name && !image_is_tag(name))
			continue;
		if (!image_is_tag(name))
			return err_set(e, ERR_REFUSED, "the annotation %s is no image's name", keys[i]);
		if (!ret->name)
			ret->name = mem_strdup(name);
		else if (name[strcspn(name, "/:@")] && name[strcspn(name, "/:@")] != '@')
			ret->second_name = mem_strdup(name);
	}
	return 0;
}

static int
read_descriptor(const cJSON *o, struct oci_descriptor *ret, struct err *e)
{
	static const char *const known[] = { "mediaType",   "digest", "size",	  "urls",
					     "annotations", "data",   "platform", NULL };
	const char *media_type, *digest, *hex;
	int64_t size;

	if (!cJSON_IsObject(o))
		return err_set(e, ERR_REFUSED, "a descriptor is no object");
	if (image_check_names(o, known, e) < 0)
		return -1;
	media_type = json_str(o, "mediaType");
	digest = json_str(o, "digest");
	size = json_int(o, "size", -1);
	if (!digest || hash_parse_digest(digest, &ret->algo, &hex) < 0)
		return err_set(e, ERR_REFUSED, "a descriptor has no digest by SHA-256 or SHA-512");
	if (size < 0)
		return err_set(e, ERR_REFUSED, "the descriptor of %.20s… has no size", digest);
	snprintf(ret->digest, sizeof(ret->digest), "%s", digest);
	ret->size = (uint64_t)size;
	ret->media_type = mem_strdup(media_type ? media_type : "");
	ret->platform = read_platform(json_object(o, "platform"));
	ret->is_elsewhere =
		cJSON_GetArraySize(json_array(o, "urls")) > 0 || is_not_distributed(ret->media_type);
	ret->has_data = !str_is_empty(json_str(o, "data"));
	return read_names(json_object(o, "annotations"), ret, e);
}

static int
read_list(struct oci_manifest *m, const cJSON *root, const char *name, size_t max, struct err *e)
{
	const cJSON *list = json_get(root, name), *item;

	if (!list) /* null is Go's way of saying that there are none */
		return 0;
	if (!cJSON_IsArray(list))
		return err_set(e, ERR_REFUSED, "%s is no list", name);
	if ((size_t)cJSON_GetArraySize(list) > max)
		return err_set(e, ERR_REFUSED, "%s: %s has more than the %zu that are allowed", name, name,
			       max);
	m->v = mem_array((size_t)cJSON_GetArraySize(list) + 1, sizeof(*m->v));
	cJSON_ArrayForEach(item, list)
	{
		if (read_descriptor(item, &m->v[m->n++], e) < 0)
			return err_wrap(e, "%s[%zu]", name, m->n - 1);
	}
	return 0;
}

/* What is an index to one reader and a manifest to another is refused, as containerd does. */
static int
tell_kind(struct oci_manifest *m, const cJSON *root, struct err *e)
{
	bool has_manifests = cJSON_GetObjectItemCaseSensitive(root, "manifests");
	bool is_manifest = json_get(root, "config") || cJSON_GetObjectItemCaseSensitive(root, "layers");
	const char *media_type = json_str(root, "mediaType");

	if (has_manifests && is_manifest)
		return err_set(e, ERR_REFUSED, "media type: it is an index and a manifest at once");
	m->kind = has_manifests ? OCI_INDEX : is_manifest ? OCI_MANIFEST : OCI_OTHER;
	if (media_type && ((oci_is_index(media_type) && m->kind != OCI_INDEX) ||
			   (oci_is_manifest(media_type) && m->kind == OCI_INDEX)))
		return err_set(e, ERR_REFUSED, "media type: it is not the %s that it says it is",
			       oci_is_index(media_type) ? "index" : "manifest");
	return 0;
}

int
oci_manifest_parse(const char *text, size_t len, const struct image_limits *limits, struct oci_manifest **ret,
		   struct err *e)
{
	static const char *const known[] = { "schemaVersion", "mediaType", "artifactType", "config", "layers",
					     "manifests",     "subject",   "annotations",  NULL };
	AUTO(oci_manifest) struct oci_manifest *m = mem_alloc(sizeof(*m));
	AUTO_JSON cJSON *root = NULL;

	if (image_limits_parse(limits, text, len, &root, e) < 0)
		return -1;
	if (!cJSON_IsObject(root))
		return err_set(e, ERR_REFUSED, "it is no JSON object");
	if (image_check_names(root, known, e) < 0 || tell_kind(m, root, e) < 0)
		return -1;
	if (m->kind == OCI_MANIFEST && json_get(root, "config")) {
		m->has_config = true;
		if (read_descriptor(json_get(root, "config"), &m->config, e) < 0)
			return err_wrap(e, "config");
	}
	if (m->kind != OCI_OTHER && read_list(m, root, m->kind == OCI_INDEX ? "manifests" : "layers",
					      m->kind == OCI_INDEX ? limits->manifests : limits->layers, e) < 0)
		return -1;
	*ret = take_ptr(m);
	return 0;
}
