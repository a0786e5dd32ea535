/*
 * The directories of a slot, made new for every job:
 *
 *   <slot_dir>            root, 0711
 *     home                the job user's, 0700
 *     mnt                 root, 0700: what stands for /tmp and /var/tmp in the job's mount namespace
 *       tmp, var-tmp      0777 and sticky. Without job.private_tmp: mnt 0711, these the job user's, 0700, and TMPDIR names tmp
 *     project             the project's id: whose builds and caches are in place
 *   <builds_dir>/<slot>   the job user's, 0700
 *   <cache_dir>/<slot>    the job user's, 0700
 *
 * A cache, and with keep_builds a project's tree, outlives the job below a root-only directory, one per project and slot:
 * <base>/.kept/<project>-<slot>, for protected refs <project>-protected-<slot>. The file variables that
 * an aborted job left beside its tree are not kept. It is put in place by rename(2) for a job of that project and kind of ref alone, so
 * that no project meets what another one left, and no protected ref what anybody may have put there who may push.
 */
#pragma once

#include "base/err.h"
#include "executor/plan.h"

/* Starts from nothing: what is there is removed first. */
int host_dirs_make(const struct plan *p, struct err *e);
/* Parks what is kept and removes the rest. Idempotent; of what fails the first is reported after all else was tried. */
int host_dirs_remove(const struct plan *p, struct err *e);

char *host_dirs_home(const struct plan *p); /* these are owned by the caller */
char *host_dirs_tmp(const struct plan *p);
char *host_dirs_var_tmp(const struct plan *p);
