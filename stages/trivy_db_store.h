/*
 * The databases that `tidewaiter db` keeps, of one kind in one directory:
 *
 *   <dir>/current -> 2026-11-24T06-12-00Z   the setting names this link
 *   <dir>/2026-11-24T06-12-00Z/             trivy.db, metadata.json, TRIVY_DB_MARK; the time is UpdatedAt
 *   <dir>/.lock                             held by who changes anything here
 *   <dir>/.new-…, .old-…, .link-…           what a killed process left; the next one removes it
 *
 * The directory is the courier's, its group the scanner's, with the set-group-ID bit, so that all in it has that group: nobody else can open the
 * database, and so nobody else can lock it (bbolt gives up after 5 s on a file that somebody has locked).
 *
 * Whoever reads goes through trivy_db_open(). A version is published by one rename of the link when it is whole, checked and on the disk; the one
 * before it is kept, older ones go when no scan holds their lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/trivy_db.h"

#define TRIVY_DB_STORE_MODE 02750
#define TRIVY_DB_KEPT 2 /* versions: the one in use and the one before */

struct trivy_db_store {
	enum trivy_db_kind kind;
	char *link; /* as the setting says */
	char *path; /* of the directory */
	char *name; /* of the link in it */
	int fd;
	int lock_fd; /* -1: not ours to change anything */
};

/*
 * Is it a place for a store: a name "current" that is a link of ours, or nothing yet? ERR_SETTINGS where an admin keeps the database by other
 * means.
 */
int trivy_db_store_check(enum trivy_db_kind kind, const char *link, struct err *e);
/* Makes the directory, for uid and gid where uid is not (uid_t)-1. One that is there stays as it is. */
int trivy_db_store_make(enum trivy_db_kind kind, const char *link, uid_t uid, gid_t gid, struct err *e);

int trivy_db_store_open(enum trivy_db_kind kind, const char *link, struct trivy_db_store **ret, struct err *e);
void trivy_db_store_free(struct trivy_db_store *s); /* unlocks */
MEM_AUTO_DECLARE(trivy_db_store)

/* Names, newest first by when they were published. */
int trivy_db_store_list(const struct trivy_db_store *s, struct strv *ret, struct err *e);
/* The name of the version in use, owned by the caller; NULL: none. */
char *trivy_db_store_current(const struct trivy_db_store *s);

/* To change anything. Removes what killed processes left. Held by another until the deadline: ERR_TIMEOUT. */
int trivy_db_store_lock(struct trivy_db_store *s, int64_t deadline, struct err *e);
/* A new private directory to bring a database into; its name is owned by the caller, who removes it in the end. */
int trivy_db_store_stage(const struct trivy_db_store *s, char **ret_name, struct err *e);

struct trivy_db_new {
	const char *from;  /* for messages: "ghcr.io/aquasecurity/trivy-db:2" */
	int fd;		   /* a directory in a stage; database and metadata.json are taken out of it */
	const char *stage; /* the stage's name */
	bool is_forced;	   /* older than the one in use, too */
	/* filled */
	struct trivy_db db;
	struct trivy_db_counts counts;
	char *name; /* of the new version; owned by the caller. NULL: the one in use is as new, and stays */
};
/*
 * Checks all of it, makes it durable and the one in use. On -1 nothing has changed: ERR_FAILED where it is no good, or older than the one in
 * use.
 */
int trivy_db_store_publish(const struct trivy_db_store *s, struct trivy_db_new *n, struct err *e);

/* Versions beyond TRIVY_DB_KEPT that no scan uses. How many stay because one does. */
int trivy_db_store_prune(const struct trivy_db_store *s, size_t *ret_busy, struct err *e);
