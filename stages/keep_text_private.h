/* For keep_text*.c: what they share. */
#pragma once

#include "stages/keep_text.h"

#define NEVER INT64_MAX

/* What goes into DefectDojo's hash, or follows from it. */
struct texts {
	char *title, *description, *fixed, *severity, *cwe;
};

/* One finding that was sent before. */
struct entry {
	char key[KEPT_KEY_SIZE];
	struct texts first;
	/* what DefectDojo was last told */
	char *told_severity, *told_fixed;
	char told_words[KEPT_KEY_SIZE]; /* of title, description and fix */
	/* when its severity was below that one for the first time, by DefectDojo's clock; 0: from the beginning, or nobody knows */
	int64_t below_s[SEVERITY_COUNT];
	int64_t seen_s;
};

/* One finding of the report at hand. */
struct now {
	size_t entry;
	struct texts texts;
	char *id, *package, *version, *target, *type, *path;
};

struct keep_text {
	const struct kept *kept;
	struct fleet_place *place; /* NULL: this host's file alone */
	const struct delivery *delivery;
	const struct delivery_file *file; /* as it came */
	struct delivery_file own;	  /* in memory; -1: nothing had to be changed */
	size_t own_len;
	char *name;
	char *missed;	       /* keep_text_missed() */
	struct entry *entries; /* by key, those that are new behind them */
	size_t n_entries, n_sorted;
	struct now *now;
	size_t n_now, n_over; /* n_over: for which there was no place among the entries */
};

/* 32 hex digits that stand for title, description and fix. */
void keep_text_words(const struct texts *t, char out[KEPT_KEY_SIZE]);
/* ---- keep_text_store.c ---- */

void keep_text_free_entry(struct entry *x);	  /* what it owns */
struct entry *keep_text_add(struct keep_text *t); /* empty; pointers to others end their life here */
/* Of those that were read; SIZE_MAX: it was never sent. Those of this report are looked at one by one: there are few of the same key. */
size_t keep_text_find(const struct keep_text *t, const char *key);
/* What all hosts know comes first: what only we know is added. */
int keep_text_read(struct keep_text *t, int64_t deadline, struct err *e);
/*
 * What is kept, durably: 1, or 0 when another host has changed it meanwhile, or -1. ERR_NO_SPACE where there is no room for it; for the copy
 * of what is in a Redis there need not be.
 */
int keep_text_write(const struct keep_text *t, int64_t deadline, struct err *e);
bool keep_text_equal(const struct texts *a, const struct texts *b);
