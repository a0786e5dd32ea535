/*
 * YAML into structs. libyaml's document tree keeps the line of every node, which
 * is what a person with a broken settings file needs; that is why settings are not
 * read with a binding library on top of it (docs/architecture.md, Settings).
 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/conf_private.h"
#include "base/conf_yaml.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/yaml_check.h"

#define DEPTH_MAX 16
#define TEXT_MAX (1024 * 1024)
#define KEY_SHOWN_MAX 80 /* columns of a key in a message */
#define FAULT_MAX 1400	 /* columns of a message */

int
conf_yaml_fault(const struct conf_reader *r, const yaml_node_t *node, struct err *e, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL, *safe = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	safe = str_safe(text, FAULT_MAX);
	return err_set(e, ERR_SETTINGS, "%s:%zu: %s", r->name, node->start_mark.line + 1, safe);
}

/* The node of an index; refuses the same node twice (anchors and aliases can blow a small file up). */
const yaml_node_t *
conf_yaml_visit(struct conf_reader *r, int index, struct err *e)
{
	const yaml_node_t *node = yaml_document_get_node(r->doc, index);

	if (!node || (size_t)index > r->n_nodes) {
		err_set(e, ERR_SETTINGS, "%s: not understood", r->name);
		return NULL;
	}
	if (r->is_seen[index]) {
		conf_yaml_fault(r, node, e,
				"an alias (*name) of this stands elsewhere, aliases are not allowed: write it out in both places");
		return NULL;
	}
	r->is_seen[index] = true;
	return node;
}

const char *
conf_yaml_kind(const yaml_node_t *node)
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

const char *
conf_yaml_text(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

bool
conf_yaml_is_text(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && strlen(conf_yaml_text(node)) == node->data.scalar.length;
}

/* `key:` with nothing behind it, or ~ */
bool
conf_yaml_is_null(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (node->data.scalar.length == 0 || strcmp(conf_yaml_text(node), "~") == 0 ||
		strcasecmp(conf_yaml_text(node), "null") == 0);
}

void
conf_yaml_add_place(struct conf_reader *r, const char *path, const yaml_node_t *node)
{
	struct conf_places *p = &r->places;

	p->v = mem_resize(p->v, p->n + 1, sizeof(*p->v));
	p->v[p->n++] = (struct conf_place){ .path = mem_strdup(path), .line = node->start_mark.line + 1 };
}

static int
impossible(const struct conf_reader *r, const struct conf_field *f, const char *path, const yaml_node_t *node,
	   struct err *e)
{
	AUTO_FREE char *allowed = conf_allowed(f), *found = conf_shown(f, conf_yaml_text(node));

	return conf_yaml_fault(r, node, e, "%s: %s is not possible, allowed is %s", path, found, allowed);
}

static int
read_list(struct conf_reader *r, const struct conf_field *f, const char *path, const yaml_node_t *node,
	  struct strv *value, struct err *e)
{
	AUTO_STRV struct strv list = { 0 };
	AUTO_FREE char *allowed = conf_allowed(f);

	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		const yaml_node_t *item = conf_yaml_visit(r, *i, e);

		if (!item)
			return -1;
		if (!conf_yaml_is_text(item) || conf_yaml_is_null(item))
			return conf_yaml_fault(r, item, e, "%s: %s in the list, allowed is %s", path,
					       conf_yaml_is_null(item) ? "nothing" : conf_yaml_kind(item),
					       allowed);
		if (conf_parse_item(f, conf_yaml_text(item), &list) < 0)
			return impossible(r, f, path, item, e);
	}
	if (f->needs && list.n == 0)
		return conf_yaml_fault(r, node, e, "%s: an empty list, allowed is %s, one at least", path,
				       allowed);
	if (f->needs && *f->needs && !strv_has(&list, f->needs))
		return conf_yaml_fault(r, node, e,
				       "%s: %s is missing in the list, without it there is nothing to judge",
				       path, f->needs);
	strv_free(value);
	*value = list;
	list = (struct strv){ 0 };
	return 0;
}

