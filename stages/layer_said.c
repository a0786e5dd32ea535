#include "stages/layer_said.h"

#include <string.h>

#include "base/mem.h"

void
layer_said_reset(struct layer_said *s)
{
	mem_free_at(&s->name);
	mem_free_at(&s->link);
	mem_free_at(&s->gnu_name);
	mem_free_at(&s->gnu_link);
	mem_free_at(&s->sparse_name);
	*s = (struct layer_said){ 0 };
}

struct record {
	const char *key, *value;
	size_t key_len, value_len;
};

static bool
next_record(const char **at, const char *end, struct record *ret)
{
	const char *p = *at, *start = *at, *equals, *last;
	size_t len = 0;

	for (; p < end && *p >= '0' && *p <= '9' && len < (1 << 24); p++)
		len = len * 10 + (size_t)(*p - '0');
	if (p == start || p == end || *p != ' ' || len > (size_t)(end - start) ||
	    len < (size_t)(p - start) + 2 || start[len - 1] != '\n')
		return false;
	last = start + len - 1;
	p++;
	equals = memchr(p, '=', (size_t)(last - p));
	if (!equals || equals == p)
		return false;
	*ret = (struct record){ p, equals + 1, (size_t)(equals - p), (size_t)(last - (equals + 1)) };
	*at = start + len;
	return true;
}

static bool
is_key(const struct record *r, const char *key)
{
	return r->key_len == strlen(key) && !memcmp(r->key, key, r->key_len);
}

static bool
decimal(const struct record *r, uint64_t *ret)
{
	uint64_t v = 0;

	for (size_t i = 0; i < r->value_len; i++) {
		if (r->value[i] < '0' || r->value[i] > '9' || v > UINT64_C(900000000000000000))
			return false;
		v = v * 10 + (uint64_t)(r->value[i] - '0');
	}
	*ret = v;
	return true;
}

static void
take_name(struct layer_said *s, char **into, const struct record *r)
{
	s->is_odd = s->is_odd || *into;
	mem_free_at(into);
	*into = mem_strndup(r->value, r->value_len);
}

/*
 * Attributes of overlayfs that engines hand on to the file system below the container, other than those that only hide:
 * "redirect" puts another directory's files here, "metacopy" another file's content.
 * https://docs.kernel.org/filesystems/overlayfs.html
 */
static bool
is_overlay_key(const struct record *r)
{
	static const char *const begins[] = { "SCHILY.xattr.trusted.overlay.", "SCHILY.xattr.user.overlay." };
	static const char *const harmless[] = { "opaque", "origin", "impure",	"nlink",
						"upper",  "uuid",   "whiteout", "whiteouts" };

	for (size_t i = 0; i < MEM_COUNT(begins); i++) {
		size_t n = strlen(begins[i]);
		struct record rest = { .key = r->key + n, .key_len = r->key_len - n };
		bool is_harmless = false;

		if (r->key_len <= n || memcmp(r->key, begins[i], n) != 0)
			continue;
		for (size_t k = 0; k < MEM_COUNT(harmless); k++)
			is_harmless = is_harmless || is_key(&rest, harmless[k]);
		return !is_harmless;
	}
	return false;
}

/* An empty value leaves what the header says. */
static bool
take_record(struct layer_said *s, const struct record *r)
{
	bool is_path = is_key(r, "path"), is_link = is_key(r, "linkpath");

	if (memchr(r->key, '\0', r->key_len) || ((is_path || is_link) && memchr(r->value, '\0', r->value_len)))
		return false;
	if (r->key_len >= 10 && !memcmp(r->key, "GNU.sparse", 10))
		s->is_sparse = true;
	if (is_overlay_key(r))
		s->has_overlay = true;
	if (!r->value_len)
		return true;
	if (is_path)
		take_name(s, &s->name, r);
	else if (is_link)
		take_name(s, &s->link, r);
	else if (is_key(r, "GNU.sparse.name"))
		take_name(s, &s->sparse_name, r);
	else if (is_key(r, "size"))
		return s->has_size = decimal(r, &s->size);
	return true;
}

bool
layer_said_pax(struct layer_said *s, const char *text, size_t len)
{
	const char *at = text, *end = text + len;
	struct record r;

	s->is_odd = s->is_odd || s->name || s->link || s->has_size;
	mem_free_at(&s->name);
	mem_free_at(&s->link);
	s->has_size = false;
	while (at < end)
		if (!next_record(&at, end, &r) || !take_record(s, &r))
			return false;
	return true;
}

void
layer_said_gnu(struct layer_said *s, char type, const char *text)
{
	char **into = type == 'L' ? &s->gnu_name : &s->gnu_link;

	s->is_odd = s->is_odd || *into;
	mem_free_at(into);
	*into = text[0] ? mem_strdup(text) : NULL;
}
