/*
 * Stage discover (place: opener, root where there is one; opens, parses nothing). Reads opt->images, job->artifact_paths
 * and project_fd; fills archives (name, fd, id, fault).
 *
 * What the globs of images.archives and the job's own artifacts: paths: name below the project directory. A path
 * that names a directory means everything in it. The tree is walked by descriptors through openat2 beneath the
 * project directory: links are never followed, mounts are, and both the number of names looked at and the depth are
 * bounded (past them: ERR_NO_SPACE, undecided). Only regular files with one link are taken; a link, FIFO, device or
 * a file with more links that is named gets a fault (ERR_REFUSED). What a declared artifact is that is obviously no
 * archive (first bytes, name) is left out without a word; so is an empty or plain text file in tar_images/, with a note.
 * A directory that is an OCI layout or skopeo's dir: is an archive, too, with all files in it opened (stages/layout_dir.h).
 *
 * With project_fd -1 it does nothing: the caller has added the files that were given by name.
 */
#pragma once

#include "base/err.h"
#include "stages/inspection.h"

#define DISCOVER_NAMES_MAX 1000000 /* looked at */
#define DISCOVER_DEPTH_MAX 64
#define DISCOVER_FILES_MAX 4096 /* opened and kept, those in layouts that are directories too */

struct glob_set;
/* What is looked for: images.archives and artifacts: paths:. What cannot be is said in the log or a fault of `i`. The caller's. */
struct glob_set *discover_collect_globs(struct inspection *i);

/*
 * A file given by name (`tidewaiter scan FILE`), relative to the working directory. Links in its path are the caller's
 * own business, the file itself must be regular, or a
 * directory that is an image layout. -1 when it cannot be opened (usage); another directory or the like is added with a fault.
 */
int discover_add_file(struct inspection *i, const char *path, struct err *e);
