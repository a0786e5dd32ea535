/*
 * The gate: decides, by options alone, what a report, a fault or the absence of images means. The functions here are pure,
 * nothing is read or written; stage_gate puts their answers into the inspection. What each verdict means: DESIGN.md, Failure.
 *
 * Where an exit code of a job is decided: gate_end() here says whether the job goes on, from verdict and mode;
 * executor/phase.c turns that into the runner's exit codes, cli/ into its own.
 */
#pragma once

#include "stages/inspection.h"
#include "stages/options.h"
#include "stages/report.h"

struct gate_judgement {
	enum verdict verdict;
	struct strv reasons; /* a line for people for each thing that made it other than pass */
	bool *is_blocking;   /* per finding of the report, NULL without findings */
	size_t n_blocking;
};

void gate_judgement_free(struct gate_judgement *j); /* what it owns */
#define AUTO_JUDGEMENT __attribute__((cleanup(gate_judgement_free)))

/* Does this finding block? */
bool gate_is_blocking(const struct options_gate *g, const struct finding *f);

/* The verdict on one image by its report. `ret` is empty at the call. */
void gate_judge_report(const struct options_gate *g, const struct report *r, struct gate_judgement *ret);

/* Refused input blocks, everything else that went wrong leaves it undecided. */
enum verdict gate_judge_fault(const struct err *fault);

/* A matching job that left no image: pass, warn or block, by inject.on_no_image. */
enum verdict gate_judge_no_image(int on_no_image);

enum gate_end {
	GATE_GO_ON,   /* the job's result stays as it is */
	GATE_BLOCKED, /* in the runner: build failure with 90; archives are withheld */
	GATE_STUCK,   /* in the runner: system failure, so that a retry is possible; archives are withheld */
};

/* What a verdict does to the job; mode is an enum gate_mode, on_error an enum on_error. */
enum gate_end gate_end(enum verdict verdict, int mode, int on_error);

/* "CRITICAL", "HIGH or worse", "CRITICAL that can be fixed": what the gate blocks, in words. Owned by the caller. */
char *gate_describe(const struct options_gate *g);
