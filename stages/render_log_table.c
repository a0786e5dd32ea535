#include "stages/render_log_table.h"

#include <string.h>

#include "base/mem.h"
#include "stages/policy.h"
#include "stages/render_text.h"

#define PACKAGE_MAX 24
#define INSTALLED_MAX 16
#define FIXED_MAX 20

enum column { COLUMN_PACKAGE, COLUMN_INSTALLED, COLUMN_FIXED, COLUMN_SEVERITY, COLUMN_COUNT };

static const struct {
	const char *head;
	size_t max;
} table[COLUMN_COUNT] = {
	[COLUMN_PACKAGE] = { "PACKAGE", PACKAGE_MAX },
	[COLUMN_INSTALLED] = { "INSTALLED", INSTALLED_MAX },
	[COLUMN_FIXED] = { "FIXED IN", FIXED_MAX },
	[COLUMN_SEVERITY] = { "SEVERITY", 8 },
};

static char *
cell(const struct finding *f, enum column c)
{
	switch (c) {
	case COLUMN_PACKAGE:
		return str_safe(f->package, table[c].max);
	case COLUMN_INSTALLED:
		return str_safe(f->installed, table[c].max);
	case COLUMN_FIXED:
		return *f->fixed ? str_safe(f->fixed, table[c].max) : mem_strdup("no fix yet");
	case COLUMN_SEVERITY:
		return mem_strdup(severity_words[f->severity]);
	case COLUMN_COUNT:
		break;
	}
	return mem_strdup("");
}

static void
measure(const struct report *r, const size_t *findings, size_t n, size_t width[COLUMN_COUNT])
{
	for (int c = 0; c < COLUMN_COUNT; c++)
		width[c] = strlen(table[c].head);
	for (size_t k = 0; k < n; k++) {
		for (int c = 0; c < COLUMN_COUNT; c++) {
			AUTO_FREE char *text = cell(&r->findings[findings[k]], (enum column)c);

			width[c] = render_text_columns(text) > width[c] ? render_text_columns(text) : width[c];
		}
	}
}

static void
add_cell(struct buf *out, const char *text, size_t width, bool is_last)
{
	buf_add_str(out, text);
	if (!is_last)
		buf_printf(out, "%*s", (int)(width - render_text_columns(text) + 2), "");
}

static const char *
lapsed_of(const struct image *m, size_t index)
{
	return m->decision && m->decision->fates ? m->decision->fates[index].lapsed : NULL;
}

/* But for the place, nothing of it would look different. */
static bool
is_same_row(const struct image *m, size_t a, size_t b)
{
	const struct finding *x = &m->report->findings[a], *y = &m->report->findings[b];

	return str_eq(x->id, y->id) && str_eq(x->package, y->package) && str_eq(x->installed, y->installed) &&
	       str_eq(x->fixed, y->fixed) && x->severity == y->severity &&
	       str_eq(lapsed_of(m, a), lapsed_of(m, b));
}

size_t
render_log_group(const struct image *m, const size_t *findings, size_t n, size_t *first, size_t *count)
{
	size_t rows = 0;

	for (size_t k = 0; k < n; k++) {
		if (rows > 0 && is_same_row(m, first[rows - 1], findings[k])) {
			count[rows - 1]++;
			continue;
		}
		first[rows] = findings[k];
		count[rows++] = 1;
	}
	return rows;
}

static void
add_row(const struct inspection *i, struct buf *out, const struct image *m, size_t index, size_t n_places,
	const size_t width[COLUMN_COUNT])
{
	const struct finding *f = &m->report->findings[index];
	const char *lapsed = lapsed_of(m, index);
	AUTO_FREE char *id = str_safe(f->id, 40);
	size_t left = RENDER_TEXT_COLUMNS - 6 - render_text_columns(id) - 1;

	buf_add_str(out, "    ");
	for (int c = 0; c < COLUMN_COUNT; c++) {
		AUTO_FREE char *text = cell(f, (enum column)c);

		if (c == COLUMN_SEVERITY && f->severity == SEVERITY_CRITICAL)
			render_text_add_coloured(i, out, LOG_RED, text);
		else if (c == COLUMN_SEVERITY && f->severity == SEVERITY_HIGH)
			render_text_add_coloured(i, out, LOG_YELLOW, text);
		else
			add_cell(out, text, width[c], c + 1 == COLUMN_COUNT);
	}
	buf_printf(out, "\n      %s ", id);
	str_add_safe(out, *f->title ? f->title : f->description, left);
	buf_add_char(out, '\n');
	if (n_places > 1)
		buf_printf(out, "      in %zu places\n", n_places);
	if (lapsed)
		render_text_add(out, 6, lapsed);
}

void
render_log_add_table(const struct inspection *i, struct buf *out, const struct image *m, const size_t *first,
		     const size_t *count, size_t n)
{
	size_t width[COLUMN_COUNT];

	measure(m->report, first, n, width);
	buf_add_str(out, log_colour(i->log, LOG_BOLD));
	buf_add_str(out, "    ");
	for (int c = 0; c < COLUMN_COUNT; c++)
		add_cell(out, table[c].head, width[c], c + 1 == COLUMN_COUNT);
	buf_printf(out, "%s\n", *log_colour(i->log, LOG_BOLD) ? LOG_RESET : "");
	for (size_t k = 0; k < n; k++)
		add_row(i, out, m, first[k], count[k], width);
}
