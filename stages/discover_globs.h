/*
 * Globs walked one directory at a time: which of them a name below a directory
 * still may match or does match, so that only directories that can matter are read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/str.h"

struct glob_set;
struct glob_set *glob_set_new(void);
void glob_set_free(struct glob_set *g);
MEM_AUTO_DECLARE(glob_set)

/*
 * `is_tree`: a directory that matches means everything in it. A part with a variable (`$X`) or alternatives
 * (`{a,b}`), which are not known or not expanded here, stands for any path. At most 256 globs of 64 parts: false past that, and for one
 * that is absolute or climbs.
 */
bool glob_set_add(struct glob_set *g, const char *glob, bool is_tree);

/* Where the walk is: which globs are matched up to which part. */
struct glob_at {
	struct glob_state *v;
	size_t n;
	bool is_everything; /* below a directory that a tree glob matched */
};

void glob_at_start(const struct glob_set *g, struct glob_at *ret);
void glob_at_free(struct glob_at *at);

struct glob_match {
	bool is_named;	 /* a glob that is no tree matches */
	bool is_in_tree; /* a tree glob matches, or it lies below one */
	bool is_way;	 /* something below it can match */
	bool is_sure_way; /* and is named by a part without wildcard, or by a tree glob's part that is not `**` */
};

/* The name in the directory `at`; `ret_below` is where the walk is below it, freed by the caller. */
struct glob_match glob_at_step(const struct glob_set *g, const struct glob_at *at, const char *name,
			       struct glob_at *ret_below);
