/*
 * A process of the job: its identity, its environment, the place where it runs.
 */
#pragma once

#include "base/proc.h"
#include "executor/env.h"

/* Owns what a proc_spec of the job points to. */
struct host_child {
	const struct plan *plan;
	char *bash; /* absolute */
	char *home, *tmp, *var_tmp;
	char *cwd;
	struct strv env;
	struct strv keep; /* directories that stay visible, host_mounts.h */
	gid_t *groups;
	size_t n_groups;
	int cgroup_fd; /* -1 without */
	bool is_shielded;
};

/* `stage` NULL: what every process of the job gets. */
int host_child_init(struct host_child *c, const struct plan *p, const struct env_stage *stage, struct err *e);
void host_child_free(struct host_child *c); /* what it owns */

/* Identity, cgroup, session and in_child for `spec`; path, argv, envp and descriptors are the caller's. */
void host_child_fill(struct host_child *c, struct proc_spec *spec);

/* In a child, as root: mounts, keyring, working directory. What in_child does, with an error to show. */
int host_child_enter(struct host_child *c, struct err *e);
/* In a child: the job user for good. */
int host_child_become(const struct host_child *c, struct err *e);
