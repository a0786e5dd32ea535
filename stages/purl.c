#include "stages/purl.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/image_label.h"

#define IMAGE_MAX 1024 /* bytes */

/* A piece of the text that it came from; at NULL: it is not there. */
struct part {
	const char *at;
	size_t len;
};

struct purl {
	struct part type, space, name, version, qualifiers, subpath;
};

/* What is between the front of *rest and the last `c`, or the first; *rest becomes what is behind it. False: there is no `c`. */
static bool
split(struct part *rest, char c, bool is_last, struct part *ret)
{
	const char *at = rest->len == 0 ? NULL
			 : is_last	? memrchr(rest->at, c, rest->len)
					: memchr(rest->at, c, rest->len);
	size_t n;

	if (!at)
		return false;
	n = (size_t)(at - rest->at);
	*ret = (struct part){ rest->at, n };
	*rest = (struct part){ at + 1, rest->len - n - 1 };
	return true;
}

/* The "@" of an npm scope should be %40, but many a person writes it: one behind a slash begins no version. */
static void
split_version(struct part *path, struct part *ret)
{
	for (size_t k = path->len; k-- > 1;)
		if (path->at[k] == '@' && path->at[k - 1] != '/') {
			*ret = (struct part){ path->at + k + 1, path->len - k - 1 };
			path->len = k;
			return;
		}
}

static bool
is_type(struct part p)
{
	for (size_t k = 0; k < p.len; k++)
		if (!isalnum((unsigned char)p.at[k]) && !strchr(".+-", p.at[k]))
			return false;
	return p.len > 0;
}

static bool
read_purl(const char *text, struct purl *ret)
{
	struct part rest, path;

	*ret = (struct purl){ 0 };
	if (!str_has_prefix(text, "pkg:"))
		return false;
	text += strlen("pkg:");
	text += strspn(text, "/");
	rest = (struct part){ text, strlen(text) };
	if (split(&rest, '#', false, &path))
		ret->subpath = rest;
	else
		path = rest;
	rest = path;
	if (split(&rest, '?', false, &path))
		ret->qualifiers = rest;
	if (path.len == 0 || strchr("/@", path.at[path.len - 1]))
		return false;
	split_version(&path, &ret->version);
	if (!split(&path, '/', false, &ret->type) || !is_type(ret->type))
		return false;
	ret->name = path;
	if (split(&path, '/', true, &ret->space))
		ret->name = path;
	return ret->name.len > 0;
}

bool
purl_is(const char *text)
{
	struct purl p;

	return read_purl(text, &p);
}

/* ---- the same? ---- */

enum fold { FOLD_NONE, FOLD_CASE, FOLD_CASE_AND_DASH };

