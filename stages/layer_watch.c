#include "stages/layer_watch.h"

#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "stages/layer_said.h"
#include "stages/package_lists.h"
#include "stages/tar.h"

#define EXTENSION_MAX (1 << 20) /* as in Go: an extended header may not be longer */

enum state {
	IN_HEADER,
	IN_EXTENSION,
	IN_CONTENT,
	IN_PADDING,
	IN_SPARSE_MAP, /* blocks behind the header of GNU's old sparse entries, which no size counts */
	ENDED,
	BROKEN,
};

struct layer_watch {
	enum state state;
	unsigned char block[TAR_BLOCK];
	size_t have;   /* bytes of block */
	uint64_t left; /* of what the state says */
	unsigned pad;  /* bytes behind it up to the next block */
	bool has_zero; /* one block of zeros was read */
	char type;     /* of the extended header */
	struct buf extension;
	struct layer_said said;
	uint64_t n_entries;
	struct buf text;
	struct layer_facts facts;
	size_t cap;
	size_t kept; /* bytes */
	atomic_size_t *shared;
};

struct layer_watch *
layer_watch_new(atomic_size_t *left)
{
	struct layer_watch *w = mem_alloc(sizeof(*w));

	w->extension = (struct buf)BUF_INIT(EXTENSION_MAX);
	w->text = (struct buf)BUF_INIT(LAYER_WATCH_MAX);
	w->shared = left;
	buf_add_char(&w->text, '\0'); /* offset 0: "" */
	return w;
}

void
layer_watch_free(struct layer_watch *w)
{
	if (!w)
		return;
	layer_said_reset(&w->said);
	buf_free(&w->extension);
	buf_free(&w->text);
	mem_free_at(&w->facts.v);
	mem_free_at(&w);
}

static void
doubt(struct layer_watch *w, const char *why)
{
	if (w->facts.doubt)
		return;
	w->facts.doubt = why;
	w->facts.doubt_at = w->n_entries;
}

static void
broken(struct layer_watch *w, const char *why)
{
	doubt(w, why);
	w->state = BROKEN;
}

/* --- what is kept --- */

static bool
has_room(struct layer_watch *w, size_t want)
{
	size_t left;

	if (want > LAYER_WATCH_MAX - w->kept)
		return false;
	if (w->shared) {
		left = atomic_load(w->shared);
		do {
			if (want > left)
				return false;
		} while (!atomic_compare_exchange_weak(w->shared, &left, left - want));
	}
	w->kept += want;
	return true;
}

static uint32_t
keep_text(struct layer_watch *w, const char *s)
{
	size_t at = w->text.len;

	if (!s[0])
		return 0;
	buf_add(&w->text, s, strlen(s) + 1);
	return (uint32_t)at;
}

static void
keep(struct layer_watch *w, enum layer_fact_kind kind, const char *path, const char *link, bool is_odd)
{
	struct layer_facts *f = &w->facts;

	if (!has_room(w, sizeof(*f->v) + strlen(path) + strlen(link) + 2)) {
		broken(w, "it holds more links and whiteouts than can be kept in mind");
		return;
	}
	if (f->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 64;
		f->v = mem_resize(f->v, w->cap, sizeof(*f->v));
	}
	f->v[f->n].kind = kind;
	f->v[f->n].is_odd = is_odd;
	f->v[f->n].path = keep_text(w, path);
	f->v[f->n].link = keep_text(w, link);
	f->n++;
}

/* https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts */
static bool
keep_whiteout(struct layer_watch *w, char *path)
{
	static const char wh[] = ".wh.", opaque[] = ".wh..wh..opq";
	char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;

	if (strncmp(base, wh, sizeof(wh) - 1) != 0)
		return false;
	if (!strcmp(base, opaque)) {
		*(slash ? slash : path) = '\0';
		keep(w, FACT_OPAQUE, path, "", false);
		return true;
	}
	memmove(base, base + sizeof(wh) - 1, strlen(base) - (sizeof(wh) - 1) + 1);
	keep(w, FACT_GONE, path, "", false);
	return true;
}

static bool
is_wanted(enum layer_fact_kind kind, const char *path)
{
	switch (kind) {
	case FACT_SYMLINK:
	case FACT_GONE:
	case FACT_OPAQUE:
		return true;
	case FACT_DIR:
		return package_list_is_above(path) || package_list_is(path);
	case FACT_FILE:
	case FACT_HARDLINK:
	case FACT_OTHER:
		return package_list_may_be(path) || package_list_is_above(path) || package_os_file_is(path);
	}
	return true;
}

