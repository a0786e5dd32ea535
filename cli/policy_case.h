/* One case of `tidewaiter policy test`: a YAML file, read as strictly as a policy. docs/reference/policy.md */
#pragma once

#include "stages/policy.h"

struct policy_case_job {
	char *project, *branch, *stage, *name, *default_branch, *target_branch, *image;
	struct strv tags; /* of the image */
	bool is_protected, is_tag;
	char *severity, *mode, *waiver; /* what it asks for */
};

struct policy_case_triage {
	char *id, *package, *version, *branch, *until, *by;
	int kind;     /* enum accepted_kind */
	int severity; /* enum severity */
	bool is_product_wide;
	int64_t until_s;
};

struct policy_case_ignore {
	char *id, *until, *reason;
	int file; /* enum ignore_file */
	struct strv purls, paths;
};

struct policy_case_known {
	char *id, *package;
};

struct policy_case_fix {
	char *id, *package, *since;
	int64_t since_s;
};

struct policy_case_expect {
	int verdict;		       /* enum verdict of pass, warn, block */
	char *rule;		       /* "" not said */
	int mode;		       /* 0 not said, else enum gate_mode */
	struct strv fates[FATE_COUNT]; /* ids; counts where has_fate */
	bool has_fate[FATE_COUNT];
	struct strv says; /* texts that reasons and notes hold */
};

struct policy_case {
	char *report; /* below the directory of the cases */
	char *today;
	int64_t today_s;
	struct policy_case_job job;
	struct strv hidden;
	bool is_release_unknown; /* Trivy's database has nothing of it */
	struct conf_items triage, ignores;
	char *baseline_branch; /* "": none was delivered */
	struct conf_items baseline;
	struct conf_items fixes; /* that were seen before today */
	struct policy_case_expect expect;
	struct policy_ignore *given; /* of `ignores`, borrowed */
};

#define POLICY_CASE_MAX (1024 * 1024) /* bytes */

int policy_case_read(const char *name, const char *text, size_t len, struct policy_case **ret, struct err *e);
void policy_case_free(struct policy_case *c);
MEM_AUTO_DECLARE(policy_case)

/* What is different from what is expected, a line each; none: the case holds. */
void policy_case_run(const struct policy_case *c, const struct policy *p, const struct report *r,
		     struct strv *ret);
