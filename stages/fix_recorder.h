/*
 * The process that puts down since when there are fixes (fix_dates.h): of the courier user, forked when the inspection begins, where there is
 * a policy that may ask for it. It waits for one question, the keys of all findings that have a fix, and answers with dates of its own clock.
 * The gate asks before it judges, so that a date counts when it is kept, whatever becomes of job, verdict and delivery. The scanner has parsed
 * hostile bytes: it can have keys put down as of now, and name no date.
 */
#pragma once

#include "stages/fix_dates.h"
#include "stages/inspection.h"
#include "stages/kept.h"

struct fix_recorder {
	pid_t pid; /* 0: none */
	int fd;	   /* our end */
};

/* uid (uid_t)-1: as who we are. NULL where no policy is configured, and, said in the log, where it cannot be. */
struct fix_recorder *fix_recorder_start(const struct inspection *i, const struct kept *k, uid_t uid,
					gid_t gid);
void fix_recorder_free(struct fix_recorder *r); /* ends the process */
MEM_AUTO_DECLARE(fix_recorder)

/* In the process: one question, answered by what this host and the others of its fleet know. */
void fix_recorder_serve(int fd, const struct inspection *i, const struct kept *k);

/* Since when there is a fix. */
struct fixes {
	int64_t **since_s; /* of each image, of each finding of its report; 0: not known */
	size_t n_images;
};
void fixes_free(struct fixes *f); /* what it owns */
#define AUTO_FIXES __attribute__((cleanup(fixes_free)))

/*
 * For the gate, once: of all images of the inspection. `ret` is empty at the call, and filled in any case; -1: not all dates that
 * should be are known.
 */
int fix_recorder_ask(const struct inspection *i, struct fixes *ret, struct err *e);
