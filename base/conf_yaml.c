/*
 * YAML into structs. libyaml's document tree keeps the line of every node, which
 * is what a person with a broken settings file needs; that is why settings are not
 * read with a binding library on top of it (docs/architecture.md, Settings).
 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/conf.h"
#include "base/conf_private.h"
#include "base/mem.h"
#include "base/yaml_depth.h"

#define DEPTH_MAX 16
#define TEXT_MAX (1024 * 1024)

struct reader {
	const struct conf_schema *schema;
	const char *name;
	yaml_document_t *doc;
	bool *is_seen; /* nodes that were visited: an alias would visit one twice */
	size_t n_nodes;
};

static int fault(const struct reader *r, const yaml_node_t *node, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int
fault(const struct reader *r, const yaml_node_t *node, struct err *e, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL, *safe = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	safe = str_safe(text, 600);
	return err_set(e, ERR_SETTINGS, "%s:%zu: %s", r->name, node->start_mark.line + 1, safe);
}

/* `!!int "5"`, `!binary`: it would change what a value means elsewhere, and nothing here. */
static bool
has_tag(const yaml_node_t *node)
{
	static const char *const plain[] = {
		[YAML_SCALAR_NODE] = YAML_STR_TAG,
		[YAML_SEQUENCE_NODE] = YAML_SEQ_TAG,
		[YAML_MAPPING_NODE] = YAML_MAP_TAG,
	};

	return node->tag && plain[node->type] && strcmp((const char *)node->tag, plain[node->type]) != 0;
}

/* The node of an index; refuses the same node twice (anchors and aliases can blow a small file up). */
static const yaml_node_t *
visit(struct reader *r, int index, struct err *e)
{
	const yaml_node_t *node = yaml_document_get_node(r->doc, index);

	if (!node || (size_t)index > r->n_nodes) {
		err_set(e, ERR_SETTINGS, "%s: not understood", r->name);
		return NULL;
	}
	if (r->is_seen[index]) {
		fault(r, node, e, "an alias (*name) of this stands elsewhere, aliases are not allowed");
		return NULL;
	}
	if (has_tag(node)) {
		fault(r, node, e, "a tag (%s) stands here, tags are not allowed", (const char *)node->tag);
		return NULL;
	}
	r->is_seen[index] = true;
	return node;
}

static const char *
kind_of(const yaml_node_t *node)
{
	switch (node->type) {
	case YAML_SCALAR_NODE:
		return memchr(node->data.scalar.value, '\0', node->data.scalar.length)
			       ? "a text with a NUL byte"
			       : "a single value";
	case YAML_SEQUENCE_NODE:
		return "a list";
	case YAML_MAPPING_NODE:
		return "a group of settings";
	case YAML_NO_NODE:
		break;
	}
	return "nothing";
}

static const char *
text_of(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

static bool
is_text(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && strlen(text_of(node)) == node->data.scalar.length;
}

/* `key:` with nothing behind it, or ~ */
static bool
is_null(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (node->data.scalar.length == 0 || strcmp(text_of(node), "~") == 0 ||
		strcasecmp(text_of(node), "null") == 0);
}

static int
read_list(struct reader *r, const struct conf_field *f, const char *path, const yaml_node_t *node,
	  struct strv *value, struct err *e)
{
	AUTO_STRV struct strv list = { 0 };
	AUTO_FREE char *allowed = conf_allowed(f);

	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		const yaml_node_t *item = visit(r, *i, e);

		if (!item)
			return -1;
		if (!is_text(item) || is_null(item))
			return fault(r, item, e, "%s: %s in the list, allowed is %s", path,
				     is_null(item) ? "nothing" : kind_of(item), allowed);
		if (conf_parse_item(f, text_of(item), &list) < 0)
			return fault(r, item, e, "%s: \"%s\" is not possible, allowed is %s", path,
				     text_of(item), allowed);
	}
	strv_free(value);
	*value = list;
	list = (struct strv){ 0 };
	return 0;
}

static int
read_value(struct reader *r, const struct conf_field *f, const char *path, const yaml_node_t *node,
	   void *value, struct err *e)
{
	AUTO_FREE char *allowed = conf_allowed(f);

	if (f->type == CONF_LIST) {
		if (node->type != YAML_SEQUENCE_NODE)
			return fault(r, node, e, "%s: %s, allowed is %s", path, kind_of(node), allowed);
		return read_list(r, f, path, node, value, e);
	}
	if (!is_text(node))
		return fault(r, node, e, "%s: %s, allowed is %s", path, kind_of(node), allowed);
	if (is_null(node))
		return fault(r, node, e, "%s: no value, allowed is %s", path, allowed);
	if (conf_parse_scalar(f, text_of(node), value) < 0)
		return fault(r, node, e, "%s: \"%s\" is not possible, allowed is %s", path, text_of(node),
			     allowed);
	return 0;
}

/* A key of a mapping: a text that did not stand in it before. */
static const yaml_node_t *
read_key(struct reader *r, const yaml_node_t *mapping, const yaml_node_pair_t *pair, struct err *e)
{
	const yaml_node_t *key = visit(r, pair->key, e);

	if (!key)
		return NULL;
	if (!is_text(key)) {
		fault(r, key, e, "a key that is no text");
		return NULL;
	}
	for (const yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < pair; p++) {
		const yaml_node_t *other = yaml_document_get_node(r->doc, p->key);

		if (is_text(other) && strcmp(text_of(other), text_of(key)) == 0) {
			fault(r, key, e, "%s stands here twice, first in line %zu", text_of(key),
			      other->start_mark.line + 1);
			return NULL;
		}
	}
	return key;
}

static int
unknown_field(const struct reader *r, const struct conf_section *s, const yaml_node_t *key, struct err *e)
{
	AUTO_BUF struct buf known = BUF_INIT(4096);

	for (size_t k = 0; k < s->n_fields; k++)
		buf_printf(&known, "%s%s", k ? ", " : "", s->fields[k].key);
	return fault(r, key, e, "%s%s%s is no setting, allowed are %s", s->key ? s->key : "",
		     s->key ? "." : "", text_of(key), buf_str(&known));
}

static const struct conf_field *
find_field(const struct conf_section *s, const char *key)
{
	for (size_t k = 0; k < s->n_fields; k++)
		if (strcmp(s->fields[k].key, key) == 0)
			return &s->fields[k];
	return NULL;
}

static struct conf_patch_value *
patch_add(struct conf_patch *p, size_t section, const struct conf_field *f)
{
	p->v = mem_resize(p->v, p->n + 1, sizeof(*p->v));
	p->v[p->n] = (struct conf_patch_value){ .section = section, .field = f };
	return &p->v[p->n++];
}

/* A section's mapping into `whole`, or into a patch where there is one. */
static int
read_section(struct reader *r, size_t index, const char *prefix, const yaml_node_t *node, void *whole,
	     struct conf_patch *patch, struct err *e)
{
	const struct conf_section *s = &r->schema->sections[index];

	if (is_null(node))
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return fault(r, node, e, "%s%s: %s, allowed is a group of settings", prefix, s->key,
			     kind_of(node));
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = read_key(r, node, p, e);
		const yaml_node_t *value = key ? visit(r, p->value, e) : NULL;
		const struct conf_field *f;
		AUTO_FREE char *path = NULL;
		void *to;

		if (!value)
			return -1;
		f = find_field(s, text_of(key));
		if (!f)
			return unknown_field(r, s, key, e);
		path = mem_printf("%s%s.%s", prefix, s->key, f->key);
		if (patch && (f->flags & CONF_NO_OVERRIDE))
			return fault(r, key, e, "%s cannot be different for a project", path);
		to = patch ? (void *)&patch_add(patch, index, f)->value
			   : (char *)whole + s->offset + f->offset;
		if (read_value(r, f, path, value, to, e) < 0)
			return -1;
	}
	return 0;
}

