/*
 * The settings file, /etc/tidewaiter/tidewaiter.yml. `tidewaiter.yml.example` is printed from the
 * tables in settings.c and stages/options.c.
 */
#pragma once

#include "base/conf.h"
#include "base/mem.h"
#include "stages/options.h"

#define SETTINGS_MAX (1024 * 1024) /* bytes */
/* SETTINGS_PATH_DEFAULT is set by the build: <sysconfdir>/tidewaiter/tidewaiter.yml */

enum settings_on_image { ON_IMAGE_WARN, ON_IMAGE_FAIL };

struct settings_job {
	char *user_prefix; /* slot users are <prefix>0 … <prefix><slots-1> */
	int64_t slots;
	int64_t slot_wait;  /* ms */
	struct strv groups; /* more groups for job users */
	char *builds_dir,
		*cache_dir; /* empty in the file: below state_dir and cache_dir; never empty after settings_load() */
	bool keep_builds;
	char *path;	      /* PATH of job scripts */
	struct strv env_pass; /* names taken over from the runner's environment */
	struct strv env_set;  /* NAME=value */
	char *lang;
	char *runner_path; /* name or absolute path of gitlab-runner */
	bool private_tmp;
	int on_image;	   /* enum settings_on_image */
	int64_t kill_wait; /* ms between SIGTERM and SIGKILL for what a stage leaves behind; 0: at once */
};

struct settings {
	char *state_dir, *cache_dir;
	char *scan_user, *courier_user; /* "tidewaiter-scan", "tidewaiter" */
	struct settings_job job;
	struct options opt;
	struct conf_overrides projects;
	struct conf_places places; /* of what stands in the file */
	char *path;		   /* where they were read from */
};

extern const struct conf_schema settings_schema;
/* The section `job` alone, within struct settings_job: for the plan. */
extern const struct conf_schema settings_job_schema;

/*
 * path NULL: the default; that one missing is an error that says how to make one. Errors are ERR_SETTINGS and name file,
 * line, key, what was found and what is allowed; every entry of projects[] is checked, too. File, link and the directories
 * they lie in must be root's or ours and writable by nobody else: who can write the settings rules what we run as.
 */
int settings_load(const char *path, struct settings **ret, struct err *e);
/* What settings_load() reads, as text: owner and modes are checked, at most SETTINGS_MAX bytes. */
int settings_read_text(const char *path, char **ret, size_t *ret_len, struct err *e);
/* The same from text; `name` is for messages. */
int settings_parse(const char *name, const char *text, size_t len, struct settings **ret, struct err *e);
void settings_free(struct settings *s);
MEM_AUTO_DECLARE(settings)

/* Applies what projects[] says of this project. The glob that matched, owned by s, or NULL. */
const char *settings_apply_project(struct settings *s, const char *project);

/*
 * What is possible and yet hardly meant, a line each, with file, line and key where it stands in the file: files that are
 * named and are not there or open to others, a server without TLS or without a token, an entry of projects[] that is never
 * reached. Nothing here stops a job.
 */
void settings_warnings(const struct settings *s, struct strv *ret);

/* The file's own defaults as text, with the enforcing examples: tidewaiter.yml.example. */
void settings_print_example(struct buf *out);
