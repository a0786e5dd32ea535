#include "stages/tar_pax.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

void
tar_pax_reset(struct tar_pax *p)
{
	mem_free_at(&p->path);
	mem_free_at(&p->link);
	*p = (struct tar_pax){ 0 };
}

struct record {
	const char *key, *value;
	size_t key_len, value_len;
};

static bool
next_record(const char **at, const char *end, struct record *ret)
{
	const char *p = *at, *start = *at, *equals;
	size_t len = 0;

	for (; p < end && *p >= '0' && *p <= '9' && len < (1 << 24); p++)
		len = len * 10 + (size_t)(*p - '0');
	if (p == start || *start == '0' || p == end || *p != ' ' || len > (size_t)(end - start) ||
	    len < (size_t)(p - start) + 4 || start[len - 1] != '\n')
		return false;
	p++;
	equals = memchr(p, '=', (size_t)(start + len - 1 - p));
	if (!equals || equals == p)
		return false;
	*ret = (struct record){ p, equals + 1, (size_t)(equals - p),
				(size_t)(start + len - 1 - (equals + 1)) };
	*at = start + len;
	return true;
}

static bool
is_key(const struct record *r, const char *key)
{
	return r->key_len == strlen(key) && !memcmp(r->key, key, r->key_len);
}

static int
keep_name(char **into, const struct record *r, struct err *e)
{
	if (*into)
		return err_set(e, ERR_REFUSED, "header: a PAX keyword twice");
	if (!r->value_len || memchr(r->value, '\0', r->value_len))
		return err_set(e, ERR_REFUSED, "name: a PAX name that is empty or has a NUL in it");
	*into = mem_strndup(r->value, r->value_len);
	return 0;
}

static int
keep_size(struct tar_pax *p, const struct record *r, struct err *e)
{
	AUTO_FREE char *text = mem_strndup(r->value, r->value_len);
	int64_t n = 0;

	if (p->has_size)
		return err_set(e, ERR_REFUSED, "header: a PAX keyword twice");
	if (strlen(text) != r->value_len || str_parse_int(text, 0, INT64_MAX, &n, NULL) < 0)
		return err_set(e, ERR_REFUSED, "size: the PAX header's is no number");
	p->size = (uint64_t)n;
	p->has_size = true;
	return 0;
}

static int
take_record(struct tar_pax *p, const struct record *r, bool is_global, struct err *e)
{
	bool is_path = is_key(r, "path"), is_link = is_key(r, "linkpath"), is_size = is_key(r, "size");

	if (r->key_len >= 10 && !memcmp(r->key, "GNU.sparse", 10))
		return err_set(e, ERR_REFUSED, "sparse: sparse entries are not allowed");
	if (is_global && (is_path || is_link || is_size))
		return err_set(e, ERR_REFUSED, "header: a global PAX header that changes names or sizes");
	if (is_path)
		return keep_name(&p->path, r, e);
	if (is_link)
		return keep_name(&p->link, r, e);
	if (is_size)
		return keep_size(p, r, e);
	return 0;
}

int
tar_pax_parse(struct tar_pax *p, const char *text, size_t len, bool is_global, struct err *e)
{
	const char *at = text, *end = text + len;
	struct record r;

	while (at < end) {
		if (!next_record(&at, end, &r))
			return err_set(e, ERR_REFUSED, "header: a malformed PAX record at byte %zu",
				       (size_t)(at - text));
		if (take_record(p, &r, is_global, e) < 0)
			return -1;
	}
	p->is_said = p->is_said || !is_global;
	return 0;
}
