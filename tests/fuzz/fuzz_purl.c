/* Two package URLs, a NUL between them: what matches is one, and whoever says less matches what says more. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/purl.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *a = mem_strndup((const char *)data, size);
	size_t len = strlen(a);
	AUTO_FREE char *b =
		len < size ? mem_strndup((const char *)data + len + 1, size - len - 1) : mem_strdup("");
	AUTO_FREE char *front = mem_strndup(a, strcspn(a, "?#"));
	AUTO_FREE char *arch = NULL, *image = purl_image(a, &arch);

	if (purl_matches(a, b) && (!purl_is(a) || !purl_is(b) || !purl_matches(front, b)))
		abort();
	if (purl_is(a) && !purl_matches(front, a))
		abort();
	if (image && strchr(image, '\n'))
		abort();
	return 0;
}
