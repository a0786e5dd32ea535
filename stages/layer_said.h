/*
 * What the extended headers of a layer's tar say of the entry behind them, read
 * as Go's archive/tar does: of a keyword twice the last counts, of two PAX headers the
 * last, an empty value leaves what stands in the header, GNU's names win over
 * PAX's. Each of these, and sparse files, other readers may take differently:
 * is_odd.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct layer_said {
	char *name, *link;	   /* PAX */
	char *gnu_name, *gnu_link; /* types L and K */
	char *sparse_name;
	bool has_size, is_sparse, is_odd;
	bool has_overlay; /* an attribute that makes an overlay file system show something else */
	uint64_t size;
};

void layer_said_reset(struct layer_said *s); /* frees what it owns; empty again */
/* The records of a PAX header. False when they are malformed. */
bool layer_said_pax(struct layer_said *s, const char *text, size_t len);
/* Content of type L or K, up to its first NUL. */
void layer_said_gnu(struct layer_said *s, char type, const char *text);