static int
find_section(const struct conf_schema *schema, const char *key, bool in_project, size_t *ret)
{
	for (size_t i = 0; i < schema->n_sections; i++) {
		const struct conf_section *s = &schema->sections[i];

		if (s->key && strcmp(s->key, key) == 0 && (!in_project || s->is_overridable)) {
			*ret = i;
			return 0;
		}
	}
	return -1;
}

static int
unknown_section(const struct reader *r, const yaml_node_t *key, const char *prefix, bool in_project,
		struct err *e)
{
	AUTO_BUF struct buf known = BUF_INIT(4096);

	buf_add_str(&known, in_project ? "match" : "projects");
	for (size_t i = 0; i < r->schema->n_sections; i++) {
		const struct conf_section *s = &r->schema->sections[i];

		for (size_t k = 0; !s->key && !in_project && k < s->n_fields; k++)
			buf_printf(&known, ", %s", s->fields[k].key);
		if (s->key && (!in_project || s->is_overridable))
			buf_printf(&known, ", %s", s->key);
	}
	return fault(r, key, e, "%s%s is no setting%s, allowed are %s", prefix, text_of(key),
		     in_project ? " of a project" : "", buf_str(&known));
}

static int
read_project(struct reader *r, const yaml_node_t *node, size_t number, struct conf_override *ret,
	     struct err *e)
{
	AUTO_FREE char *prefix = mem_printf("projects[%zu].", number);