static int
hex_of(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* The next byte, %XX taken for what it means. */
static unsigned char
take_byte(struct part *p)
{
	unsigned char c = (unsigned char)*p->at++;

	p->len--;
	if (c == '%' && p->len >= 2 && hex_of(p->at[0]) >= 0 && hex_of(p->at[1]) >= 0) {
		c = (unsigned char)(hex_of(p->at[0]) * 16 + hex_of(p->at[1]));
		p->at += 2;
		p->len -= 2;
	}
	return c;
}

static int
folded(unsigned char c, enum fold fold)
{
	if (fold == FOLD_CASE_AND_DASH && c == '_')
		return '-';
	return fold == FOLD_NONE || c >= 0x80 ? c : tolower(c);
}

static bool
is_same(struct part a, struct part b, enum fold fold)
{
	while (a.len > 0 && b.len > 0)
		if (folded(take_byte(&a), fold) != folded(take_byte(&b), fold))
			return false;
	return a.len == b.len;
}

/* Types whose names are the same in any case; PURL-TYPES.rst, and NuGet's ids, which have none. */
static enum fold
fold_of(struct part type, bool is_name)
{
	static const struct {
		const char *type;
		enum fold space, name;
	} table[] = {
		{ "alpm", FOLD_CASE, FOLD_CASE },	   { "apk", FOLD_CASE, FOLD_CASE },
		{ "bitbucket", FOLD_CASE, FOLD_CASE },	   { "composer", FOLD_CASE, FOLD_CASE },
		{ "deb", FOLD_CASE, FOLD_CASE },	   { "github", FOLD_CASE, FOLD_CASE },
		{ "golang", FOLD_CASE, FOLD_CASE },	   { "hex", FOLD_CASE, FOLD_CASE },
		{ "npm", FOLD_CASE, FOLD_CASE },	   { "nuget", FOLD_NONE, FOLD_CASE },
		{ "oci", FOLD_NONE, FOLD_CASE },	   { "pub", FOLD_NONE, FOLD_CASE },
		{ "pypi", FOLD_NONE, FOLD_CASE_AND_DASH }, { "rpm", FOLD_CASE, FOLD_NONE },
	};

	for (size_t k = 0; k < MEM_COUNT(table); k++)
		if (is_same(type, (struct part){ table[k].type, strlen(table[k].type) }, FOLD_CASE))
			return is_name ? table[k].name : table[k].space;
	return FOLD_NONE;
}

/* The value of a qualifier; at NULL: it has none. An empty one is none. */
static struct part
qualifier(const struct purl *p, struct part key)
{
	struct part rest = p->qualifiers, pair, name;

	while (rest.len > 0) {
		if (!split(&rest, '&', false, &pair)) {
			pair = rest;
			rest.len = 0;
		}
		if (split(&pair, '=', false, &name) && is_same(name, key, FOLD_CASE) && pair.len > 0)
			return pair;
	}
	return (struct part){ 0 };
}

static bool
has_qualifiers(const struct purl *p, const struct purl *want)
{
	struct part rest = want->qualifiers, pair, key;

	while (rest.len > 0) {
		struct part value;

		if (!split(&rest, '&', false, &pair)) {
			pair = rest;
			rest.len = 0;
		}
		if (!split(&pair, '=', false, &key))
			return false;
		value = qualifier(p, key);
		if (pair.len > 0 && (!value.at || !is_same(pair, value, FOLD_NONE)))
			return false;
	}
	return true;
}

static bool
is_same_if_wanted(struct part want, struct part is)
{
	return !want.at || (is.at && is_same(want, is, FOLD_NONE));
}

/* Debian's "1:2.3" is what Trivy writes as 2.3 with the epoch as a qualifier. */
static bool
is_version(const struct purl *want, const struct purl *is)
{
	static const struct part key = { "epoch", 5 };
	struct part rest = want->version, epoch, its = qualifier(is, key);

	if (is_same_if_wanted(want->version, is->version))
		return true;
	return is->version.at && its.at && split(&rest, ':', false, &epoch) &&
	       is_same(epoch, its, FOLD_NONE) && is_same(rest, is->version, FOLD_NONE);
}

bool
purl_matches(const char *pattern, const char *purl)
{
	struct purl want, is;

	return read_purl(pattern, &want) && read_purl(purl, &is) && is_same(want.type, is.type, FOLD_CASE) &&
	       is_same(want.space, is.space, fold_of(want.type, false)) &&
	       is_same(want.name, is.name, fold_of(want.type, true)) && is_version(&want, &is) &&
	       has_qualifiers(&is, &want) && is_same_if_wanted(want.subpath, is.subpath);
}

/* ---- images ---- */

static const struct part part_url = { "repository_url", 14 }, part_arch = { "arch", 4 };

/* Has it no qualifiers but these two? */
static bool
is_any_of_image(const struct purl *p)
{
	struct part rest = p->qualifiers, pair, key;

	while (rest.len > 0) {
		if (!split(&rest, '&', false, &pair)) {
			pair = rest;
			rest.len = 0;
		}
		if (!split(&pair, '=', false, &key) ||
		    (!is_same(key, part_url, FOLD_CASE) && !is_same(key, part_arch, FOLD_CASE)))
			return false;
	}
	return true;
}

/* What the part means; NULL: it holds a NUL, or is too long. */
static char *
decode(struct part from)
{
	AUTO_BUF struct buf text = BUF_INIT(IMAGE_MAX);

	while (from.len > 0)
		buf_add_char(&text, (char)take_byte(&from));
	return text.is_full || strlen(buf_str(&text)) != text.len ? NULL : mem_strdup(buf_str(&text));
}

char *
purl_image(const char *purl, char **ret_arch)
{
	AUTO_FREE char *text = NULL;
	struct purl p;
	struct part from, arch;
	const char *front;

	*ret_arch = NULL;
	if (!read_purl(purl, &p) || !is_same(p.type, (struct part){ "oci", 3 }, FOLD_CASE) || p.version.at ||
	    p.space.at || !is_any_of_image(&p))
		return NULL;
	from = qualifier(&p, part_url);
	/* it holds the name, too; without one the name alone is known */
	text = decode(from.at ? from : p.name);
	front = text;
	if (!front || !image_is_tag(front))
		return NULL;
	arch = qualifier(&p, part_arch);
	*ret_arch = arch.at ? decode(arch) : NULL;
	if (arch.at && !*ret_arch)
		return NULL;
	front += str_has_prefix(front, "index.docker.io/") ? strlen("index.") : 0;
	return image_repository(front);
}