static void
see(struct layer_watch *w, enum layer_fact_kind kind, const char *name, const char *link, bool is_odd)
{
	bool climbs = false;
	/* as engines see it; an absolute name has no top to climb over */
	AUTO_FREE char *path = str_clean_path(name, &climbs);

	climbs = climbs && name[0] != '/';
	if (keep_whiteout(w, path) || !is_wanted(kind, path))
		return;
	keep(w, kind, path, kind == FACT_SYMLINK || kind == FACT_HARDLINK ? link : "", is_odd || climbs);
}

/* --- headers --- */

/* Go's parseNumeric(): octal between NULs and spaces, nothing is 0; or base-256 in two's complement. */
static bool
number(const unsigned char *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		if (p[0] & 0x40)
			return false; /* negative */
		for (; i < n; i++) {
			if (v >> 55)
				return false;
			v = v << 8 | (i ? p[i] : p[i] & 0x7fU);
		}
		*ret = v;
		return true;
	}
	while (i < n && (p[i] == ' ' || p[i] == '\0'))
		i++;
	while (n > i && (p[n - 1] == ' ' || p[n - 1] == '\0'))
		n--;
	for (; i < n && p[i] != '\0'; i++) {
		if (p[i] < '0' || p[i] > '7' || v >> 60)
			return false;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	*ret = v;
	return true;
}

static bool
has_true_checksum(const unsigned char block[TAR_BLOCK])
{
	uint64_t said = 0;
	int64_t as_signed = 0;

	if (tar_is_header(block))
		return true;
	/* Old writers summed signed characters. */
	if (!number(block + 148, 8, &said))
		return false;
	for (size_t i = 0; i < TAR_BLOCK; i++)
		as_signed += i >= 148 && i < 156 ? ' ' : (signed char)block[i];
	return as_signed == (int64_t)said || tar_checksum(block) == said;
}

static char *
field(const unsigned char *block, size_t at, size_t width)
{
	return mem_strndup((const char *)block + at, strnlen((const char *)block + at, width));
}

static bool
is_ascii(const char *s)
{
	for (; *s; s++)
		if (*s & 0x80)
			return false;
	return true;
}

/* The name in the header alone; *ret_is_odd where readers see different ones. */
static char *
header_name(const unsigned char *block, bool *ret_is_odd)
{
	AUTO_FREE char *name = field(block, 0, 100);
	AUTO_FREE char *prefix = NULL;
	uint64_t ignored;

	if (!memcmp(block + 257, "ustar\0", 6)) {
		prefix = field(block, 345, !memcmp(block + 508, "tar\0", 4) ? 131 : 155);
	} else if (!memcmp(block + 257, "ustar  \0", 8)) {
		/* Times stand here. Writers in Go before 1.8 put a prefix, which only Go's readers understand. */
		if ((block[345] && !number(block + 345, 12, &ignored)) ||
		    (block[357] && !number(block + 357, 12, &ignored)))
			prefix = field(block, 345, 155);
		if (prefix && !is_ascii(prefix))
			mem_free_at(&prefix);
		*ret_is_odd =
			prefix && prefix[0] && (package_list_may_be(name) || package_list_is_above(name));
	}
	return prefix && prefix[0] ? mem_printf("%s/%s", prefix, name) : take_ptr(name);
}

static enum layer_fact_kind
kind_of(char type, const char *name)
{
	size_t len = strlen(name);

	switch (type) {
	case '\0':
		return len && name[len - 1] == '/' ? FACT_DIR : FACT_FILE;
	case '0':
		return FACT_FILE;
	case '1':
		return FACT_HARDLINK;
	case '2':
		return FACT_SYMLINK;
	case '5':
		return FACT_DIR;
	default:
		return FACT_OTHER;
	}
}

static bool
has_no_content(char type)
{
	return type >= '1' && type <= '6';
}

static void
expect(struct layer_watch *w, enum state state, uint64_t size)
{
	w->left = size;
	w->pad = (unsigned)(-size & (TAR_BLOCK - 1));
	w->state = state;
}

static void
see_entry(struct layer_watch *w, char type, uint64_t size)
{
	struct layer_said *s = &w->said;
	bool is_odd = s->is_odd || s->is_sparse || (s->name && s->gnu_name) || (s->link && s->gnu_link);
	AUTO_FREE char *own_name = header_name(w->block, &is_odd);
	AUTO_FREE char *own_link = field(w->block, 157, 100);
	const char *name = s->gnu_name ? s->gnu_name : s->name ? s->name : own_name;
	const char *link = s->gnu_link ? s->gnu_link : s->link ? s->link : own_link;

	if (s->has_overlay)
		doubt(w,
		      "it has an attribute of overlay file systems, through which an engine shows other files in its place");
	/* Sizes that differ are read either way; from 8 GiB on the header's means nothing. */
	if (s->has_size && s->size != size && s->size < (1ULL << 33))
		is_odd = true;
	if (s->has_size)
		size = s->size;
	if (is_odd && s->name && s->gnu_name)
		see(w, kind_of(type, s->name), s->name, link, true);
	if (s->sparse_name)
		name = s->sparse_name;
	see(w, kind_of(type, name), name, link, is_odd);
	layer_said_reset(s);
	if (w->state == BROKEN)
		return;
	expect(w, IN_CONTENT, has_no_content(type) ? 0 : size);
	if (type == 'S' && w->block[482])
		w->state = IN_SPARSE_MAP;
}

