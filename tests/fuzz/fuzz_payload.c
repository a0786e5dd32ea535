/* The job payload: whatever is accepted has a project path that does not climb, and lists that agree. */
#include <stdlib.h>
#include <string.h>

#include "executor/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	AUTO(payload) struct payload *p = NULL;
	AUTO_FREE char *text = mem_alloc(len + 1);
	struct err e = ERR_INIT;

	memcpy(text, data, len);
	if (payload_parse(text, len, &p, &e) < 0)
		return 0;
	if (strstr(p->repo_path, "..") || p->repo_path[0] == '/' || p->repo_path[0] == '\0' ||
	    p->n_user_steps != p->step_stages.n)
		abort();
	return 0;
}
