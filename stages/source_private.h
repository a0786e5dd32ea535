/* What the kinds of sources have in common. For stages/source*.c alone. */
#pragma once

#include "stages/source.h"

struct source_ops {
	int (*read)(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e);
	int (*skip)(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e); /* NULL: by reading */
	void (*free)(struct source *s);
};

struct source {
	const struct source_ops *ops;
	uint64_t offset;
};
