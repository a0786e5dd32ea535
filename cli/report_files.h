/* The report files of an inspection: what the report stage left in out_fd, deliveries not among them. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/*
 * Copies *.json and *.html, byte for byte, into a directory that holds none of these names or is ours (an old one is replaced),
 * mode 0644, for uid and gid where they are not -1. The source may belong to the scanner's user: links and special files are refused.
 */
int report_files_copy(int from_dir, int to_dir, uid_t uid, gid_t gid, struct err *e);
