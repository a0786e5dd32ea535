#include "base/yaml_check.h"

#include <string.h>
#include <yaml.h>

#include "base/mem.h"
#include "base/str.h"

#define SHOWN_MAX 80

/* Of a scalar, a list or a group; both NULL of any other event. */
static void
marks_of(const yaml_event_t *event, const yaml_char_t **ret_anchor, const yaml_char_t **ret_tag)
{
	*ret_anchor = *ret_tag = NULL;
	if (event->type == YAML_SCALAR_EVENT) {
		*ret_anchor = event->data.scalar.anchor;
		*ret_tag = event->data.scalar.tag;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		*ret_anchor = event->data.sequence_start.anchor;
		*ret_tag = event->data.sequence_start.tag;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		*ret_anchor = event->data.mapping_start.anchor;
		*ret_tag = event->data.mapping_start.tag;
	}
}

static int
check_event(const char *name, const yaml_event_t *event, unsigned depth, const struct yaml_bounds *b,
	    struct err *e)
{
	size_t line = event->start_mark.line + 1;
	AUTO_FREE char *safe = NULL;
	const yaml_char_t *anchor, *tag;

	if (depth > b->depth_max)
		return err_set(e, b->kind, "%s:%zu: nested more than %u deep", name, line, b->depth_max);
	if (!b->is_plain)
		return 0;
	marks_of(event, &anchor, &tag);
	safe = anchor || tag ? str_safe((const char *)(anchor ? anchor : tag), SHOWN_MAX) : NULL;
	if (anchor)
		return err_set(e, b->kind,
			       "%s:%zu: an anchor (&%s) stands here, anchors and aliases are not allowed: write it out in each "
			       "place, and a text that begins with & in quotes",
			       name, line, safe);
	if (tag)
		return err_set(e, b->kind, "%s:%zu: a tag (%s) stands here, tags are not allowed", name, line,
			       safe);
	return 0;
}

/* YAML 1.1, b-break; and behind a BOM. */
static bool
begins_line(const char *text, const char *at)
{
	static const char *const breaks[] = { "\n", "\r", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9" };
	size_t before = (size_t)(at - text);

	if (before == 0 || (before == 3 && !memcmp(text, "\xef\xbb\xbf", 3)))
		return true;
	for (size_t k = 0; k < MEM_COUNT(breaks); k++) {
		size_t len = strlen(breaks[k]);

		if (before >= len && !memcmp(at - len, breaks[k], len))
			return true;
	}
	return false;
}

/* libyaml compares each directive with all before it, too. */
static int
check_directives(const char *name, const char *text, size_t len, const struct yaml_bounds *b, struct err *e)
{
	static const char tag[] = "%TAG";
	const char *end = text + len;
	size_t line = 1;

	if (!b->is_plain)
		return 0;
	if (len >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2)))
		return err_set(e, b->kind, "%s:1: it is UTF-16, only UTF-8 is read", name);
	for (const char *p = text; (p = memmem(p, (size_t)(end - p), tag, strlen(tag))); p++) {
		if (!begins_line(text, p))
			continue;
		for (const char *q = text; q < p; q++)
			line += *q == '\n';
		return err_set(e, b->kind, "%s:%zu: a directive %%TAG stands here, tags are not allowed",
			       name, line);
	}
	return 0;
}

int
yaml_check(const char *name, const char *text, size_t len, const struct yaml_bounds *b, struct err *e)
{
	yaml_parser_t parser;
	yaml_event_t event;
	unsigned depth = 0;
	bool has_more = true;
	int rc = check_directives(name, text, len, b, e);

	if (rc < 0)
		return -1;
	if (!yaml_parser_initialize(&parser))
		return err_set(e, ERR_FAILED, "%s: out of memory", name);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (rc == 0 && has_more && yaml_parser_parse(&parser, &event)) {
		has_more = event.type != YAML_STREAM_END_EVENT;
		if (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT)
			depth++;
		else if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
			depth--;
		rc = check_event(name, &event, depth, b, e);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return rc;
}
