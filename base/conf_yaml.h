/*
 * Settings and trees of groups (conf_yaml.c, conf_tree.c) from libyaml's document tree, alike: refusals, keys, values,
 * places. For those two files only.
 */
#pragma once

#include <yaml.h>

#include "base/conf.h"

struct conf_reader {
	const struct conf_schema *schema; /* of settings, for hints; NULL: there is none */
	const char *name;
	yaml_document_t *doc;
	bool *is_seen; /* nodes that were visited: an alias would visit one twice */
	size_t n_nodes;
	struct conf_places places;
};

typedef int conf_yaml_root(struct conf_reader *r, const yaml_node_t *root, void *arg, struct err *e);

/* Bounds, one document, root() with what stands in it; not called for an empty file. On -1 the places are freed. */
int conf_yaml_load(struct conf_reader *r, const char *text, size_t len, conf_yaml_root *root, void *arg,
		   struct err *e);

/* Returns -1: "name:line: …", ERR_SETTINGS. */
int conf_yaml_fault(const struct conf_reader *r, const yaml_node_t *node, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The node of an index; NULL for one that was visited before (anchors and aliases can blow a small file up) or has a tag. */
const yaml_node_t *conf_yaml_visit(struct conf_reader *r, int index, struct err *e);
const char *conf_yaml_kind(const yaml_node_t *node); /* for messages */
const char *conf_yaml_text(const yaml_node_t *node); /* of a scalar */
bool conf_yaml_is_text(const yaml_node_t *node);     /* a scalar without NUL */
bool conf_yaml_is_null(const yaml_node_t *node);     /* nothing behind the key, or ~ */
void conf_yaml_add_place(struct conf_reader *r, const char *path, const yaml_node_t *node);

/* A key of a mapping: a text that did not stand in it before. `group` is the mapping's own path, "" for the file. NULL: refused. */
const yaml_node_t *conf_yaml_key(struct conf_reader *r, const char *group, const yaml_node_t *mapping,
				 const yaml_node_pair_t *pair, struct err *e);
/* The value of a field, as `path`, to `value`. */
int conf_yaml_value(struct conf_reader *r, const struct conf_field *f, const char *path,
		    const yaml_node_t *node, void *value, struct err *e);
