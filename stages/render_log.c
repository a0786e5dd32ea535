#include "stages/render_log.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/explain.h"
#include "stages/gate.h"
#include "stages/render_policy.h"

#define COLUMNS 80
#define PACKAGE_MAX 24
#define INSTALLED_MAX 16
#define FIXED_MAX 20
#define LABEL_MAX 100
#define REASON_MAX 400
#define REASONS_SHOWN 8
#define EXCUSED_SHOWN 8 /* findings of an image */
#define RULED_SHOWN 8	/* images */

#define ADVISED_MAX 8 /* images */
#define OS_MAX 30     /* columns */
#define DIGEST_SHOWN 12
#define DIGEST_MIN 40 /* hex digits that are taken for a digest */

struct look {
	const char *mark, *word;
	const char *would; /* where nothing is stopped */
	const char *sgr;
};

static const struct look looks[] = {
	[VERDICT_PASS] = { "✓", "passed", "passed", LOG_GREEN },
	[VERDICT_WARN] = { "!", "passed with warnings", "passed with warnings", LOG_YELLOW },
	[VERDICT_UNDECIDED] = { "?", "undecided", "undecided", LOG_RED },
	[VERDICT_BLOCK] = { "✗", "blocked", "would be blocked", LOG_RED },
};

static bool
is_by_hand(const struct inspection *i)
{
	return i->project_fd < 0;
}

/* In a job that nothing stops, nothing is "blocked". */
static const char *
verdict_said(const struct inspection *i, enum verdict v)
{
	return is_by_hand(i) || inspection_mode(i) == GATE_ENFORCE ? looks[v].word : looks[v].would;
}

static bool
has_tables(const struct inspection *i)
{
	return is_by_hand(i) || inspection_mode(i) != GATE_AUDIT;
}

/* The verdict below names each reason; only an audit's one sentence has no room for more than one. */
static bool
has_reasons(const struct inspection *i)
{
	return !has_tables(i) && i->reasons.n > 1;
}

