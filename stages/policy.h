/*
 * The policy: which findings block whom, what is excused, by whom and until when. Written in YAML
 * (docs/reference/policy.md, docs/policy.schema.json), read strictly; a decision is a pure function of policy, report, job,
 * what is known besides, and the day.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf_tree.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/inspection.h"
#include "stages/options.h"
#include "stages/report.h"

#define POLICY_MAX (1024 * 1024) /* bytes */
#define POLICY_DAY_S INT64_C(86400)

enum policy_flag { FLAG_ANY, FLAG_TRUE, FLAG_FALSE };
enum accept_scope { ACCEPT_BRANCH, ACCEPT_PRODUCT };
enum raised_severity { RAISED_ASK, RAISED_KEEP };
enum ignore_file { IGNORE_TRIVYIGNORE, IGNORE_OPENVEX };
extern const char *const ignore_file_words[]; /* "trivyignore", "openvex" */

#define MISCONFIGURATIONS_OFF 0 /* else 1 + enum severity */

/* Globs; an empty list matches all. All of them must match. */
struct policy_match {
	struct strv projects, branches, images, stages, jobs;
	int is_protected, is_tag; /* enum policy_flag */
};

struct policy_grace {
	int64_t published; /* days since the flaw was published; 0: none */
	int64_t fixed;	   /* days since there is a fix; 0: none */
};

struct policy_accept {
	int scope;	     /* enum accept_scope */
	int raised_severity; /* enum raised_severity */
};

struct policy_rule {
	char *name; /* unique */
	struct policy_match match;
	int mode;     /* enum gate_mode, never GATE_OFF in a file */
	int severity; /* enum severity: this and worse block */
	bool fixable_only;
	struct policy_grace grace;
	char *new_only; /* "off", "target", "default", or a branch */
	int on_no_packages, on_unknown_os, on_eol_os, on_hidden_packages, secrets; /* enum reaction */
	int misconfigurations; /* MISCONFIGURATIONS_OFF, or 1 + the severity from which they block */
	struct policy_accept accept;
	struct strv ignore_files; /* words of enum ignore_file */
	char *enforce_from;	  /* "" or a date: before it the rule is announced, and the next one judges */
	int64_t enforce_from_s;	  /* 0: none */
	size_t line;
};

/* What every one given must match. */
struct policy_exception {
	char *id;
	struct strv aliases;				   /* other ids of the same flaw */
	char *package, *versions, *purl, *image, *project; /* "" for any; the last two are globs */
	char *expires;					   /* a date, the last day it counts, in UTC */
	int64_t end_s;					   /* the first second it does not */
	char *reason, *owner, *ticket;
	size_t line;
};

struct policy_break_glass {
	char *name;    /* what TIDEWAITER_WAIVER says; unique */
	char *project; /* exactly */
	char *ref;     /* "main", refs/heads/main: the branch; refs/tags/v1: the tag */
	char *from;
	int64_t from_s, hours;
	char *who, *reason;
	size_t line;
};

/* Each is a struct conf_items to the reader. */
struct policy_rules {
	struct policy_rule *v;
	size_t n;
};
struct policy_exceptions {
	struct policy_exception *v;
	size_t n;
};
struct policy_break_glasses {
	struct policy_break_glass *v;
	size_t n;
};

struct policy {
	int64_t version, max_days;
	char *contact; /* who may except findings, in words; "" */
	struct policy_rules rules;
	struct policy_exceptions exceptions;
	struct policy_break_glasses break_glass;
	struct conf_places places;
	char *name;		      /* of the file, for messages; "" where it comes from the settings */
	struct policy_rule otherwise; /* judges where no rule matches: the section gate of the settings; name "" */
};

/*
 * `o` (may be NULL: defaults) gives the rule that judges where none of the policy's matches. ERR_SETTINGS: file, line, key,
 * what was found, what is allowed.
 */
int policy_parse(const char *name, const char *text, size_t len, const struct options *o, struct policy **ret,
		 struct err *e);
/* Without a policy: one rule, the section gate of the settings. */
void policy_from_options(const struct options *o, struct policy **ret);
void policy_free(struct policy *p);
MEM_AUTO_DECLARE(policy)

/* ---- what is known besides the report ---- */

/* An entry of a committed .trivyignore, .trivyignore.yaml or OpenVEX file. */
struct policy_ignore {
	int file; /* enum ignore_file */
	char *id;
	struct strv purls; /* one of them matches, as of an exception; empty: any package */
	struct strv paths; /* globs on the path of a language package or the target; empty: any */
	int64_t until_s;   /* 0: for ever */
	char *reason;
	char *image;	  /* repository of the image it is said of, or the last part of that; NULL: any */
	char *arch;	  /* and its architecture; NULL: any */
	int64_t said_s;	  /* OpenVEX: when it was said; 0: not known */
	size_t statement; /* OpenVEX: which one says it, of those that were read; 0: none */
};

enum accepted_kind { ACCEPTED_RISK, ACCEPTED_FALSE_POSITIVE, ACCEPTED_OUT_OF_SCOPE };
extern const char *const accepted_kind_words[]; /* "risk_accepted", "false_positive", "out_of_scope" */

/* What triage says of a finding, as it stands there: whether it counts is decided here. */
struct policy_accepted {
	enum accepted_kind kind;
	int64_t until_s;	/* 0: for ever */
	enum severity severity; /* when it was accepted */
	const char *branch;	/* of a tag "refs/tags/v1"; "" where it has none: then only product-wide */
	bool is_product_wide;
	const char *by; /* "DefectDojo finding 17": for people */
};