static void
on_header(struct layer_watch *w)
{
	char type = (char)w->block[156];
	uint64_t size = 0;

	w->have = 0;
	if (tar_is_zero(w->block)) {
		if (w->has_zero)
			w->state = ENDED;
		w->has_zero = true;
		return;
	}
	w->n_entries++;
	if (w->has_zero) {
		broken(w, "a lone block of zeros stands before it");
	} else if (!has_true_checksum(w->block)) {
		broken(w, "its checksum is wrong");
	} else if (!number(w->block + 124, 12, &size) || size > INT64_MAX - 2 * TAR_BLOCK) {
		broken(w, "its size is no number");
	} else if (strchr("xgLK", type) && type) {
		w->type = type;
		buf_reset(&w->extension);
		expect(w, IN_EXTENSION, size);
		if (size > EXTENSION_MAX)
			broken(w, "its extended header is longer than 1 MiB");
	} else {
		see_entry(w, type, size);
	}
}

/* --- extended headers --- */

static void
on_pax(struct layer_watch *w)
{
	struct layer_said *s = &w->said;

	if (!layer_said_pax(s, buf_str(&w->extension), w->extension.len)) {
		broken(w, "its PAX header is malformed");
		return;
	}
	if (w->type != 'g')
		return;
	if (s->name || s->link || s->has_size || s->is_sparse)
		doubt(w, "a global PAX header changes names or sizes, which readers take differently");
	layer_said_reset(s);
}

static void
on_extension(struct layer_watch *w)
{
	w->state = IN_PADDING;
	if (w->type == 'x' || w->type == 'g')
		on_pax(w);
	else
		layer_said_gnu(&w->said, w->type, buf_str(&w->extension));
}

/* --- bytes --- */

static size_t
fill_block(struct layer_watch *w, const unsigned char *p, size_t n)
{
	if (n > TAR_BLOCK - w->have)
		n = TAR_BLOCK - w->have;
	memcpy(w->block + w->have, p, n);
	w->have += n;
	return n;
}

static size_t
pass(struct layer_watch *w, size_t n)
{
	if (n > w->left)
		n = (size_t)w->left;
	w->left -= n;
	return n;
}

/* What follows needs no byte. */
static void
step(struct layer_watch *w)
{
	if (w->state == IN_EXTENSION && !w->left)
		on_extension(w);
	if (w->state == IN_CONTENT && !w->left)
		w->state = IN_PADDING;
	if (w->state == IN_PADDING && !w->left) {
		w->left = w->pad;
		w->pad = 0;
		if (!w->left)
			w->state = IN_HEADER;
	}
}

void
layer_watch_feed(struct layer_watch *w, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	while (n) {
		size_t done = n;

		switch (w->state) {
		case IN_HEADER:
			done = fill_block(w, p, n);
			if (w->have == TAR_BLOCK)
				on_header(w);
			break;
		case IN_EXTENSION:
			done = pass(w, n);
			buf_add(&w->extension, p, done);
			break;
		case IN_CONTENT:
		case IN_PADDING:
			done = pass(w, n);
			break;
		case IN_SPARSE_MAP:
			done = fill_block(w, p, n);
			if (w->have == TAR_BLOCK) {
				w->have = 0;
				w->state = w->block[504] ? IN_SPARSE_MAP : IN_CONTENT;
			}
			break;
		case ENDED:
		case BROKEN:
			return;
		}
		p += done;
		n -= done;
		step(w);
	}
}

void
layer_watch_see(void *w, const void *p, size_t n)
{
	layer_watch_feed(w, p, n);
}

const struct layer_facts *
layer_watch_facts(struct layer_watch *w)
{
	/* Padding that is missing at the end, and the end itself, are nothing to any reader. */
	bool is_cut = (w->state == IN_HEADER && w->have) || w->state == IN_EXTENSION ||
		      w->state == IN_SPARSE_MAP || (w->state == IN_CONTENT && w->left);

	if (is_cut)
		doubt(w, "it ends within that");
	w->facts.text = buf_str(&w->text);
	return &w->facts;
}
