/* What texts of the host's own settings must be (struct conf_rule, base/conf.h); those of the options: stages/option_rules.h. */
#pragma once

#include "base/conf.h"

extern const struct conf_rule rule_dir;		/* a directory, not / itself */
extern const struct conf_rule rule_job_dir;	/* the same, and fit for job scripts */
extern const struct conf_rule rule_user;	/* a user's name, never root */
extern const struct conf_rule rule_user_prefix; /* what such names begin with */
extern const struct conf_rule rule_group;
extern const struct conf_rule rule_path_list;  /* PATH */
extern const struct conf_rule rule_variable;   /* an environment variable's name */
extern const struct conf_rule rule_assignment; /* NAME=value; a refused one may be a secret and is not shown */
extern const struct conf_rule rule_locale;
extern const struct conf_rule rule_program; /* a name on PATH, or an absolute path */
