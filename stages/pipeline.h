/*
 * The injected pipeline: discover → unpack → scan → gate → report → upload.
 *
 * Each stage is one file with one `const struct stage`; pipeline.c lists them in
 * order. Stages run in three confinements, each its own process where we are
 * root: the opener (root, opens descriptors, parses nothing), the scanner (user
 * tidewaiter-scan, no network, no secret) and the courier (user tidewaiter:
 * token, spool and network). DESIGN.md, Trust.
 */
#pragma once

#include "base/err.h"
#include "stages/inspection.h"

enum stage_place { STAGE_OPENER, STAGE_SCANNER, STAGE_COURIER };

struct stage {
	const char *name;
	enum stage_place place;
	/*
	 * -1 only for a fault that leaves no verdict at all (then: undecided). What concerns one
	 * archive or image goes into its `fault`, and the next one follows.
	 */
	int (*run)(struct inspection *i, struct err *e);
};

extern const struct stage stage_discover, stage_snapshot, stage_recall, stage_unpack, stage_scan, stage_gate,
	stage_report, stage_upload;

struct pipeline_users {
	bool is_separated; /* we are root and the users below are there */
	uid_t scan_uid, courier_uid;
	gid_t scan_gid, courier_gid;
};

struct pipeline_result {
	enum verdict verdict;
	int mode; /* enum gate_mode: with the verdict it says whether the job goes on (gate_end()) */
	uint32_t n_archives, n_images, n_findings, n_blocking;
};

/*
 * Runs all stages over `i`. The stages of scanner and courier run in child processes (confined where users
 * are separated), so `i` afterwards holds what the opener filled with `is_ignored` and `is_unfit` of the archives, `result` the
 * verdict, and i->out_fd the report files. A child that crashes leaves no verdict: -1. SIGTERM, SIGINT and SIGHUP
 * kill the children and end it with an error; the caller removes work_dir.
 */
int pipeline_run(struct inspection *i, const struct pipeline_users *users, struct pipeline_result *result,
		 struct err *e);

/*
 * Unpack only, of the archives that are in `i` already, while the job still runs: the layers that are right are in the layer store then, which is
 * all that comes of it; what an archive is worth is not asked. At idle priority, out of the queue of inspections, without a claim on
 * room that others would wait for. -1: no more of it (a child that crashed; a signal, which stays pending for a caller that blocks it).
 */
int pipeline_unpack_early(struct inspection *i, const struct pipeline_users *users, struct err *e);

/* Discover and unpack only: which of the archives are images (`is_ignored`, `is_unfit` for the malformed)? */
int pipeline_classify(struct inspection *i, const struct pipeline_users *users, struct err *e);
