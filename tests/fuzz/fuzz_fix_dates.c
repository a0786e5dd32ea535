#include <stdlib.h>
#include <string.h>

#include "stages/fix_dates.h"
#include "tests/fuzz/fuzz.h"

/* What is taken is in order and is printed as it was read. */
static void
check_file(const char *text, size_t len)
{
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	AUTO_FREE char *printed = NULL;
	struct err e = ERR_INIT;
	size_t n;

	if (fix_dates_parse(text, len, &d, &e) < 0)
		return;
	for (size_t k = 1; k < d.n; k++)
		if (fix_key_compare(&d.v[k - 1].key, &d.v[k].key) >= 0)
			abort();
	fix_dates_print(&d, &printed, &n);
	if (n != len || memcmp(printed, text, n) != 0)
		abort();
}

/* Records of any bytes, so that the checksum is no hindrance. */
static void
check_records(const char *bytes, size_t len)
{
	const size_t n = len / sizeof(struct fix_date);
	struct fix_dates d = { mem_array(n + 1, sizeof(*d.v)), n };
	AUTO_FREE char *text = NULL;
	size_t text_len;

	memcpy(d.v, bytes, n * sizeof(*d.v));
	fix_dates_print(&d, &text, &text_len);
	fix_dates_free(&d);
	check_file(text, text_len);
}

/* Keys of any report: none where there is no fix. */
static void
check_keys(const char *text, size_t len)
{
	AUTO(report) struct report *r = NULL;
	AUTO_FIX_KEYS struct fix_keys keys = { 0 };
	struct err e = ERR_INIT;

	if (report_parse(text, len, 1 << 20, &r, &e) < 0)
		return;
	fix_keys_make(r, &keys);
	if (keys.n != r->n_findings)
		abort();
	for (size_t k = 0; k < keys.n; k++)
		if (fix_key_is_none(&keys.of[k][0]) != (*r->findings[k].fixed == '\0'))
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const checks[])(const char *text, size_t len) = { check_file, check_records,
									check_keys };

	if (size > 0)
		checks[data[0] % MEM_COUNT(checks)]((const char *)data + 1, size - 1);
	return 0;
}
