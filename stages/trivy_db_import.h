/*
 * A database that somebody brings to a host without a network, told by its content:
 *
 *   - a directory with trivy.db (or trivy-java.db) and metadata.json;
 *   - the tar of these two, gzip or plain: db.tar.gz, javadb.tar.gz as `oras pull ghcr.io/aquasecurity/trivy-db:2` gives them;
 *   - the artifact as an OCI layout, a directory or a plain tar (`oras copy --to-oci-layout`, `skopeo copy … oci-archive:`):
 *     https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md. Digests and sizes are checked.
 *
 * Two names, once each, regular files, bounded; anything else is refused (ERR_REFUSED).
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "stages/trivy_db.h"

#define TRIVY_DB_IMPORT_MAX (UINT64_C(16) << 30) /* bytes of one database */

struct trivy_db_import;

/* Opens the path itself, following links: the caller's rights are those of an admin. */
int trivy_db_import_open(const char *path, struct trivy_db_import **ret, struct err *e);
/*
 * What is it? Parses, so privileges are to be gone by now. ERR_REFUSED for what is none of the above. An OCI layout that is a directory is read
 * with the rights of whoever runs this.
 */
int trivy_db_import_look(struct trivy_db_import *i, enum trivy_db_kind *ret_kind, struct err *e);
const char *trivy_db_import_name(const struct trivy_db_import *i); /* the path, for messages */
/* The two files, written into this directory. */
int trivy_db_import_copy(const struct trivy_db_import *i, int to_fd, struct err *e);
void trivy_db_import_free(struct trivy_db_import *i);
MEM_AUTO_DECLARE(trivy_db_import)
