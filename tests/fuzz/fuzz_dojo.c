#include "stages/dojo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define BODY_MAX (1024 * 1024)

/* An answer to an upload: two bytes of status, one of how it ended and its type, then the body. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum http_end ends[] = { HTTP_ANSWERED,  HTTP_CUT,		HTTP_BROKEN,
					      HTTP_TIMED_OUT, HTTP_UNREACHABLE, HTTP_UNTRUSTED };
	AUTO_HTTP_ANSWER struct http_answer a = { .retry_after_s = -1, .body = BUF_INIT(BODY_MAX) };
	struct dojo_answer got;

	if (size < 3)
		return 0;
	a.status = (data[0] | data[1] << 8) % 1000;
	a.end = ends[data[2] % MEM_COUNT(ends)];
	a.was_sent = data[2] & 0x80;
	snprintf(a.content_type, sizeof(a.content_type), "%s",
		 data[2] & 0x40 ? "text/html" : "application/json");
	buf_add(&a.body, data + 3, size - 3);
	dojo_classify(&a, &got);
	/* What must hold whatever a server says. */
	if ((got.verdict == DOJO_DELIVERED && (a.status != 201 || got.test_id <= 0)) ||
	    strpbrk(got.reason, "\n\r\033"))
		abort();
	return 0;
}
