/* The settings: whatever is accepted goes through the plan's JSON and comes back the same. */
#include <stdlib.h>
#include <string.h>

#include "executor/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static cJSON *
printed_and_read(const struct options *o)
{
	AUTO_JSON cJSON *written = conf_to_json(&options_schema, o);
	AUTO_FREE char *text = json_print(written);
	cJSON *j = NULL;

	if (json_parse(text, strlen(text), 16 * SETTINGS_MAX, JSON_UNIQUE, &j, NULL) < 0)
		abort();
	return j;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	AUTO(settings) struct settings *s = NULL;
	AUTO_FREE char *text = mem_alloc(len + 1);
	AUTO_JSON cJSON *first = NULL;
	AUTO_JSON cJSON *second = NULL;
	struct options o = { 0 };
	struct err e = ERR_INIT;

	memcpy(text, data, len);
	if (settings_parse("fuzz", text, len, &s, &e) < 0)
		return 0;
	(void)settings_apply_project(s, "group/app");
	first = printed_and_read(&s->opt);
	if (conf_from_json(&options_schema, first, &o, &e) < 0)
		abort();
	second = printed_and_read(&o);
	if (!cJSON_Compare(first, second, true))
		abort();
	conf_free(&options_schema, &o);
	return 0;
}
