#include "stages/image_names.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Unicode's simple case folding has two letters beside ASCII's own that fold to ASCII ones. */
static int
next_folded(const char **at)
{
	const unsigned char *p = (const unsigned char *)*at;

	if (p[0] == 0xc5 && p[1] == 0xbf) { /* U+017F, long s */
		*at += 2;
		return 's';
	}
	if (p[0] == 0xe2 && p[1] == 0x84 && p[2] == 0xaa) { /* U+212A, Kelvin */
		*at += 3;
		return 'k';
	}
	*at += p[0] ? 1 : 0;
	return p[0] >= 'A' && p[0] <= 'Z' ? p[0] + 32 : p[0];
}

static bool
is_same_folded(const char *a, const char *b)
{
	int x, y;

	do {
		x = next_folded(&a);
		y = next_folded(&b);
	} while (x && x == y);
	return x == y;
}

int
image_check_names(const cJSON *o, const char *const *known, struct err *e)
{
	const cJSON *child;

	cJSON_ArrayForEach(child, o)
	{
		for (const char *const *k = known; *k; k++) {
			AUTO_FREE char *safe = NULL;

			if (!child->string || !strcmp(child->string, *k) || !is_same_folded(child->string, *k))
				continue;
			safe = str_safe(child->string, 40);
			return err_set(e, ERR_REFUSED,
				       "\"%s\" where some readers see \"%s\" and some nothing", safe, *k);
		}
	}
	return 0;
}
