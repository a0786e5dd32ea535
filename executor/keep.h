/*
 * What stays of a job for the next one of the same project: its caches, and with job.keep_builds the checked out
 * project. Between jobs a tree lies below <builds_dir>/.kept/<slot>/<project id> (and the same below the cache directory), which root
 * alone can enter (0700), and is put in place for that project alone: by the config phase, before the job environment is
 * prepared; it is taken away by the cleanup phase, after the last process of the job is dead and before the environment is destroyed.
 * So prepare finds builds_dir and job_cache_dir of the plan either absent or filled, and destroy finds them absent or without worth.
 *
 * Always by rename, within one slot: no file changes its owner, nothing is copied, no two jobs want the same tree.
 * Protected and unprotected refs do not share: what a merge request stores never reaches a protected branch's job.
 */
#pragma once

#include "base/err.h"
#include "executor/plan.h"

/* Nothing kept is no error; what another user owns (job.user_prefix was changed) is removed. */
int keep_restore(const struct plan *p, struct err *e);
/* Needs the facts of the plan. <project dir>.tmp, where file variables lie, is not kept. */
int keep_store(const struct plan *p, struct err *e);
