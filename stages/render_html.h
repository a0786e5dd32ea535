/*
 * The report of one image as a page for people: self-contained, no external resource, no inline handler; a
 * Content-Security-Policy names the one style and the one script by hash, so that nothing in a report can run. Everything of a
 * stranger is escaped. Search, filters and sorting are of the page's own script; without it all findings are shown, worst first.
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"

#define RENDER_HTML_MAX (64 * 1024 * 1024) /* bytes */
#define RENDER_HTML_ROWS_MAX 50000

/* Of an image that was judged, with or without a report. */
void render_html(const struct inspection *i, const struct image *m, struct buf *out);

/* Text for HTML, in an element or a quoted attribute; what str_add_safe() refuses is '?'. */
void render_html_add(struct buf *out, const char *s, size_t max);