	ret->patch = mem_alloc(sizeof(*ret->patch));
	if (node->type != YAML_MAPPING_NODE)
		return fault(r, node, e, "projects[%zu]: %s, allowed is a group with match and sections",
			     number, kind_of(node));
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = read_key(r, node, p, e);
		const yaml_node_t *value = key ? visit(r, p->value, e) : NULL;
		size_t section;

		if (!value)
			return -1;
		if (strcmp(text_of(key), "match") == 0) {
			if (!is_text(value) || is_null(value))
				return fault(r, value, e, "%smatch: allowed is a glob such as \"group/**\"",
					     prefix);
			free(ret->match);
			ret->match = mem_strdup(text_of(value));
			continue;
		}
		if (find_section(r->schema, text_of(key), true, &section) < 0)
			return unknown_section(r, key, prefix, true, e);
		if (read_section(r, section, prefix, value, NULL, ret->patch, e) < 0)
			return -1;
	}
	if (!ret->match)
		return fault(r, node, e, "projects[%zu]: match is missing, a glob on the project's path",
			     number);
	return 0;
}

static int
read_projects(struct reader *r, const yaml_node_t *node, struct conf_overrides *o, struct err *e)
{
	size_t number = 0;

	if (is_null(node))
		return 0;
	if (node->type != YAML_SEQUENCE_NODE)
		return fault(r, node, e, "projects: %s, allowed is a list of groups with match",
			     kind_of(node));
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		const yaml_node_t *item = visit(r, *i, e);

		if (!item)
			return -1;
		o->v = mem_resize(o->v, o->n + 1, sizeof(*o->v));
		o->v[o->n] = (struct conf_override){ 0 };
		o->n++;
		if (read_project(r, item, ++number, &o->v[o->n - 1], e) < 0)
			return -1;
	}
	return 0;
}

/* A field that stands at the top, e.g. state_dir. */
static const struct conf_section *
find_top_field(const struct conf_schema *schema, const char *key, const struct conf_field **ret)
{
	for (size_t i = 0; i < schema->n_sections; i++) {
		*ret = schema->sections[i].key ? NULL : find_field(&schema->sections[i], key);
		if (*ret)
			return &schema->sections[i];
	}
	return NULL;
}

