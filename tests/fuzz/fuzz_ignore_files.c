/* Ignore files of a commit: the first byte says which form the rest is. What is told of them is safe to print. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/ignore_files.h"
#include "tests/fuzz/fuzz.h"

static void
check(bool is_so)
{
	if (!is_so)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { ".trivyignore", ".trivyignore.yaml", ".vex.json" };
	AUTO_IGNORE_LIST struct ignore_list l = { 0 };
	struct err e = ERR_INIT;

	if (size == 0)
		return 0;
	if (ignore_file_read(names[data[0] % MEM_COUNT(names)], (const char *)data + 1, size - 1, &l, &e) < 0)
		check(l.n == 0 && e.kind == ERR_REFUSED);
	for (size_t k = 0; k < l.n; k++) {
		check(*l.v[k].id && strlen(l.v[k].id) <= 64);
		check(l.v[k].file != IGNORE_OPENVEX || l.v[k].purls.n == 1);
	}
	for (size_t k = 0; k < l.notes.n; k++)
		for (const char *p = l.notes.v[k]; *p; p++)
			check((unsigned char)*p >= 0x20 && *p != 0x7f);
	return 0;
}
