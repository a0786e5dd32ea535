/*
 * The host job environment: jobs run on the runner host as the slot's user, in a cgroup of their own where cgroup v2
 * is there, with /tmp, /var/tmp and /dev/shm of their own. One of several possible environments (executor/env.h).
 *
 * Of a plan it reads: job, is_separated, slot, user, uid, gid, group_ids, builds_dir, job_cache_dir, slot_dir, cgroup
 * (as cgroup_path() said), facts.project_id and settings_path for messages. destroy() and kill_all() need the same less the facts.
 */
#pragma once

#include "executor/env.h"

extern const struct env_ops env_host;
