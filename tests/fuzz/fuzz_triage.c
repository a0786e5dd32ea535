#include <stdlib.h>
#include <string.h>

#include "stages/baseline.h"
#include "stages/dojo_read.h"
#include "stages/triage.h"
#include "tests/fuzz/fuzz.h"

static void
check_triage(const char *text, size_t len)
{
	AUTO(triage) struct triage *t = NULL;
	AUTO(triage) struct triage *again = NULL;
	AUTO_FREE char *printed = NULL, *printed_again = NULL;
	struct err e = ERR_INIT;

	if (triage_parse(text, len, &t, &e) < 0)
		return;
	printed = triage_print(t);
	if (triage_parse(printed, strlen(printed), &again, &e) < 0)
		abort();
	printed_again = triage_print(again);
	if (strcmp(printed, printed_again) != 0)
		abort();
}

/* A row of DefectDojo: what excuses has all its names, and is in no contradiction to itself. */
static void
check_row(const char *text, size_t len)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	struct triage_entry x = { 0 };
	struct err e = ERR_INIT;

	if (json_parse(text, len, TRIAGE_MAX, 0, &j, &e) < 0 || !dojo_read_entry(j, &x))
		return;
	if (!*x.id || !*x.component || !x.version || !x.place || !x.service || x.finding < 0 || x.test < 0 ||
	    x.until_s < 0 || json_bool(j, "active", true) || json_bool(j, "duplicate", true))
		abort();
	*triage_add(t) = x;
}

static void
check_baseline(const char *text, size_t len)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO_BASELINE struct baseline b = { 0 };
	struct err e = ERR_INIT;

	if (json_parse(text, len, BASELINE_MAX, JSON_UNIQUE, &j, &e) < 0 || baseline_from_json(j, &b, &e) < 0)
		return;
	for (size_t k = 0; k < b.n; k++)
		if (!baseline_has(&b, false, b.keys[k]))
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const checks[])(const char *text, size_t len) = { check_triage, check_row,
									check_baseline };

	if (size > 0)
		checks[data[0] % MEM_COUNT(checks)]((const char *)data + 1, size - 1);
	return 0;
}