/* Look-ups that somebody else answers; each may be NULL: nothing is known. They must be pure. */
struct policy_known {
	const void *arg;
	/* The nth answer of triage on exactly this finding (id, component, version, path), false: there are no more. */
	bool (*accepted)(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret);
	/* Was it in the last delivered inspection of that branch? has_baseline: is there one? */
	bool (*has_baseline)(const void *arg, const char *branch);
	bool (*is_known)(const void *arg, const char *branch, const struct finding *f);
	/* Since when there is a fix, of a finding that has one; false: that is not known. */
	bool (*fix_since)(const void *arg, const struct finding *f, int64_t *ret_s);
};

struct policy_context {
	const char *project, *branch, *stage, *job;
	const char *default_branch, *target_branch; /* "" not known; target: of a merge request */
	bool is_tag, is_protected;
	/*
	 * Repository without registry; NULL: an archive that could not be read may be any. An image may have several, by its names: each is
	 * looked up by itself, and the strictest verdict counts, since the job that made it wrote them.
	 */
	const char *image;
	const struct strv *tags;   /* its names; NULL: none */
	const struct strv *hidden; /* package lists that Trivy does not see, a line each; NULL: none */
	/* The job's own wishes, hostile; "" or NULL where it has none. */
	const char *wants_severity, *wants_mode, *wants_waiver;
	const struct policy_ignore *ignores;
	size_t n_ignores;
	struct policy_known known;
};

/* ---- the decision ---- */

enum fate {
	FATE_BELOW, /* not severe enough, or without a fix where only those with one count */
	FATE_BLOCKS,
	FATE_IGNORED,  /* .trivyignore, OpenVEX */
	FATE_EXCEPTED, /* an exception of the policy */
	FATE_ACCEPTED, /* triage */
	FATE_KNOWN,    /* new-only: the other branch has it, too */
	FATE_GRACE,
	FATE_WAIVED, /* break-glass: it would block */
};
#define FATE_COUNT 8
extern const char *const fate_words[]; /* "below", "blocks" … */

struct finding_fate {
	enum fate fate;
	int64_t until_s; /* when what excuses it ends; 0: no end is known */
	char *by;	 /* what decided it, a line for people, safe to print */
	size_t entry;	 /* FATE_EXCEPTED: index in exceptions, FATE_IGNORED: in ignores */
	const char *lapsed; /* FATE_BLOCKS: in `by`, what excused it once and does no longer; NULL: nothing did */
};

struct decision {
	enum verdict verdict;
	int mode;     /* enum gate_mode, as tightened by the job */
	int severity; /* the same */
	bool fixable_only;
	const struct policy_rule *rule; /* of the policy */
	size_t rule_index;		/* rules.n: policy.otherwise */
	bool asks_baseline;		/* the rule of one of its names has new_only */
	bool has_baseline;		/* new_only, and the last inspection of the other branch is known */
	struct strv reasons;		/* a line for people for each thing that made it other than pass */
	struct strv notes; /* lines for people beside: announced rules, waivers, what a job may not ask for */
	struct finding_fate *fates; /* of each finding of the report; NULL without any */
	size_t n_findings, n_of_fate[FATE_COUNT];
	const struct policy_break_glass *waiver; /* in use and needed, NULL none */
	int64_t waiver_until_s;
};

/* `report` NULL: rule, mode and notes only, of an archive or an image without a report. `ret` is empty at the call. */
void policy_decide(const struct policy *p, const struct report *report, const struct policy_context *c,
		   int64_t today_s, struct decision *ret);
void decision_free(struct decision *d); /* what it owns */
#define AUTO_DECISION __attribute__((cleanup(decision_free)))

/* The first rule that matches; rules.n: none does. Announced ones (enforce_from) are passed over. */
size_t policy_find_rule(const struct policy *p, const struct policy_context *c, int64_t today_s);
const struct policy_rule *policy_rule_at(const struct policy *p, size_t index); /* rules.n: otherwise */
bool policy_rule_matches(const struct policy_rule *r, const struct policy_context *c);
/* No condition at all. */
bool policy_rule_matches_all(const struct policy_rule *r);
/* The branch that new_only of this rule compares this job with; NULL: none. */
const char *policy_new_only_branch(const struct policy_rule *r, const struct policy_context *c);
/* Adds the branches that new_only compares with in rules for this job, whatever its images. */
void policy_other_branches(const struct policy *p, const struct policy_context *c, struct strv *ret);
bool policy_is_announced(const struct policy_rule *r, int64_t today_s);

/* Does any of its rules ask since when there are fixes (grace.fixed)? */
bool policy_asks_fixes(const struct policy *p);

/* "HIGH or worse that can be fixed" */
char *policy_describe(int severity, bool fixable_only);

/* ---- exceptions (policy_exception.c) ---- */

enum exception_state { EXCEPTION_COUNTS, EXCEPTION_EXPIRED, EXCEPTION_TOO_LONG };
/* TOO_LONG: it ends later than max_days from today, and does not count for that. */
enum exception_state policy_exception_state(const struct policy *p, const struct policy_exception *x,
					    int64_t today_s);
bool policy_exception_matches(const struct policy_exception *x, const struct policy_context *c,
			      const struct finding *f);
/* The waiver that this job asks for and may have now, or NULL and why not in *ret_why (owned by the caller, NULL: none asked). */
const struct policy_break_glass *policy_find_waiver(const struct policy *p, const struct policy_context *c,
						    int64_t now_s, char **ret_why);

/* "2026-03-31" as seconds since the epoch, midnight UTC. */
bool policy_parse_date(const char *text, int64_t *ret_s);
void policy_format_date(int64_t s, char out[16]);
