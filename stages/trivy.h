/*
 * Trivy as a program: https://trivy.dev/docs/latest/references/configuration/cli/trivy_image/
 *
 * It is run by absolute path from the descriptor that was checked, with an environment, a HOME and a working directory of its
 * own making, and with every flag that matters, so that nothing of a job (TRIVY_*, trivy.yaml, .trivyignore) has an effect.
 * A valid report of the right image from a supported version and exit 0, or the scan failed.
 *
 * Memory: RLIMIT_DATA is trivy.memory_max, so that the kernel refuses more private memory (Go then ends with "out of memory"),
 * and GOMEMLIMIT nine tenths of it, so that Go collects before. RLIMIT_AS would count the database, which is mapped.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "stages/options.h"
#include "stages/report.h"
#include "stages/trivy_db.h"

/* What we were tested with, and what we trust to write schema 2 and to know the flags. */
#define TRIVY_VERSION_MIN "0.74.0"
#define TRIVY_VERSION_BELOW "1.0.0"

struct trivy {
	const struct options_trivy *opt;
	int fd;		  /* the executable */
	char *dir;	  /* absolute: what is below was made by trivy_open() */
	char *cwd, *home; /* empty directories */
	char *cache;	  /* db and java-db in it lead to the directories that trivy_take_db() was given */
	char *config;	  /* a file, empty but for the server's token */
	char *nothing;	  /* a name that is not there */
	struct trivy_db_dir dbs[TRIVY_DB_KINDS];
	int server_port; /* of a relay on 127.0.0.1 (relay.h), 0: none */
};

/* The executable, open, and with the SHA-256 that the options name. Descriptor. */
int trivy_open_program(const struct options_trivy *opt, struct err *e);

/*
 * Opens the executable, checks its SHA-256 where the options name one, and makes the private directory "trivy" below
 * work_dir (absolute, and work_fd the same).
 */
int trivy_open(const struct options_trivy *opt, int work_fd, const char *work_dir, struct trivy **ret,
	       struct err *e);
void trivy_free(struct trivy *t); /* leaves the directories to the owner of work_dir */
MEM_AUTO_DECLARE(trivy)

/*
 * Takes the opened directory over: every Trivy inherits its descriptor and reads that very directory, whatever becomes of its name.
 * One of each kind, before the first scan.
 */
int trivy_take_db(struct trivy *t, struct trivy_db_dir *db, struct err *e);

/* Every Trivy asks the server behind that port for vulnerabilities, and says that token, which stands in a file of its own. */
int trivy_use_server(struct trivy *t, int port, const char *token, struct err *e);

/*
 * Scans an OCI layout directory (absolute path). Thread-safe. *ret_json holds at most opt->report_max bytes. Ended at once when
 * *stop_fd becomes readable (NULL: never), which is an error like a timeout.
 */
int trivy_scan(const struct trivy *t, const char *layout, const int *stop_fd, struct buf *ret_json,
	       struct err *e);

/* All that it is told by arguments and environment, in a form that is the same for every inspection that tells it the same. */
void trivy_describe(const struct trivy *t, struct buf *out);

/* How every Trivy is started: the very file behind *fd, whatever has become of its name, in a group of its own; `s` is made anew. */
#define TRIVY_PATH_SIZE 64
struct proc_spec;
void trivy_spec_init(struct proc_spec *s, char path[TRIVY_PATH_SIZE], const int *fd, char *const *argv,
		     char *const *envp, int cwd_fd);

/* What `trivy version` says, "0.74.0". Costs a start of Trivy, about 60 ms; a report says it for nothing. */
int trivy_ask_version(const char *path, char **ret, struct err *e);

/* Within the supported range? The error names both. */
int trivy_check_version(const char *version, struct err *e);

/* The line of Trivy's standard error that says why it failed, fit for people. Owned by the caller; never NULL. */
char *trivy_explain(const char *stderr_text);
