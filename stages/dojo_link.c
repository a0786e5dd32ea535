#include "stages/dojo_link.h"

#include <inttypes.h>
#include <string.h>

#include "base/http.h"
#include "base/mem.h"
#include "base/str.h"

int
dojo_base_url(const char *url, char **ret, struct err *e)
{
	static const char api[] = "/api/v2";
	AUTO_FREE char *base = NULL;

	if (http_base_url(url, &base, e) < 0)
		return -1;
	if (str_has_suffix(base, api))
		base[strlen(base) - strlen(api)] = '\0';
	*ret = take_ptr(base);
	return 0;
}

static char *
base_of(const char *url)
{
	struct err ignored = ERR_INIT;
	char *base = NULL;

	if (str_is_empty(url) || dojo_base_url(url, &base, &ignored) < 0)
		return NULL;
	return base;
}

char *
dojo_link_test(const char *url, int64_t test_id)
{
	AUTO_FREE char *base = base_of(url);

	return base && test_id > 0 ? mem_printf("%s/test/%" PRId64, base, test_id) : NULL;
}

char *
dojo_link_product(const char *url, const char *product)
{
	AUTO_FREE char *base = base_of(url), *name = str_is_empty(product) ? NULL : http_escape(product);

	return base && name ? mem_printf("%s/product?name_exact=%s", base, name) : NULL;
}
