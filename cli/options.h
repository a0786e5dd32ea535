/*
 * Options of the verbs, from one table each: reading them, and their part of --help. Long options alone, as `--name
 * VALUE` or `--name=VALUE`, in any order with operands, up to `--`; given twice, the last counts (lists gather).
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

enum cli_option_kind {
	OPTION_FLAG,	 /* bool */
	OPTION_TEXT,	 /* const char *, of argv */
	OPTION_LIST,	 /* struct strv, freed by the caller */
	OPTION_DURATION, /* int64_t, ms */
	OPTION_WORD,	 /* int, an index into words; letter case does not count */
};

struct cli_option {
	const char *name;  /* without -- */
	const char *value; /* what stands for the value in --help, "DIR"; NULL for a flag */
	enum cli_option_kind kind;
	size_t offset;		  /* in the struct that is filled */
	const char *help;	  /* further lines behind \n */
	const char *const *words; /* OPTION_WORD; NULL at the end */
};

struct cli_options {
	const char *of; /* "spool list": for messages and --help */
	const struct cli_option *v;
	size_t n;
	const char *operands; /* what others there may be, "ID…"; NULL: none, which is checked */
};

/*
 * argv[0] is not looked at. What is no option stands in argv[1] … argv[*ret_n_operands] afterwards, in its order. Errors
 * are ERR_USAGE and name the option, what was found and what is allowed.
 */
int options_parse(const struct cli_options *o, int argc, char **argv, void *ret, int *ret_n_operands,
		  struct err *e);

void options_print(const struct cli_options *o, FILE *to); /* a line or more each, indented */
