/*
 * A file that is a tree of groups and lists of groups, such as a policy: one constant table per struct, of the same fields as
 * settings have (base/conf.h), read as strictly: unknown keys, keys twice, wrong types, anchors, values out of range and
 * what is missing are refused with file, line, key, what was found and what is allowed. So is "" for a text that has a rule:
 * a key that may be left out is left out.
 */
#pragma once

#include "base/conf.h"

struct conf_child;

struct conf_group {
	const char *what; /* "a rule": what one is, for messages */
	const struct conf_field *fields;
	size_t n_fields;
	const char *const *needed; /* keys that must stand in it; NULL at the end, NULL: none */
	const struct conf_child *children;
	size_t n_children;
	size_t size;	    /* of its struct */
	size_t line_offset; /* of a size_t in it that gets its line; 0: none, so it is not the first member */
};

/* A group, or a list of them, below a key of another group. */
struct conf_child {
	const char *key;
	const struct conf_group *group;
	size_t offset; /* in the parent's struct: the child's struct, or a struct conf_items */
	size_t max;    /* of a list; 0: no list */
};

struct conf_items {
	void *v; /* array of the group's structs */
	size_t n;
};

/* `whole` (zeroed, of the group's size) gets defaults and what stands in the text. At most 1 MiB. On -1 it is freed. */
int conf_tree_read(const struct conf_group *g, const char *name, const char *text, size_t len, void *whole,
		   struct conf_places *ret_places, struct err *e);
void conf_tree_set_defaults(const struct conf_group *g, void *whole);
void conf_tree_free(const struct conf_group *g, void *whole); /* what it owns, not `whole` itself */