/* `product: {project_path}` is a mapping to YAML. */
static const char *
quotes_hint(const yaml_node_t *node)
{
	if (node->type == YAML_MAPPING_NODE && node->data.mapping.style == YAML_FLOW_MAPPING_STYLE)
		return " (a text that begins with { stands in quotes)";
	if (node->type == YAML_SEQUENCE_NODE && node->data.sequence.style == YAML_FLOW_SEQUENCE_STYLE)
		return " (a text that begins with [ stands in quotes)";
	return "";
}

int
conf_yaml_value(struct conf_reader *r, const struct conf_field *f, const char *path, const yaml_node_t *node,
		void *value, struct err *e)
{
	AUTO_FREE char *allowed = conf_allowed(f);

	if (conf_yaml_is_null(node))
		return conf_yaml_fault(r, node, e, "%s: no value, allowed is %s", path, allowed);
	if (f->type == CONF_LIST) {
		if (node->type != YAML_SEQUENCE_NODE)
			return conf_yaml_fault(r, node, e, "%s: %s, allowed is %s", path,
					       conf_yaml_kind(node), allowed);
		return read_list(r, f, path, node, value, e);
	}
	if (!conf_yaml_is_text(node))
		return conf_yaml_fault(r, node, e, "%s: %s%s, allowed is %s", path, conf_yaml_kind(node),
				       quotes_hint(node), allowed);
	if (conf_parse_scalar(f, conf_yaml_text(node), value) < 0)
		return impossible(r, f, path, node, e);
	return 0;
}

static const struct conf_field *
find_field(const struct conf_section *s, const char *key)
{
	for (size_t k = 0; k < s->n_fields; k++)
		if (strcmp(s->fields[k].key, key) == 0)
			return &s->fields[k];
	return NULL;
}

/* "the group job", "the group projects[2].gate", "the file" */
static char *
group_text(const char *group)
{
	return *group ? mem_printf("the group %s", group) : mem_strdup("the file");
}

/* A key of a mapping: a text that did not stand in it before. `group` is the mapping's own path, "" for the file. */
const yaml_node_t *
conf_yaml_key(struct conf_reader *r, const char *group, const yaml_node_t *mapping,
	      const yaml_node_pair_t *pair, struct err *e)
{
	const yaml_node_t *key = conf_yaml_visit(r, pair->key, e);
	AUTO_FREE char *where = group_text(group);
	AUTO_FREE char *shown = NULL;

	if (!key)
		return NULL;
	if (!conf_yaml_is_text(key)) {
		conf_yaml_fault(r, key, e, "%s in the place of a key of %s, allowed is a name",
				conf_yaml_kind(key), where);
		return NULL;
	}
	shown = str_safe(conf_yaml_text(key), KEY_SHOWN_MAX);
	if (str_eq(conf_yaml_text(key), "<<")) {
		conf_yaml_fault(r, key, e, "<< in %s: merge keys are not allowed, write the settings out",
				where);
		return NULL;
	}
	for (const yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < pair; p++) {
		const yaml_node_t *other = yaml_document_get_node(r->doc, p->key);

		if (conf_yaml_is_text(other) && strcmp(conf_yaml_text(other), conf_yaml_text(key)) == 0) {
			conf_yaml_fault(r, key, e,
					"%s%s%s stands twice in %s, first in line %zu: keep one of the two lines",
					group, *group ? "." : "", shown, where, other->start_mark.line + 1);
			return NULL;
		}
	}
	return key;
}

/* " (is mode meant?)", " here (it belongs below gate:)", or nothing to say. */
static char *
hint(const struct conf_schema *schema, const struct nearest *n, bool in_project, bool is_group)
{
	const char *near = nearest_best(n);

	for (size_t i = 0; !is_group && i < schema->n_sections; i++) {
		const struct conf_section *s = &schema->sections[i];

		if (find_field(s, n->word) && (!in_project || s->is_overridable))
			return s->key ? mem_printf(" here (it belongs below %s:)", s->key)
				      : mem_strdup(" here (it belongs at the top of the file)");
	}
	return near ? mem_printf(" (is %s meant?)", near) : mem_strdup("");
}

