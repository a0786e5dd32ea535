/* `tidewaiter spool flush`, and one pass over the spool for it and for `spool serve`. */
#pragma once

#include "base/err.h"
#include "cli/command.h"
#include "executor/settings.h"
#include "stages/spool.h"

struct flush {
	const char *server; /* NULL: all */
	/* The settings file, read before root became the courier, who may not read it. */
	const char *settings_text;
	size_t settings_len;
	int64_t deadline;
	struct fleet *fleet; /* what the hosts share; NULL: this one is alone */
	bool is_forced;	     /* --now */
	/* Of n_parts processes this one has the tests of part `part`; 0: all. */
	unsigned part, n_parts;
	bool leaves_young; /* what its job may still be delivering (defectdojo.wait) is left to it */
};

struct flush_pass {
	size_t n_delivered, n_dead;
	int64_t open_s; /* wall clock when an open fate is worth asking for again, 0: none is open */
	int64_t next_s; /* when the next pass has something to do, 0: not known of anything */
	char *stop; /* why one server cannot be asked at all, without it having been; NULL: none; owned by the caller */
};

/* All that is due, once, oldest first; a line for each delivery that was tried. */
int spool_flush_pass(const struct cli *cli, const struct settings *s, struct spool *spool,
		     const struct flush *f, struct flush_pass *ret, struct err *e);

/* Says a line for each delivery that it tried. Exit code: 0 nothing is left, 3 something waits or was given up. */
int spool_flush(const struct cli *cli, const struct settings *s, struct spool *spool, const struct flush *f,
		struct err *e);

/* Says where what waits comes near to the bounds of the spool. */
void spool_flush_warn(const struct cli *cli, const struct settings *s, const struct spool *spool);
