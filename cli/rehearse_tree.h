/*
 * Copies of files and trees between directories of strangers: links are copied as links and never followed, FIFOs,
 * sockets and devices are left out, what is there already is an error.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define TREE_DEPTH_MAX 100
#define TREE_ENTRIES_MAX 1000000

struct tree_copy {
	bool has_owner; /* chown what is made */
	uid_t uid;
	gid_t gid;
	int64_t n_entries; /* copied so far; ends in an error at TREE_ENTRIES_MAX */
};

/* One entry with all below it, to a name that must not be there; its parents in `to_dir` are made. */
int tree_copy(int from_dir, const char *name, int to_dir, const char *to_name, struct tree_copy *t,
	      struct err *e);
/* What is in from_dir, into to_dir. */
int tree_copy_all(int from_dir, int to_dir, struct tree_copy *t, struct err *e);
/* The paths of all entries below dir, a directory before what is in it, sorted; at most TREE_ENTRIES_MAX. */
int tree_list(int dir, struct strv *ret, struct err *e);
