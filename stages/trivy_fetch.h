/*
 * Trivy's own download of its databases: one program, one repository, one new directory. Trivy checks the artifact's digest; what came is for
 * trivy_db_store_publish() to judge. https://trivy.dev/docs/latest/configuration/db/
 *
 * Nothing secret stands in its arguments or environment: registry credentials are a file, which Trivy opens by itself. Proxy and CA
 * are what the settings say, whatever our own environment holds. As long as it runs it dies with us.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "stages/options.h"
#include "stages/trivy_db.h"

/*
 * stage_fd: an empty private directory, stage_path its absolute path. *ret_fd: the directory in it that holds what came. stop_fd: readable
 * when it is to end (NULL: never).
 */
int trivy_fetch(const struct options_trivy *opt, enum trivy_db_kind kind, const char *repository,
		int stage_fd, const char *stage_path, const int *stop_fd, int *ret_fd, struct err *e);

/* The reason in Trivy's standard error, its lines joined; fit for people. Owned by the caller. */
char *trivy_fetch_explain(const char *stderr_text);
