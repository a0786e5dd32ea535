/*
 * Files below a project directory that a running job has finished writing, by inotify(7). Only directories in which a glob can
 * name something are watched. What the job does cannot cost more than the bounds below; past them files are passed
 * over, which costs the inspection at the end time and nothing else: nothing here is relied upon.
 *
 * A path is a hint. By the time it is looked at something else may stand there, or nothing.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "stages/discover_globs.h"

#define EARLY_DIRS_MAX 1024    /* watched */
#define EARLY_NAMES_MAX 200000 /* looked at in directories, in all */
#define EARLY_WALKS_MAX 8      /* of the whole tree: at first, and when events were lost */
#define EARLY_PATHS_MAX 256    /* waiting to be taken */
#define EARLY_DEPTH_MAX 64
#define EARLY_SETTLE_MS 50 /* a file that was not closed after writing again for that long is finished */

struct early_watch;

/* Watches from now on, and tells of files that are there already. The globs and project_fd stay the caller's, for as long. */
int early_watch_open(int project_fd, const struct glob_set *globs, struct early_watch **ret, struct err *e);
void early_watch_free(struct early_watch *w);
MEM_AUTO_DECLARE(early_watch)

int early_watch_fd(const struct early_watch *w); /* readable when there is something to read */
/* Reads what has come, never waits. -1: nothing more can be learnt (the last walk's events were lost). */
int early_watch_read(struct early_watch *w, struct err *e);
/* A file's path below the project directory, once per writing; owned by the caller. NULL: none that is finished. */
char *early_watch_take(struct early_watch *w);
/* For poll(2): ms until early_watch_take() may have another, -1 for none. */
int early_watch_timeout(const struct early_watch *w);
