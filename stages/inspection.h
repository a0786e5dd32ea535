/*
 * The record that the pipeline's stages fill, one after the other. One owner:
 * the caller of pipeline_run(). Each stage says in its header which members it
 * reads and which it fills.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"
#include "stages/job_facts.h"
#include "stages/layout_dir.h"
#include "stages/options.h"
#include "stages/report.h"
#include "stages/snapshot.h"

/* In order of weight: the verdict of several is the heaviest, but block outweighs undecided. */
enum verdict { VERDICT_PASS, VERDICT_WARN, VERDICT_UNDECIDED, VERDICT_BLOCK };
extern const char *const verdict_words[]; /* "pass", "warn", "undecided", "block" */
enum verdict verdict_worse(enum verdict a, enum verdict b);
enum verdict verdict_of_reaction(int reaction); /* enum reaction: pass, warn, block */

/* Filled by discover: one image archive that the job left. */
struct archive {
	char *name; /* path below the project directory, or as given on the command line */
	int fd;	    /* read-only, regular file or (is_dir) directory; -1 when it could not be opened */
	struct fs_identity id;
	bool is_dir; /* an image layout that is a directory: what is in it is `files` */
	struct layout_files files;
	struct snapshot snapshot; /* filled by stage snapshot */
	uint64_t early; /* filled by stage recall (early_result.h): number of its record + 1, 0: its bytes are to be read */
	const struct engine_image
		*in_engine; /* instead of a file: an image in engine `engine`; the name is its first one */
	size_t engine;
	/* Set by whoever finds the fault; kind ERR_REFUSED blocks, ERR_UNSUPPORTED and the rest are undecided. */
	struct err fault;
	/* A tar (or other file) that is no image archive: named, ignored. Only outside tar_images/. */
	bool is_ignored;
	/* Set when all is judged: blocked or undecided, not to be stored in enforce mode. */
	bool is_unfit;
};

/* One layer as the image's config orders them. */
struct layer {
	char diff_id[HASH_DIGEST_MAX];
	char scanned_digest[HASH_DIGEST_MAX]; /* by SHA-256: what Trivy calls it; mostly the same */
	uint64_t size;			      /* bytes uncompressed */
	char *created_by;		      /* the history's words for this layer, NULL without history */
};

/* Filled by unpack: one image. */
struct image {
	int64_t good_s; /* set by the gate: baseline.h */
	bool *was_known; /* the same, of each finding: had the job's own branch it before? NULL: it was not held against that */
	size_t archive;	  /* index in inspection.archives */
	struct strv tags; /* as the archive names them, may be empty */
	char config_digest[HASH_DIGEST_MAX];
	char scanned_digest[HASH_DIGEST_MAX]; /* by SHA-256, of the config in `layout`: what Trivy calls the image; mostly the same */
	char manifest_digest[HASH_DIGEST_MAX]; /* of its OCI manifest, "" where there is none */
	char *os, *architecture;	       /* of the config, "" when absent */
	char *platform;			       /* "linux/arm64/v8", "" when the config does not say */
	struct layer *layers;
	size_t n_layers;
	struct strv hidden; /* package lists that engines load and Trivy does not see, a line for people each (layer_hidden.h) */
	size_t base_layers; /* how many of the first layers come with the base image, best guess by the history; 0 unknown */
	char *layout; /* absolute path of its OCI layout directory below work_dir */
	/* What people call it: first tag, or the archive's name without .tar; with its platform where the archive has that for several. */
	char *label;
	char *repository; /* {image}: first tag without registry and tag; untagged: the archive's name without .tar */
	/*
	 * File name stem of its report, unique within the job: the archive's name without .tar; where that holds several images
	 * with name and tag, and with the platform where these are the same.
	 */
	char *report_name;

	/* scan */
	struct report *report; /* NULL when the scan failed: then fault says why */
	struct err fault;

