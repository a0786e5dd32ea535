/*
 * An image layout that is a directory: all files in it, opened. The opener does it, which may read what belongs to the
 * job's user, and hands the descriptors on; nothing is parsed.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/fs.h"
#include "stages/snapshot.h"

#define LAYOUT_DIR_DEPTH 8 /* directories within it */

struct layout_file {
	char *name; /* below the directory */
	int fd;	    /* read-only */
	struct fs_identity id;
	struct snapshot snapshot; /* filled by stage snapshot */
};

struct layout_files {
	struct layout_file *v; /* by name */
	size_t n;
};

/*
 * Walks the directory by descriptors, beneath it, following no link. Regular files with one link only: anything else is
 * ERR_REFUSED ("link: …", "type: …"), more than n_max files ERR_NO_SPACE.
 */
int layout_dir_open(int dirfd, size_t n_max, struct layout_files *ret, struct err *e);
void layout_files_free(struct layout_files *l); /* what it owns */
