/*
 * The file that $GITLAB_ENV names, <project>.tmp/gitlab_runner_env: every stage script exports its lines, and the job may
 * write it. Before the runner's own stages what would rule them is taken out.
 */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "executor/plan.h"

#define GUARD_ENV_MAX (1024 * 1024) /* bytes; a larger file is removed */

/* Rewrites the file where it holds such lines. All processes of the job are dead. No file is success; what is no regular file is removed. */
int guard_clean_env(const struct plan *p, struct err *e);

/* The lines of `text` that may stay: no PATH, no variables of the loader, of bash, of git and the like. */
void guard_filter_env(const char *text, size_t len, struct buf *kept);
