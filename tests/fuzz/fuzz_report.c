#include "stages/report.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(report) struct report *r = NULL;
	struct err e = ERR_INIT;

	(void)!report_parse((const char *)data, size, 1 << 20, &r, &e);
	return 0;
}
