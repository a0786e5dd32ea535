/*
 * What the courier's confinement keeps between inspections below state_dir, beside the spool: directories that are its own (0700).
 *
 *   triage/<key>.json           what DefectDojo's triage excused in a product, when it was last asked (triage.h)
 *   baselines/<project>/<branch>-<image>.json   what the last delivered inspection of an image on a branch found (baseline.h)
 *   texts/<key>.json            the texts that findings of a test were first sent with (keep_text.h)
 *   fixes/dates                 since when there are fixes (fix_dates.h)
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"

struct kept {
	int triage_fd, baselines_fd, texts_fd, fixes_fd; /* -1: could not be had */
	struct err fault;				 /* why, ERR_NONE when all are there */
};

/* Makes what is missing, for uid and gid where uid is not (uid_t)-1. Never fails: see fault. state_dir NULL: none of them. */
struct kept *kept_open(const char *state_dir, uid_t uid, gid_t gid);
void kept_free(struct kept *k);
MEM_AUTO_DECLARE(kept)

/*
 * Removes what nobody has renewed for age_s, and what writers left that were killed. Looks once a day in each directory: when it did
 * is the time of `.tidied` in it.
 */
void kept_tidy(int dir_fd, int64_t age_s);

/* "<32 hex digits>" of a SHA-256 over the parts, each with its NUL. */
#define KEPT_KEY_SIZE 33
void kept_key(const char *const *parts, size_t n, char out[KEPT_KEY_SIZE]);
/* All 64 of them. */
#define KEPT_NAME_SIZE 65
void kept_name(const char *const *parts, size_t n, char out[KEPT_NAME_SIZE]);
