#include "stages/render_log.h"

#include <string.h>

#include "base/mem.h"
#include "stages/explain.h"
#include "stages/gate.h"
#include "stages/render_log_table.h"
#include "stages/render_others.h"
#include "stages/render_policy.h"
#include "stages/render_text.h"

#define LABEL_MAX 100
#define EXCUSED_SHOWN 8 /* excuses of an image */
#define OTHERS_SHOWN 10
#define OS_MAX 30 /* columns */

/* One each in turn, so that a base image with hundreds of findings does not hide the one of the Dockerfile's own step. */
static void
share_rows(size_t rows, const size_t *wanted, size_t n, size_t *ret)
{
	bool has_given = true;

	memset(ret, 0, n * sizeof(*ret));
	while (has_given) {
		has_given = false;
		for (size_t k = 0; k < n && rows > 0; k++) {
			if (ret[k] == wanted[k])
				continue;
			ret[k]++;
			rows--;
			has_given = true;
		}
	}
}

/* The findings of a step, what is in several places once. */
struct rows {
	size_t *first, *count;
	size_t n;
};

static void
rows_make(const struct image *m, const struct explain_step *s, struct rows *ret)
{
	ret->first = mem_array(s->n_findings + 1, sizeof(*ret->first));
	ret->count = mem_array(s->n_findings + 1, sizeof(*ret->count));
	ret->n = render_log_group(m, s->findings, s->n_findings, ret->first, ret->count);
}

static void
rows_free(struct rows *r)
{
	mem_free_at(&r->first);
	mem_free_at(&r->count);
}

/* `n` of its rows are shown. */
static void
add_step(const struct inspection *i, struct buf *out, const struct image *m, const struct explanation *x,
	 const struct explain_step *s, const struct rows *r, size_t n)
{
	const char *quote = s->is_base || !s->is_known ? "" : "`";
	size_t n_shown = 0;

	buf_add_char(out, '\n');
	render_text_addf(out, 2, "%zu of %zu %s with %s%s%s", s->n_findings, x->n_blocking,
			 s->n_findings == 1 ? "comes" : "come", quote, s->name, quote);
	if (n > 0)
		render_log_add_table(i, out, m, r->first, r->count, n);
	for (size_t k = 0; k < n; k++)
		n_shown += r->count[k];
	if (n_shown < s->n_findings)
		buf_printf(out, "    … and %zu more\n", s->n_findings - n_shown);
}

static void
add_image_head(const struct inspection *i, struct buf *out, const struct image *m)
{
	const struct render_look *look = render_text_look(m->verdict);
	AUTO_FREE char *name = inspection_image_name(i, m);
	AUTO_FREE char *head = mem_printf("%s %s: %s", look->mark, name, render_text_verdict(i, m->verdict));

	render_text_add_coloured(i, out, look->sgr, head);
	buf_add_char(out, '\n');
}

/* Does its rule look at more than packages? */
static bool
judges_others(const struct image *m)
{
	const struct policy_rule *r = m->decision ? m->decision->rule : NULL;

	return r && (r->secrets != REACT_PASS || r->misconfigurations != MISCONFIGURATIONS_OFF);
}

static void
add_image_figures(struct buf *out, const struct image *m)
{
	const struct report *r = m->report;
	AUTO_FREE char *os = mem_printf("%s %s", r->os_family, r->os_name);
	AUTO_FREE char *safe_os = str_safe(*r->os_family ? os : "no known OS", OS_MAX);
	AUTO_BUF struct buf counts = BUF_INIT(256);
	AUTO_FREE char *head = NULL;
	bool is_beside;

	render_counts(r, &counts);
	head = mem_printf("  %s, %zu package%s, %zu finding%s", safe_os, r->n_packages,
			  r->n_packages == 1 ? "" : "s", r->n_findings, r->n_findings == 1 ? "" : "s");
	/* A number and its word stay together: what does not fit in the line has the next one. */
	is_beside = counts.len > 0 &&
		    render_text_columns(head) + strlen(": ") + counts.len <= RENDER_TEXT_COLUMNS;
	buf_printf(out, "%s%s%s\n", head, counts.len == 0 ? "" : is_beside ? ": " : "\n  ", buf_str(&counts));
	if (r->n_secrets + r->n_misconfigurations > 0)
		render_text_addf(out, 2, "also %zu secret%s and %zu misconfiguration%s: in the report%s",
				 r->n_secrets, r->n_secrets == 1 ? "" : "s", r->n_misconfigurations,
				 r->n_misconfigurations == 1 ? "" : "s",
				 judges_others(m) ? "" : ", not judged");
}

/* Secrets and misconfigurations that its rule looks at. */
static void
add_others(struct buf *out, const struct image *m)
{
	AUTO_STRV struct strv lines = { 0 };
	const char *advice = render_others_advice(m);

	render_others(m, OTHERS_SHOWN, &lines);
	if (lines.n > 0)
		buf_add_str(out, "\n  beside packages\n");
	for (size_t k = 0; k < lines.n; k++)
		render_text_addf(out, 4, "- %s", lines.v[k]);
	if (lines.n > 0 && advice)
		render_text_add(out, 4, advice);
}

