#include "base/conf_tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/conf_private.h"
#include "base/conf_yaml.h"
#include "base/mem.h"
#include "base/nearest.h"

#define KEY_SHOWN_MAX 80 /* columns of a key in a message */

static void *
at(void *whole, size_t offset)
{
	return (char *)whole + offset;
}

static struct conf_section
section_of(const struct conf_group *g)
{
	return (struct conf_section){ .fields = g->fields, .n_fields = g->n_fields, .help = "" };
}

void
conf_tree_set_defaults(const struct conf_group *g, void *whole)
{
	const struct conf_section section = section_of(g);

	conf_set_defaults(&(const struct conf_schema){ &section, 1 }, whole);
	for (size_t k = 0; k < g->n_children; k++)
		if (g->children[k].max == 0)
			conf_tree_set_defaults(g->children[k].group, at(whole, g->children[k].offset));
}

void
conf_tree_free(const struct conf_group *g, void *whole)
{
	const struct conf_section section = section_of(g);

	conf_free(&(const struct conf_schema){ &section, 1 }, whole);
	for (size_t k = 0; k < g->n_children; k++) {
		const struct conf_child *c = &g->children[k];
		struct conf_items *l = at(whole, c->offset);

		if (c->max == 0) {
			conf_tree_free(c->group, at(whole, c->offset));
			continue;
		}
		for (size_t i = 0; i < l->n; i++)
			conf_tree_free(c->group, at(l->v, i * c->group->size));
		free(l->v);
		*l = (struct conf_items){ 0 };
	}
}

static const struct conf_field *
find_field(const struct conf_group *g, const char *key)
{
	for (size_t k = 0; k < g->n_fields; k++)
		if (str_eq(g->fields[k].key, key))
			return &g->fields[k];
	return NULL;
}

static const struct conf_child *
find_child(const struct conf_group *g, const char *key)
{
	for (size_t k = 0; k < g->n_children; k++)
		if (str_eq(g->children[k].key, key))
			return &g->children[k];
	return NULL;
}

static void
try_key(struct buf *known, struct nearest *n, const char *key)
{
	buf_printf(known, "%s%s", known->len > 0 ? ", " : "", key);
	nearest_try(n, key);
}

static int
unknown_key(const struct conf_reader *r, const struct conf_group *g, const char *path, const yaml_node_t *key,
	    struct err *e)
{
	AUTO_BUF struct buf known = BUF_INIT(4096);
	AUTO_FREE char *shown = str_safe(path, KEY_SHOWN_MAX);
	struct nearest near = NEAREST_INIT(conf_yaml_text(key));
	const char *best;

	for (size_t k = 0; k < g->n_fields; k++)
		try_key(&known, &near, g->fields[k].key);
	for (size_t k = 0; k < g->n_children; k++)
		try_key(&known, &near, g->children[k].key);
	best = nearest_best(&near);
	return conf_yaml_fault(r, key, e, "%s is no key of %s%s%s%s, allowed are %s", shown, g->what,
			       best ? " (is " : "", best ? best : "", best ? " meant?)" : "", buf_str(&known));
}

static int read_group(struct conf_reader *r, const struct conf_group *g, const char *path,
		      const yaml_node_t *node, void *whole, struct err *e);

static int
read_items(struct conf_reader *r, const struct conf_child *c, const char *path, const yaml_node_t *node,
	   struct conf_items *l, struct err *e)
{
	const struct conf_group *g = c->group;
	size_t n = 0;

	if (conf_yaml_is_null(node))
		return 0;
	if (node->type != YAML_SEQUENCE_NODE)
		return conf_yaml_fault(r, node, e, "%s: %s, allowed is a list, each entry %s", path,
				       conf_yaml_kind(node), g->what);
	n = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
	if (n > c->max)
		return conf_yaml_fault(r, node, e, "%s: %zu entries, allowed are %zu", path, n, c->max);
	l->v = mem_array(n ? n : 1, g->size);
	for (size_t k = 0; k < n; k++) {
		const yaml_node_t *item = conf_yaml_visit(r, node->data.sequence.items.start[k], e);
		AUTO_FREE char *item_path = mem_printf("%s[%zu]", path, k + 1);
		void *to = at(l->v, k * g->size);

		if (!item)
			return -1;
		l->n++;
		conf_tree_set_defaults(g, to);
		if (read_group(r, g, item_path, item, to, e) < 0)
			return -1;
	}
	return 0;
}

