/*
 * How the pipeline runs the stages of one place: in this process, or in a confined child that gives an answer of fixed size.
 * For pipeline.c alone.
 */
#pragma once

#include "stages/pipeline.h"

struct pipeline {
	const struct stage *const *stages; /* in order, NULL at the end */
	bool scans;			   /* Trivy is among them */
	struct inspection *i;
	const struct pipeline_users *users;
	int sigfd; /* tells when we are to stop */
};

/* Those of `place`, in this process. */
int pipeline_run_stages(const struct pipeline *p, enum stage_place place, struct err *e);

/*
 * Those of `place` in a child, as the user and with the view that the place has. *ret (NULL: nobody asks): what the child made of it,
 * and the archives of p->i are marked accordingly. -1: a stage's fault, a child that ended without a valid answer, or we were told to stop and killed it.
 */
int pipeline_run_child(const struct pipeline *p, enum stage_place place, struct pipeline_result *ret,
		       struct err *e);
