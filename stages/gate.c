#include "stages/gate.h"

#include <string.h>

#include "base/mem.h"
#include "stages/pipeline.h"

#define NAME_SHOWN_MAX 200 /* code points */

void
gate_judgement_free(struct gate_judgement *j)
{
	strv_free(&j->reasons);
	mem_free_at(&j->is_blocking);
	*j = (struct gate_judgement){ 0 };
}

bool
gate_is_blocking(const struct options_gate *g, const struct finding *f)
{
	if ((int)f->severity < g->severity)
		return false;
	return !g->fixable_only || *f->fixed;
}

static enum verdict
verdict_of_reaction(int reaction)
{
	switch ((enum reaction)reaction) {
	case REACT_PASS:
		return VERDICT_PASS;
	case REACT_WARN:
		return VERDICT_WARN;
	case REACT_FAIL:
		return VERDICT_BLOCK;
	}
	return VERDICT_BLOCK;
}

/* What is odd about the image as a whole, and which setting says how bad that is. */
static void
judge_oddity(struct gate_judgement *j, bool is_so, int reaction, const char *reason)
{
	if (!is_so || reaction == REACT_PASS)
		return;
	j->verdict = verdict_worse(j->verdict, verdict_of_reaction(reaction));
	strv_add(&j->reasons, reason);
}

char *
gate_describe(const struct options_gate *g)
{
	bool is_top = g->severity == SEVERITY_CRITICAL;

	return mem_printf("%s%s%s", severity_words[g->severity], is_top ? "" : " or worse",
			  g->fixable_only ? " that can be fixed" : "");
}

static void
judge_findings(const struct options_gate *g, const struct report *r, struct gate_judgement *j)
{
	AUTO_FREE char *what = NULL;

	if (r->n_findings > 0)
		j->is_blocking = mem_array(r->n_findings, sizeof(*j->is_blocking));
	for (size_t k = 0; k < r->n_findings; k++) {
		j->is_blocking[k] = gate_is_blocking(g, &r->findings[k]);
		j->n_blocking += j->is_blocking[k];
	}
	if (j->n_blocking == 0)
		return;
	what = gate_describe(g);
	strv_addf(&j->reasons, "%zu %s %s", j->n_blocking, j->n_blocking == 1 ? "finding is" : "findings are",
		  what);
	j->verdict = VERDICT_BLOCK;
}

void
gate_judge_report(const struct options_gate *g, const struct report *r, struct gate_judgement *ret)
{
	AUTO_FREE char *eol = NULL;

	judge_findings(g, r, ret);
	judge_oddity(ret, r->n_packages == 0, g->on_no_packages,
		     "Trivy found no packages in it, so it can say nothing about them");
	judge_oddity(ret, !*r->os_family, g->on_unknown_os, "it has no operating system that Trivy knows");
	eol = mem_printf("%s %s is past its end of life and gets no fixes", r->os_family, r->os_name);
	judge_oddity(ret, r->is_os_eol, g->on_eol_os, eol);
}

enum verdict
gate_judge_fault(const struct err *fault)
{
	return fault->kind == ERR_REFUSED ? VERDICT_BLOCK : VERDICT_UNDECIDED;
}

enum verdict
gate_judge_no_image(int on_no_image)
{
	return verdict_of_reaction(on_no_image);
}

enum gate_end
gate_end(enum verdict verdict, int mode, int on_error)
{
	/* Only enforce changes anything; on_error decides about what could not be decided. */
	static const enum gate_end enforced[] = {
		[VERDICT_PASS] = GATE_GO_ON,
		[VERDICT_WARN] = GATE_GO_ON,
		[VERDICT_UNDECIDED] = GATE_STUCK,
		[VERDICT_BLOCK] = GATE_BLOCKED,
	};

	if (mode != GATE_ENFORCE)
		return GATE_GO_ON;
	if (verdict == VERDICT_UNDECIDED && on_error != ON_ERROR_FAIL)
		return GATE_GO_ON;
	return enforced[verdict];
}

