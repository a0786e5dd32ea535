/*
 * A job out of a .gitlab-ci.yml, as far as it can be known without GitLab: extends, default, anchors, merge keys,
 * !reference and the file's variables are resolved; include, rules, needs and the like are not, and are named in notes.
 *
 * The outcome is an object in the form that rehearse_rules.h takes:
 *   name, stage, image           strings
 *   script[], after_script[]     lines; before_script stands before script
 *   variables[]                  key, value, public, file, masked, raw
 *   artifacts[], cache[], services[]   in the payload's form (PROTOCOL.md, 2)
 */
#pragma once

#include "base/json.h"
#include "base/str.h"

#define CI_FILE_MAX (1024 * 1024) /* bytes */
#define CI_NODES_MAX 100000	  /* after aliases are followed */

/*
 * name NULL: the only job, or the first one that a glob of `prefer` matches; else an error lists the names. The file
 * is that of a stranger: errors are ERR_REFUSED, or ERR_USAGE for a job that is not there.
 */
int ci_load_job(const char *path, const char *name, const struct strv *prefer, cJSON **ret_job,
		struct strv *ret_notes, struct err *e);

/* The same from text; `path` is for messages. */
int ci_parse_job(const char *path, const char *text, size_t len, const char *name, const struct strv *prefer,
		 cJSON **ret_job, struct strv *ret_notes, struct err *e);

/* Helpers for a job that is made from flags. */
void ci_add_variable(cJSON *variables, const char *key, const char *value, bool is_raw);
cJSON *ci_add_archive(cJSON *artifacts); /* an archive without paths; owned by `artifacts` */
