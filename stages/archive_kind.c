#include "stages/archive_kind.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/tar.h"

static const struct {
	enum archive_kind kind;
	size_t n;
	unsigned char magic[8];
} magics[] = {
	{ ARCHIVE_GZIP, 2, { 0x1f, 0x8b } },
	{ ARCHIVE_ZSTD, 4, { 0x28, 0xb5, 0x2f, 0xfd } },
	{ ARCHIVE_XZ, 6, { 0xfd, '7', 'z', 'X', 'Z', 0x00 } },
	{ ARCHIVE_BZIP2, 3, { 'B', 'Z', 'h' } },
};

enum archive_kind
archive_kind_of(const void *p, size_t n)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < MEM_COUNT(magics); i++)
		if (n >= magics[i].n && !memcmp(b, magics[i].magic, magics[i].n))
			return magics[i].kind;
	/* RFC 8878, 3.1.2: skippable frames */
	if (n >= 4 && (b[0] & 0xf0) == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18)
		return ARCHIVE_ZSTD;
	if (n >= TAR_BLOCK && (tar_is_zero(b) || tar_may_be_header(b)))
		return ARCHIVE_TAR;
	return ARCHIVE_OTHER;
}

bool
archive_kind_is_compressed(enum archive_kind kind)
{
	return kind != ARCHIVE_OTHER && kind != ARCHIVE_TAR;
}

const char *
archive_kind_word(enum archive_kind kind)
{
	switch (kind) {
	case ARCHIVE_OTHER:
		return "unknown data";
	case ARCHIVE_TAR:
		return "tar";
	case ARCHIVE_GZIP:
		return "gzip";
	case ARCHIVE_ZSTD:
		return "zstd";
	case ARCHIVE_XZ:
		return "xz";
	case ARCHIVE_BZIP2:
		return "bzip2";
	}
	return "";
}

bool
archive_kind_is_name(const char *name)
{
	static const char *const ends[] = { ".tar",    ".tgz", ".tar.gz",  ".tar.zst", ".tar.zstd", ".tzst",
					    ".tar.xz", ".txz", ".tar.bz2", ".tbz2",    ".tbz",	    ".oci" };
	size_t len = strlen(name);

	for (size_t i = 0; i < MEM_COUNT(ends); i++)
		if (len > strlen(ends[i]) && !strcasecmp(name + len - strlen(ends[i]), ends[i]))
			return true;
	return false;
}
