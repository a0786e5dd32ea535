#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

bool
log_is_terminal(FILE *to)
{
	return isatty(fileno(to)) && !str_eq(getenv("TERM"), "dumb");
}

bool
log_shows_colour(FILE *to)
{
	return log_is_terminal(to) && str_is_empty(getenv("NO_COLOR"));
}

void
log_init(struct log *l, FILE *to)
{
	*l = (struct log){ .to = to, .level = LOG_NOTE, .has_colour = log_shows_colour(to) };
}

const char *
log_colour(const struct log *l, const char *sgr)
{
	return l->has_colour ? sgr : "";
}

void
log_line(const struct log *l, enum log_level level, const char *fmt, ...)
{
	static const struct {
		const char *word, *sgr;
	} looks[] = {
		[LOG_ERROR] = { "error: ", LOG_RED },
		[LOG_WARN] = { "warning: ", LOG_YELLOW },
		[LOG_NOTE] = { "", "" },
		[LOG_DEBUG] = { "debug: ", "" },
	};
	AUTO_FREE char *text = NULL;
	const char *sgr;
	va_list ap;

	if (level > l->level)
		return;
	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	sgr = log_colour(l, looks[level].sgr);
	/* one write per line: the runner stamps lines of two pipes as they come */
	fprintf(l->to, "%stidewaiter: %s%s%s\n", sgr, looks[level].word, text, *sgr ? LOG_RESET : "");
	fflush(l->to);
}

void
log_section_start(const struct log *l, const char *name, const char *title, bool is_collapsed)
{
	fprintf(l->to, "\033[0Ksection_start:%jd:%s%s\r\033[0K%s%s%s\n", (intmax_t)clock_wall_s(), name,
		is_collapsed ? "[collapsed=true]" : "", log_colour(l, LOG_CYAN), title,
		log_colour(l, LOG_RESET));
	fflush(l->to);
}

void
log_section_end(const struct log *l, const char *name)
{
	fprintf(l->to, "\033[0Ksection_end:%jd:%s\r\033[0K\n", (intmax_t)clock_wall_s(), name);
	fflush(l->to);
}
