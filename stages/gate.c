#include "stages/gate.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/commit_files.h"
#include "stages/ignore_work.h"
#include "stages/known.h"
#include "stages/pipeline.h"
#include "stages/policy.h"
#include "stages/policy_feed.h"

#define NAME_SHOWN_MAX 200 /* code points */
#define IGNORES_MS 10000   /* for reading the commit's ignore files */

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

/* ---- the policy ---- */

void
gate_context(const struct job_facts *job, struct policy_context *ret)
{
	*ret = (struct policy_context){
		.project = job->project_path ? job->project_path : "",
		.branch = job->ref ? job->ref : "",
		.stage = job->stage ? job->stage : "",
		.job = job->name ? job->name : "",
		.default_branch = job->default_branch ? job->default_branch : "",
		.target_branch = job->target_branch ? job->target_branch : "",
		.is_tag = job->is_tag,
		.is_protected = job->is_protected,
		.wants_severity = job->wants_severity,
		.wants_mode = job->wants_mode,
		.wants_waiver = job->wants_waiver,
	};
}

int
gate_load_policy(const struct options *o, const struct policy_source *source, struct policy **ret,
		 struct err *e)
{
	if (source && source->fault.kind != ERR_NONE) {
		*e = source->fault;
		return -1;
	}
	if (source && source->text)
		return policy_parse(source->name, source->text, source->len, o, ret, e);
	if (policy_source_is_configured(&o->policy) && !source)
		return err_set(e, ERR_FAILED, "the policy was not fetched");
	policy_from_options(o, ret);
	return 0;
}

static int
mode_of_unread(const struct policy *p, const struct job_facts *job)
{
	AUTO_DECISION struct decision d = { 0 };
	struct policy_context c;

	gate_context(job, &c);
	policy_decide(p, NULL, &c, clock_wall_s(), &d);
	return d.mode;
}

/*
 * Where no policy can be had, gate.mode rules, or what the version that is too old to judge said of such a job, if that is stricter:
 * who keeps the repository from being asked opens no gate.
 */
static int
mode_without(const struct options *o, const struct job_facts *job, const struct policy_source *source)
{
	AUTO(policy) struct policy *old = NULL;
	struct err ignored = ERR_INIT;
	int mode = o->gate.mode, its;

	if (!source || !source->text ||
	    policy_parse(source->name, source->text, source->len, o, &old, &ignored) < 0)
		return mode;
	its = mode_of_unread(old, job);
	return its > mode ? its : mode;
}

int
gate_mode_unread(const struct options *o, const struct job_facts *job, const struct policy_source *source)
{
	AUTO(policy) struct policy *p = NULL;
	struct err e = ERR_INIT;

	return gate_load_policy(o, source, &p, &e) < 0 ? mode_without(o, job, source) : mode_of_unread(p, job);
}

/* ---- images ---- */

/* What could not be known: for the job log, and for whoever reads the result. */
static void
note(struct inspection *i, const char *text)
{
	log_line(i->log, LOG_WARN, "%s", text);
	strv_add(&i->notes, text);
}

/* Nothing of what was judged before. */
static void
forget(struct image *m)
{
	strv_free(&m->reasons);
	mem_free_at(&m->is_blocking);
	mem_free_at(&m->was_known);
	m->n_blocking = 0;
	m->verdict = VERDICT_PASS;
	if (m->decision)
		decision_free(m->decision);
	mem_free_at(&m->decision);
}

static void
take_decision(struct image *m, struct decision *d)
{
	m->verdict = verdict_worse(m->verdict, d->verdict);
	m->mode = d->mode;
	for (size_t k = 0; k < d->reasons.n; k++)
		strv_add(&m->reasons, d->reasons.v[k]);
	if (d->n_findings > 0)
		m->is_blocking = mem_array(d->n_findings, sizeof(*m->is_blocking));
	for (size_t k = 0; k < d->n_findings; k++)
		m->is_blocking[k] = d->fates[k].fate == FATE_BLOCKS;
	m->n_blocking = d->n_of_fate[FATE_BLOCKS];
	m->decision = mem_alloc(sizeof(*m->decision));
	*m->decision = *d;
	*d = (struct decision){ 0 };
}

static int64_t
now_of(const struct inspection *i)
{
	return i->today_s > 0 ? i->today_s : clock_wall_s();
}

/* By hand there may be no commit, in a job there is. */
static void
note_missing_commit(const struct inspection *i, struct decision *d)
{
	if (d->rule->ignore_files.n > 0 && i->objects_fd == 0)
		strv_add(&d->notes, "this rule takes ignore files of the commit, which is not known here");
}

