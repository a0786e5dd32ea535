/* Shared by policy_decide.c, policy_exception.c and policy_fate.c only. */
#pragma once

#include "stages/policy.h"

#define LINE_MAX_LEN 200 /* columns of what others wrote */

struct policy_id {
	const char *id; /* or alias */
	size_t entry;	/* in exceptions */
};

/* Exceptions by id: a report has thousands of findings, and so may a policy have of these. */
struct policy_index {
	enum exception_state *states; /* of each exception */
	struct policy_id *ids;	      /* sorted */
	size_t n_ids;
};

void policy_index_make(const struct policy *p, int64_t now_s,
		       struct policy_index *ret); /* `ret` is empty at the call */
void policy_index_free(struct policy_index *x);
#define AUTO_POLICY_INDEX __attribute__((cleanup(policy_index_free)))

struct policy_judge {
	const struct policy *policy;
	const struct policy_rule *rule;
	const struct policy_context *c;
	const struct policy_index *index;
	const char *arch; /* of the image, "" where it is not known */
	int severity;	  /* as the job tightened it */
	int64_t now_s;
	bool has_baseline;
	const char *baseline; /* the branch, NULL: not new-only */
};

/*
 * Is it the job's: "main", "refs/heads/main", "refs/tags/v1"? A tag may have the name of a branch, and be pushed by whoever may not push to that.
 */
bool policy_is_ref(const char *ref, const struct policy_context *c);

void policy_judge_finding(const struct policy_judge *j, const struct finding *f, struct finding_fate *ret);
/* It could be in grace, if it were known since when there is a fix. */
bool policy_lacks_fix_date(const struct policy_judge *j, const struct finding *f);

/* ---- names of an image ---- */

/* What it is called, by all its names; c->image first. Empty where that is not known. */
void policy_repositories(const struct policy_context *c, struct strv *ret);
/* One of them, or a whole name in it, is matched. */
bool policy_matches_repository(const struct strv *globs, const struct policy_context *c,
			       const char *repository);
