/*
 * The gate: decides what a report, a fault or the absence of images means. Reports are judged by the policy (policy_decide()),
 * which is the section gate of the settings where there is none. The functions here are pure, nothing is read or written;
 * stage_gate puts the answers into the inspection. What each verdict means: DESIGN.md, Failure.
 *
 * Where an exit code of a job is decided: gate_end() here says whether the job goes on, from verdict and mode;
 * executor/phase.c turns that into the runner's exit codes, cli/ into its own.
 */
#pragma once

#include "stages/inspection.h"
#include "stages/options.h"
#include "stages/policy_source.h"

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

/* The job as a policy sees it. What it points to is the caller's. */
struct policy_context;
void gate_context(const struct job_facts *job, struct policy_context *ret);

/* One image by i->policy, i->ignores and what is known besides. What was judged before is forgotten. */
struct known;
void gate_judge_image(const struct inspection *i, const struct known *known, struct image *m);

/* Fills i->ignores where a rule takes any: else nobody looks into the project's .git. What cannot be read is in i->ignores->notes. */
void gate_take_ignores(struct inspection *i);

/* *ret is NULL with an error where one is configured and cannot be used. */
struct policy;
int gate_load_policy(const struct options *o, const struct policy_source *source, struct policy **ret,
		     struct err *e);

/*
 * The mode that rules images which could not be looked at: they may be any. Without a policy that can judge: as the settings say, or as the last
 * version said, if that is stricter.
 */
int gate_mode_unread(const struct options *o, const struct job_facts *job, const struct policy_source *source);
