/*
 * A job on its way through the four executables, by the order and the rules of runner-rules.json.
 */
#pragma once

#include <stdbool.h>

#include "cli/rehearse_log.h"
#include "cli/rehearse_rules.h"

/* What is put into the project directory when get_sources is over. */
struct rehearse_content {
	int project_fd;	   /* its entries; -1: nothing */
	const char *image; /* a file, which becomes tar_images/<its name>; NULL: none */
};

struct rehearse_play {
	const cJSON *rules, *payload;
	const char *programs_dir; /* tidewaiter-config … */
	const char *config_path;  /* for their --config */
	const char *dir;    /* of the rehearsal, absolute; `runner` and what keep_scripts keeps lie in it */
	bool keeps_scripts; /* the directories of the attempts stay */
	int64_t timeout_ms; /* of the job */
	struct rehearse_content content;
	struct rehearse_log *log;
};

enum rehearse_state { JOB_SUCCEEDED, JOB_FAILED, JOB_SYSTEM_FAILURE };

struct rehearse_outcome {
	enum rehearse_state state;
	char *reason;  /* GitLab's word, "script_failure"; NULL: none */
	int exit_code; /* 0: none */
};

/* SIGINT and SIGTERM are Cancel; a second one is Cancel pressed again, a third kills. -1 for faults on our side. */
int rehearse_play(const struct rehearse_play *p, struct rehearse_outcome *ret, struct err *e);
