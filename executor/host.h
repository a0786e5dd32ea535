/*
 * The host job environment: jobs run on the runner host as the slot's user, in a cgroup of their own where cgroup v2
 * is there, with /tmp, /var/tmp and /dev/shm of their own. One of several possible environments (executor/env.h).
 */
#pragma once

#include "executor/env.h"

extern const struct env_ops env_host;
