/*
 * The records of a PAX extended header: "<length> <keyword>=<value>\n"
 * (POSIX.1-2017, pax, Extended Header). Names and sizes are kept, times and
 * owners passed over, sparse maps refused. A global header may say nothing
 * that changes a name or a size.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tar_pax {
	bool is_said; /* there was a header of type x */
	char *path, *link;
	bool has_size;
	uint64_t size;
};

void tar_pax_reset(struct tar_pax *p); /* frees what it owns; empty again */
/* Text of `len` bytes; is_global: of type g. Refusals begin with the rule. */
int tar_pax_parse(struct tar_pax *p, const char *text, size_t len, bool is_global, struct err *e);
