#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "stages/explain.h"
#include "stages/gate.h"
#include "stages/render_log.h"
#include "stages/render_policy.h"
#include "stages/render_text.h"

#define RULED_SHOWN 8 /* images */
#define NOTES_SHOWN 8
#define LINK_MAX 1000 /* columns */
#define ADVISED_MAX 8 /* images */

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

/* Its line ends with the setting that bounds it; names out of the archive may stand before that. */
static bool
is_over_limit(const struct err *fault)
{
	const char *end = strrchr(fault->text, '(');

	return fault->kind == ERR_REFUSED && end && str_has_prefix(end, "(images.");
}

/* Refused by a bound of the settings, which its line names: building it again gives the same for ever. */
static size_t
count_over_limits(const struct inspection *i)
{
	size_t n = 0;

	for (size_t k = 0; k < i->n_archives; k++)
		n += !i->archives[k].is_ignored && is_over_limit(&i->archives[k].fault);
	for (size_t k = 0; k < i->n_images; k++)
		n += is_over_limit(&i->images[k].fault);
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
	render_text_add_coloured(i, out, LOG_BOLD, head);
	buf_add_char(out, '\n');
}

static size_t
count_advised(const struct inspection *i)
{
	size_t n = 0;

	for (size_t k = 0; k < i->n_images; k++)
		n += i->images[k].report && i->images[k].n_blocking > 0;
	return n;
}

/* What was judged, and is not merely refused: somebody may except it. */
static bool
has_judged_block(const struct inspection *i)
{
	for (size_t k = 0; k < i->n_images; k++)
		if (i->images[k].verdict == VERDICT_BLOCK && i->images[k].fault.kind == ERR_NONE)
			return true;
	return false;
}

