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
	char *user_prefix;    /* slot users are <prefix>0 … <prefix><slots-1> */
	int64_t slots;
	int64_t slot_wait;    /* ms */
	struct strv groups;   /* more groups for job users */
	char *builds_dir, *cache_dir;
	bool keep_builds;
	char *path;	      /* PATH of job scripts */
	struct strv env_pass; /* names taken over from the runner's environment */
	struct strv env_set;  /* NAME=value */
	char *lang;
	char *runner_path;    /* name or absolute path of gitlab-runner */
	bool private_tmp;
	int on_image;	      /* enum settings_on_image */
	int64_t kill_wait;    /* ms between SIGTERM and SIGKILL for what a stage leaves behind; 0: at once */
};

struct settings {
	char *state_dir, *cache_dir;
	char *scan_user, *courier_user; /* "tidewaiter-scan", "tidewaiter" */
	struct settings_job job;
	struct options opt;
	struct conf_overrides projects;
	char *path; /* where they were read from */
};

extern const struct conf_schema settings_schema;

/* path NULL: the default; that one missing is an error that says how to make one. Errors are ERR_SETTINGS. */
int settings_load(const char *path, struct settings **ret, struct err *e);
void settings_free(struct settings *s);
MEM_AUTO_DECLARE(settings)