/* A rule that reacts to what nobody looks for never does. */
static void
note_unlooked(const struct inspection *i, struct decision *d)
{
	const struct strv *scanners = &i->opt->trivy.scanners;

	/* a report that was made elsewhere, by whatever settings */
	if (!i->work_dir)
		return;
	if (d->rule->secrets != REACT_PASS && !strv_has(scanners, "secret"))
		strv_add(&d->notes,
			 "this rule reacts to secrets, and nobody looks for any: trivy.scanners of the settings has no secret");
	if (d->rule->misconfigurations != MISCONFIGURATIONS_OFF && !strv_has(scanners, "misconfig"))
		strv_add(&d->notes,
			 "this rule reacts to misconfigurations, and nobody looks for any: trivy.scanners of the settings has no "
			 "misconfig");
}

static void
note_known(const struct inspection *i, const struct policy_known *known, const struct decision *d,
	   struct image *m)
{
	const char *own = baseline_branch(i->job);

	if (!own || !d->has_baseline || !m->report)
		return;
	m->was_known = mem_array(m->report->n_findings + 1, sizeof(*m->was_known));
	for (size_t k = 0; k < m->report->n_findings; k++)
		m->was_known[k] = known->is_known(known->arg, own, &m->report->findings[k]);
}

void
gate_judge_image(const struct inspection *i, const struct known *known, struct image *m)
{
	AUTO_KNOWN_IMAGE struct known_image storage = { 0 };
	AUTO_DECISION struct decision d = { 0 };
	bool has_report = m->report && m->fault.kind == ERR_NONE;
	struct policy_context c;

	forget(m);
	gate_context(i->job, &c);
	c.image = m->repository ? m->repository : "";
	c.tags = &m->tags;
	c.hidden = &m->hidden;
	c.ignores = i->ignores ? i->ignores->v : NULL;
	c.n_ignores = i->ignores ? i->ignores->n : 0;
	if (has_report)
		known_of_image(known, i, m, &storage, &c.known);
	if (m->fault.kind != ERR_NONE) {
		m->verdict = gate_judge_fault(&m->fault);
		strv_add(&m->reasons, m->fault.text);
	} else if (!has_report) {
		m->verdict = VERDICT_UNDECIDED;
		strv_add(&m->reasons, "it was not scanned");
	}
	m->good_s = storage.good_s;
	policy_decide(i->policy, has_report ? m->report : NULL, &c, now_of(i), &d);
	note_missing_commit(i, &d);
	note_unlooked(i, &d);
	if (has_report)
		note_known(i, &c.known, &d, m);
	take_decision(m, &d);
}

/* A policy that nobody understands judges nobody, and the settings' section gate does not step in for it. */
static void
leave_undecided(struct inspection *i, const struct err *why)
{
	int mode = mode_without(i->opt, i->job, i->policy_source);

	i->mode = mode;
	for (size_t k = 0; k < i->n_images; k++) {
		struct image *m = &i->images[k];

		m->mode = mode;
		m->verdict = m->fault.kind == ERR_NONE
				     ? VERDICT_UNDECIDED
				     : verdict_worse(VERDICT_UNDECIDED, gate_judge_fault(&m->fault));
		strv_add(&m->reasons, m->fault.kind == ERR_NONE ? why->text : m->fault.text);
	}
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
		AUTO_FREE char *weaker = mem_printf(" (mode %s here)", gate_mode_words[m->mode]);

		for (size_t r = 0; m->verdict == v && r < m->reasons.n; r++)
			strv_addf(&i->reasons, "%s: %s%s", name, m->reasons.v[r],
				  m->mode < i->mode ? weaker : "");
	}
}

/*
 * The worst comes first; then what nobody could look at, since of many reasons the last are not shown, and what else blocks has lines of
 * its own.
 */
static void
add_reasons(struct inspection *i)
{
	struct strv rest = { 0 };

	add_reasons_of(i, VERDICT_BLOCK);
	for (size_t k = 1; k < i->reasons.n; k++)
		strv_take(&rest, take_ptr(i->reasons.v[k]));
	i->reasons.n = i->reasons.n > 1 ? 1 : i->reasons.n;
	add_reasons_of(i, VERDICT_UNDECIDED);
	for (size_t k = 0; k < rest.n; k++)
		strv_take(&i->reasons, take_ptr(rest.v[k]));
	mem_free_at(&rest.v);
	add_reasons_of(i, VERDICT_WARN);
}

static void
judge_absence(struct inspection *i)
{
	enum verdict v = gate_judge_no_image(i->opt->inject.on_no_image);

	if (inspection_has_archives(i) || i->n_images > 0 || v == VERDICT_PASS)
		return;
	i->verdict = verdict_worse(i->verdict, v);
	strv_add(&i->reasons, "the job left no image archive (inject.on_no_image)");
}

/* Under a weaker mode than that which rules the job, what would block is a warning of it at most. */
static enum verdict
weigh(const struct inspection *i, int mode, enum verdict v)
{
	if (mode >= i->mode || v == VERDICT_PASS)
		return v;
	return mode >= GATE_WARN ? VERDICT_WARN : VERDICT_PASS;
}

