#include "stages/delivery.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	struct err e = ERR_INIT;

	(void)!delivery_parse_head((const char *)data, size, &d, &e);
	return 0;
}
