#include "stages/render_html.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/explain.h"
#include "stages/page_link.h"
#include "stages/render_log.h"
#include "stages/render_others.h"
#include "stages/render_policy.h"
#include "stages/report_stage.h"

#define NAME_MAX_ 400
#define TITLE_MAX 400
#define DESCRIPTION_MAX 1500
#define URL_MAX 1000
#define FOLDED_MIN \
	1000 /* rows; a table of 20 000 keeps a browser busy for seconds if it is laid out as it comes */

/* report.css and report.js, put into the program by the build. */
extern const char render_html_css[], render_html_js[];

void
render_html_add(struct buf *out, const char *s, size_t max)
{
	AUTO_FREE char *safe = str_safe(s, max);

	for (const char *p = safe; *p; p++) {
		switch (*p) {
		case '&':
			buf_add_str(out, "&amp;");
			break;
		case '<':
			buf_add_str(out, "&lt;");
			break;
		case '>':
			buf_add_str(out, "&gt;");
			break;
		case '"':
			buf_add_str(out, "&quot;");
			break;
		case '\'':
			buf_add_str(out, "&#39;");
			break;
		default:
			buf_add_char(out, *p);
			break;
		}
	}
}

static unsigned
hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
}

/* CSP's form of a hash: 'sha256-<base64>' of the element's text. */
static void
add_csp_hash(struct buf *out, const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char digest[HASH_DIGEST_MAX];
	unsigned char raw[33] = { 0 }; /* one more, so that three at a time come out */
	const char *hex;

	hash_of(HASH_SHA256, text, strlen(text), digest);
	hex = strchr(digest, ':') + 1;
	for (size_t k = 0; k < 32; k++)
		raw[k] = (unsigned char)(hex_digit(hex[2 * k]) << 4 | hex_digit(hex[2 * k + 1]));
	buf_add_str(out, "'sha256-");
	for (size_t k = 0; k < 33; k += 3) {
		unsigned v = (unsigned)raw[k] << 16 | (unsigned)raw[k + 1] << 8 | raw[k + 2];

		for (int d = 3; d >= 0; d--)
			buf_add_char(out, k == 30 && d == 0 ? '=' : digits[v >> (6 * d) & 63]);
	}
	buf_add_char(out, '\'');
}