/* Is there anything that what is known besides could excuse? */
static bool
has_open_question(const struct inspection *i)
{
	static const enum fate open[] = { FATE_BLOCKS, FATE_GRACE, FATE_WAIVED };
	size_t n = 0;

	for (size_t k = 0; k < i->n_images; k++)
		for (size_t f = 0; f < MEM_COUNT(open); f++)
			n += i->images[k].decision ? i->images[k].decision->n_of_fate[open[f]] : 0;
	return n > 0;
}

static bool
is_new_only(const struct inspection *i)
{
	for (size_t k = 0; k < i->n_images; k++)
		if (i->images[k].decision && i->images[k].decision->asks_baseline)
			return true;
	return false;
}

/* Whatever rule judges here and whatever comes of it: a date that another rule, job or project will ask for is put down now. */
static void
take_fixes(struct inspection *i, struct fixes *ret)
{
	AUTO_FREE char *text = NULL;
	struct err e = ERR_INIT;

	if (!policy_asks_fixes(i->policy) || fix_recorder_ask(i, ret, &e) == 0)
		return;
	text = mem_printf("since when there are fixes is not known of all: %s", e.text);
	note(i, text);
}

/* By the reports alone, which says whether anybody has to be waited for; then by what is known besides. */
static void
judge_images(struct inspection *i)
{
	AUTO_KNOWN struct known known = { 0 };

	take_fixes(i, &known.fixes);
	for (size_t k = 0; k < i->n_images; k++)
		gate_judge_image(i, &known, &i->images[k]);
	/* unless they are asked for */
	i->lacks_branches = true;
	if (!i->fetcher)
		return;
	known_take(i, has_open_question(i), has_open_question(i) && is_new_only(i), &known);
	i->lacks_branches = known.lacks_branches;
	for (size_t k = 0; k < known.notes.n; k++)
		note(i, known.notes.v[k]);
	for (size_t k = 0; k < i->n_images; k++)
		gate_judge_image(i, &known, &i->images[k]);
}

static void
judge_all(struct inspection *i)
{
	/* what became no image may be any */
	int unread = mode_of_unread(i->policy, i->job);
	bool has_unread = i->n_images == 0;

	judge_images(i);
	i->mode = GATE_OFF;
	for (size_t k = 0; k < i->n_images; k++)
		i->mode = i->images[k].mode > i->mode ? i->images[k].mode : i->mode;
	for (size_t k = 0; k < i->n_archives; k++)
		has_unread = has_unread || judge_archive(i, k) != VERDICT_PASS;
	if (has_unread && unread > i->mode)
		i->mode = unread;
	for (size_t k = 0; k < i->n_archives; k++)
		i->verdict = verdict_worse(i->verdict, weigh(i, unread, judge_archive(i, k)));
	for (size_t k = 0; k < i->n_images; k++)
		i->verdict = verdict_worse(i->verdict, weigh(i, i->images[k].mode, i->images[k].verdict));
}

/* It may have been on its way until now. */
static void
take_policy(struct inspection *i)
{
	AUTO_FREE char *text = NULL;

	if (!i->policy_source)
		return;
	policy_feed_wait(i->policy_source);
	if (!i->policy_source->note)
		return;
	text = str_safe(i->policy_source->note, ERR_TEXT_MAX);
	note(i, text);
}

void
gate_take_ignores(struct inspection *i)
{
	bool is_asked = i->policy->otherwise.ignore_files.n > 0;

	for (size_t k = 0; k < i->policy->rules.n; k++)
		is_asked = is_asked || i->policy->rules.v[k].ignore_files.n > 0;
	if (!is_asked || i->objects_fd == 0)
		return;
	i->ignores = mem_alloc(sizeof(*i->ignores));
	commit_files_load(i->objects_fd, i->job->sha, clock_deadline(IGNORES_MS), i->ignores);
	ignore_list_bound(i->ignores, i);
}

static int
gate_run(struct inspection *i, struct err *e)
{
	struct err why = ERR_INIT;

	(void)e;
	i->verdict = VERDICT_PASS;
	take_policy(i);
	policy_free(take_ptr(i->policy));
	for (size_t k = 0; k < i->n_images; k++)
		forget(&i->images[k]);
	if (gate_load_policy(i->opt, i->policy_source, &i->policy, &why) == 0) {
		gate_take_ignores(i);
		for (size_t k = 0; i->ignores && k < i->ignores->notes.n; k++)
			note(i, i->ignores->notes.v[k]);
		judge_all(i);
	} else {
		leave_undecided(i, &why);
		i->verdict = VERDICT_UNDECIDED;
		for (size_t k = 0; k < i->n_archives; k++)
			i->verdict = verdict_worse(i->verdict, judge_archive(i, k));
		if (i->n_images == 0)
			strv_add(&i->reasons, why.text);
	}
	add_reasons(i);
	judge_absence(i);
	return 0;
}

const struct stage stage_gate = {
	.name = "gate",
	.place = STAGE_SCANNER,
	.run = gate_run,
};
