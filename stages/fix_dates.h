/*
 * Since when there is a fix for a flaw in a package, as far as this host knows: since an inspection here first saw one. A report does
 * not say it (LastModifiedDate changes with every edit of an advisory). A fix exists for all, so what is kept is one for the host,
 * "dates" below kept.fixes_fd: sorted records of fixed size behind a head with their CRC-32, replaced whole, under a lock.
 *
 * A date is the clock of whoever keeps it, at the moment when it is put down; nobody else names one. It only ever becomes earlier: where
 * the clock is behind what stands there, that was put down by a clock that was ahead.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stages/fix_keys.h"

#define FIX_DATES_MAX 262144 /* all fixes that Debian knows are some ten thousand */
#define FIX_ASKED_MAX 65536  /* keys of one inspection */
#define FIX_UNSEEN_DAYS 400  /* what nobody has seen for so long makes room, and nothing else does */

struct fix_date {
	struct fix_key key;
	int64_t since_s, seen_s; /* first and last seen, the latter to a week */
};
struct fix_dates {
	struct fix_date *v; /* sorted by key, no two alike */
	size_t n;
};
void fix_dates_free(struct fix_dates *d); /* what it owns */
#define AUTO_FIX_DATES __attribute__((cleanup(fix_dates_free)))

/* Strict: ERR_REFUSED. `ret` is empty at the call. */
int fix_dates_parse(const char *text, size_t len, struct fix_dates *ret, struct err *e);
void fix_dates_print(const struct fix_dates *d, char **ret_text, size_t *ret_len);

/* All that is kept; nothing where nothing was kept yet. ERR_REFUSED: it is not whole, or not a file of the directory's owner alone. */
int fix_dates_read(int dirfd, struct fix_dates *ret, struct err *e);

/*
 * For whoever only wants to know, and puts nothing down: *ret_since_s of each finding of the report, owned by the caller; of a fix that nobody
 * has seen before it is now_s, of a finding without one 0.
 */
int fix_dates_look(int dirfd, const struct report *r, int64_t now_s, int64_t **ret_since_s, struct err *e);

/*
 * Fills ret_since_s for n keys, sorted, no two alike: since when there is that fix, 0: not known. Those that nobody saw before are put
 * down durably as of now, before they are answered: a date that could not be kept would begin anew with each inspection. -1: some
 * could not; those that stand there are answered all the same. Any number of processes at once. `others` (may be NULL): what other hosts
 * know, which is put down, too, as far as there is room.
 */
int fix_dates_see(int dirfd, const struct fix_dates *others, const struct fix_key *keys, size_t n,
		  int64_t now_s, int64_t deadline, int64_t *ret_since_s, struct err *e);
/* Nothing is new, and nothing would be put down. True where what is kept cannot be read, too: that is for fix_dates_see() to say. */
bool fix_dates_has_all(int dirfd, const struct fix_key *keys, size_t n, int64_t now_s);

/*
 * All of `a`, and of `b` what there is room for: of each the earliest date that it was first seen and the latest that it was last seen.
 * True: it is another than `a`. `ret` is empty at the call.
 */
bool fix_dates_join(const struct fix_dates *a, const struct fix_dates *b, struct fix_dates *ret);