static void
add_head(const struct image *m, struct buf *out)
{
	buf_add_str(out,
		    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; form-action 'none'; "
		    "style-src ");
	add_csp_hash(out, render_html_css);
	buf_add_str(out, "; script-src ");
	add_csp_hash(out, render_html_js);
	buf_add_str(out, "\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
			 "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
	render_html_add(out, m->label, NAME_MAX_);
	buf_printf(out, " – Tidewaiter</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n",
		   render_html_css);
}

/* Which rule judged, what it says beside, who may except what blocks. */
static void
add_policy(const struct inspection *i, const struct image *m, struct buf *out)
{
	AUTO_FREE char *rule = render_policy_rule(i, m);
	AUTO_FREE char *contact = m->n_blocking > 0 ? render_policy_contact(i) : NULL;
	AUTO_FREE char *sums = render_policy_sums_of(m);

	if (rule) {
		buf_add_str(out, "\n<p>Judged by ");
		render_html_add(out, rule, TITLE_MAX);
		buf_printf(out, ", mode %s.</p>", gate_mode_words[m->mode]);
	}
	if (sums)
		buf_printf(out, "\n<p>%s</p>", sums);
	for (size_t k = 0; m->decision && k < m->decision->notes.n; k++) {
		buf_add_str(out, "\n<p>");
		render_html_add(out, m->decision->notes.v[k], TITLE_MAX);
		buf_add_str(out, "</p>");
	}
	if (contact) {
		buf_add_str(out, "\n<p>");
		render_html_add(out, contact, TITLE_MAX);
		buf_add_str(out, "</p>");
	}
}

static void
add_verdict(const struct inspection *i, const struct image *m, struct buf *out)
{
	static const char *const says[] = {
		[VERDICT_PASS] = "Passed",
		[VERDICT_WARN] = "Passed with warnings",
		[VERDICT_UNDECIDED] = "Undecided",
		[VERDICT_BLOCK] = "Blocked",
	};

	buf_add_str(out, "<p class=\"brand\">Tidewaiter image inspection</p>\n<h1>");
	render_html_add(out, m->label, NAME_MAX_);
	buf_printf(out, "</h1>\n<div class=\"card verdict %s\">\n<strong>%s</strong>",
		   verdict_words[m->verdict], says[m->verdict]);
	if (m->verdict == VERDICT_BLOCK && inspection_mode(i) != GATE_ENFORCE)
		buf_printf(out, " <small>mode %s: the job was not stopped</small>",
			   gate_mode_words[inspection_mode(i)]);
	if (m->reasons.n > 0) {
		buf_add_str(out, "\n<ul>\n");
		for (size_t k = 0; k < m->reasons.n; k++) {
			buf_add_str(out, "<li>");
			render_html_add(out, m->reasons.v[k], TITLE_MAX);
			buf_add_str(out, "</li>\n");
		}
		buf_add_str(out, "</ul>");
	}
	add_policy(i, m, out);
	buf_add_str(out, "\n</div>\n");
}

static void
add_fact(struct buf *out, const char *name, const char *value, bool is_code)
{
	if (str_is_empty(value))
		return;
	buf_printf(out, "<dt>%s</dt><dd>%s", name, is_code ? "<code>" : "");
	render_html_add(out, value, NAME_MAX_);
	buf_printf(out, "%s</dd>\n", is_code ? "</code>" : "");
}

static void
add_dojo(const struct inspection *i, const struct image *m, struct buf *out)
{
	AUTO_FREE char *product = NULL;

	if (i->skips_upload || !report_is_deliverable(i, m))
		return;
	product = report_product(i, m);
	if (product)
		page_link_add(out, i->opt->defectdojo.url, product);
}

static void
add_facts(const struct inspection *i, const struct image *m, struct buf *out)
{
	const struct report *r = m->report;
	AUTO_FREE char *os = r ? mem_printf("%s %s%s", r->os_family, r->os_name,
					    r->is_os_eol ? " (past its end of life)" : "")
			       : NULL;
	AUTO_FREE char *tags = strv_join(&m->tags, ", ");
	AUTO_FREE char *platform =
		mem_printf("%s/%s", m->os ? m->os : "", m->architecture ? m->architecture : "");
	AUTO_FREE char *packages = r ? mem_printf("%zu", r->n_packages) : NULL;
	AUTO_FREE char *trivy = NULL;
	char date[32];

	render_time(i->db_updated_s, date);
	if (i->trivy_version)
		trivy = mem_printf("%s, database of %s", i->trivy_version, date);
	buf_add_str(out, "<div class=\"card\">\n<dl class=\"facts\">\n");
	add_fact(out, "Archive", m->archive < i->n_archives ? i->archives[m->archive].name : NULL, true);
	add_fact(out, "Names", tags, true);
	add_fact(out, "Image", m->config_digest, true);
	add_fact(out, "System", r && *r->os_family ? os : r ? "none that Trivy knows" : NULL, false);
	add_fact(out, "Platform", str_eq(platform, "/") ? NULL : platform, false);
	add_fact(out, "Packages", packages, false);
	add_fact(out, "Project", i->job->project_path, false);
	add_fact(out, "Branch or tag", i->job->ref, false);
	add_fact(out, "Commit", i->job->sha, true);
	add_fact(out, "Trivy", trivy, false);
	add_dojo(i, m, out);
	buf_add_str(out, "</dl>\n</div>\n");
}

static void
add_changes(const struct explanation *x, struct buf *out)
{
	size_t n_unfixed = x->n_blocking - x->n_fixable, n_left = x->n_fixable;

	buf_add_str(out, "<h2 class=\"advice\">What to do</h2>\n<ul class=\"changes\">\n");
	for (size_t k = 0; k < x->n_changes; k++) {
		buf_add_str(out, "<li>");
		render_html_add(out, x->changes[k].text, NAME_MAX_);
		buf_printf(out, ": fixes %zu of %zu</li>\n", x->changes[k].n_fixed, x->n_blocking);
		n_left -= x->changes[k].n_fixed;
	}
	if (n_left > 0)
		buf_printf(out, "<li>%zu more can be fixed, too: see their versions below</li>\n", n_left);
	if (n_unfixed > 0)
		buf_printf(out, "<li>%zu of %zu %s no fix yet: use another base image or package</li>\n",
			   n_unfixed, x->n_blocking, n_unfixed == 1 ? "has" : "have");
	buf_add_str(out, "</ul>\n");
}

static void
add_origin(const struct image *m, struct buf *out)
{
	AUTO_EXPLANATION struct explanation x = { 0 };

	if (m->n_blocking == 0)
		return;
	explain_image(m, &x);
	buf_printf(out,
		   "<div class=\"card\">\n<h2>Where the %zu blocking finding%s from</h2>\n<ul class=\"steps\">\n",
		   x.n_blocking, x.n_blocking == 1 ? " comes" : "s come");
	for (size_t k = 0; k < x.n_steps; k++) {
		const struct explain_step *s = &x.steps[k];

		buf_add_str(out, s->is_base || !s->is_known ? "<li><div>" : "<li><div><code>");
		render_html_add(out, s->name, NAME_MAX_);
		buf_printf(out,
			   "%s<span>%zu of %zu</span></div><progress max=\"%zu\" value=\"%zu\"></progress></li>\n",
			   s->is_base || !s->is_known ? "" : "</code>", s->n_findings, x.n_blocking,
			   x.n_blocking, s->n_findings);
	}
	buf_add_str(out, "</ul>\n");
	add_changes(&x, out);
	buf_add_str(out, "</div>\n");
}

static void
add_filters(const struct report *r, struct buf *out)
{
	/* Shown by the script, which makes them work. */
	buf_add_str(out,
		    "<div class=\"tools\" hidden>\n<input type=\"search\" id=\"search\" placeholder=\"Package, id, words\" "
		    "aria-label=\"Search\">\n");
	for (int s = SEVERITY_COUNT - 1; s >= 0; s--) {
		if (r->n_of_severity[s] > 0)
			buf_printf(out,
				   "<label class=\"s%d\"><input type=\"checkbox\" name=\"severity\" value=\"%d\"><span>%s %zu</span></label>\n",
				   s, s, severity_words[s], r->n_of_severity[s]);
	}
	buf_add_str(out,
		    "<label><input type=\"checkbox\" name=\"only\" value=\"blocking\"><span>blocking</span></label>\n"
		    "<label><input type=\"checkbox\" name=\"only\" value=\"fixable\"><span>with a fix</span></label>\n"
		    "<label><input type=\"checkbox\" name=\"only\" value=\"excused\"><span>excused</span></label>\n</div>\n");
}

static void
add_link(const struct finding *f, struct buf *out)
{
	if (!str_has_prefix(f->url, "https://")) {
		render_html_add(out, f->id, NAME_MAX_);
		return;
	}
	buf_add_str(out, "<a rel=\"noopener noreferrer nofollow\" target=\"_blank\" href=\"");
	render_html_add(out, f->url, URL_MAX);
	buf_add_str(out, "\">");
	render_html_add(out, f->id, NAME_MAX_);
	buf_add_str(out, "</a>");
}

/* What excuses it, or did once. */
static void
add_fate(const char *words, struct buf *out)
{
	if (!words)
		return;
	buf_add_str(out, "<small class=\"fate\">");
	render_html_add(out, words, TITLE_MAX);
	buf_add_str(out, "</small>");
}

static void
add_row(const struct image *m, size_t index, struct buf *out)
{
	const struct finding *f = &m->report->findings[index];
	bool is_blocking = m->is_blocking && m->is_blocking[index];
	const struct finding_fate *fate =
		m->decision && m->decision->fates ? &m->decision->fates[index] : NULL;
	AUTO_FREE char *excuse = fate ? render_policy_excuse(fate) : NULL;
	size_t layer = explain_find_layer(m, f->diff_id);

	buf_printf(out,
		   "<tr data-severity=\"%d\" data-blocking=\"%d\" data-fixable=\"%d\" data-excused=\"%d\"><td><span class=\"tag s%d\">%s</span></td>",
		   (int)f->severity, is_blocking, *f->fixed != '\0', excuse != NULL, (int)f->severity,
		   severity_words[f->severity]);
	buf_add_str(out, "<td class=\"id\">");
	add_link(f, out);
	if (is_blocking)
		buf_add_str(out, "<small class=\"blocks\">blocks</small>");
	buf_add_str(out, "</td>");
	buf_add_str(out, "<td class=\"package\"><b>");
	render_html_add(out, f->package, NAME_MAX_);
	buf_add_str(out, "</b><small>");
	render_html_add(out, *f->path ? f->path : f->type, NAME_MAX_);
	buf_add_str(out, "</small></td><td class=\"version\" data-label=\"Installed\">");
	render_html_add(out, f->installed, NAME_MAX_);
	buf_add_str(out, "</td><td class=\"version\" data-label=\"Fixed in\">");
	if (*f->fixed) {
		render_html_add(out, f->fixed, NAME_MAX_);
	} else {
		buf_add_str(out, "<span class=\"none\">no fix (");
		render_html_add(out, *f->status ? f->status : "unknown", 40);
		buf_add_str(out, ")</span>");
	}
	buf_add_str(out, "</td><td class=\"what\">");
	render_html_add(out, f->title, TITLE_MAX);
	if (layer < m->n_layers) {
		AUTO_FREE char *step = explain_layer_name(m, layer);

		buf_add_str(out, "<small>from ");
		render_html_add(out, step, NAME_MAX_);
		buf_add_str(out, "</small>");
	}
	add_fate(is_blocking && fate ? fate->lapsed : excuse, out);
	if (*f->description) {
		buf_add_str(out, "<details><summary>description</summary><p>");
		render_html_add(out, f->description, DESCRIPTION_MAX);
		buf_add_str(out, "</p></details>");
	}
	buf_add_str(out, "</td></tr>\n");
}

/* All rows, worst first. Many are folded; the page's script unfolds them when it has put most of them aside. */
static void
add_table(const struct image *m, const size_t *order, size_t n, struct buf *out)
{
	static const char *const heads[] = { "Severity",  "Id",	      "Package",
					     "Installed", "Fixed in", "What it is" };
	bool is_folded = n >= FOLDED_MIN;

	if (is_folded)
		buf_printf(out, "<details id=\"fold\"><summary>all %zu findings</summary>\n", n);
	buf_add_str(out, "<table id=\"findings\">\n<thead><tr>");
	for (size_t k = 0; k < MEM_COUNT(heads); k++)
		buf_printf(out, "<th scope=\"col\"%s><button type=\"button\">%s</button></th>",
			   k == 0 ? " aria-sort=\"descending\"" : "", heads[k]);
	buf_add_str(out, "</tr></thead>\n<tbody>\n");
	for (size_t k = 0; k < n && k < RENDER_HTML_ROWS_MAX; k++)
		add_row(m, order[k], out);
	buf_printf(out, "</tbody>\n</table>\n%s", is_folded ? "</details>\n" : "");
	buf_add_str(out, "<button type=\"button\" class=\"more\" id=\"more\" hidden>Show more</button>\n");
}

static void
add_findings(const struct image *m, struct buf *out)
{
	AUTO_FREE size_t *order = NULL;
	size_t n;

	if (m->report->n_findings == 0) {
		buf_add_str(out, "<div class=\"card\"><p>Trivy found no known vulnerability.</p></div>\n");
		return;
	}
	order = explain_sorted(m, false, &n);
	buf_add_str(out, "<div class=\"card\">\n<h2>Findings</h2>\n");
	add_filters(m->report, out);
	buf_printf(out, "<p class=\"shown\" id=\"shown\" role=\"status\">%zu finding%s</p>\n", n,
		   n == 1 ? "" : "s");
	add_table(m, order, n, out);
	if (n > RENDER_HTML_ROWS_MAX)
		buf_printf(out, "<p>… and %zu more in the JSON report.</p>\n", n - RENDER_HTML_ROWS_MAX);
	buf_add_str(out, "</div>\n");
}

static void
add_others(const struct image *m, struct buf *out)
{
	AUTO_STRV struct strv lines = { 0 };
	const char *advice = render_others_advice(m);

	render_others(m, RENDER_HTML_ROWS_MAX, &lines);
	if (lines.n == 0)
		return;
	buf_add_str(out, "<div class=\"card\">\n<h2>Beside packages</h2>\n<ul>\n");
	for (size_t k = 0; k < lines.n; k++) {
		buf_add_str(out, "<li>");
		render_html_add(out, lines.v[k], TITLE_MAX);
		buf_add_str(out, "</li>\n");
	}
	buf_printf(out, "</ul>\n%s%s%s</div>\n", advice ? "<p>" : "", advice ? advice : "",
		   advice ? "</p>\n" : "");
}

void
render_html(const struct inspection *i, const struct image *m, struct buf *out)
{
	add_head(m, out);
	add_verdict(i, m, out);
	if (m->report)
		add_origin(m, out);
	add_facts(i, m, out);
	if (m->report) {
		add_others(m, out);
		add_findings(m, out);
	}
	buf_printf(out,
		   "</main>\n<footer>Written by Tidewaiter %s. Findings by <a href=\"https://trivy.dev\" rel=\"noopener noreferrer\">Trivy</a>.</footer>\n"
		   "<script>%s</script>\n</body>\n</html>\n",
		   TIDEWAITER_VERSION, render_html_js);
}