static int
unknown_field(const struct conf_reader *r, const struct conf_section *s, const char *group, bool in_project,
	      const yaml_node_t *key, struct err *e)
{
	AUTO_BUF struct buf known = BUF_INIT(4096);
	AUTO_FREE char *shown = str_safe(conf_yaml_text(key), KEY_SHOWN_MAX);
	AUTO_FREE char *what = NULL;
	struct nearest near = NEAREST_INIT(conf_yaml_text(key));

	for (size_t k = 0; k < s->n_fields; k++) {
		buf_printf(&known, "%s%s", k ? ", " : "", s->fields[k].key);
		nearest_try(&near, s->fields[k].key);
	}
	what = hint(r->schema, &near, in_project, false);
	return conf_yaml_fault(r, key, e, "%s.%s is no setting%s, allowed are %s", group, shown, what,
			       buf_str(&known));
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
read_section(struct conf_reader *r, size_t index, const char *prefix, const yaml_node_t *node, void *whole,
	     struct conf_patch *patch, struct err *e)
{
	const struct conf_section *s = &r->schema->sections[index];
	AUTO_FREE char *group = mem_printf("%s%s", prefix, s->key);

	if (conf_yaml_is_null(node))
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return conf_yaml_fault(r, node, e, "%s: %s, allowed is a group of settings", group,
				       conf_yaml_kind(node));
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = conf_yaml_key(r, group, node, p, e);
		const yaml_node_t *value = key ? conf_yaml_visit(r, p->value, e) : NULL;
		const struct conf_field *f;
		AUTO_FREE char *path = NULL;
		void *to;

		if (!value)
			return -1;
		f = find_field(s, conf_yaml_text(key));
		if (!f)
			return unknown_field(r, s, group, patch != NULL, key, e);
		path = mem_printf("%s.%s", group, f->key);
		if (patch && (f->flags & CONF_NO_OVERRIDE))
			return conf_yaml_fault(r, key, e,
					       "%s cannot be different for a project, allowed is %s.%s for all of them",
					       path, s->key, f->key);
		to = patch ? (void *)&patch_add(patch, index, f)->value
			   : (char *)whole + s->offset + f->offset;
		if (conf_yaml_value(r, f, path, value, to, e) < 0)
			return -1;
		conf_yaml_add_place(r, path, value);
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
unknown_section(const struct conf_reader *r, const yaml_node_t *key, const yaml_node_t *value,
		const char *prefix, bool in_project, struct err *e)
{
	AUTO_BUF struct buf known = BUF_INIT(4096);
	AUTO_FREE char *shown = str_safe(conf_yaml_text(key), KEY_SHOWN_MAX);
	AUTO_FREE char *what = NULL;
	struct nearest near = NEAREST_INIT(conf_yaml_text(key));
	size_t section;

	buf_add_str(&known, in_project ? "match" : "projects");
	nearest_try(&near, in_project ? "match" : "projects");
	for (size_t i = 0; i < r->schema->n_sections; i++) {
		const struct conf_section *s = &r->schema->sections[i];

		for (size_t k = 0; !s->key && !in_project && k < s->n_fields; k++) {
			buf_printf(&known, ", %s", s->fields[k].key);
			nearest_try(&near, s->fields[k].key);
		}
		if (s->key && (!in_project || s->is_overridable)) {
			buf_printf(&known, ", %s", s->key);
			nearest_try(&near, s->key);
		}
	}
	if (in_project && find_section(r->schema, conf_yaml_text(key), false, &section) == 0)
		return conf_yaml_fault(r, key, e, "%s%s cannot be different for a project, allowed are %s",
				       prefix, shown, buf_str(&known));
	what = hint(r->schema, &near, in_project, value->type == YAML_MAPPING_NODE);
	return conf_yaml_fault(r, key, e, "%s%s is no setting%s, allowed are %s", prefix, shown, what,
			       buf_str(&known));
}

/* A glob that ends or begins with /, or has half a set, matches no path: better said than wondered at. */
static bool
is_project_glob(const yaml_node_t *node)
{
	const char *s = conf_yaml_is_text(node) && !conf_yaml_is_null(node) ? conf_yaml_text(node) : "";

	return *s && conf_is_plain_text(s) && str_is_glob(s) && s[0] != '/' && !str_has_suffix(s, "/");
}

static int
read_match(struct conf_reader *r, const char *group, const yaml_node_t *node, char **match, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s.match", group);
	AUTO_FREE char *safe = conf_yaml_is_text(node) && !conf_yaml_is_null(node)
				       ? str_safe(conf_yaml_text(node), KEY_SHOWN_MAX)
				       : NULL;

	if (!is_project_glob(node))
		return conf_yaml_fault(
			r, node, e,
			"%s: %s%s%s is not possible, allowed is a glob on the project's path such as \"group/**\"",
			path, safe ? "\"" : "",
			safe			  ? safe
			: conf_yaml_is_null(node) ? "no value"
						  : conf_yaml_kind(node),
			safe ? "\"" : "");
	free(*match);
	*match = mem_strdup(conf_yaml_text(node));
	conf_yaml_add_place(r, path, node);
	return 0;
}

static int
read_project(struct conf_reader *r, const yaml_node_t *node, size_t number, struct conf_override *ret,
	     struct err *e)
{
	AUTO_FREE char *group = mem_printf("projects[%zu]", number);
	AUTO_FREE char *prefix = mem_printf("%s.", group);

	ret->patch = mem_alloc(sizeof(*ret->patch));
	if (node->type != YAML_MAPPING_NODE)
		return conf_yaml_fault(r, node, e, "%s: %s, allowed is a group with match and sections",
				       group, conf_yaml_kind(node));
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = conf_yaml_key(r, group, node, p, e);
		const yaml_node_t *value = key ? conf_yaml_visit(r, p->value, e) : NULL;
		size_t section;

		if (!value)
			return -1;
		if (strcmp(conf_yaml_text(key), "match") == 0) {
			if (read_match(r, group, value, &ret->match, e) < 0)
				return -1;
			continue;
		}
		if (find_section(r->schema, conf_yaml_text(key), true, &section) < 0)
			return unknown_section(r, key, value, prefix, true, e);
		if (read_section(r, section, prefix, value, NULL, ret->patch, e) < 0)
			return -1;
	}
	if (!ret->match)
		return conf_yaml_fault(r, node, e,
				       "%s: match is missing, allowed is a glob on the project's path such as \"group/**\"",
				       group);
	return 0;
}

static int
read_projects(struct conf_reader *r, const yaml_node_t *node, struct conf_overrides *o, struct err *e)
{
	size_t number = 0;

	if (conf_yaml_is_null(node))
		return 0;
	if (node->type != YAML_SEQUENCE_NODE)
		return conf_yaml_fault(r, node, e, "projects: %s, allowed is a list of groups with match",
				       conf_yaml_kind(node));
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		const yaml_node_t *item = conf_yaml_visit(r, *i, e);

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
read_top(struct conf_reader *r, const yaml_node_t *root, void *whole, struct conf_overrides *o, struct err *e)
{
	if (conf_yaml_is_null(root))
		return 0;
	if (root->type != YAML_MAPPING_NODE)
		return conf_yaml_fault(r, root, e, "%s, allowed is a group of settings", conf_yaml_kind(root));
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = conf_yaml_key(r, "", root, p, e);
		const yaml_node_t *value = key ? conf_yaml_visit(r, p->value, e) : NULL;
		const struct conf_section *top;
		const struct conf_field *f;
		size_t section;
		int rc;

		if (!value)
			return -1;
		top = find_top_field(r->schema, conf_yaml_text(key), &f);
		if (top) {
			rc = conf_yaml_value(r, f, f->key, value, (char *)whole + top->offset + f->offset, e);
			conf_yaml_add_place(r, f->key, value);
		} else if (strcmp(conf_yaml_text(key), "projects") == 0) {
			rc = read_projects(r, value, o, e);
		} else if (find_section(r->schema, conf_yaml_text(key), false, &section) == 0) {
			rc = read_section(r, section, "", value, whole, NULL, e);
		} else {
			rc = unknown_section(r, key, value, "", false, e);
		}
		if (rc < 0)
			return -1;
	}
	return 0;
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

/* libyaml's words for what people do most: a tab, bytes of another encoding. NULL: its own words will do. */
static const char *
plain_words(const yaml_parser_t *parser)
{
	if (parser->error == YAML_SCANNER_ERROR && parser->buffer.pointer < parser->buffer.last &&
	    *parser->buffer.pointer == '\t')
		return "a tab stands here, allowed is indentation with blanks";
	if (parser->error == YAML_READER_ERROR && parser->problem && strstr(parser->problem, "UTF-8"))
		return "a byte that is no UTF-8 stands here, allowed is a file saved as UTF-8";
	if (parser->error == YAML_READER_ERROR && parser->problem && strstr(parser->problem, "control char"))
		return "control characters are not allowed, one stands here; write it as \"\\x01\" in double quotes";
	if (parser->context && (strstr(parser->context, "an alias") || strstr(parser->context, "an anchor")))
		return "a text that begins with * or & stands without quotes, allowed is \"*\" in quotes";
	if (parser->problem && strstr(parser->problem, "undefined alias"))
		return "aliases are not allowed, and a text that begins with * stands in quotes, such as \"*\"";
	if (parser->problem && strstr(parser->problem, "mapping values are not allowed"))
		return "a second key stands on this line, or below a value: allowed is one on each line, and quotes "
		       "around a value with a colon in it";
	return NULL;
}

static int
parser_fault(const yaml_parser_t *parser, const char *name, const char *text, size_t len, struct err *e)
{
	const char *words = plain_words(parser);
	size_t line = line_of_problem(parser, text, len);
	AUTO_FREE char *since = NULL;

	if (words)
		return err_set(e, ERR_SETTINGS, "%s:%zu: %s", name, line, words);
	/* "…, while parsing a block mapping": where that began is often where the fault is. */
	since = parser->context && parser->context_mark.line + 1 != line
			? mem_printf(" that began in line %zu", parser->context_mark.line + 1)
			: mem_strdup("");
	return err_set(e, ERR_SETTINGS, "%s:%zu: no YAML: %s%s%s%s%s", name, line,
		       parser->problem ? parser->problem : "not understood", parser->context ? ", " : "",
		       parser->context ? parser->context : "", parser->context ? since : "",
		       parser->context && strstr(parser->context, "a block")
			       ? "; look at indentation and quotes"
			       : "");
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
conf_yaml_load(struct conf_reader *r, const char *text, size_t len, conf_yaml_root *root, void *arg,
	       struct err *e)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	const yaml_node_t *node;
	const struct yaml_bounds bounds = { .depth_max = DEPTH_MAX, .is_plain = true, .kind = ERR_SETTINGS };
	int rc = -1;

	if (len > TEXT_MAX)
		return err_set(e, ERR_SETTINGS, "%s: %zu bytes, allowed are %d", r->name, len, TEXT_MAX);
	if (yaml_check(r->name, text, len, &bounds, e) < 0)
		return -1;
	if (!yaml_parser_initialize(&parser))
		abort();
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, &doc)) {
		parser_fault(&parser, r->name, text, len, e);
	} else {
		node = yaml_document_get_root_node(&doc);
		r->doc = &doc;
		r->n_nodes = (size_t)(doc.nodes.top - doc.nodes.start);
		r->is_seen = mem_array(r->n_nodes + 1, sizeof(*r->is_seen));
		/* an empty file: all defaults */
		rc = node ? root(r, node, arg, e) : 0;
		if (rc == 0 && node)
			rc = check_end(&parser, r->name, text, len, e);
		r->doc = NULL;
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	free(take_ptr(r->is_seen));
	if (rc < 0)
		conf_places_free(&r->places);
	return rc;
}

struct settings_target {
	void *whole;
	struct conf_overrides overrides;
};

static int
read_root(struct conf_reader *r, const yaml_node_t *root, void *arg, struct err *e)
{
	struct settings_target *t = arg;

	return read_top(r, root, t->whole, &t->overrides, e);
}

int
conf_read_yaml(const struct conf_schema *schema, const char *name, const char *text, size_t len, void *whole,
	       struct conf_overrides *ret_overrides, struct conf_places *ret_places, struct err *e)
{
	struct conf_reader r = { .schema = schema, .name = name };
	struct settings_target t = { .whole = whole };

	if (conf_yaml_load(&r, text, len, read_root, &t, e) < 0) {
		conf_overrides_free(&t.overrides);
		return -1;
	}
	if (ret_places) {
		conf_places_free(ret_places);
		*ret_places = r.places;
	} else {
		conf_places_free(&r.places);
	}
	conf_overrides_free(ret_overrides);
	*ret_overrides = t.overrides;
	return 0;
}
