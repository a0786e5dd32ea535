#include "cli/rehearse_yaml.h"

#include <string.h>
#include <yaml.h>

#include "base/mem.h"
#include "base/yaml_check.h"

struct reader {
	const char *name;
	yaml_document_t *document;
	size_t nodes_left;
};

static int
refuse(const struct reader *r, const yaml_node_t *node, const char *what, struct err *e)
{
	return err_set(e, ERR_REFUSED, "%s:%zu: %s", r->name, node->start_mark.line + 1, what);
}

static void
replace(cJSON *object, const char *key, cJSON *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(object, key);
	cJSON_AddItemToObject(object, key, value);
}

/* What `from` has and `to` has not. */
static void
merge_missing(cJSON *to, const cJSON *from)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, from)
	{
		if (!cJSON_GetObjectItemCaseSensitive(to, item->string))
			cJSON_AddItemToObject(to, item->string, cJSON_Duplicate(item, true));
	}
}

static int convert(struct reader *r, int index, int depth, cJSON **ret, struct err *e);

static int
convert_sequence(struct reader *r, const yaml_node_t *node, int depth, cJSON **ret, struct err *e)
{
	AUTO_JSON cJSON *list = cJSON_CreateArray();
	bool is_reference = node->tag && strcmp((const char *)node->tag, "!reference") == 0;

	for (const yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top;
	     i++) {
		cJSON *item = NULL;

		if (convert(r, *i, depth + 1, &item, e) < 0)
			return -1;
		cJSON_AddItemToArray(list, item);
	}
	if (is_reference) {
		*ret = cJSON_CreateObject();
		cJSON_AddItemToObject(*ret, "!reference", take_ptr(list));
	} else {
		*ret = take_ptr(list);
	}
	return 0;
}

static int
convert_mapping(struct reader *r, const yaml_node_t *node, int depth, cJSON **ret, struct err *e)
{
	AUTO_JSON cJSON *object = cJSON_CreateObject();
	AUTO_JSON cJSON *merged = cJSON_CreateObject();
	const cJSON *one;

	for (const yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
	     p++) {
		const yaml_node_t *key = yaml_document_get_node(r->document, p->key);
		AUTO_JSON cJSON *value = NULL;

		if (key->type != YAML_SCALAR_NODE)
			return refuse(r, key, "a key that is no word", e);
		if (convert(r, p->value, depth + 1, &value, e) < 0)
			return -1;
		if (strcmp((const char *)key->data.scalar.value, "<<") != 0) {
			replace(object, (const char *)key->data.scalar.value, take_ptr(value));
		} else if (cJSON_IsArray(value)) {
			cJSON_ArrayForEach(one, value)
			{
				merge_missing(merged, one);
			}
		} else {
			merge_missing(merged, value);
		}
	}
	merge_missing(object, merged);
	*ret = take_ptr(object);
	return 0;
}

static int
convert(struct reader *r, int index, int depth, cJSON **ret, struct err *e)
{
	const yaml_node_t *node = yaml_document_get_node(r->document, index);

	if (depth > JSON_DEPTH_MAX)
		return refuse(r, node, "nested too deeply", e);
	if (r->nodes_left-- == 0)
		return err_set(e, ERR_REFUSED, "%s: too large, with its aliases followed", r->name);
	switch (node->type) {
	case YAML_SCALAR_NODE:
		if (memchr(node->data.scalar.value, '\0', node->data.scalar.length))
			return refuse(r, node, "a NUL byte", e);
		*ret = cJSON_CreateString((const char *)node->data.scalar.value);
		return 0;
	case YAML_SEQUENCE_NODE:
		return convert_sequence(r, node, depth, ret, e);
	case YAML_MAPPING_NODE:
		return convert_mapping(r, node, depth, ret, e);
	case YAML_NO_NODE:
		break;
	}
	return refuse(r, node, "not understood", e);
}

int
rehearse_yaml_parse(const char *name, const char *text, size_t len, size_t nodes_max, cJSON **ret,
		    struct err *e)
{
	yaml_parser_t parser;
	yaml_document_t document;
	const struct yaml_bounds bounds = { .depth_max = JSON_DEPTH_MAX, .kind = ERR_REFUSED };
	struct reader r = { .name = name, .document = &document, .nodes_left = nodes_max };
	int done = -1;

	if (yaml_check(name, text, len, &bounds, e) < 0)
		return -1;
	if (!yaml_parser_initialize(&parser))
		return err_set(e, ERR_FAILED, "%s: out of memory", name);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, &document)) {
		err_set(e, ERR_REFUSED, "%s:%zu: %s", name, parser.problem_mark.line + 1,
			parser.problem ? parser.problem : "not YAML");
	} else {
		if (!yaml_document_get_root_node(&document))
			err_set(e, ERR_REFUSED, "%s: empty", name);
		else
			done = convert(&r, 1, 0, ret, e);
		yaml_document_delete(&document);
	}
	yaml_parser_delete(&parser);
	return done;
}
