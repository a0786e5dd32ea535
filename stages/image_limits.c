#include "stages/image_limits.h"

void
image_limits_of(const struct options_images *o, struct image_limits *ret)
{
	*ret = (struct image_limits){ .images = (size_t)o->max_images,
				      .layers = (size_t)o->max_layers,
				      .manifests = (size_t)o->max_manifests,
				      .json_size = (size_t)o->max_json,
				      .json_depth = (unsigned)o->max_json_depth,
				      .index_depth = (unsigned)o->max_index_depth };
}

int
image_limits_parse(const struct image_limits *l, const char *text, size_t len, cJSON **ret, struct err *e)
{
	if (json_parse_deep(text, len, l->json_size, l->json_depth, JSON_UNIQUE, ret, e) == 0)
		return 0;
	if (e)
		e->kind = ERR_REFUSED;
	return -1;
}
