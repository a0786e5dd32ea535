/*
 * The private directory of one inspection: <cache_dir>/work/<pid>-<start time>/, with out/ in it. What a killed process left
 * is removed by the next one that comes by.
 */
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "stages/pipeline.h"

struct workspace {
	int parent_fd; /* <cache_dir>/work */
	char *name;
	char *path; /* absolute */
	int fd, out_fd;
};

/* Makes cache_dir, too, where it is missing. */
int workspace_make(const char *cache_dir, struct workspace **ret, struct err *e);
/* The same for a process that lives longer than we, its parent: <pid>-<start time> are its. */
int workspace_make_for(pid_t pid, const char *cache_dir, struct workspace **ret, struct err *e);
void workspace_free(struct workspace *w);  /* removes it */
void workspace_leave(struct workspace *w); /* lets go of it; it stays */
MEM_AUTO_DECLARE(workspace)

/*
 * The users of the pipeline's children. As root both must be there (ERR_SETTINGS names `tidewaiter setup`); as an
 * ordinary user nothing is separated.
 */
int workspace_users(const char *scan_user, const char *courier_user, struct pipeline_users *ret,
		    struct err *e);