static void
judge_image(const struct inspection *i, struct image *m)
{
	AUTO_JUDGEMENT struct gate_judgement j = { 0 };

	if (m->report && m->fault.kind == ERR_NONE) {
		gate_judge_report(&i->opt->gate, m->report, &j);
	} else if (m->fault.kind != ERR_NONE) {
		j.verdict = gate_judge_fault(&m->fault);
		strv_add(&j.reasons, m->fault.text);
	} else {
		j.verdict = VERDICT_UNDECIDED;
		strv_add(&j.reasons, "it was not scanned");
	}
	m->verdict = j.verdict;
	strv_free(&m->reasons);
	m->reasons = j.reasons;
	mem_free_at(&m->is_blocking);
	m->is_blocking = j.is_blocking;
	m->n_blocking = j.n_blocking;
	j = (struct gate_judgement){ 0 };
}

/* What Trivy could not see, by what it said of the rest: a scan that found nothing is no answer to that. */
static void
judge_hidden(const struct inspection *i, struct image *m)
{
	int reaction = i->opt->images.on_hidden_packages;

	if (!m->hidden.n || reaction == REACT_PASS)
		return;
	m->verdict = verdict_worse(m->verdict, verdict_of_reaction(reaction));
	for (size_t k = 0; k < m->hidden.n; k++)
		strv_addf(&m->reasons, "hidden packages: %s (images.on_hidden_packages)", m->hidden.v[k]);
}

static bool
has_image(const struct inspection *i, size_t archive)
{
	for (size_t k = 0; k < i->n_images; k++) {
		if (i->images[k].archive == archive)
			return true;
	}
	return false;
}

/* The verdict on an archive itself; what its images are is another matter. */
static enum verdict
judge_archive(const struct inspection *i, size_t index)
{
	const struct archive *a = &i->archives[index];

	if (a->is_ignored)
		return VERDICT_PASS;
	if (a->fault.kind != ERR_NONE)
		return gate_judge_fault(&a->fault);
	return has_image(i, index) ? VERDICT_PASS : VERDICT_UNDECIDED;
}

static void
add_reasons_of(struct inspection *i, enum verdict v)
{
	for (size_t k = 0; k < i->n_archives; k++) {
		const struct archive *a = &i->archives[k];

		if (judge_archive(i, k) == v) {
			AUTO_FREE char *name = str_safe(a->name, NAME_SHOWN_MAX);

			strv_addf(&i->reasons, "%s: %s", name,
				  a->fault.kind != ERR_NONE ? a->fault.text : "no image was read from it");
		}
	}
	for (size_t k = 0; k < i->n_images; k++) {
		const struct image *m = &i->images[k];
		AUTO_FREE char *name = inspection_image_name(i, m);

		for (size_t r = 0; m->verdict == v && r < m->reasons.n; r++)
			strv_addf(&i->reasons, "%s: %s", name, m->reasons.v[r]);
	}
}

static bool
has_archives(const struct inspection *i)
{
	for (size_t k = 0; k < i->n_archives; k++) {
		if (!i->archives[k].is_ignored)
			return true;
	}
	return false;
}

static void
judge_absence(struct inspection *i)
{
	enum verdict v = gate_judge_no_image(i->opt->inject.on_no_image);

	if (has_archives(i) || i->n_images > 0 || v == VERDICT_PASS)
		return;
	i->verdict = verdict_worse(i->verdict, v);
	strv_add(&i->reasons, "the job left no image archive (inject.on_no_image)");
}

static int
gate_run(struct inspection *i, struct err *e)
{
	(void)e;
	i->verdict = VERDICT_PASS;
	for (size_t k = 0; k < i->n_archives; k++)
		i->verdict = verdict_worse(i->verdict, judge_archive(i, k));
	for (size_t k = 0; k < i->n_images; k++) {
		judge_image(i, &i->images[k]);
		judge_hidden(i, &i->images[k]);
		i->verdict = verdict_worse(i->verdict, i->images[k].verdict);
	}
	/* The worst comes first. */
	for (int v = VERDICT_BLOCK; v > VERDICT_PASS; v--)
		add_reasons_of(i, (enum verdict)v);
	judge_absence(i);
	return 0;
}

const struct stage stage_gate = {
	.name = "gate",
	.place = STAGE_SCANNER,
	.run = gate_run,
};
