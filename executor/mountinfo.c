#include "executor/mountinfo.h"

#include <string.h>

#include "base/mem.h"

#define FIELD_ROOT 3
#define FIELD_POINT 4

/* "\040" for a blank and so on. In place. */
static void
unescape(char *s)
{
	char *to = s;

	for (; *s; to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && strspn(s + 1, "01234567") >= 3) {
			*to = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*to = *s++;
		}
	}
	*to = '\0';
}

bool
mountinfo_parse(char *line, struct mountinfo *ret)
{
	char *fields[FIELD_POINT + 1], *save = NULL, *word;
	char *type = strstr(line, " - ");
	size_t n = 0;

	if (!type)
		return false;
	*type = '\0';
	type += 3;
	type[strcspn(type, " ")] = '\0';
	for (word = strtok_r(line, " ", &save); word && n < MEM_COUNT(fields);
	     word = strtok_r(NULL, " ", &save))
		fields[n++] = word;
	if (n < MEM_COUNT(fields))
		return false;
	unescape(fields[FIELD_ROOT]);
	unescape(fields[FIELD_POINT]);
	*ret = (struct mountinfo){ .root = fields[FIELD_ROOT], .point = fields[FIELD_POINT], .type = type };
	return true;
}
