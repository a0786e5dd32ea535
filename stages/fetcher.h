/*
 * The process that knows before the gate has to: of the courier user, started when the inspection begins, it reads what is kept and
 * asks DefectDojo what has been triaged, while images are unpacked and scanned. It hands over three texts, each in a file in memory:
 * what was kept (the triage of last time, the baselines), and the triage as it stands now. The scanner parses these strictly and never sees
 * the token. What cannot be had costs nobody's time beyond defectdojo.wait, and excuses nothing.
 */
#pragma once

#include "stages/inspection.h"
#include "stages/kept.h"
#include "stages/triage.h"

struct fetcher {
	pid_t pid; /* 0: none */
	int told_fd; /* a byte when `kept_fd` is whole, another when `fresh_fd` is, a third for `others_fd`; then its end */
	int kept_fd, fresh_fd, others_fd; /* files in memory */
	int64_t deadline; /* defectdojo.wait after its start: so long somebody may wait for `fresh_fd` */
};

/* Of the job of `i`, with directories that stay the caller's. uid (uid_t)-1: as who we are. NULL, and said in the log, where it cannot be. */
struct fetcher *fetcher_start(const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid);
void fetcher_free(struct fetcher *f); /* ends the process */
MEM_AUTO_DECLARE(fetcher)

#define FETCHER_TEXT_MAX (48 * 1024 * 1024) /* bytes of either text */
