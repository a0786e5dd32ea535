#include "stages/docker_manifest.h"
#include "stages/image_config.h"
#include "stages/oci_manifest.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(image_config) struct image_config *c = NULL;
	AUTO(docker_manifest) struct docker_manifest *m = NULL;
	AUTO(oci_manifest) struct oci_manifest *o = NULL;
	static const struct image_limits limits = { 16, 64, 64, 1 << 20, 64, 4 };
	struct err e = ERR_INIT;

	(void)!image_config_parse((const char *)data, size, &limits, &c, &e);
	(void)!docker_manifest_parse((const char *)data, size, &limits, &m, &e);
	(void)!oci_manifest_parse((const char *)data, size, &limits, &o, &e);
	return 0;
}
