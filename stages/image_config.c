#include "stages/image_config.h"

#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "stages/image_names.h"

#define HISTORY_MAX 4096
#define CREATED_BY_MAX 4096 /* bytes that are kept of one step */

void
image_config_free(struct image_config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->diff_ids.n && c->created_by; i++)
		mem_free_at(&c->created_by[i]);
	mem_free_at(&c->created_by);
	strv_free(&c->diff_ids);
	mem_free_at(&c->os);
	mem_free_at(&c->architecture);
	mem_free_at(&c->variant);
	mem_free_at(&c);
}

static int
read_diff_ids(struct image_config *c, const cJSON *rootfs, size_t max_layers, struct err *e)
{
	static const char *const known[] = { "type", "diff_ids", NULL };
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(rootfs, "diff_ids"), *item;

	if (image_check_names(rootfs, known, e) < 0)
		return err_wrap(e, "rootfs");
	if (!list || cJSON_IsNull(list)) /* containerd's way of saying that there are none */
		return 0;
	if (!cJSON_IsArray(list))
		return err_set(e, ERR_REFUSED, "rootfs.diff_ids is no list");
	cJSON_ArrayForEach(item, list)
	{
		enum hash_algo algo;
		const char *hex;

		if (c->diff_ids.n >= max_layers)
			return err_set(e, ERR_REFUSED,
				       "layers: rootfs.diff_ids names more than the %zu that are allowed",
				       max_layers);
		if (!cJSON_IsString(item) || hash_parse_digest(item->valuestring, &algo, &hex) < 0) {
			AUTO_FREE char *safe =
				str_safe(cJSON_IsString(item) ? item->valuestring : "not even text", 90);

			return err_set(e, ERR_REFUSED, "rootfs.diff_ids[%zu] is no digest: %s", c->diff_ids.n,
				       safe);
		}
		strv_add(&c->diff_ids, item->valuestring);
	}
	return 0;
}

struct step {
	const char *created_by, *comment; /* "" when absent */
	bool has_layer;
};

static int
read_history(const cJSON *root, struct step **ret, size_t *ret_n, struct err *e)
{
	const cJSON *list = json_array(root, "history"), *item;
	AUTO_FREE struct step *steps = NULL;
	size_t n = 0, count = (size_t)cJSON_GetArraySize(list);

	if (count > HISTORY_MAX)
		return err_set(e, ERR_REFUSED, "history: more than %d steps", HISTORY_MAX);
	steps = mem_array(count + 1, sizeof(*steps));
	cJSON_ArrayForEach(item, list)
	{
		const char *by = json_str(item, "created_by"), *comment = json_str(item, "comment");

		steps[n++] = (struct step){ by ? by : "", comment ? comment : "",
					    !json_bool(item, "empty_layer", false) };
	}
	*ret = take_ptr(steps);
	*ret_n = n;
	return 0;
}

/* "CMD [...]", "ENTRYPOINT [...]" of BuildKit, "/bin/sh -c #(nop)  CMD [...]" of the classic builder. */
static bool
ends_a_base(const struct step *s)
{
	static const char nop[] = "#(nop)";
	const char *p = strstr(s->created_by, nop);

	p = p ? p + sizeof(nop) - 1 : s->created_by;
	p += strspn(p, " ");
	return !s->has_layer && (str_has_prefix(p, "CMD ") || str_has_prefix(p, "ENTRYPOINT "));
}

static bool
is_root_filesystem(const struct step *s)
{
	static const char *const words[] = { "ADD file:", "ADD rootfs", "ADD alpine-minirootfs",
					     "ADD dir:", "# debian.sh" };

	for (size_t i = 0; i < MEM_COUNT(words); i++)
		if (strstr(s->created_by, words[i]))
			return true;
	return strstr(s->comment, "debuerreotype") != NULL;
}

static size_t
guess_base(const struct step *steps, size_t n, size_t n_layers)
{
	size_t base = 0, layers = 0, switched = 0;
	bool has_foreign = false;

	for (size_t i = 0; i < n; i++) {
		bool is_buildkit = strstr(steps[i].comment, "buildkit.dockerfile") != NULL;

		if (is_buildkit && has_foreign && !switched)
			switched = layers;
		has_foreign = has_foreign || (!is_buildkit && steps[i].has_layer);
		layers += steps[i].has_layer;
		if (ends_a_base(&steps[i]) && layers < n_layers)
			base = layers;
	}
	if (switched > base)
		base = switched;
	for (size_t i = 0; i < n && !base; i++) {
		if (!steps[i].has_layer)
			continue;
		base = is_root_filesystem(&steps[i]);
		break;
	}
	return base;
}

static int
use_history(struct image_config *c, const cJSON *root, struct err *e)
{
	AUTO_FREE struct step *steps = NULL;
	size_t n = 0, n_layers = 0, layer = 0;

	c->created_by = mem_array(c->diff_ids.n + 1, sizeof(*c->created_by));
	if (read_history(root, &steps, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		n_layers += steps[i].has_layer;
	if (n_layers != c->diff_ids.n) /* a squashed image: the history tells of other layers */
		return 0;
	for (size_t i = 0; i < n; i++)
		if (steps[i].has_layer)
			c->created_by[layer++] = steps[i].created_by[0]
							 ? mem_strndup(steps[i].created_by, CREATED_BY_MAX)
							 : NULL;
	c->base_layers = guess_base(steps, n, n_layers);
	return 0;
}

char *
image_config_platform(const struct image_config *c)
{
	if (!c->os[0] || !c->architecture[0])
		return mem_strdup("");
	return mem_printf("%s/%s%s%s", c->os, c->architecture, c->variant[0] ? "/" : "", c->variant);
}

int
image_config_parse(const char *text, size_t len, const struct image_limits *limits, struct image_config **ret,
		   struct err *e)
{
	static const char *const known[] = { "os",     "architecture", "rootfs",  "history",
					     "config", "created",      "variant", NULL };
	AUTO(image_config) struct image_config *c = mem_alloc(sizeof(*c));
	AUTO_JSON cJSON *root = NULL;
	const cJSON *rootfs;
	const char *os, *architecture, *variant;

	if (image_limits_parse(limits, text, len, &root, e) < 0)
		return -1;
	if (!cJSON_IsObject(root))
		return err_set(e, ERR_REFUSED, "it is no JSON object");
	if (image_check_names(root, known, e) < 0)
		return -1;
	rootfs = json_object(root, "rootfs");
	if (!rootfs)
		return err_set(e, ERR_REFUSED, "it has no rootfs, so it is no image's config");
	os = json_str(root, "os");
	architecture = json_str(root, "architecture");
	variant = json_str(root, "variant");
	c->os = mem_strdup(os ? os : "");
	c->architecture = mem_strdup(architecture ? architecture : "");
	c->variant = mem_strdup(variant ? variant : "");
	if (read_diff_ids(c, rootfs, limits->layers, e) < 0 || use_history(c, root, e) < 0)
		return -1;
	*ret = take_ptr(c);
	return 0;
}
