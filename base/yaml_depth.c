#include "base/yaml_depth.h"

#include <stdbool.h>
#include <yaml.h>

int
yaml_depth_check(const char *name, const char *text, size_t len, unsigned depth_max, enum err_kind kind,
		 struct err *e)
{
	yaml_parser_t parser;
	yaml_event_t event;
	unsigned depth = 0;
	bool has_more = true;
	int rc = 0;

	if (!yaml_parser_initialize(&parser))
		return err_set(e, ERR_FAILED, "%s: out of memory", name);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (rc == 0 && has_more && yaml_parser_parse(&parser, &event)) {
		has_more = event.type != YAML_STREAM_END_EVENT;
		if (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT)
			depth++;
		else if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
			depth--;
		if (depth > depth_max)
			rc = err_set(e, kind, "%s:%zu: nested more than %u deep", name,
				     event.start_mark.line + 1, depth_max);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return rc;
}
