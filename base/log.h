/*
 * What programs say to people. Lines go to one stream with a prefix; colours
 * only where asked for. Text of strangers passes str_add_safe() first.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_DEBUG };

/* The runner's own colours in a job log (ANSI SGR). */
#define LOG_RED "\033[31;1m"
#define LOG_GREEN "\033[32;1m"
#define LOG_YELLOW "\033[0;33m"
#define LOG_BLUE "\033[34;1m" /* unused by the runner for errors */
#define LOG_CYAN "\033[36;1m"
#define LOG_BOLD "\033[1m"
#define LOG_RESET "\033[0;m"

struct log {
	FILE *to;
	bool has_colour;
	enum log_level level; /* lines above it are dropped */
};

/* One that understands escape sequences: not with TERM=dumb. */
bool log_is_terminal(FILE *to);
/* Such a terminal, and NO_COLOR is not set (https://no-color.org). */
bool log_shows_colour(FILE *to);
void log_init(struct log *l, FILE *to);
void log_line(const struct log *l, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
const char *log_colour(const struct log *l, const char *sgr); /* "" without colours */

/* Job log sections: https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections */
void log_section_start(const struct log *l, const char *name, const char *title, bool is_collapsed);
void log_section_end(const struct log *l, const char *name);
