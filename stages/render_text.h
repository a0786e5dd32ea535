/*
 * How a line of the job log looks: the words and marks of a verdict, colours, and wrapping at 80 columns. What is added here passed
 * str_add_safe() before. For render_log.c, render_log_table.c and render_log_verdict.c.
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"

#define RENDER_TEXT_COLUMNS 80
#define RENDER_TEXT_LINE_MAX 400 /* columns of one reason */

struct render_look {
	const char *mark, *word;
	const char *would; /* where nothing is stopped */
	const char *sgr;
};

const struct render_look *render_text_look(enum verdict v);

/* `tidewaiter scan`, `inspect`: files were given by name, there is no job. */
bool render_text_is_by_hand(const struct inspection *i);
/* In a job that nothing stops, nothing is "blocked". */
const char *render_text_verdict(const struct inspection *i, enum verdict v);
bool render_text_has_tables(const struct inspection *i);
/* The verdict below names each reason; only an audit's one sentence has no room for more than one. */
bool render_text_has_reasons(const struct inspection *i);

/* How many columns a safe text takes: its code points. */
size_t render_text_columns(const char *s);
/* Of a digest its first digits are enough for people, and fit on a phone; the reports have the whole. Owned by the caller. */
char *render_text_shorten(const char *text);
void render_text_add_coloured(const struct inspection *i, struct buf *out, const char *sgr, const char *text);
/* Words in lines of 80 columns, each indented, what follows "- " by two more; the text ends with its own newline. A longer word is not cut. */
void render_text_add(struct buf *out, size_t indent, const char *text);
void render_text_addf(struct buf *out, size_t indent, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A line each; the first ones, and how many more there are. */
void render_text_add_reasons(struct buf *out, size_t indent, const struct strv *reasons);
