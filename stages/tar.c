#include "stages/tar.h"

#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "stages/tar_pax.h"

/* A header block. The last fields are those of "ustar"; GNU puts others there. */
struct header {
	char name[100];
	char mode[8], uid[8], gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[8]; /* with the version */
	char user[32], group[32];
	char major[8], minor[8];
	char prefix[155];
	char rest[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a header is a block");

enum dialect { DIALECT_V7, DIALECT_POSIX, DIALECT_GNU };

struct tar {
	struct source *src;
	struct tar_limits limits;
	uint64_t n;    /* entries so far */
	uint64_t left; /* content of the last entry not read yet */
	unsigned pad;  /* zeros behind it */
	bool is_ended;
	struct header h;
	struct tar_pax pax; /* said for the next entry */
	char *gnu_name, *gnu_link;
	struct buf name, link; /* of the last entry */
};

struct tar *
tar_new(struct source *src, const struct tar_limits *limits)
{
	struct tar *t = mem_alloc(sizeof(*t));

	t->src = src;
	t->limits = *limits;
	t->name = (struct buf)BUF_INIT(limits->pax + 512);
	t->link = (struct buf)BUF_INIT(limits->pax + 512);
	return t;
}

void
tar_free(struct tar *t)
{
	if (!t)
		return;
	tar_pax_reset(&t->pax);
	mem_free_at(&t->gnu_name);
	mem_free_at(&t->gnu_link);
	buf_free(&t->name);
	buf_free(&t->link);
	mem_free_at(&t);
}

bool
tar_is_zero(const unsigned char block[TAR_BLOCK])
{
	return !block[0] && !memcmp(block, block + 1, TAR_BLOCK - 1);
}

static bool
octal(const char *p, size_t n, uint64_t *ret)
{
	size_t i = 0;
	uint64_t v = 0;
	bool has_digit = false;

	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++, has_digit = true) {
		if (v >> 60)
			return false;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	for (; i < n; i++)
		if (p[i] != ' ' && p[i] != '\0')
			return false;
	*ret = v;
	return has_digit;
}

uint64_t
tar_checksum(const unsigned char block[TAR_BLOCK])
{
	const size_t at = offsetof(struct header, checksum);
	uint64_t sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= at && i < at + 8 ? ' ' : block[i];
	return sum;
}

/* Go's archive/tar and GNU tar also take the sum of signed bytes, and anything behind a NUL. */
bool
tar_may_be_header(const unsigned char block[TAR_BLOCK])
{
	const size_t at = offsetof(struct header, checksum);
	int64_t said = 0, plain = 0, is_signed = 0;
	size_t i = at;

	while (i < at + 8 && (block[i] == ' ' || block[i] == '\0'))
		i++;
	for (; i < at + 8 && block[i] >= '0' && block[i] <= '7'; i++)
		said = said << 3 | (block[i] - '0');
	for (i = 0; i < TAR_BLOCK; i++) {
		unsigned char c = i >= at && i < at + 8 ? ' ' : block[i];

		plain += c;
		is_signed += c < 0x80 ? c : (int64_t)c - 0x100;
	}
	return said == plain || said == is_signed;
}

bool
tar_is_header(const unsigned char block[TAR_BLOCK])
{
	uint64_t said;

	return octal((const char *)block + offsetof(struct header, checksum), 8, &said) &&
	       tar_checksum(block) == said;
}

/* The entry in words, for messages: "entry 3 (app/layer.tar)". */
static const char *
entry_words(const struct tar *t, char out[160])
{
	AUTO_FREE char *raw = mem_strndup(t->h.name, strnlen(t->h.name, sizeof(t->h.name)));
	AUTO_FREE char *safe = str_safe(raw, 80);

	snprintf(out, 160, "entry %llu%s%.120s%s", (unsigned long long)t->n, safe[0] ? " (" : "", safe,
		 safe[0] ? ")" : "");
	return out;
}

static int
refuse(const struct tar *t, const char *rule, const char *what, struct err *e)
{
	char words[160];

	return err_set(e, ERR_REFUSED, "%s: %s: %s", rule, entry_words(t, words), what);
}

static int
read_size(struct tar *t, uint64_t *ret, struct err *e)
{
	const unsigned char *p = (const unsigned char *)t->h.size;
	uint64_t v = 0;

	if (p[0] == 0xff)
		return refuse(t, "size", "it is negative", e);
	if (p[0] == 0x80) {
		for (size_t i = 1; i < sizeof(t->h.size); i++) {
			if (v >> 55)
				return refuse(t, "size", "it does not fit into 63 bits", e);
			v = v << 8 | p[i];
		}
	} else if (!octal(t->h.size, sizeof(t->h.size), &v)) {
		return refuse(t, "size", "it is no number", e);
	}
	*ret = v;
	return 0;
}

static int
check_size(const struct tar *t, uint64_t size, struct err *e)
{
	char words[160];

	if (size <= t->limits.size && size <= INT64_MAX - 2 * TAR_BLOCK)
		return 0;
	return err_set(e, ERR_REFUSED, "size: %s claims %llu bytes, more than the %llu that are allowed",
		       entry_words(t, words), (unsigned long long)size, (unsigned long long)t->limits.size);
}

static int
find_dialect(const struct tar *t, enum dialect *ret, struct err *e)
{
	static const char zeros[sizeof(t->h.prefix) + sizeof(t->h.rest)];
	const char *m = t->h.magic;

	if (!memcmp(m, "ustar\0", 6) && (!memcmp(m + 6, "00", 2) || !memcmp(m + 6, "\0\0", 2))) {
		if (!memcmp(t->h.rest + 8, "tar", 4))
			return refuse(t, "header", "star's own form of it", e);
		*ret = DIALECT_POSIX;
	} else if (!memcmp(m, "ustar  \0", 8)) {
		if (memcmp(t->h.prefix, zeros, sizeof(zeros)) != 0 && t->h.type != 'S')
			return refuse(t, "header",
				      "a prefix under GNU's magic, which readers take differently", e);
		*ret = DIALECT_GNU;
	} else if (!memcmp(m, zeros, 8)) {
		*ret = DIALECT_V7;
	} else {
		return refuse(t, "header", "its magic is of no known kind", e);
	}
	return 0;
}

static int
cut_here(const struct tar *t, struct err *e)
{
	char words[160];

	return err_set(e, ERR_REFUSED, "cut: the archive ends within %s", entry_words(t, words));
}

int
tar_read(struct tar *t, void *p, size_t n, size_t *ret_n, struct err *e)
{
	size_t got = 0;

	if (n > t->left)
		n = (size_t)t->left;
	if (source_read(t->src, p, n, &got, e) < 0)
		return -1;
	t->left -= got;
	if (got < n)
		return cut_here(t, e);
	*ret_n = got;
	return 0;
}

static int
skip_rest(struct tar *t, struct err *e)
{
	uint64_t want = t->left + t->pad, got = 0;

	if (source_skip(t->src, want, &got, e) < 0)
		return -1;
	if (got < want)
		return cut_here(t, e);
	t->left = t->pad = 0;
	return 0;
}

/* The content of an extended header, whole. */
static int
read_extension(struct tar *t, char **ret, size_t *ret_len, struct err *e)
{
	AUTO_FREE char *text = NULL;
	uint64_t size = 0;
	size_t got = 0;

	if (read_size(t, &size, e) < 0)
		return -1;
	if (size > t->limits.pax) {
		char words[160];

		return err_set(e, ERR_REFUSED,
			       "header: %s is an extended header of %llu bytes; at most %zu are allowed",
			       entry_words(t, words), (unsigned long long)size, t->limits.pax);
	}
	text = mem_alloc((size_t)size + 1);
	t->left = size;
	t->pad = (unsigned)(-size & (TAR_BLOCK - 1));
	if (tar_read(t, text, (size_t)size, &got, e) < 0 || skip_rest(t, e) < 0)
		return -1;
	*ret = take_ptr(text);
	*ret_len = got;
	return 0;
}

static int
read_gnu_long(struct tar *t, char **into, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	if (*into)
		return refuse(t, "header", "a second long name for one entry", e);
	if (read_extension(t, &text, &len, e) < 0)
		return -1;
	if (!len || strlen(text) + 1 < len)
		return refuse(t, "name", "a long name that is empty or has a NUL in it", e);
	*into = take_ptr(text);
	return 0;
}

/* Reads what stands before an entry. *ret_is_extension: the block was such a one. */
static int
read_extensions(struct tar *t, enum dialect dialect, bool *ret_is_extension, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char words[160];

	*ret_is_extension = true;
	switch (t->h.type) {
	case 'x':
	case 'g':
		if (dialect != DIALECT_POSIX)
			return refuse(t, "header", "a PAX header under a magic that has none", e);
		if (t->pax.is_said)
			return refuse(t, "header", "two PAX headers for one entry", e);
		if (read_extension(t, &text, &len, e) < 0)
			return -1;
		if (tar_pax_parse(&t->pax, text, len, t->h.type == 'g', e) < 0) {
			AUTO_FREE char *why = mem_strdup(e->text);

			/* The rule stays in front. */
			return err_set(e, e->kind, "%s (%s)", why, entry_words(t, words));
		}
		return 0;
	case 'L':
	case 'K':
		if (dialect != DIALECT_GNU)
			return refuse(t, "header", "GNU's long name under a magic that has none", e);
		return read_gnu_long(t, t->h.type == 'L' ? &t->gnu_name : &t->gnu_link, e);
	default:
		*ret_is_extension = false;
		return 0;
	}
}

static int
find_type(const struct tar *t, enum tar_type *ret, struct err *e)
{
	char what[64];
	size_t len = strlen(buf_str(&t->name));

	switch (t->h.type) {
	case '0':
	case '\0':
		/* Before POSIX a directory was a name with a slash at the end; readers still differ. */
		if (len && buf_str(&t->name)[len - 1] == '/') {
			*ret = TAR_DIR;
			return 0;
		}
		*ret = TAR_FILE;
		return 0;
	case '1':
		*ret = TAR_HARDLINK;
		return 0;
	case '2':
		*ret = TAR_SYMLINK;
		return 0;
	case '5':
		*ret = TAR_DIR;
		return 0;
	case '3':
	case '4':
	case '6':
		*ret = TAR_SPECIAL;
		return 0;
	case 'S':
		return refuse(t, "sparse", "sparse entries are not allowed", e);
	default:
		snprintf(what, sizeof(what), "its type 0x%02x is of no known kind", (unsigned char)t->h.type);
		return refuse(t, "header", what, e);
	}
}

static int
find_names(struct tar *t, enum dialect dialect, struct err *e)
{
	const char *longest_name = t->pax.path ? t->pax.path : t->gnu_name;
	const char *longest_link = t->pax.link ? t->pax.link : t->gnu_link;

	if ((t->pax.path && t->gnu_name) || (t->pax.link && t->gnu_link))
		return refuse(t, "header", "a name by GNU's and by PAX's rules at once", e);
	buf_reset(&t->name);
	buf_reset(&t->link);
	if (longest_name) {
		buf_add_str(&t->name, longest_name);
	} else {
		if (dialect == DIALECT_POSIX && t->h.prefix[0]) {
			buf_add(&t->name, t->h.prefix, strnlen(t->h.prefix, sizeof(t->h.prefix)));
			buf_add_char(&t->name, '/');
		}
		buf_add(&t->name, t->h.name, strnlen(t->h.name, sizeof(t->h.name)));
	}
	if (longest_link)
		buf_add_str(&t->link, longest_link);
	else
		buf_add(&t->link, t->h.link, strnlen(t->h.link, sizeof(t->h.link)));
	if (t->name.len > t->limits.name || t->link.len > t->limits.name) {
		char words[160];

		return err_set(e, ERR_REFUSED, "name: %s: longer than the %zu bytes that are allowed",
			       entry_words(t, words), t->limits.name);
	}
	return 0;
}

static int
find_size(struct tar *t, enum tar_type type, uint64_t *ret, struct err *e)
{
	uint64_t size = 0;

	if (read_size(t, &size, e) < 0)
		return -1;
	/* A size of 8 GiB and more does not fit the header, and writers put what they like there. */
	if (t->pax.has_size && t->pax.size != size && t->pax.size < (1ULL << 33))
		return refuse(t, "size", "the PAX header's is not the header's", e);
	if (t->pax.has_size)
		size = t->pax.size;
	if (check_size(t, size, e) < 0)
		return -1;
	if (type != TAR_FILE && size)
		return refuse(t, "size", "an entry of a type that has no content claims some", e);
	*ret = size;
	return 0;
}

static int
next_block(struct tar *t, bool *ret_is_end, struct err *e)
{
	size_t got = 0;

	if (source_read(t->src, &t->h, TAR_BLOCK, &got, e) < 0)
		return -1;
	if (got && got < TAR_BLOCK)
		return err_set(e, ERR_REFUSED, "cut: the archive ends within the header behind entry %llu",
			       (unsigned long long)t->n);
	if (!got)
		return err_set(e, ERR_REFUSED, "cut: the blocks that end a tar are missing behind entry %llu",
			       (unsigned long long)t->n);
	*ret_is_end = tar_is_zero((const unsigned char *)&t->h);
	return 0;
}

/* One block of zeros was read. A second one must follow, and then nothing but zeros. */
static int
check_end(struct tar *t, struct err *e)
{
	AUTO_FREE unsigned char *p = mem_alloc(64 * 1024);
	bool is_zero = false;
	size_t got = 0;

	if (t->pax.is_said || t->gnu_name || t->gnu_link)
		return err_set(e, ERR_REFUSED, "header: an extended header stands before no entry");
	/* No reader finds an entry here. Whatever it is (a disk's image begins like this), it is no archive. */
	if (!t->n) {
		t->is_ended = true;
		return 0;
	}
	if (next_block(t, &is_zero, e) < 0)
		return -1;
	if (!is_zero)
		return err_set(e, ERR_REFUSED, "header: a lone block of zeros behind entry %llu",
			       (unsigned long long)t->n);
	do {
		if (source_read(t->src, p, 64 * 1024, &got, e) < 0)
			return -1;
		if (got && (p[0] || memcmp(p, p + 1, got - 1) != 0))
			return err_set(e, ERR_REFUSED,
				       "behind the end: there are bytes behind the blocks that end the tar");
	} while (got);
	t->is_ended = true;
	return 0;
}

int
tar_next(struct tar *t, bool *ret_has, struct tar_entry *ret, struct err *e)
{
	enum dialect dialect = DIALECT_V7;
	enum tar_type type = TAR_FILE;
	uint64_t size = 0;
	bool is_extension = true, is_end = false;

	if (t->is_ended) {
		*ret_has = false;
		return 0;
	}
	tar_pax_reset(&t->pax);
	mem_free_at(&t->gnu_name);
	mem_free_at(&t->gnu_link);
	t->gnu_name = t->gnu_link = NULL;
	if (skip_rest(t, e) < 0)
		return -1;
	while (is_extension) {
		if (next_block(t, &is_end, e) < 0)
			return -1;
		if (is_end) {
			if (check_end(t, e) < 0)
				return -1;
			*ret_has = false;
			return 0;
		}
		t->n++;
		if (!tar_is_header((const unsigned char *)&t->h))
			return refuse(t, "header", "its checksum is wrong", e);
		if (find_dialect(t, &dialect, e) < 0 || read_extensions(t, dialect, &is_extension, e) < 0)
			return -1;
	}
	if (find_names(t, dialect, e) < 0 || find_type(t, &type, e) < 0 || find_size(t, type, &size, e) < 0)
		return -1;
	t->left = size;
	t->pad = (unsigned)(-size & (TAR_BLOCK - 1));
	*ret = (struct tar_entry){ .type = type,
				   .name = buf_str(&t->name),
				   .link = type == TAR_SYMLINK || type == TAR_HARDLINK ? buf_str(&t->link)
										       : "",
				   .size = size,
				   .offset = source_offset(t->src),
				   .number = t->n };
	*ret_has = true;
	return 0;
}
