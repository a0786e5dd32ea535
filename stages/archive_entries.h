/*
 * What is in an archive: a table of its entries by cleaned name, and the rules
 * that hold for all of them together.
 *
 * Names are cleaned (no "./", no doubled slashes). An absolute name, "..", a
 * control character, a name twice, names that differ by case only, an entry
 * below one that is no directory, a special file: each is a fault of an image
 * archive. Since a tar of sources may have any of these, the first such fault
 * is kept in `fault` and counts only where the archive turns out to hold an
 * image; what makes the bytes themselves doubtful (stages/tar.h) ends the
 * reading at once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/archive_kind.h"
#include "stages/layer_watch.h"
#include "stages/tar.h"

#define ENTRY_NAMES_MAX (16 * 1024 * 1024) /* bytes of all names of an archive */
#define ENTRY_LINKS_DEFAULT 8		   /* links one behind the other to a layer */

/* Where an entry's bytes are. */
struct entry_place {
	int fd; /* borrowed; -1: not there, see work_name */
	uint64_t offset;
	char *work_name; /* a file of its own in the keep's directory that holds just this, NULL otherwise */
	char *digest;	 /* "sha256:…" of the bytes as stored, NULL when not known yet */
	struct layer_watch *watch; /* owned; it has seen the bytes of that file; NULL: none has */
	bool has_kind;		   /* kind was told as the bytes passed */
	enum archive_kind kind;
};

struct entry {
	char *name; /* cleaned */
	char *link; /* as written, NULL where there is none */
	enum tar_type type;
	uint64_t size;
	struct entry_place place;
};

/* Names at the top that say what an archive is. */
enum entries_marks {
	HAS_MANIFEST_JSON = 1 << 0,
	HAS_INDEX_JSON = 1 << 1,
	HAS_OCI_LAYOUT = 1 << 2,
	HAS_REPOSITORIES = 1 << 3,  /* docker save before 1.10 */
	HAS_LAYER_TAR = 1 << 4,	    /* <id>/layer.tar */
	HAS_FOLDER_LAYOUT = 1 << 5, /* <folder>/oci-layout */
	HAS_VERSION = 1 << 6,	    /* of the layout dir: */
};

struct entries {
	struct entry *v;
	size_t n, cap;
	size_t n_max;
	unsigned links_max; /* ENTRY_LINKS_DEFAULT at first */
	size_t name_bytes;
	unsigned marks;
	struct err fault;
};

void entries_init(struct entries *t, size_t n_max);
void entries_free(struct entries *t); /* what it owns */

/* Adds one. NULL when the fault was found that makes it unfit, or there are too many; reading goes on. */
struct entry *entries_add(struct entries *t, const struct tar_entry *from);
/* Sorts and checks what concerns several. No entry may be added afterwards. */
void entries_finish(struct entries *t);

/*
 * The file of this name, links followed inside the archive. `what` names it in messages
 * ("layer 3 of 7"), `missing` is the rule's name when it is not there ("missing layer").
 */
int entries_resolve(const struct entries *t, const char *name, const char *what, const char *missing,
		    const struct entry **ret, struct err *e);
/* The entry of this very name, NULL when there is none. */
const struct entry *entries_find(const struct entries *t, const char *name);

/* A cleaned name, owned by the caller; ERR_REFUSED ("name: …", without saying whose). "" for the top itself. */
int entries_clean_name(const char *name, char **ret, struct err *e);
