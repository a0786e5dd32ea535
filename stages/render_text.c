#include "stages/render_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/render_log.h"

#define REASONS_SHOWN 8
#define DIGEST_SHOWN 12
#define DIGEST_MIN 40 /* hex digits that are taken for a digest */

const struct render_look *
render_text_look(enum verdict v)
{
	static const struct render_look looks[] = {
		[VERDICT_PASS] = { "✓", "passed", "passed", LOG_GREEN },
		[VERDICT_WARN] = { "!", "passed with warnings", "passed with warnings", LOG_YELLOW },
		[VERDICT_UNDECIDED] = { "?", "undecided", "undecided", LOG_RED },
		[VERDICT_BLOCK] = { "✗", "blocked", "would be blocked", LOG_RED },
	};

	return &looks[v];
}

bool
render_text_is_by_hand(const struct inspection *i)
{
	return i->project_fd < 0;
}

const char *
render_text_verdict(const struct inspection *i, enum verdict v)
{
	const struct render_look *look = render_text_look(v);

	return render_text_is_by_hand(i) || inspection_mode(i) == GATE_ENFORCE ? look->word : look->would;
}

bool
render_text_has_tables(const struct inspection *i)
{
	return render_text_is_by_hand(i) || inspection_mode(i) != GATE_AUDIT;
}

bool
render_text_has_reasons(const struct inspection *i)
{
	return !render_text_has_tables(i) && i->reasons.n > 1;
}

size_t
render_text_columns(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

char *
render_text_shorten(const char *text)
{
	AUTO_BUF struct buf out = BUF_INIT(RENDER_LOG_MAX);

	while (*text) {
		size_t len = strspn(text, "0123456789abcdef");

		buf_add(&out, text, len >= DIGEST_MIN ? DIGEST_SHOWN : len);
		if (len >= DIGEST_MIN)
			buf_add_str(&out, "…");
		text += len;
		if (*text)
			buf_add_char(&out, *text++);
	}
	return mem_strdup(buf_str(&out));
}

void
render_text_add_coloured(const struct inspection *i, struct buf *out, const char *sgr, const char *text)
{
	const char *start = log_colour(i->log, sgr);

	buf_printf(out, "%s%s%s", start, text, *start ? LOG_RESET : "");
}

void
render_text_add(struct buf *out, size_t indent, const char *text)
{
	size_t hang = str_has_prefix(text, "- ") ? 2 : 0, at = 0;

	for (bool is_first = true; *text;) {
		size_t len = strcspn(text, " \n");
		AUTO_FREE char *word = mem_strndup(text, len);
		size_t width = render_text_columns(word);

		if (at > 0 && at + 1 + width > RENDER_TEXT_COLUMNS) {
			buf_add_char(out, '\n');
			at = 0;
		}
		if (at == 0) {
			at = indent + (is_first ? 0 : hang);
			buf_printf(out, "%*s", (int)at, "");
			is_first = false;
		} else {
			buf_add_char(out, ' ');
			at++;
		}
		buf_add_str(out, word);
		at += width;
		text += len;
		text += *text != '\0';
	}
	if (at > 0)
		buf_add_char(out, '\n');
}

void
render_text_addf(struct buf *out, size_t indent, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	render_text_add(out, indent, text);
}

void
render_text_add_reasons(struct buf *out, size_t indent, const struct strv *reasons)
{
	for (size_t k = 0; k < reasons->n && k < REASONS_SHOWN; k++) {
		AUTO_FREE char *text = str_safe(reasons->v[k], RENDER_TEXT_LINE_MAX);
		AUTO_FREE char *shown = render_text_shorten(text);

		render_text_add(out, indent, shown);
	}
	if (reasons->n > REASONS_SHOWN)
		buf_printf(out, "%*s… and %zu more\n", (int)indent, "", reasons->n - REASONS_SHOWN);
}

void
render_time(int64_t wall_s, char out[32])
{
	char date[32];

	if (wall_s == 0) {
		snprintf(out, 32, "an unknown time");
		return;
	}
	clock_format_rfc3339(wall_s, date);
	snprintf(out, 32, "%.10s %.5s UTC", date, date + 11);
}

void
render_counts(const struct report *r, struct buf *out)
{
	bool is_first = true;

	for (int s = SEVERITY_COUNT - 1; s >= 0; s--) {
		if (r->n_of_severity[s] == 0)
			continue;
		buf_printf(out, "%s%zu %s", is_first ? "" : ", ", r->n_of_severity[s], severity_words[s]);
		is_first = false;
	}
}
