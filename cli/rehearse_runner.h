/*
 * A stand-in for the program gitlab-runner, for jobs that are rehearsed: there is no GitLab that would take their
 * artifacts. `tidewaiter rehearse` puts a copy of itself under the name gitlab-runner beside a directory `uploads`;
 * what a job uploads lies in uploads/<type>/ afterwards, one upload per type as in GitLab. Caches are not kept.
 */
#pragma once

#include <stdbool.h>

#define REHEARSE_RUNNER_NAME "gitlab-runner"
#define REHEARSE_UPLOADS "uploads"

/* Was this program started under the name gitlab-runner (the file, not argv[0])? */
bool rehearse_runner_is_me(void);
/* The whole of that program; its exit code. */
int rehearse_runner_main(int argc, char **argv);