/* One line per change; who has several images to mend gets the best of each. */
static void
add_changes(struct buf *out, const struct explanation *x, size_t max)
{
	size_t n_unfixed = x->n_blocking - x->n_fixable, n_left = x->n_fixable;

	for (size_t k = 0; k < x->n_changes && k < max; k++) {
		const struct explain_change *c = &x->changes[k];

		if (k == 0 && c->n_fixed == x->n_blocking)
			render_text_addf(out, 4, "- %s: fixes %s", c->text,
					 x->n_blocking == 1 ? "it" : "all of them");
		else
			render_text_addf(out, 4, "- %s: fixes %zu of %zu", c->text, c->n_fixed, x->n_blocking);
		n_left -= c->n_fixed;
	}
	if (n_left > 0)
		render_text_addf(out, 4, "- %zu more can be fixed, too: the report names the version%s",
				 n_left, n_left == 1 ? "" : "s");
	if (n_unfixed > 0)
		render_text_addf(out, 4, "- %zu of %zu %s no fix yet: use another base image or package",
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
	return has_findings(i) && !render_text_is_by_hand(i) && i->opt->report.artifact;
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
	AUTO_FREE char *contact = has_judged_block(i) ? render_policy_contact(i) : NULL;

	if (contact)
		render_text_addf(out, 4, "- %s", contact);
	if (has_old_system(i))
		render_text_add(out, 4,
				"- build on a newer release of the system: nobody looks for flaws in one that is past its end "
				"of life");
	if (count_over_limits(i) > 0)
		render_text_add(out, 4,
				"- what is over a limit stays over it: make the image smaller or simpler, or ask the people who run "
				"this runner for more (images.* of the settings)");
	if (count_archives_with(i, ERR_REFUSED) > count_over_limits(i))
		render_text_addf(out, 4,
				 "- a refused archive is damaged or not what it says it is: build and save the image again%s",
				 render_text_is_by_hand(i)
					 ? ""
					 : "; if that does not help, ask the people who run this runner");
	if (count_archives_with(i, ERR_UNSUPPORTED) > 0)
		render_text_add(out, 4,
				"- what is not looked at as it is: its line says what would be; which platforms are is said by "
				"images.platforms of the settings");
	if (has_other_faults(i) || !i->policy)
		render_text_add(
			out, 4,
			render_text_is_by_hand(i)
				? "- what could not be decided is no fault of the image: `tidewaiter doctor` goes through "
				  "this host and says how to mend it; a scan stands on trivy.path, trivy.db_dir, "
				  "trivy.db_max_age, trivy.timeout, trivy.memory_max and cache_dir of the settings"
				: "- what could not be decided is no fault of your change: try the job again; if it comes "
				  "back, tell the people who run this runner what stands above");
	if (i->n_images == 0 && !inspection_has_archives(i) && i->verdict != VERDICT_PASS)
		render_text_add(out, 4,
				"- save what the job builds where it is looked for: `docker save -o tar_images/NAME.tar IMAGE`");
}

/* Where GitLab shows the reports when the job has ended; NULL where that is not known. Owned by the caller. */
static char *
artifacts_link(const struct inspection *i)
{
	AUTO_FREE char *project = str_safe(i->job->project_url ? i->job->project_url : "", LINK_MAX);

	if (!str_has_prefix(project, "http") || i->job->job_id <= 0)
		return NULL;
	return mem_printf("%s/-/jobs/%jd/artifacts/browse/%s/", project, (intmax_t)i->job->job_id,
			  i->opt->report.dir);
}

/* A link has a line of its own and is not cut, so that it stays one. */
static void
add_files(const struct inspection *i, struct buf *out)
{
	AUTO_FREE char *link = artifacts_link(i);

	if (!has_files(i))
		return;
	if (link)
		buf_printf(out, "  All findings, .html to read, .json for programs:\n  %s\n", link);
	else
		render_text_addf(out, 2,
				 "All findings: %s/ in this job's artifacts, .html to read, .json for programs.",
				 i->opt->report.dir);
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
	add_files(i, out);
}

/* The audit's one sentence. */
static void
add_audit(const struct inspection *i, struct buf *out)
{
	enum gate_end end = gate_end(i->verdict, GATE_ENFORCE, i->opt->gate.on_error);
	AUTO_FREE char *safe = i->reasons.n > 0 ? str_safe(i->reasons.v[0], RENDER_TEXT_LINE_MAX) : NULL;
	AUTO_FREE char *why = safe ? render_text_shorten(safe) : NULL;
	AUTO_FREE char *more = i->reasons.n > 1 ? mem_printf(" (and %zu more)", i->reasons.n - 1) : NULL;

	AUTO_FREE char *where =
		has_files(i) && i->verdict != VERDICT_PASS
			? mem_printf(" The findings are in %s/ of this job's artifacts.", i->opt->report.dir)
			: NULL;

	render_text_addf(out, 0,
			 "Tidewaiter audits and stops nothing; in mode enforce this job would have %s%s%s%s.%s",
			 end == GATE_GO_ON     ? "passed"
			 : end == GATE_BLOCKED ? "been blocked"
					       : "failed as undecided",
			 why ? ": " : "", why ? why : "", more ? more : "", where ? where : "");
}

static void
add_mode(const struct inspection *i, struct buf *out)
{
	const struct options_gate *g = &i->opt->gate;
	enum gate_end end = gate_end(i->verdict, GATE_ENFORCE, g->on_error);

	if (inspection_mode(i) == GATE_WARN && end != GATE_GO_ON && !render_text_is_by_hand(i))
		render_text_add(out, 2,
				"Mode warn stops nothing; in mode enforce this job would have failed.");
	if (inspection_mode(i) == GATE_ENFORCE && end == GATE_GO_ON && i->verdict == VERDICT_UNDECIDED)
		render_text_add(out, 2,
				"The settings let a job go on that could not be decided (gate.on_error).");
}

/* "rule hard of policy.yml, mode enforce"; NULL where no policy judged. Owned by the caller. */
static char *
judge_of(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *rule = render_policy_rule(i, m);

	return rule ? mem_printf("%s, mode %s", rule, gate_mode_words[m->mode]) : NULL;
}

static bool
is_under_one_rule(const struct inspection *i)
{
	for (size_t k = 1; k < i->n_images; k++) {
		AUTO_FREE char *a = judge_of(i, &i->images[0]), *b = judge_of(i, &i->images[k]);

		if (!a || !b || !str_eq(a, b))
			return false;
	}
	return true;
}

static void
add_rules(const struct inspection *i, struct buf *out)
{
	bool is_one = is_under_one_rule(i);
	size_t n = 0;

	for (size_t k = 0; k < (is_one && i->n_images > 0 ? 1 : i->n_images); k++) {
		AUTO_FREE char *judge = judge_of(i, &i->images[k]);
		AUTO_FREE char *name = inspection_image_name(i, &i->images[k]);

		if (!judge || ++n > RULED_SHOWN)
			continue;
		render_text_addf(out, 2, "%s%s by %s.", is_one ? "" : name, is_one ? "Judged" : " was judged",
				 judge);
	}
	if (n > RULED_SHOWN)
		buf_printf(out, "  … and %zu more images\n", n - RULED_SHOWN);
}

/* What is said of one image alone is said with its name. */
static void
add_notes(const struct inspection *i, struct buf *out)
{
	AUTO_STRV struct strv said = { 0 };
	size_t n = 0;

	for (size_t k = 0; k < i->n_images; k++) {
		const struct image *m = &i->images[k];
		AUTO_FREE char *name = inspection_image_name(i, m);

		for (size_t l = 0; m->decision && l < m->decision->notes.n; l++) {
			if (strv_has(&said, m->decision->notes.v[l]) || ++n > NOTES_SHOWN)
				continue;
			strv_add(&said, m->decision->notes.v[l]);
			render_text_addf(out, 4, "- %s%s%s", i->n_images > 1 ? name : "",
					 i->n_images > 1 ? ": " : "", m->decision->notes.v[l]);
		}
	}
	if (n > NOTES_SHOWN)
		buf_printf(out, "    … and %zu more such notes\n", n - NOTES_SHOWN);
}

/* Which rule judged, what was excused, what is announced. Without a policy: what a job asked for and does not get. */
static void
add_policy(const struct inspection *i, struct buf *out)
{
	AUTO_FREE char *sums = render_policy_sums(i);

	add_rules(i, out);
	if (sums)
		render_text_addf(out, 2, "%s", sums);
	add_notes(i, out);
}

void
render_log_verdict(const struct inspection *i, struct buf *out)
{
	const struct render_look *look = render_text_look(i->verdict);
	AUTO_FREE char *head = mem_printf("Tidewaiter: %s", render_text_verdict(i, i->verdict));

	if (!render_text_is_by_hand(i) && inspection_mode(i) == GATE_AUDIT) {
		add_audit(i, out);
		add_policy(i, out);
		return;
	}
	render_text_add_coloured(i, out, look->sgr, head);
	buf_add_char(out, '\n');
	render_text_add_reasons(out, 2, &i->reasons);
	add_mode(i, out);
	add_policy(i, out);
	add_what_to_do(i, out);
}
