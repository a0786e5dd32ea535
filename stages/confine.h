/*
 * What a child of the pipeline can see and do, before anything of a stranger is looked at. As root only.
 *
 * All inspections of a host share the user of the scanner, so users do not keep them apart; namespaces do. The scanner gets
 * an empty network, System V IPC of its own, and a view of the file system that is read-only but for its work
 * directory, in which neither the work directories of other inspections nor what they share can be found by name (the scanner
 * holds descriptors of that; Trivy has none). It and Trivy see no process but their own, and die together.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* fork(2); with own_pids the child is the first process of a PID namespace. 0 in the child, -1 with an error. */
pid_t confine_fork(bool own_pids, struct err *e);

struct confine_view {
	const char *cache_dir, *work_dir; /* absolute; work_dir stays writable */
	int work_fd;
};

/* In the child, in its own PID namespace: takes away what a scanner has no business with; then `uid` and `gid`. */
int confine_scanner(const struct confine_view *v, uid_t uid, gid_t gid, struct err *e);
int confine_become(uid_t uid, gid_t gid, struct err *e);
/* For every child, as its last step: no core files, no new privileges, nothing for a debugger. */
int confine_finish(struct err *e);
