/*
 * A policy that is a file in a Git repository (policy.url): asked for at most every policy.fetch_every, by a child with a deadline,
 * and kept, so that a server that is down, a branch that is gone and a version that cannot be read leave the last good version in force
 * until policy.max_age. What is there has been read by policy_parse() once, and is what one commit holds.
 *
 *   <state_dir>/policy/          the courier's, 0700
 *     <SHA-256 of the URL>/
 *       repo.git/    bare clone (git_fetch.h); may be removed at any time
 *       good         JSON on one line (commit, ref, path, when it was last confirmed), then the policy's bytes
 *       state        JSON: when it was last tried, and what went wrong
 *       lock         held by whoever fetches
 *       home/.ssh/   known_hosts, a copy of policy.known_hosts_file for libgit2
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "stages/options.h"
#include "stages/policy_source.h"

#define POLICY_GIT_DIR "policy"

enum policy_git_flags {
	POLICY_GIT_NOW = 1 << 0,   /* ask, however short ago it was asked */
	POLICY_GIT_NEVER = 1 << 1, /* never ask: what is kept */
};

/*
 * For whoever may read the secrets: the courier. `o` gives the section policy and what policy_parse() needs. Whatever goes wrong is
 * in ret->fault (no text: nothing may be judged) or, beside a text, in ret->note (an older version judges, and why).
 * `ret` is empty at the call. stop_fd: see struct git_limits.
 */
void policy_git_load(const struct options *o, const char *state_dir, unsigned flags, const int *stop_fd,
		     struct policy_source *ret);

/* As root, before the first call: the directory of the courier. uid (uid_t)-1: ours. */
int policy_git_make_dir(const char *state_dir, uid_t uid, gid_t gid, struct err *e);
