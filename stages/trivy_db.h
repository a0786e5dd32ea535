/*
 * Trivy's vulnerability database and its Java index: are they there, of the right schema, whole, young enough? Trivy itself
 * complains about none but the first two, and of a database that was damaged it may read what is left and call the rest clean.
 * https://trivy.dev/docs/latest/configuration/db/ ; SQLite's head: https://www.sqlite.org/fileformat2.html, 1.3
 *
 * A scan opens a directory once (trivy_db_open()): the link to it may be switched the next moment, and what is checked, what
 * Trivy reads and what the report says of it must be one version. While it is open, a directory that `tidewaiter db` keeps is
 * locked, so that no update removes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

#define TRIVY_DB_SCHEMA 2
#define TRIVY_JAVA_DB_SCHEMA 1
/*
 * In a directory that `tidewaiter db` made: who scans holds a shared lock (flock(2)) on it, who removes an exclusive one. Its
 * text says what was checked: {"file", "size", "mtime_ns", "updated_at", "digest", and the counts}.
 */
#define TRIVY_DB_MARK ".tidewaiter"
#define TRIVY_DB_MARK_MAX 4096 /* bytes */

#define TRIVY_DB_KINDS 2
enum trivy_db_kind { TRIVY_DB_VULNERABILITIES, TRIVY_DB_JAVA };

struct trivy_db_form {
	const char *what;	/* "vulnerability database" */
	const char *file;	/* "trivy.db" */
	const char *setting;	/* "trivy.db_dir" */
	const char *cache_name; /* below Trivy's cache directory */
	int64_t schema;
};
extern const struct trivy_db_form trivy_db_forms[]; /* by kind */

struct trivy_db_dir {
	enum trivy_db_kind kind;
	char *name;  /* as the setting says */
	int fd;	     /* the directory itself, O_RDONLY */
	int mark_fd; /* holds the lock; -1: somebody else's directory, or not ours to lock */
	bool is_new; /* on its way into a store: `tidewaiter db update` is not what mends it */
};
#define TRIVY_DB_DIR_INIT                \
	{                                \
		.fd = -1, .mark_fd = -1, \
	}
#define AUTO_TRIVY_DB_DIR __attribute__((cleanup(trivy_db_close)))

struct trivy_db_counts {
	uint64_t vulnerabilities; /* CVE and the like that have a description */
	uint64_t advisories;	  /* of a package in a source */
	uint64_t sources;
};

struct trivy_db {
	int64_t schema;
	int64_t updated_s;     /* UpdatedAt, seconds since the epoch */
	int64_t next_update_s; /* NextUpdate, 0: not said */
	int64_t age_ms;
	uint64_t size;		       /* bytes of the database file */
	bool is_ours;		       /* `tidewaiter db` brought it, and it is as it was then */
	struct trivy_db_counts counts; /* where is_ours: as they were counted then */
};

/* `dir` may be a link to it. Not there: ERR_FAILED with ENOENT; the message names the setting and `tidewaiter db update`. */
int trivy_db_open(enum trivy_db_kind kind, const char *dir, struct trivy_db_dir *ret, struct err *e);
void trivy_db_close(struct trivy_db_dir *d);

/*
 * now_s and max_age_ms (0: any age) judge UpdatedAt; of the Java index, which only gains entries, pass 0. An error says in one line what is wrong and
 * how to mend it. ret is filled as far as known when the age alone is wrong.
 */
int trivy_db_judge(const struct trivy_db_dir *d, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret,
		   struct err *e);

/* Names of its topmost buckets, sorted: "debian 12", "alpine 3.19", and those of other sources. */
int trivy_db_list_releases(const struct trivy_db_dir *d, struct strv *ret, struct err *e);

/*
 * All of the database's pages (seconds for a real one). Of the Java index its head and length. counts may be NULL; they are zero for Java.
 */
int trivy_db_verify(const struct trivy_db_dir *d, struct trivy_db_counts *counts, struct err *e);

/* Opens, judges, closes. */
int trivy_db_check(const char *dir, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret, struct err *e);
int trivy_java_db_check(const char *dir, struct err *e);
