/*
 * Trivy's vulnerability database: is it there, of the right schema, whole, young enough? Trivy itself complains about
 * none but the first two, and of a database that was cut it may read what is left and call the rest clean.
 * https://trivy.dev/docs/latest/configuration/db/ ; bbolt's file format: https://pkg.go.dev/go.etcd.io/bbolt
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define TRIVY_DB_SCHEMA 2
#define TRIVY_JAVA_DB_SCHEMA 1

struct trivy_db {
	int64_t updated_s; /* UpdatedAt, seconds since the epoch */
	int64_t age_ms;
	uint64_t size; /* bytes of trivy.db */
};

/*
 * `dir` holds trivy.db and metadata.json; now_s and max_age_ms (0: any age) judge UpdatedAt. An error says in one line what is
 * wrong and how to mend it. ret is filled as far as known when the age alone is wrong.
 */
int trivy_db_check(const char *dir, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret, struct err *e);

/* The same for the Java index (trivy-java.db), which has no maximum age here: it only gains entries. */
int trivy_java_db_check(const char *dir, struct err *e);
