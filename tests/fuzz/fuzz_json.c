/* What json_parse() takes is printed and taken again; without names that are said twice to the same. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_JSON cJSON *first = NULL;
	AUTO_JSON cJSON *second = NULL;
	AUTO_FREE char *text = NULL;
	struct err e = ERR_INIT;
	unsigned flags;

	if (size == 0)
		return 0;
	flags = data[0] & JSON_UNIQUE;
	if (json_parse((const char *)data + 1, size - 1, size, flags, &first, &e) < 0)
		return 0;
	text = cJSON_PrintUnformatted(first);
	if (!text || json_parse(text, strlen(text), SIZE_MAX / 2, flags, &second, &e) < 0)
		abort();
	if (flags && !cJSON_Compare(first, second, true))
		abort();
	return 0;
}
