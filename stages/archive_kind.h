/*
 * What a file is by its first bytes, without parsing it: enough for the opener
 * to leave out what is obviously no archive, and for the unpacker to say which
 * kind it met. https://www.gnu.org/software/tar/manual/html_node/Standard.html,
 * RFC 1952, RFC 8878.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum archive_kind {
	ARCHIVE_OTHER,
	ARCHIVE_TAR, /* a header block with a checksum that some reader takes, or a block of zeros */
	ARCHIVE_GZIP,
	ARCHIVE_ZSTD, /* a skippable frame first too */
	ARCHIVE_XZ,
	ARCHIVE_BZIP2,
};

#define ARCHIVE_KIND_BYTES 512 /* as many as can be told from */

enum archive_kind archive_kind_of(const void *p, size_t n);
bool archive_kind_is_compressed(enum archive_kind kind);
/* "tar", "gzip", …; "unknown data" */
const char *archive_kind_word(enum archive_kind kind);
/* .tar, .tgz, .tar.gz and so on, .oci: a name that promises an archive. */
bool archive_kind_is_name(const char *name);
