/*
 * The key of a result: a SHA-256 over everything that decides what Trivy says of an image. The config's digest stands for the
 * image, since every layer was checked against it. The flags come from the very function that builds Trivy's command
 * line, so that none can be forgotten.
 */
#pragma once

#include <stdint.h>

#include "stages/result_cache.h"
#include "stages/result_entry.h"
#include "stages/trivy.h"
#include "stages/trivy_db.h"

struct result_source {
	char program[80];	  /* digest of Trivy's program */
	char server[32];	  /* version of the Trivy server whose database `db` is, "" without one */
	struct trivy_db db, java; /* java: zero when there is none */
};

/* SHA-256 of the open program, from the cache where the same file was hashed before. */
int result_source_of_program(const struct result_cache *memo, int fd, struct result_source *ret,
			     struct err *e);

/* now_s: its day counts, since Trivy judges by the calendar whether a system is past its end of life. */
void result_key(const struct trivy *t, const struct result_source *s, int64_t now_s,
		const char *config_digest, char ret[RESULT_KEY_LEN + 1]);