/* How many columns a safe text takes: its code points. */
static size_t
columns(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

/* Of a digest its first digits are enough for people, and fit on a phone; the reports have the whole. Owned by the caller. */
static char *
shorten_digests(const char *text)
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

static void
add_coloured(const struct inspection *i, struct buf *out, const char *sgr, const char *text)
{
	const char *start = log_colour(i->log, sgr);

	buf_printf(out, "%s%s%s", start, text, *start ? LOG_RESET : "");
}

/* Words in lines of COLUMNS, each indented, what follows "- " by two more; the text ends with its own newline. */
static void
add_wrapped(struct buf *out, size_t indent, const char *text)
{
	size_t hang = str_has_prefix(text, "- ") ? 2 : 0, at = 0;

	for (bool is_first = true; *text;) {
		size_t len = strcspn(text, " \n");
		AUTO_FREE char *word = mem_strndup(text, len);
		size_t width = columns(word);

		if (at > 0 && at + 1 + width > COLUMNS) {
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

static void add_wrappedf(struct buf *out, size_t indent, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void
add_wrappedf(struct buf *out, size_t indent, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	add_wrapped(out, indent, text);
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

/* --- tables -------------------------------------------------------------------------------------------------- */

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

			width[c] = columns(text) > width[c] ? columns(text) : width[c];
		}
	}
}

static void
add_cell(struct buf *out, const char *text, size_t width, bool is_last)
{
	buf_add_str(out, text);
	if (!is_last)
		buf_printf(out, "%*s", (int)(width - columns(text) + 2), "");
}

static void
add_row(const struct inspection *i, struct buf *out, const struct finding *f, const size_t width[COLUMN_COUNT])
{
	AUTO_FREE char *id = str_safe(f->id, 40);
	size_t left = COLUMNS - 6 - columns(id) - 1;

	buf_add_str(out, "    ");
	for (int c = 0; c < COLUMN_COUNT; c++) {
		AUTO_FREE char *text = cell(f, (enum column)c);

		if (c == COLUMN_SEVERITY && f->severity == SEVERITY_CRITICAL)
			add_coloured(i, out, LOG_RED, text);
		else if (c == COLUMN_SEVERITY && f->severity == SEVERITY_HIGH)
			add_coloured(i, out, LOG_YELLOW, text);
		else
			add_cell(out, text, width[c], c + 1 == COLUMN_COUNT);
	}
	buf_printf(out, "\n      %s ", id);
	str_add_safe(out, *f->title ? f->title : f->description, left);
	buf_add_char(out, '\n');
}

static void
add_table(const struct inspection *i, struct buf *out, const struct report *r, const size_t *findings,
	  size_t n)
{
	size_t width[COLUMN_COUNT];

	measure(r, findings, n, width);
	buf_add_str(out, log_colour(i->log, LOG_BOLD));
	buf_add_str(out, "    ");
	for (int c = 0; c < COLUMN_COUNT; c++)
		add_cell(out, table[c].head, width[c], c + 1 == COLUMN_COUNT);
	buf_printf(out, "%s\n", *log_colour(i->log, LOG_BOLD) ? LOG_RESET : "");
	for (size_t k = 0; k < n; k++)
		add_row(i, out, &r->findings[findings[k]], width);
}

static void
add_step(const struct inspection *i, struct buf *out, const struct image *m, const struct explanation *x,
	 const struct explain_step *s, size_t *rows_left)
{
	size_t n = s->n_findings < *rows_left ? s->n_findings : *rows_left;
	const char *quote = s->is_base || !s->is_known ? "" : "`";

	buf_add_char(out, '\n');
	add_wrappedf(out, 2, "%zu of %zu %s with %s%s%s", s->n_findings, x->n_blocking,
		     s->n_findings == 1 ? "comes" : "come", quote, s->name, quote);
	if (n > 0)
		add_table(i, out, m->report, s->findings, n);
	if (n < s->n_findings)
		buf_printf(out, "    … and %zu more\n", s->n_findings - n);
	*rows_left -= n;
}

/* --- images and archives --------------------------------------------------------------------------------------- */

static void
add_reasons(struct buf *out, size_t indent, const struct strv *reasons)
{
	for (size_t k = 0; k < reasons->n && k < REASONS_SHOWN; k++) {
		AUTO_FREE char *text = str_safe(reasons->v[k], REASON_MAX);
		AUTO_FREE char *shown = shorten_digests(text);

		add_wrapped(out, indent, shown);
	}
	if (reasons->n > REASONS_SHOWN)
		buf_printf(out, "%*s… and %zu more\n", (int)indent, "", reasons->n - REASONS_SHOWN);
}

static void
add_image_head(const struct inspection *i, struct buf *out, const struct image *m)
{
	const struct look *look = &looks[m->verdict];
	AUTO_FREE char *name = inspection_image_name(i, m);
	AUTO_FREE char *head = mem_printf("%s %s: %s", look->mark, name, verdict_said(i, m->verdict));

	add_coloured(i, out, look->sgr, head);
	buf_add_char(out, '\n');
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
	is_beside = counts.len > 0 && columns(head) + strlen(": ") + counts.len <= COLUMNS;
	buf_printf(out, "%s%s%s\n", head, counts.len == 0 ? "" : is_beside ? ": " : "\n  ", buf_str(&counts));
	if (r->n_secrets + r->n_misconfigurations > 0)
		add_wrappedf(out, 2, "also %zu secret%s and %zu misconfiguration%s: in the report, not judged",
			     r->n_secrets, r->n_secrets == 1 ? "" : "s", r->n_misconfigurations,
			     r->n_misconfigurations == 1 ? "" : "s");
}

static void
add_image(const struct inspection *i, struct buf *out, const struct image *m, size_t *rows_left)
{
	AUTO_EXPLANATION struct explanation x = { 0 };

	add_image_head(i, out, m);
	if (m->report)
		add_image_figures(out, m);
	if (has_reasons(i))
		add_reasons(out, 2, &m->reasons);
	if (!m->report || m->n_blocking == 0 || !has_tables(i))
		return;
	explain_image(m, &x);
	for (size_t k = 0; k < x.n_steps; k++)
		add_step(i, out, m, &x, &x.steps[k], rows_left);
}

static void
add_archive(const struct inspection *i, struct buf *out, const struct archive *a)
{
	enum verdict v = gate_judge_fault(&a->fault);
	AUTO_FREE char *name = str_safe(a->name, LABEL_MAX);
	AUTO_FREE char *why = str_safe(a->fault.text, REASON_MAX);
	AUTO_FREE char *head =
		mem_printf("%s %s: %s", looks[v].mark, name, v == VERDICT_BLOCK ? "refused" : looks[v].word);

	AUTO_FREE char *shown = shorten_digests(why);

	add_coloured(i, out, looks[v].sgr, head);
	buf_add_char(out, '\n');
	if (has_reasons(i))
		add_wrapped(out, 2, shown);
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
	size_t rows_left = (size_t)(i->opt->report.rows_max > 0 ? i->opt->report.rows_max : 0);

	for (size_t k = 0; k < i->n_archives; k++) {
		if (!i->archives[k].is_ignored && i->archives[k].fault.kind != ERR_NONE)
			add_archive(i, out, &i->archives[k]);
	}
	for (size_t k = 0; k < i->n_images; k++) {
		if (k > 0 && has_tables(i))
			buf_add_char(out, '\n');
		add_image(i, out, &i->images[k], &rows_left);
	}
	if (i->n_images > 0 && has_tables(i) && i->trivy_version)
		buf_add_char(out, '\n');
	add_tools(i, out);
}

/* --- the verdict -------------------------------------------------------------------------------------------------- */

static size_t
count_archives_with(const struct inspection *i, enum err_kind kind)
{
	size_t n = 0;

	for (size_t k = 0; k < i->n_archives; k++)
		n += !i->archives[k].is_ignored && i->archives[k].fault.kind == kind;
	for (size_t k = 0; k < i->n_images; k++)
		n += i->images[k].fault.kind == kind;
	return n;
}

static bool
has_other_faults(const struct inspection *i)
{
	return count_archives_with(i, ERR_FAILED) + count_archives_with(i, ERR_TIMEOUT) +
		       count_archives_with(i, ERR_NO_SPACE) + count_archives_with(i, ERR_USAGE) +
		       count_archives_with(i, ERR_SETTINGS) >
	       0;
}

/* "What to do:", which the eye looks for. */
static void
add_what(const struct inspection *i, struct buf *out, const char *image)
{
	AUTO_FREE char *head = image ? mem_printf("What to do for %s:", image) : mem_strdup("What to do:");

	buf_add_str(out, "  ");
	add_coloured(i, out, LOG_BOLD, head);
	buf_add_char(out, '\n');
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
	buf_printf(out, ", %s", verdict_said(i, i->verdict));
}

static size_t
count_advised(const struct inspection *i)
{
	size_t n = 0;

	for (size_t k = 0; k < i->n_images; k++)
		n += i->images[k].report && i->images[k].n_blocking > 0;
	return n;
}

/* One line per change; who has several images to mend gets the best of each. */
static void
add_changes(struct buf *out, const struct explanation *x, size_t max)
{
	size_t n_unfixed = x->n_blocking - x->n_fixable, n_left = x->n_fixable;

	for (size_t k = 0; k < x->n_changes && k < max; k++) {
		const struct explain_change *c = &x->changes[k];

		if (k == 0 && c->n_fixed == x->n_blocking)
			add_wrappedf(out, 4, "- %s: fixes %s", c->text,
				     x->n_blocking == 1 ? "it" : "all of them");
		else
			add_wrappedf(out, 4, "- %s: fixes %zu of %zu", c->text, c->n_fixed, x->n_blocking);
		n_left -= c->n_fixed;
	}
	if (n_left > 0)
		add_wrappedf(out, 4, "- %zu more can be fixed, too: the report names the version%s", n_left,
			     n_left == 1 ? "" : "s");
	if (n_unfixed > 0)
		add_wrappedf(out, 4, "- %zu of %zu %s no fix yet: use another base image or package",
			     n_unfixed, x->n_blocking, n_unfixed == 1 ? "has" : "have");
}

/* Of several images each gets a head of its own; the changes of a single one stand with the other points. */
static void
add_advice_of_images(const struct inspection *i, struct buf *out, struct buf *points)
{
	size_t n_advised = count_advised(i), n = 0;

	for (size_t k = 0; k < i->n_images && n < ADVISED_MAX; k++) {
		const struct image *m = &i->images[k];
		AUTO_EXPLANATION struct explanation x = { 0 };
		AUTO_FREE char *name = NULL;

		if (!m->report || m->n_blocking == 0)
			continue;
		n++;
		explain_image(m, &x);
		if (n_advised == 1) {
			add_changes(points, &x, EXPLAIN_CHANGES_MAX);
			return;
		}
		name = inspection_image_name(i, m);
		add_what(i, out, name);
		add_changes(out, &x, 1);
	}
	if (n < n_advised)
		buf_printf(out, "  … and %zu more images\n", n_advised - n);
}

static bool
has_findings(const struct inspection *i)
{
	for (size_t k = 0; k < i->n_images; k++) {
		if (i->images[k].report && i->images[k].report->n_findings > 0)
			return true;
	}
	return false;
}

/* Where the reader finds more than stands here. */
static bool
has_files(const struct inspection *i)
{
	return has_findings(i) && !is_by_hand(i) && i->opt->report.artifact;
}

static bool
has_old_system(const struct inspection *i)
{
	for (size_t k = 0; k < i->n_images; k++) {
		const struct image *m = &i->images[k];

		if (m->report && m->report->is_os_eol && i->opt->gate.on_eol_os != REACT_PASS)
			return true;
	}
	return false;
}

static void
add_points(const struct inspection *i, struct buf *out)
{
	AUTO_FREE char *contact = count_advised(i) > 0 ? render_policy_contact(i) : NULL;

	if (contact)
		add_wrappedf(out, 4, "- %s", contact);
	if (has_old_system(i))
		add_wrapped(out, 4,
			    "- build on a newer release of the system: nobody looks for flaws in one that is past its end "
			    "of life");
	if (count_archives_with(i, ERR_REFUSED) > 0)
		add_wrappedf(out, 4,
			     "- a refused archive is damaged or not what it says it is: build and save the image again%s",
			     is_by_hand(i) ? ""
					   : "; if that does not help, ask the people who run this runner");
	if (count_archives_with(i, ERR_UNSUPPORTED) > 0)
		add_wrapped(out, 4,
			    "- what is not looked at as it is: its line says what would be; which platforms are is said by "
			    "images.platforms of the settings");
	if (has_other_faults(i))
		add_wrapped(out, 4,
			    is_by_hand(i)
				    ? "- what could not be decided is no fault of the image: `tidewaiter doctor` goes through "
				      "this host and says how to mend it; a scan stands on trivy.path, trivy.db_dir, "
				      "trivy.db_max_age, trivy.timeout, trivy.memory_max and cache_dir of the settings"
				    : "- what could not be decided is no fault of your change: try the job again; if it comes "
				      "back, tell the people who run this runner what stands above");
	if (i->n_images == 0 && !inspection_has_archives(i) && i->verdict != VERDICT_PASS)
		add_wrapped(out, 4,
			    "- save what the job builds where it is looked for: `docker save -o tar_images/NAME.tar IMAGE`");
}

static void
add_what_to_do(const struct inspection *i, struct buf *out)
{
	AUTO_BUF struct buf points = BUF_INIT(RENDER_LOG_MAX);

	add_advice_of_images(i, out, &points);
	add_points(i, &points);
	if (points.len > 0) {
		add_what(i, out, NULL);
		buf_add_str(out, buf_str(&points));
	}
	if (has_files(i))
		add_wrappedf(out, 2,
			     "All findings: %s/ in this job's artifacts, .html to read, .json for programs.",
			     i->opt->report.dir);
}

/* The audit's one sentence. */
static void
add_audit(const struct inspection *i, struct buf *out)
{
	enum gate_end end = gate_end(i->verdict, GATE_ENFORCE, i->opt->gate.on_error);
	AUTO_FREE char *safe = i->reasons.n > 0 ? str_safe(i->reasons.v[0], REASON_MAX) : NULL;
	AUTO_FREE char *why = safe ? shorten_digests(safe) : NULL;
	AUTO_FREE char *more = i->reasons.n > 1 ? mem_printf(" (and %zu more)", i->reasons.n - 1) : NULL;

	AUTO_FREE char *where =
		has_files(i) && i->verdict != VERDICT_PASS
			? mem_printf(" The findings are in %s/ of this job's artifacts.", i->opt->report.dir)
			: NULL;

	add_wrappedf(out, 0,
		     "Tidewaiter audits and stops nothing; in mode enforce this job would have %s%s%s%s.%s",
		     end == GATE_GO_ON	   ? "passed"
		     : end == GATE_BLOCKED ? "been blocked"
					   : "failed as undecided",
		     why ? ": " : "", why ? why : "", more ? more : "", where ? where : "");
}

static void
add_mode(const struct inspection *i, struct buf *out)
{
	const struct options_gate *g = &i->opt->gate;
	enum gate_end end = gate_end(i->verdict, GATE_ENFORCE, g->on_error);

	if (inspection_mode(i) == GATE_WARN && end != GATE_GO_ON && !is_by_hand(i))
		add_wrapped(out, 2, "Mode warn stops nothing; in mode enforce this job would have failed.");
	if (inspection_mode(i) == GATE_ENFORCE && end == GATE_GO_ON && i->verdict == VERDICT_UNDECIDED)
		add_wrapped(out, 2, "The settings let a job go on that could not be decided (gate.on_error).");
}

/* Which rule judged, what was excused, what is announced. Without a policy: what a job asked for and does not get. */
static void
add_policy(const struct inspection *i, struct buf *out)
{
	size_t n = 0;

	for (size_t k = 0; k < i->n_images && n < RULED_SHOWN; k++) {
		const struct image *m = &i->images[k];
		AUTO_FREE char *rule = render_policy_rule(i, m), *name = inspection_image_name(i, m);
		AUTO_STRV struct strv lines = { 0 };

		render_policy_excused(m, EXCUSED_SHOWN, &lines);
		n += rule != NULL || lines.n > 0;
		if (rule)
			add_wrappedf(out, 2, "%s%s by %s, mode %s.", i->n_images > 1 ? name : "",
				     i->n_images > 1 ? " was judged" : "Judged", rule,
				     gate_mode_words[m->mode]);
		for (size_t l = 0; l < lines.n; l++)
			add_wrappedf(out, 4, "- %s", lines.v[l]);
	}
}

void
render_log_verdict(const struct inspection *i, struct buf *out)
{
	const struct look *look = &looks[i->verdict];
	AUTO_FREE char *head = mem_printf("Tidewaiter: %s", verdict_said(i, i->verdict));

	if (!is_by_hand(i) && inspection_mode(i) == GATE_AUDIT) {
		add_audit(i, out);
		add_policy(i, out);
		return;
	}
	add_coloured(i, out, look->sgr, head);
	buf_add_char(out, '\n');
	add_reasons(out, 2, &i->reasons);
	add_mode(i, out);
	add_policy(i, out);
	add_what_to_do(i, out);
}