	/* gate */
	enum verdict verdict;
	struct strv reasons;	   /* for each thing that made it other than pass, a line for people */
	int mode;		   /* enum gate_mode: of the rule that judged it, as the job tightened it */
	struct decision *decision; /* policy.h; NULL: the policy was not understood */
	bool *is_blocking;	   /* per finding of report */
	size_t n_blocking;
};

struct inspection {
	const struct options *opt;
	const struct job_facts *job;
	const struct log *log; /* the job log, or a terminal */

	int project_fd; /* directory; archives are looked for beneath it; -1 for files given by name */
	const char *project_dir; /* for messages and GitLab */
	int work_fd; /* private directory of this inspection, empty at the start, removed by the caller */
	const char *work_dir;
	const char *state_dir, *cache_dir;
	const struct shared *shared; /* shared.h; what pipeline_run() opened, NULL outside of it */
	const struct engine_before
		*engines; /* engine.h; one per images.engine_sockets, NULL: engines are not looked at */
	int engine_fd;	  /* to the process that talks to them (talker.h), while the scanner runs */
	const struct layer_cache *layer_cache; /* layer_cache.h; NULL: none, or not unpacking */
	const struct outside *outside;	       /* outside.h; NULL: nothing is asked of the network */
	const struct fetcher *fetcher;	       /* fetcher.h; NULL: nothing is known besides the reports */
	const struct fix_recorder *fix_recorder; /* fix_recorder.h; NULL: nobody keeps since when there are fixes */
	const struct kept *kept;		 /* kept.h; what pipeline_run() opened, NULL outside of it */
	struct scan *scan; /* scan.h: scans that have begun while unpack goes on; NULL: none may begin */
	bool wants_json; /* the report stage prints one JSON object (render_json.h) on standard output, and no text; the log is elsewhere */
	struct early_known *
		early; /* early_result.h: what was read while the job ran; stage recall closes their descriptors */
	size_t n_early;
	bool is_early; /* the job still runs (pipeline_unpack_early()): only layers of the store come of it, and nobody may wait for us */
	bool asks_nobody;    /* of DefectDojo only what is kept counts */
	int64_t job_began_s; /* wall clock; 0: by hand */
	int64_t today_s;     /* when it is judged; 0: now */
	bool skips_upload;   /* nothing is delivered, the spool stays untouched */
	int out_fd; /* directory below work_dir: report files (<report_name>.json, .html) and deliveries (delivery-N) */

	/* discover */
	struct archive *archives;
	size_t n_archives;
	/* unpack */
	struct image *images;
	size_t n_images;

	struct policy_source *
		policy_source; /* policy_source.h; NULL: none, the section gate judges. The gate waits for it */

	int objects_fd;		     /* commit_files.h; -1: the project has none, 0: there is no project */
	struct ignore_list *ignores; /* filled by the gate; NULL: no rule takes any */

	/* gate: over all images and archives */
	struct policy *policy; /* policy.h; of the source or the section gate; NULL: it was not understood, or not yet judged */
	bool lacks_branches; /* what DefectDojo has of other branches could not be asked for */
	struct strv notes; /* what could not be known, lines for people that are in the log, too; the caller may begin */
	int mode; /* enum gate_mode: the strictest of what was judged; GATE_OFF: as the settings say */
	enum verdict verdict;
	struct strv reasons;
	/* what the scanner said of itself, for the report: "0.74.0", database date */
	char *trivy_version;
	int64_t db_updated_s; /* seconds since the epoch, 0 unknown */
};

/* What people call an image: its label, with its archive where another has the same. Owned by the caller; safe to print. */
char *inspection_image_name(const struct inspection *i, const struct image *m);
/* The mode that rules the job: by the policy once it was judged, before by the settings. */
int inspection_mode(const struct inspection *i);
void inspection_free(struct inspection *i);		      /* what it owns: archives, images, reasons */
bool inspection_has_archives(const struct inspection *i);     /* but for those that are ignored */
struct archive *inspection_add_archive(struct inspection *i); /* pointers into `archives` end their life here */
struct image *inspection_add_image(struct inspection *i);
