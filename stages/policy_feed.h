/*
 * The policy of an inspection while it is on its way: a process of the courier's user asks the repository (policy_git.h) while images are
 * unpacked, and whoever judges waits for its end and reads what it wrote. Only the courier has the secrets and the network for that.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"
#include "stages/policy_source.h"

struct policy_feed;

/*
 * A file is read at once, a repository is asked from now on. Does not fail: what goes wrong is in the fault, or in that of
 * policy_feed_wait() has put there. `ret` is empty at the call. uid (uid_t)-1: nothing is separated. `flags`: enum policy_git_flags.
 */
void policy_feed_begin(const struct options *o, const char *state_dir, uid_t uid, gid_t gid, unsigned flags,
		       struct policy_source *ret);
/*
 * Where it is on its way: fills *s with what came. Waits for that, for as long as one fetch and the wait for another's may take. Each
 * process that was forked from the one that began it has a copy of its own and may wait, too.
 */
void policy_feed_wait(struct policy_source *s);
void policy_feed_free(struct policy_feed *f); /* ends it */