/* Whoever writes a key means something by it: "" is refused where it would be as if the key were not there, and so mean anything. */
static struct conf_field
strict_field(const struct conf_field *f)
{
	struct conf_field strict = *f;

	if (*f->fallback == '\0')
		strict.fallback = "?";
	return strict;
}

static int
read_pair(struct conf_reader *r, const struct conf_group *g, const char *group_path, const yaml_node_t *key,
	  const yaml_node_t *value, void *whole, struct err *e)
{
	const char *name = conf_yaml_text(key);
	const struct conf_field *f = find_field(g, name);
	const struct conf_child *c = f ? NULL : find_child(g, name);
	AUTO_FREE char *path = mem_printf("%s%s%s", group_path, *group_path ? "." : "", name);

	if (f) {
		const struct conf_field strict = strict_field(f);

		if (conf_yaml_value(r, &strict, path, value, at(whole, f->offset), e) < 0)
			return -1;
		conf_yaml_add_place(r, path, value);
		return 0;
	}
	if (!c)
		return unknown_key(r, g, path, key, e);
	conf_yaml_add_place(r, path, key);
	if (c->max > 0)
		return read_items(r, c, path, value, at(whole, c->offset), e);
	return conf_yaml_is_null(value) ? 0 : read_group(r, c->group, path, value, at(whole, c->offset), e);
}

static bool
has_key(const struct conf_reader *r, const yaml_node_t *node, const char *key)
{
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++)
		if (str_eq(conf_yaml_text(yaml_document_get_node(r->doc, p->key)), key))
			return true;
	return false;
}

static int
check_needed(const struct conf_reader *r, const struct conf_group *g, const char *path,
	     const yaml_node_t *node, struct err *e)
{
	for (const char *const *key = g->needed; key && *key; key++) {
		const struct conf_field *f = find_field(g, *key);
		const struct conf_field strict = f ? strict_field(f) : (struct conf_field){ 0 };
		AUTO_FREE char *allowed = f ? conf_allowed(&strict) : NULL;

		if (!has_key(r, node, *key))
			return conf_yaml_fault(r, node, e, "%s%s%s is missing in %s%s%s", path,
					       *path ? "." : "", *key, g->what,
					       allowed ? ", allowed is " : "", allowed ? allowed : "");
	}
	return 0;
}

static int
read_group(struct conf_reader *r, const struct conf_group *g, const char *path, const yaml_node_t *node,
	   void *whole, struct err *e)
{
	if (g->line_offset > 0)
		*(size_t *)at(whole, g->line_offset) = node->start_mark.line + 1;
	if (node->type != YAML_MAPPING_NODE)
		return conf_yaml_fault(r, node, e, "%s%s%s, allowed is %s", path, *path ? ": " : "",
				       conf_yaml_kind(node), g->what);
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = conf_yaml_key(r, path, node, p, e);
		const yaml_node_t *value = key ? conf_yaml_visit(r, p->value, e) : NULL;

		if (!value || read_pair(r, g, path, key, value, whole, e) < 0)
			return -1;
	}
	return check_needed(r, g, path, node, e);
}

struct target {
	const struct conf_group *group;
	void *whole;
	bool is_empty;
};

static int
read_root(struct conf_reader *r, const yaml_node_t *root, void *arg, struct err *e)
{
	struct target *t = arg;

	t->is_empty = false;
	return read_group(r, t->group, "", root, t->whole, e);
}

int
conf_tree_read(const struct conf_group *g, const char *name, const char *text, size_t len, void *whole,
	       struct conf_places *ret_places, struct err *e)
{
	struct conf_reader r = { .name = name };
	struct target t = { .group = g, .whole = whole, .is_empty = true };
	int rc;

	conf_tree_set_defaults(g, whole);
	rc = conf_yaml_load(&r, text, len, read_root, &t, e);
	if (rc == 0 && t.is_empty && g->needed && *g->needed) {
		conf_places_free(&r.places);
		rc = err_set(e, ERR_SETTINGS, "%s:1: an empty file, allowed is %s", name, g->what);
	}
	if (rc < 0) {
		conf_tree_free(g, whole);
		return -1;
	}
	conf_places_free(ret_places);
	*ret_places = r.places;
	return 0;
}