static int
read_top(struct reader *r, const yaml_node_t *root, void *whole, struct conf_overrides *o, struct err *e)
{
	if (is_null(root))
		return 0;
	if (root->type != YAML_MAPPING_NODE)
		return fault(r, root, e, "%s, allowed is a group of settings", kind_of(root));
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = read_key(r, root, p, e);
		const yaml_node_t *value = key ? visit(r, p->value, e) : NULL;
		const struct conf_section *top;
		const struct conf_field *f;
		size_t section;
		int rc;

		if (!value)
			return -1;
		top = find_top_field(r->schema, text_of(key), &f);
		if (top)
			rc = read_value(r, f, f->key, value, (char *)whole + top->offset + f->offset, e);
		else if (strcmp(text_of(key), "projects") == 0)
			rc = read_projects(r, value, o, e);
		else if (find_section(r->schema, text_of(key), false, &section) == 0)
			rc = read_section(r, section, "", value, whole, NULL, e);
		else
			rc = unknown_section(r, key, "", false, e);
		if (rc < 0)
			return -1;
	}
	return 0;
}

static int
read_document(struct reader *r, void *whole, struct conf_overrides *o, struct err *e)
{
	const yaml_node_t *root = yaml_document_get_root_node(r->doc);

	if (!root) /* an empty file: all defaults */
		return 0;
	r->n_nodes = (size_t)(r->doc->nodes.top - r->doc->nodes.start);
	r->is_seen = mem_array(r->n_nodes + 1, sizeof(*r->is_seen));
	return read_top(r, root, whole, o, e);
}

/* Bytes that are no text are found before they have a line: counted here. */
static size_t
line_of_problem(const yaml_parser_t *parser, const char *text, size_t len)
{
	size_t line = 1;

	if (parser->error != YAML_READER_ERROR)
		return parser->problem_mark.line + 1;
	for (size_t i = 0; i < parser->problem_offset && i < len; i++)
		line += text[i] == '\n';
	return line;
}

static int
parser_fault(const yaml_parser_t *parser, const char *name, const char *text, size_t len, struct err *e)
{
	return err_set(e, ERR_SETTINGS, "%s:%zu: %s%s%s", name, line_of_problem(parser, text, len),
		       parser->problem ? parser->problem : "not understood", parser->context ? ", " : "",
		       parser->context ? parser->context : "");
}

/* A second document in the file would be settings that nobody reads. */
static int
check_end(yaml_parser_t *parser, const char *name, const char *text, size_t len, struct err *e)
{
	yaml_document_t more;
	size_t line;
	bool has_more;

	if (!yaml_parser_load(parser, &more))
		return parser_fault(parser, name, text, len, e);
	has_more = yaml_document_get_root_node(&more) != NULL;
	line = more.start_mark.line + 1;
	yaml_document_delete(&more);
	return has_more ? err_set(e, ERR_SETTINGS, "%s:%zu: a second document behind ---", name, line) : 0;
}

int
conf_read_yaml(const struct conf_schema *schema, const char *name, const char *text, size_t len, void *whole,
	       struct conf_overrides *ret_overrides, struct err *e)
{
	struct reader r = { .schema = schema, .name = name };
	struct conf_overrides overrides = { 0 };
	yaml_parser_t parser;
	yaml_document_t doc;
	int rc = -1;

	if (len > TEXT_MAX)
		return err_set(e, ERR_SETTINGS, "%s: %zu bytes, allowed are %d", name, len, TEXT_MAX);
	if (yaml_depth_check(name, text, len, DEPTH_MAX, ERR_SETTINGS, e) < 0)
		return -1;
	if (!yaml_parser_initialize(&parser))
		abort();
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, &doc)) {
		parser_fault(&parser, name, text, len, e);
	} else {
		r.doc = &doc;
		rc = read_document(&r, whole, &overrides, e);
		if (rc == 0 && yaml_document_get_root_node(&doc))
			rc = check_end(&parser, name, text, len, e);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	free(r.is_seen);
	if (rc < 0) {
		conf_overrides_free(&overrides);
		return -1;
	}
	conf_overrides_free(ret_overrides);
	*ret_overrides = overrides;
	return 0;
}
