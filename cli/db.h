/* `tidewaiter db`: what its sub-verbs share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/command.h"
#include "executor/settings.h"
#include "stages/trivy_db.h"

struct db_arguments {
	bool is_forced; /* update, import: an older one, too */
	bool wants_json, verifies;
	int only;	  /* update: enum trivy_db_kind, -1: both */
	const char *file; /* import */
};

/* Exit code, or -1. As root they become the courier. */
int db_update(const struct cli *cli, const struct settings *s, const struct db_arguments *a, struct err *e);
int db_import(const struct cli *cli, const struct settings *s, const struct db_arguments *a, struct err *e);
int db_status(const struct settings *s, const struct db_arguments *a, struct err *e);

/* trivy.db_dir or trivy.java_db_dir */
const char *db_link_of(const struct settings *s, enum trivy_db_kind kind);

/*
 * Directories of the databases that we keep, made where they are missing: as root for courier_user, with the group of scan_user;
 * as an ordinary user for that one. What others keep stays untouched.
 */
int db_make_stores(const struct settings *s, struct err *e);
