#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "stages/layer_hidden.h"
#include "stages/layer_watch.h"
#include "tests/fuzz/fuzz.h"

static void
feed(struct layer_watch *w, const uint8_t *p, size_t n, size_t step)
{
	for (size_t at = 0; at < n; at += step)
		layer_watch_feed(w, p + at, n - at < step ? n - at : step);
}

/* Whatever the pieces are, the facts are the same. */
static void
compare(const struct layer_facts *a, const struct layer_facts *b)
{
	if (a->n != b->n || a->doubt != b->doubt || a->doubt_at != b->doubt_at)
		abort();
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].kind != b->v[i].kind || a->v[i].is_odd != b->v[i].is_odd ||
		    strcmp(a->text + a->v[i].path, b->text + b->v[i].path) != 0 ||
		    strcmp(a->text + a->v[i].link, b->text + b->v[i].link) != 0)
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	atomic_size_t left = 256 * 1024;
	AUTO(layer_watch) struct layer_watch *whole = layer_watch_new(NULL);
	AUTO(layer_watch) struct layer_watch *pieces = layer_watch_new(NULL);
	AUTO(layer_watch) struct layer_watch *half = layer_watch_new(&left);
	AUTO_STRV struct strv found = { 0 };

	feed(whole, data, size, size + 1);
	feed(pieces, data, size, size % 700 + 1);
	feed(half, data + size / 1024 * 512, size - size / 1024 * 512, 4096);
	compare(layer_watch_facts(whole), layer_watch_facts(pieces));
	layer_hidden_find((const struct layer_facts *const[]){ layer_watch_facts(whole),
							       layer_watch_facts(half),
							       layer_watch_facts(whole) },
			  3, &found);
	return 0;
}
