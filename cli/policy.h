/* What the verbs of `tidewaiter policy` share. */
#pragma once

#include <stdio.h>

#include "cli/command.h"
#include "executor/settings.h"
#include "stages/policy.h"
#include "stages/policy_source.h"

struct policy_opened {
	struct settings *settings; /* NULL where a file was named and no settings: the defaults count */
	struct policy *policy;
	char *origin; /* "file policy.yml" */
	char *note;   /* NULL, or a line for people: why it is an older version */
};

/* `file` NULL: what policy.file and policy.url of the settings say, which is an error where they say nothing. */
int policy_open(const struct cli *cli, const char *file, struct policy_opened *ret, struct err *e);
/* As a job of that project is judged (NULL: of any): with its settings, and by the section gate where no policy is named. */
int policy_open_for(const struct cli *cli, const char *file, const char *project, struct policy_opened *ret,
		    struct err *e);
void policy_close(struct policy_opened *o);
#define AUTO_POLICY_OPENED __attribute__((cleanup(policy_close)))

/* "2026-01-31", or with a time; NULL: now. */
int policy_read_day(const char *text, int64_t *ret_s, struct err *e);
/* As whoever may; to be parsed as somebody who need not. */
int policy_open_report(int dirfd, const char *path, int *ret_fd, struct err *e);
int policy_parse_report(int fd, const char *path, struct report **ret, struct err *e);
int policy_read_report(int dirfd, const char *path, struct report **ret, struct err *e);
const char *policy_rule_name(const struct policy *p,
			     const struct decision *d); /* "(settings)" where no rule matches */

/* argv[0] is the action. Exit codes, or -1. */
int policy_check(const struct cli *cli, int argc, char **argv, struct err *e);
int policy_test(const struct cli *cli, int argc, char **argv, struct err *e);
int policy_explain(const struct cli *cli, int argc, char **argv, struct err *e);
int policy_fetch(const struct cli *cli, int argc, char **argv, struct err *e);
extern const struct cli_options policy_check_options, policy_test_options, policy_explain_options,
	policy_fetch_options;

/* What the settings name, brought by whoever may read it. `flags`: enum policy_git_flags. */
int policy_load_configured(const struct settings *s, unsigned flags, struct policy_source *ret, struct err *e);
