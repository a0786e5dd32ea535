/*
 * Images that live only in a container engine: what Docker or Podman has that it did not have before the job. By the
 * Docker Engine API (https://docs.docker.com/reference/api/engine/, GET /images/json and /images/get), which Podman speaks too.
 *
 * Whoever may talk to an engine is root by another name, so whoever parses what a job left never does: a process of its own
 * (engine_serve()) makes the requests, two kinds of them and no others, and passes on what comes, unread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#define ENGINE_LIST_MAX (32 * 1024 * 1024) /* bytes of a list */
#define ENGINE_IMAGES_MAX 100000	   /* in a list */
#define ENGINE_NAMES_MAX (48 * 1024)	   /* bytes of all names of one image */

struct engine_image {
	char *id; /* "sha256:…": of the config, or of manifest or index with the containerd image store */
	struct strv tags; /* "app:1.0", with Podman "localhost/app:1.0"; none for an untagged one */
};

/* What an engine had before the job: the text as it came, not read yet. */
struct engine_before {
	char *text;
	size_t len;
	bool was_there;
	char *fault; /* why nothing is known of it, NULL otherwise */
};

struct engine_images {
	struct engine_image *v;
	size_t n;
};

void engine_images_free(struct engine_images *l); /* what it owns */
#define AUTO_ENGINE_IMAGES __attribute__((cleanup(engine_images_free)))

/* What GET /images/json answers. ERR_FAILED: it is something else. In the order of ids. */
int engine_parse_list(const char *text, size_t len, struct engine_images *ret, struct err *e);

/*
 * Of `after` what `before` did not have: new ids with all their tags, and known ids with those tags that were not
 * theirs. Only tags that one of the globs matches count (`*` crosses no `/`, `**` does); an image that loses all of them is left out,
 * and untagged ones are counted in *ret_n_untagged (builders leave many of them), never returned.
 */
void engine_diff(const struct engine_images *before, const struct engine_images *after,
		 const struct strv *globs, struct engine_images *ret, size_t *ret_n_untagged);

/* Has this image these tags still, under this id? What moved meanwhile was not what was inspected. */
bool engine_has(const struct engine_images *l, const struct engine_image *m);

/* ---- the process that talks to engines ---- */

/* Serves requests on one end of a SOCK_SEQPACKET pair until the other is closed. `sockets`: paths, the engines by index. */
void engine_serve(int fd, const struct strv *sockets, int64_t export_timeout_ms);

/* The list as it comes, for later: GET /images/json. ENOENT or ECONNREFUSED in e->no: there is no such engine. */
int engine_fetch_list(const char *socket, struct buf *ret, struct err *e);

/* ---- the other end; one request at a time ---- */

/* ENOENT or ECONNREFUSED in e->no: there is no such engine. */
int engine_list(int fd, size_t engine, struct engine_images *ret, struct err *e);

/* Asks for an image as a tar. *ret_from is to be read to its end, and then closed by the caller. */
int engine_export_start(int fd, size_t engine, const struct engine_image *m, int *ret_from, struct err *e);
/* After that: -1 when the engine did not give all of it, and what was read is not the image. */
int engine_export_end(int fd, struct err *e);
