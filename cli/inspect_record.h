/*
 * What an inspection leaves for the stages after it: PLAN_INSPECTION_NAME in the runner's TMPDIR, which no job reaches
 * where users are separated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/inspection.h"

struct inspect_record_file {
	char *name; /* below the project directory */
	struct fs_identity id;
	bool is_ignored, is_unfit;
	char digest[HASH_DIGEST_MAX]; /* where the file was open for writing elsewhere, else "" */
	bool is_dir;
	struct inspect_record_file *files; /* what is in a directory, by name */
	size_t n_files;
};

struct inspect_record {
	enum verdict verdict;
	int mode; /* enum gate_mode that ruled */
	struct inspect_record_file *files;
	size_t n_files;
};

/*
 * Takes names and identities over. A file that another process had open for writing can change without a trace in its
 * times: the digest is of the copy that was inspected (stages/snapshot.h). Owned by the caller.
 */
struct inspect_record *inspect_record_make(const struct inspection *i);
void inspect_record_free(struct inspect_record *r);
MEM_AUTO_DECLARE(inspect_record)

int inspect_record_write(int dirfd, const struct inspect_record *r, struct err *e);
/* *ret is NULL where there was no inspection. */
int inspect_record_read(int dirfd, struct inspect_record **ret, struct err *e);

const struct inspect_record_file *inspect_record_find(const struct inspect_record *r, const char *name);
/* NULL when this open archive is the one recorded, of a directory all that is in it, else what is different, in words. */
const char *inspect_record_compare(const struct inspect_record_file *f, const struct archive *a);
