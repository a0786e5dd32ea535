/* Two versions, a NUL between them: each order is one, the same whichever stands first; a range of them never hangs. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/version_range.h"
#include "tests/fuzz/fuzz.h"

static int
sign(int n)
{
	return (n > 0) - (n < 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *a = mem_strndup((const char *)data, size);
	size_t len = strlen(a);
	AUTO_FREE char *b =
		len < size ? mem_strndup((const char *)data + len + 1, size - len - 1) : mem_strdup("");

	for (int order = VERSION_GENERAL; order <= VERSION_MAVEN; order++) {
		enum version_order o = (enum version_order)order;

		if (sign(version_compare(o, a, b)) != -sign(version_compare(o, b, a)) ||
		    version_compare(o, a, a) != 0)
			abort();
		(void)version_in_range(o, a, b);
	}
	return 0;
}
