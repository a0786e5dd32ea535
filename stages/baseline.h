/*
 * What the last delivered inspection of an image on a branch found: for gating that looks at new findings alone. The report stage
 * writes one into inspection.out_fd as "baseline-<n>" beside each delivery; when the courier has taken that delivery into the spool
 * it keeps the baseline below state_dir, under project and branch as GitLab's payload has them. Jobs of tags and of merge requests
 * leave none: what is about to be merged is not what it is compared with.
 *
 * A branch that is compared with itself (new_only of a rule for its own jobs) in enforce mode must not excuse by the inspection that was
 * blocked what the next one has again. So findings that its own jobs had to have excused, or that nobody judged, and that were not known there before, are
 * `refused`: known to other branches, and not to its own. Where nothing was known of the image, all of it is taken as what was there
 * already (`adopts`). Other hosts see in DefectDojo alone what was found: a delivery with any such has BASELINE_BLOCKED behind its build
 * id, and since when a finding there is one that nobody has let pass for good; 0: nothing there was.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "stages/identity.h"
#include "stages/kept.h"

#define BASELINE_PREFIX "baseline-"
#define BASELINE_BLOCKED "-blocked-"   /* seconds since the epoch follow (baseline_mark()) */
#define BASELINE_MAX (8 * 1024 * 1024) /* bytes */
#define BASELINE_KEYS_MAX 65536
#define BASELINES_GIVEN_MAX 256		     /* per project, to one inspection */
#define BASELINES_SIZE_MAX (8 * 1024 * 1024) /* bytes of them */

typedef char identity_hex[IDENTITY_KEY_SIZE];

struct baseline {
	char *branch;
	char *image;	/* identity_image(); of what DefectDojo has baseline_place() */
	char *build_id; /* of the delivery, as DefectDojo has it; "": not known */
	int64_t made_s;
	bool has_places; /* keys are identity_key(); else it is what DefectDojo has, and they are identity_key_anywhere() */
	identity_hex *keys; /* sorted */
	size_t n;
	identity_hex *refused; /* sorted; of a job that is not judged against its own branch, or not in enforce mode: none */
	size_t n_refused;
	bool adopts;	/* in out_fd: nothing was known of the image there */
	bool is_judged; /* in out_fd: it was known what was there before, and `refused` was not */
	int64_t good_s; /* what DefectDojo has had until then, by `created`, was there when the branch was last let pass; 0: nothing */
	bool is_outdated; /* not the branch's last inspection; not in JSON */
};
void baseline_free(struct baseline *b); /* what it owns */
#define AUTO_BASELINE __attribute__((cleanup(baseline_free)))

/* All findings of an image. */
void baseline_make(const struct inspection *i, const struct image *m, struct baseline *ret);
void baseline_sort(struct baseline *b); /* after keys were added */
/* is_own: asked for by a job of that very branch. */
bool baseline_has(const struct baseline *b, bool is_own, const char *key);
/* Of a build id with BASELINE_BLOCKED: until when all is known; false: it has none. */
bool baseline_mark(const char *build_id, int64_t *ret_good_s);
/* The branch whose baseline this job leaves, NULL: it leaves none. */
const char *baseline_branch(const struct job_facts *job);

cJSON *baseline_to_json(const struct baseline *b);
/* Strict. `ret` is empty at the call, and to be freed even after an error. */
int baseline_from_json(const cJSON *j, struct baseline *ret, struct err *e);

/* For the report stage: "baseline-<index>" in out_fd. */
int baseline_write(const struct inspection *i, const struct image *m, size_t index, struct err *e);

/*
 * For the courier: the baseline that belongs to the delivery of this index, checked, with branch of the job, held against the one before;
 * ret->branch is NULL where none is to be kept. After an error ret->n_refused and ret->good_s count, as far as they are known. Then, when the delivery was taken in, it is kept. Old ones of the project that nobody renewed
 * for a quarter of a year go.
 */
int baseline_take(const struct kept *k, const struct inspection *i, size_t index, struct baseline *ret,
		  struct err *e);
int baseline_keep(const struct kept *k, const struct inspection *i, struct baseline *b, const char *build_id,
		  struct err *e);

struct baselines {
	struct baseline *v;
	size_t n;
};
void baselines_free(struct baselines *l);
/* Those of a project: of `first` branches (NULL at the end) before others, newest first, as far as the bounds go. */
int baselines_load(const struct kept *k, const char *project, const char *const *first, struct baselines *ret,
		   struct err *e);
cJSON *baselines_to_json(const struct baselines *l);
/* Adds those of an array that are any. */
void baselines_add_json(struct baselines *l, const cJSON *list);
/* Those of a branch, which are not the last ones. */
void baselines_set_outdated(struct baselines *l, const char *branch);
/* NULL: none. */
const struct baseline *baselines_find(const struct baselines *l, const char *branch, const char *image);

/* The image of what was delivered, whether DefectDojo has any finding of it or not: by the title of its test. */
void baseline_delivered(const char *product, const char *engagement, const char *test,
			char out[KEPT_KEY_SIZE]);
/* The image of findings that DefectDojo has, by the names with which they are delivered: 32 hex digits. */
void baseline_place(const char *product, const char *engagement, const char *service, char out[KEPT_KEY_SIZE]);
