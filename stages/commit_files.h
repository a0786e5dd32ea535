/*
 * Files of a commit of the job's project, read from the objects below .git and from nowhere else: not from the work tree, which the job
 * can write, and with no regard to what else stands in .git. That directory is the job's too, but no object in it can be other than its
 * name says: commit, trees and files are hashed, from the commit's name on, which GitLab told (git_info.sha). So the job can take files
 * away, which excuses nothing, and cannot make any. Alternates, gitdir files, replaced objects, grafts and configuration have no effect.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "stages/ignore_files.h"

#define COMMIT_FILES_MAX 16 /* of one commit */

/*
 * By the opener: .git/objects, as a mount of its own where we may, in which no link is followed and out of which no name leads. -1 with
 * ENOENT where there is none.
 */
int commit_files_open(int project_fd, struct err *e);

/*
 * By the scanner: what the ignore files of that commit say. Looking is done by a child (git_child.h) and ends at the deadline. What cannot
 * be read does not count, and is told in ret->notes.
 */
void commit_files_load(int objects_fd, const char *sha, int64_t deadline, struct ignore_list *ret);
