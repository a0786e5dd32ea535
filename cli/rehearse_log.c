#include "cli/rehearse_log.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define MASK "[MASKED]"

void
rehearse_log_init(struct rehearse_log *l, FILE *to, bool has_colour)
{
	*l = (struct rehearse_log){ .to = to, .has_colour = has_colour, .line = BUF_INIT(REHEARSE_LINE_MAX) };
}

void
rehearse_log_free(struct rehearse_log *l)
{
	buf_free(&l->line);
	strv_free(&l->secrets);
}

/* Bytes of an escape sequence (ESC [ … letter) at s, 0 for none. */
static size_t
sequence_len(const char *s)
{
	size_t n = 2;

	if (s[0] != '\033' || s[1] != '[')
		return 0;
	n += strspn(s + n, "0123456789;");
	return s[n] >= '@' && s[n] <= '~' ? n + 1 : 0;
}

/* Bytes of "section_start:<unix>:<name>\r" at s, 0 for none. */
static size_t
section_len(const char *s)
{
	const char *digits;
	const char *end;

	if (str_has_prefix(s, "section_start:"))
		digits = s + strlen("section_start:");
	else if (str_has_prefix(s, "section_end:"))
		digits = s + strlen("section_end:");
	else
		return 0;
	end = strchr(digits, '\r');
	return strspn(digits, "0123456789") > 0 && end ? (size_t)(end + 1 - s) : 0;
}

static size_t
secret_len(const struct rehearse_log *l, const char *s)
{
	for (size_t i = 0; i < l->secrets.n; i++)
		if (l->secrets.v[i][0] != '\0' && str_has_prefix(s, l->secrets.v[i]))
			return strlen(l->secrets.v[i]);
	return 0;
}

static size_t
stand_in_len(const struct rehearse_log *l, const char *s)
{
	return l->stand_in && str_has_prefix(s, l->stand_in) ? strlen(l->stand_in) : 0;
}

static void
flush_line(struct rehearse_log *l, const char *end)
{
	const char *s = buf_str(&l->line);
	size_t n;
	bool had_marker = false;
	bool has_text = false;

	while (*s) {
		if ((n = secret_len(l, s)) > 0) {
			fputs(MASK, l->to);
			has_text = true;
		} else if ((n = stand_in_len(l, s)) > 0) {
			fputs(l->original, l->to);
			has_text = true;
		} else if ((n = section_len(s)) > 0) {
			had_marker = true;
		} else if ((n = sequence_len(s)) > 0) {
			if (l->has_colour && s[n - 1] == 'm')
				fwrite(s, 1, n, l->to);
		} else {
			n = 1;
			fputc(*s, l->to);
			has_text = true;
		}
		s += n;
	}
	/* The line of a section's end holds nothing else. */
	if (has_text || !had_marker)
		fputs(end, l->to);
	fflush(l->to);
	buf_reset(&l->line);
}

void
rehearse_log_write(struct rehearse_log *l, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			flush_line(l, "\n");
		else if (data[i] != '\0')
			buf_add_char(&l->line, data[i]);
		if (l->line.len >= REHEARSE_LINE_MAX - 1)
			flush_line(l, "");
	}
}

void
rehearse_log_end_line(struct rehearse_log *l)
{
	if (l->line.len > 0)
		flush_line(l, "\n");
}

void
rehearse_log_say(struct rehearse_log *l, const char *sgr, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	rehearse_log_end_line(l);
	rehearse_log_write(l, sgr, strlen(sgr));
	rehearse_log_write(l, text, strlen(text));
	rehearse_log_write(l, LOG_RESET "\n", strlen(LOG_RESET "\n"));
}
