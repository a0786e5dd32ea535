#include "stages/archive_file.h"

#include <string.h>

#include "base/str.h"

int
archive_read_entry(const struct entry *n, const char *what, size_t max, char **ret, size_t *ret_len,
		   struct err *e)
{
	AUTO(source) struct source *src = NULL;
	AUTO_FREE char *text = NULL;
	size_t got = 0;

	if (n->size > max)
		return err_set(e, ERR_REFUSED, "%s: it has %llu bytes, at most %zu are allowed", what,
			       (unsigned long long)n->size, max);
	if (n->place.fd < 0)
		return err_set(e, ERR_REFUSED, "%s: it is no JSON", what);
	text = mem_alloc((size_t)n->size + 1);
	src = source_new_file(n->place.fd, n->place.offset, n->size);
	if (source_read(src, text, (size_t)n->size, &got, e) < 0)
		return err_wrap(e, "%s", what);
	*ret = take_ptr(text);
	*ret_len = got;
	return 0;
}

int
archive_entry_kind(const struct entry *n, enum archive_kind *ret, struct err *e)
{
	AUTO(source) struct source *src = NULL;
	unsigned char head[ARCHIVE_KIND_BYTES];
	size_t got = 0;

	if (n->place.has_kind || n->place.fd < 0) {
		*ret = n->place.has_kind ? n->place.kind : ARCHIVE_OTHER;
		return 0;
	}
	src = source_new_file(n->place.fd, n->place.offset, n->size);
	if (source_read(src, head, sizeof(head), &got, e) < 0)
		return -1;
	*ret = archive_kind_of(head, got);
	return 0;
}
