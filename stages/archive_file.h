/* The bytes of one entry. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "stages/archive_entries.h"

/* NUL behind it. Larger than max: ERR_REFUSED. `what` names it in messages. Owned by the caller. */
int archive_read_entry(const struct entry *n, const char *what, size_t max, char **ret, size_t *ret_len,
		       struct err *e);

/* What the entry's content is by its first bytes. */
int archive_entry_kind(const struct entry *n, enum archive_kind *ret, struct err *e);
