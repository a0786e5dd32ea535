/*
 * What a child of the pipeline can see and do, before anything of a stranger is looked at. As root only.
 *
 * All inspections of a host share the user of the scanner, so users do not keep them apart; namespaces do. The scanner gets
 * an empty network, System V IPC of its own, and a view of the file system that is read-only but for Trivy's directory in its
 * work directory (the scanner writes through its descriptor of that), in which neither the work directories of other inspections nor what they share can be found by name (the scanner
 * holds descriptors of that; Trivy has none). It and Trivy see no process but their own, and die together.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* fork(2); with own_pids the child is the first process of a PID namespace. 0 in the child, -1 with an error. */
pid_t confine_fork(bool own_pids, struct err *e);

#define CONFINE_TRIVY_DIR "trivy" /* below the work directory: what Trivy may write to, by name */

/*
 * A network of its own in which 127.0.0.1 is all there is, with a socket that listens on it: the scanner lives in there, and
 * whoever has the socket answers from outside. *ret_port: its port.
 */
int confine_make_net(int *ret_net_fd, int *ret_listen_fd, int *ret_port, struct err *e);
int confine_listen(int *ret_listen_fd, int *ret_port, struct err *e); /* the socket alone, in our network */

struct confine_view {
	const char *cache_dir, *work_dir; /* absolute */
	int work_fd;
	int net_fd; /* of confine_make_net(); -1: an empty network */
};

/* In the child, in its own PID namespace: takes away what a scanner has no business with; then `uid` and `gid`. */
int confine_scanner(const struct confine_view *v, uid_t uid, gid_t gid, struct err *e);
int confine_become(uid_t uid, gid_t gid, struct err *e);
/*
 * For a child that works beside the scanner, first of all: as the courier (uid (uid_t)-1: as who we are), with no signal blocked, SIGPIPE
 * ignored, and ended when `parent`, whose main thread forked it, is gone. With confine_finish().
 */
int confine_beside(uid_t uid, gid_t gid, pid_t parent, struct err *e);
/* For every child, as its last step: no core files, no new privileges, nothing for a debugger. */
int confine_finish(struct err *e);
