#include "stages/version_range.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define VERSION_MAX 256 /* bytes of a version in a range, and a NUL */

enum operator{ OP_LESS, OP_LESS_EQUAL, OP_GREATER, OP_GREATER_EQUAL, OP_EQUAL };

/* One comparison at *s, which moves behind it; the version goes to out. */
static bool
take_part(const char **s, enum operator* op, char out[VERSION_MAX])
{
	static const struct {
		const char *text;
		enum operator op;
	} operators[] = { { "<=", OP_LESS_EQUAL }, { ">=", OP_GREATER_EQUAL }, { "==", OP_EQUAL },
			  { "<", OP_LESS },	   { ">", OP_GREATER },	       { "=", OP_EQUAL } };
	size_t k = 0, n;

	*s += strspn(*s, " ");
	while (k < MEM_COUNT(operators) && !str_has_prefix(*s, operators[k].text))
		k++;
	if (k == MEM_COUNT(operators))
		return false;
	*op = operators[k].op;
	*s += strlen(operators[k].text);
	*s += strspn(*s, " ");
	n = strcspn(*s, " ,<>=");
	if (n == 0 || n >= VERSION_MAX)
		return false;
	memcpy(out, *s, n);
	out[n] = '\0';
	*s += n;
	*s += strspn(*s, " ");
	return true;
}

static bool
holds(enum operator op, int diff)
{
	switch (op) {
	case OP_LESS:
		return diff < 0;
	case OP_LESS_EQUAL:
		return diff <= 0;
	case OP_GREATER:
		return diff > 0;
	case OP_GREATER_EQUAL:
		return diff >= 0;
	case OP_EQUAL:
		return diff == 0;
	}
	return false;
}

bool
version_is_range(const char *range)
{
	char version[VERSION_MAX];
	enum operator op;
	size_t n = 0;

	for (const char *s = range; n < VERSION_RANGE_PARTS_MAX; s++) {
		if (!take_part(&s, &op, version))
			return false;
		n++;
		if (!*s)
			return true;
		if (*s != ',')
			return false;
	}
	return false;
}

bool
version_in_range(enum version_order order, const char *version, const char *range)
{
	char bound[VERSION_MAX];
	enum operator op;

	if (!*range)
		return true;
	if (!*version || !version_is_range(range))
		return false;
	for (const char *s = range;; s++) {
		if (!take_part(&s, &op, bound) || !holds(op, version_compare(order, version, bound)))
			return false;
		if (!*s)
			return true;
	}
}