static void
add_excused(struct buf *out, const struct image *m)
{
	AUTO_STRV struct strv lines = { 0 };

	render_policy_excused(m, EXCUSED_SHOWN, &lines);
	if (lines.n > 0)
		buf_add_str(out, "\n  excused\n");
	for (size_t k = 0; k < lines.n; k++)
		render_text_addf(out, 4, "- %s", lines.v[k]);
}

static void
add_origins(const struct inspection *i, struct buf *out, const struct image *m, size_t rows)
{
	AUTO_EXPLANATION struct explanation x = { 0 };
	AUTO_FREE size_t *wanted = NULL, *shown = NULL;
	AUTO_FREE struct rows *all = NULL;

	explain_image(m, &x);
	all = mem_array(x.n_steps + 1, sizeof(*all));
	wanted = mem_array(x.n_steps + 1, sizeof(*wanted));
	shown = mem_array(x.n_steps + 1, sizeof(*shown));
	for (size_t k = 0; k < x.n_steps; k++) {
		rows_make(m, &x.steps[k], &all[k]);
		wanted[k] = all[k].n;
	}
	share_rows(rows, wanted, x.n_steps, shown);
	for (size_t k = 0; k < x.n_steps; k++) {
		add_step(i, out, m, &x, &x.steps[k], &all[k], shown[k]);
		rows_free(&all[k]);
	}
}

static void
add_image(const struct inspection *i, struct buf *out, const struct image *m, size_t rows)
{
	add_image_head(i, out, m);
	if (m->report)
		add_image_figures(out, m);
	if (render_text_has_reasons(i))
		render_text_add_reasons(out, 2, &m->reasons);
	if (!m->report || !render_text_has_tables(i))
		return;
	if (m->n_blocking > 0)
		add_origins(i, out, m, rows);
	add_others(out, m);
	add_excused(out, m);
}

static void
add_archive(const struct inspection *i, struct buf *out, const struct archive *a)
{
	enum verdict v = gate_judge_fault(&a->fault);
	const struct render_look *look = render_text_look(v);
	AUTO_FREE char *name = str_safe(a->name, LABEL_MAX);
	AUTO_FREE char *why = str_safe(a->fault.text, RENDER_TEXT_LINE_MAX);
	AUTO_FREE char *head =
		mem_printf("%s %s: %s", look->mark, name, v == VERDICT_BLOCK ? "refused" : look->word);

	AUTO_FREE char *shown = render_text_shorten(why);

	render_text_add_coloured(i, out, look->sgr, head);
	buf_add_char(out, '\n');
	if (render_text_has_reasons(i))
		render_text_add(out, 2, shown);
}

static void
add_tools(const struct inspection *i, struct buf *out)
{
	char date[32];

	if (!i->trivy_version)
		return;
	render_time(i->db_updated_s, date);
	buf_printf(out, "Trivy %s, its database of %s\n", i->trivy_version, date);
}

void
render_log_details(const struct inspection *i, struct buf *out)
{
	AUTO_FREE size_t *wanted = mem_array(i->n_images + 1, sizeof(*wanted));
	AUTO_FREE size_t *shown = mem_array(i->n_images + 1, sizeof(*shown));

	for (size_t k = 0; k < i->n_archives; k++) {
		if (!i->archives[k].is_ignored && i->archives[k].fault.kind != ERR_NONE)
			add_archive(i, out, &i->archives[k]);
	}
	for (size_t k = 0; k < i->n_images; k++)
		wanted[k] = i->images[k].n_blocking;
	share_rows((size_t)i->opt->report.rows_max, wanted, i->n_images, shown);
	for (size_t k = 0; k < i->n_images; k++) {
		if (k > 0 && render_text_has_tables(i))
			buf_add_char(out, '\n');
		add_image(i, out, &i->images[k], shown[k]);
	}
	if (i->n_images > 0 && render_text_has_tables(i) && i->trivy_version)
		buf_add_char(out, '\n');
	add_tools(i, out);
}

void
render_log_title(const struct inspection *i, struct buf *out)
{
	size_t n_unread = 0;

	for (size_t k = 0; k < i->n_archives; k++)
		n_unread += !i->archives[k].is_ignored && i->archives[k].fault.kind != ERR_NONE;
	buf_add_str(out, "Tidewaiter: ");
	if (n_unread > 0)
		buf_printf(out, "%zu of %zu images inspected", i->n_images, i->n_images + n_unread);
	else if (i->n_images > 0)
		buf_printf(out, "%zu image%s inspected", i->n_images, i->n_images == 1 ? "" : "s");
	else
		buf_add_str(out, "no image to inspect");
	buf_printf(out, ", %s", render_text_verdict(i, i->verdict));
}
