#include "stages/docker_manifest.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "stages/image_label.h"
#include "stages/image_names.h"

#define TAGS_MAX 1024

void
docker_manifest_free(struct docker_manifest *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->n; i++) {
		mem_free_at(&m->v[i].config);
		strv_free(&m->v[i].layers);
		strv_free(&m->v[i].tags);
	}
	mem_free_at(&m->v);
	mem_free_at(&m);
}

/* A list of texts, or null. */
static int
read_list(const cJSON *o, const char *name, const char *noun, size_t max, struct strv *ret, struct err *e)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, name), *item;

	if (!list || cJSON_IsNull(list))
		return 0;
	if (!cJSON_IsArray(list))
		return err_set(e, ERR_REFUSED, "%s is no list", name);
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsString(item))
			return err_set(e, ERR_REFUSED, "%s[%zu] is no text", name, ret->n);
		if (ret->n >= max)
			return err_set(e, ERR_REFUSED, "%s has more than the %zu %s that are allowed", name,
				       max, noun);
		strv_add(ret, item->valuestring);
	}
	return 0;
}

static int
read_image(struct docker_image *m, const cJSON *o, size_t max_layers, struct err *e)
{
	static const char *const known[] = { "Config", "RepoTags", "Layers", "Parent", "LayerSources", NULL };
	const char *config;

	if (!cJSON_IsObject(o))
		return err_set(e, ERR_REFUSED, "it is no list of objects");
	if (image_check_names(o, known, e) < 0)
		return -1;
	config = json_str(o, "Config");
	if (!config || !config[0])
		return err_set(e, ERR_REFUSED, "Config is not the name of a file");
	m->config = mem_strdup(config);
	if (read_list(o, "RepoTags", "tags", TAGS_MAX, &m->tags, e) < 0 ||
	    read_list(o, "Layers", "layers", max_layers, &m->layers, e) < 0)
		return -1;
	for (size_t i = 0; i < m->tags.n; i++)
		if (!image_is_tag(m->tags.v[i]))
			return err_set(e, ERR_REFUSED, "RepoTags[%zu] is no image's name", i);
	return 0;
}

int
docker_manifest_parse(const char *text, size_t len, const struct image_limits *limits,
		      struct docker_manifest **ret, struct err *e)
{
	AUTO(docker_manifest) struct docker_manifest *m = mem_alloc(sizeof(*m));
	AUTO_JSON cJSON *root = NULL;
	const cJSON *item;

	if (image_limits_parse(limits, text, len, &root, e) < 0)
		return err_wrap(e, "manifest.json");
	if (cJSON_IsObject(root)) {
		*ret = NULL;
		return 0;
	}
	if (!cJSON_IsArray(root) || !root->child)
		return err_set(e, ERR_REFUSED, "manifest.json: it names no image");
	if ((size_t)cJSON_GetArraySize(root) > limits->images)
		return err_set(e, ERR_REFUSED,
			       "images: manifest.json names %d, more than the %zu that are allowed",
			       cJSON_GetArraySize(root), limits->images);
	m->v = mem_array((size_t)cJSON_GetArraySize(root), sizeof(*m->v));
	cJSON_ArrayForEach(item, root)
	{
		if (read_image(&m->v[m->n++], item, limits->layers, e) < 0)
			return m->n == 1 && !item->next ? err_wrap(e, "manifest.json")
							: err_wrap(e, "manifest.json[%zu]", m->n - 1);
	}
	*ret = take_ptr(m);
	return 0;
}

bool
docker_is_blob(const char *name)
{
	return str_has_prefix(name, "blobs/sha256/") || str_has_prefix(name, "blobs/sha512/");
}

bool
docker_claimed_digest(const char *name, char out[HASH_DIGEST_MAX])
{
	static const char *const ends[] = { "", ".json", ".tar", ".tar.gz", ".tgz" };
	static const char sha512[] = "blobs/sha512/";
	const char *slash = strrchr(name, '/');
	const char *hex = slash ? slash + 1 : name;

	if (str_has_prefix(name, sha512) && strlen(name) == strlen(sha512) + 128 &&
	    str_is_hex(name + strlen(sha512), 128)) {
		snprintf(out, HASH_DIGEST_MAX, "sha512:%s", name + strlen(sha512));
		return true;
	}
	if (str_has_prefix(hex, "sha256:"))
		hex += 7;
	if (strlen(hex) < 64 || !str_is_hex(hex, 64))
		return false;
	for (size_t i = 0; i < MEM_COUNT(ends); i++)
		if (!strcmp(hex + 64, ends[i])) {
			snprintf(out, HASH_DIGEST_MAX, "sha256:%.64s", hex);
			return true;
		}
	return false;
}
