/*
 * The archive upload of a job, carried by the driver.
 *
 * In the upload stage of an inspected job a small program named `gitlab-runner` stands first in the script's PATH
 * (upload_shim.c). It does nothing by itself: it tells the driver its arguments over a socket and is told either to become the real
 * gitlab-runner or what exit code to end with. The archive's upload the driver starts itself: the real gitlab-runner, as the job's user, in the
 * project directory that the plan names, with an environment built from nothing and the job token and address of the trusted payload, shielded from
 * the job's processes. So `was_uploaded` rests on what the driver saw, never on what somebody said.
 *
 * Messages, SOCK_SEQPACKET: the program sends its arguments, each with a NUL behind it, at most UPLOAD_ASK_MAX bytes in one message; the
 * answer is 'x' and a path (exec it), or 'e' and an exit code in decimal.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "executor/env.h"
#include "executor/payload.h"
#include "executor/plan.h"

#define UPLOAD_ASK_MAX (128 * 1024)    /* bytes */
#define UPLOAD_ENV "TIDEWAITER_UPLOAD" /* names the abstract socket to the shim: 32 hexadecimal digits */
#define UPLOAD_TIMEOUT_MS (60 * 60 * 1000)

struct upload {
	const struct plan *plan;
	const struct env_ops *env;
	const struct payload *payload;
	char *runner; /* absolute path of the real gitlab-runner */
	int listen_fd;
	char name[33];	   /* of the socket */
	unsigned n_asked;  /* archive uploads that were asked for */
	bool was_uploaded; /* one was asked for, and gitlab-runner ended with 0 */
	/* Called before it is started; an error ends the stage. NULL: nothing to do. */
	int (*before)(void *arg, struct err *e);
	void *before_arg;
};

/* Everything that is needed for serving; upload_free() closes. */
int upload_open(struct upload *u, const struct plan *p, const struct env_ops *env,
		const struct payload *payload, struct err *e);
void upload_free(struct upload *u);
/* For env_stage.serve; arg is the struct upload. One connection; faults of the other side are answered with exit code 1, not an error. */
int upload_serve(void *arg, struct err *e);

/* An artifact that the driver uploads by itself; GitLab takes one of each type per job. */
struct upload_artifact {
	const char *type, *format; /* as GitLab pairs them */
	const char *name;
	const char *path; /* below the project directory; nothing there is nothing to upload */
};
/* *ret_code: gitlab-runner's exit code. */
int upload_own(const struct plan *p, const struct env_ops *env, const struct payload *payload,
	       const struct upload_artifact *a, int *ret_code, struct err *e);

/* Is this the upload of an archive? argv as gitlab-runner gets it, argv[0] left out. */
bool upload_is_archive(const struct strv *args);
/* The arguments for the real one: without --url, --id and --token, which go through the environment; with --path `dir` when not NULL. */
void upload_build_args(const struct strv *args, const char *dir, struct strv *ret);
