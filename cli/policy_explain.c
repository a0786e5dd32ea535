/*
 * `tidewaiter policy explain REPORT`: what the gate of a job would say of each finding, by the gate's own functions over what a job would
 * know. Nothing is put down, asked of the network (but with --fresh) or delivered. The JSON is described in docs/reference/policy.md.
 */
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "cli/courier.h"
#include "cli/job_options.h"
#include "cli/policy.h"
#include "cli/workspace.h"
#include "stages/explain.h"
#include "stages/gate.h"
#include "stages/identity.h"
#include "stages/ignore_files.h"
#include "stages/known.h"
#include "stages/render_json.h"
#include "stages/render_policy.h"
#include "stages/render_text.h"
#include "stages/trivy_db.h"

#define FORMAT 1
#define FRESH_WAIT_MS 60000 /* a person waits for an answer longer than a job does */
#define SHOWN_MAX 60	    /* columns of a name */

struct explain {
	const char *policy, *image, *severity, *mode, *today, *triage;
	struct job_options job;
	struct strv tags;
	bool is_fresh, wants_json;
};

#define AT(member) offsetof(struct explain, member)
static const struct cli_option rows[] = {
	{ "policy", "FILE", OPTION_TEXT, AT(policy), "this policy instead of that of the settings", NULL },
	{ "image", "NAME", OPTION_TEXT, AT(image), "the image without registry and tag, such as group/app",
	  NULL },
	{ "image-tag", "NAME", OPTION_LIST, AT(tags),
	  "its full name, registry.example.com/group/app:1.0;\nmay be given several times", NULL },
	JOB_OPTIONS(explain, job),
	{ "severity", "WORD", OPTION_TEXT, AT(severity), "its TIDEWAITER_SEVERITY", NULL },
	{ "mode", "WORD", OPTION_TEXT, AT(mode), "its TIDEWAITER_MODE", NULL },
	{ "fresh", NULL, OPTION_FLAG, AT(is_fresh),
	  "ask DefectDojo now; else what was kept of its triage counts", NULL },
	{ "triage", "FILE", OPTION_TEXT, AT(triage),
	  "this triage instead: a file of <state_dir>/triage, as of when it was fetched", NULL },
	{ "today", "DAY", OPTION_TEXT, AT(today), "as on that day, such as 2026-01-31", NULL },
	{ "json", NULL, OPTION_FLAG, AT(wants_json), "one JSON object instead of text", NULL },
};
#undef AT
const struct cli_options policy_explain_options = { "policy explain", rows, MEM_COUNT(rows), "REPORT" };

/* What is opened as who we are, before we are the courier for good. */
struct place {
	struct policy_opened policy;
	struct options defaults; /* where there are no settings */
	struct kept *kept;
	char *triage; /* text of --triage */
	size_t triage_len;
	int report_fd, objects_fd;
	struct trivy_db_dir db;
	struct err db_fault;
	struct strv notes;
};

static void
place_close(struct place *p)
{
	policy_close(&p->policy);
	options_free(&p->defaults);
	kept_free(p->kept);
	mem_free_at(&p->triage);
	mem_close_at(&p->report_fd);
	if (p->objects_fd > 0)
		mem_close_at(&p->objects_fd);
	trivy_db_close(&p->db);
	strv_free(&p->notes);
}
#define AUTO_PLACE __attribute__((cleanup(place_close)))

/* ---- output ---- */

static void
print_json(const struct place *p, const struct inspection *i)
{
	const struct image *m = &i->images[0];
	const struct decision *d = m->decision;
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	AUTO_FREE size_t *order = NULL;
	cJSON *list;
	size_t n;

	json_add_int(j, "format", FORMAT);
	json_add_str(j, "version", TIDEWAITER_VERSION);
	json_add_safe_str(j, "project", i->job->project_path);
	json_add_safe_str(j, "image", m->repository);
	json_add_time(j, "today", i->today_s);
	json_add_safe_str(j, "policy", p->policy.origin);
	json_add_safe_str(j, "contact", str_is_empty(i->policy->contact) ? NULL : i->policy->contact);
	json_add_str(j, "rule", d->rule_index < i->policy->rules.n ? d->rule->name : NULL);
	json_add_str(j, "mode", gate_mode_words[d->mode]);
	json_add_str(j, "severity", severity_words[d->severity]);
	json_add_bool(j, "fixable_only", d->fixable_only);
	json_add_str(j, "verdict", verdict_words[m->verdict]);
	json_add_safe_strv(j, "reasons", &m->reasons);
	json_add_safe_strv(j, "notes", &i->notes);
	json_add_str(j, "waiver", d->waiver ? d->waiver->name : NULL);
	json_add_time(j, "waiver_until", d->waiver ? d->waiver_until_s : 0);
	list = json_add_array(j, "findings");
	order = explain_sorted(m, false, &n);
	for (size_t k = 0; k < n; k++)
		cJSON_AddItemToArray(list, render_json_finding(i, m, order[k]));
	text = json_print_pretty(j);
	fputs(text, stdout);
}

static void
add_finding(struct buf *out, const struct finding *f, const struct finding_fate *fate)
{
	AUTO_FREE char *id = str_safe(f->id, SHOWN_MAX), *package = str_safe(f->package, SHOWN_MAX);
	AUTO_FREE char *installed = str_safe(f->installed, SHOWN_MAX);
	AUTO_FREE char *fixed = str_safe(f->fixed, SHOWN_MAX), *path = str_safe(f->path, SHOWN_MAX);
	AUTO_FREE char *excuse = render_policy_excuse(fate);
	bool blocks = fate->fate == FATE_BLOCKS;

	render_text_addf(out, 2, "%s %s", severity_words[f->severity], id);
	render_text_addf(out, 4, "%s %s, %s%s", package, installed, *fixed ? "fixed in " : "no fix yet",
			 fixed);
	if (*path)
		render_text_addf(out, 4, "in %s", path);
	render_text_addf(out, 4, "%s%s", blocks ? "blocks: " : "", excuse ? excuse : fate->by);
}

/* What blocks first, what nobody asks about last. */
static void
add_fates(struct buf *out, const struct image *m)
{
	static const enum fate fates[] = { FATE_BLOCKS, FATE_WAIVED,  FATE_GRACE,    FATE_ACCEPTED,
					   FATE_KNOWN,	FATE_IGNORED, FATE_EXCEPTED, FATE_BELOW };
	const struct decision *d = m->decision;
	AUTO_FREE size_t *order = NULL;
	size_t n;

	_Static_assert(MEM_COUNT(fates) == FATE_COUNT, "each fate");
	order = explain_sorted(m, false, &n);
	for (size_t f = 0; f < MEM_COUNT(fates); f++) {
		if (d->n_of_fate[fates[f]] == 0)
			continue;
		buf_printf(out, "%s (%zu)\n", fate_words[fates[f]], d->n_of_fate[fates[f]]);
		for (size_t k = 0; k < n; k++)
			if (d->fates[order[k]].fate == fates[f])
				add_finding(out, &m->report->findings[order[k]], &d->fates[order[k]]);
		buf_add_str(out, "\n");
	}
}

static void
print_text(const struct place *p, const struct inspection *i)
{
	const struct image *m = &i->images[0];
	const struct decision *d = m->decision;
	AUTO_FREE char *what = policy_describe(d->severity, d->fixable_only);
	AUTO_FREE char *origin = str_safe(p->policy.origin, RENDER_TEXT_LINE_MAX);
	AUTO_FREE char *contact = render_policy_contact(i);
	AUTO_BUF struct buf out = BUF_INIT(SIZE_MAX);

	add_fates(&out, m);
	render_text_addf(&out, 0, "policy: %s", origin);
	render_text_addf(&out, 0, "rule: %s (mode %s, blocks %s)", policy_rule_name(i->policy, d),
			 gate_mode_words[d->mode], what);
	render_text_addf(&out, 0, "verdict: %s", verdict_words[m->verdict]);
	for (size_t k = 0; k < m->reasons.n; k++)
		render_text_addf(&out, 2, "- %s", m->reasons.v[k]);
	for (size_t k = 0; k < i->notes.n; k++) {
		AUTO_FREE char *note = str_safe(i->notes.v[k], RENDER_TEXT_LINE_MAX);

		render_text_addf(&out, 0, "note: %s", note);
	}
	if (d->n_of_fate[FATE_BLOCKS] > 0 && contact)
		render_text_add(&out, 0, contact);
	fwrite(out.data, 1, out.len, stdout);
}

/* ---- what a job would know ---- */

/* From here on we are the courier, who alone reads what is kept and asks; where there is none, nothing of that is known. */
static void
become_courier(struct place *p)
{
	const struct settings *s = p->policy.settings;
	AUTO(kept) struct kept *kept = NULL;
	struct pipeline_users u;
	struct err e = ERR_INIT;

	if (workspace_users(s->scan_user, s->courier_user, &u, &e) == 0) {
		kept = kept_open(s->state_dir, u.is_separated ? u.courier_uid : (uid_t)-1, u.courier_gid);
		if (courier_become(s, &e) == 0) {
			e = kept->fault;
			p->kept = take_ptr(kept);
		}
	}
	if (e.kind != ERR_NONE)
		strv_addf(&p->notes,
			  "of triage, other branches and first dates of fixes not all is known: %s", e.text);
}

static int
open_triage(const struct explain *x, struct place *p, struct err *e)
{
	if (!x->triage)
		return 0;
	return fs_read_named(x->triage, TRIAGE_MAX, &p->triage, &p->triage_len, e) < 0
		       ? err_wrap(e, "--triage")
		       : 0;
}

static void
open_db(struct place *p)
{
	const struct options_trivy *opt = &p->policy.settings->opt.trivy;

	if (str_is_empty(opt->server))
		(void)trivy_db_open(TRIVY_DB_VULNERABILITIES, opt->db_dir, &p->db, &p->db_fault);
}

static int
open_place(const struct cli *cli, const struct explain *x, const char *report, struct place *p, struct err *e)
{
	if (policy_open_report(AT_FDCWD, report, &p->report_fd, e) < 0 || open_triage(x, p, e) < 0) {
		e->kind = ERR_USAGE;
		return -1;
	}
	if (job_options_open(&x->job, &p->objects_fd, e) < 0 ||
	    policy_open_for(cli, x->policy, x->job.project, &p->policy, e) < 0)
		return -1;
	if (p->policy.note)
		strv_add(&p->notes, p->policy.note);
	if (!p->policy.settings) {
		strv_add(&p->notes,
			 "without settings (--config) kept triage, other branches and first dates of fixes are not known");
		return 0;
	}
	open_db(p);
	become_courier(p);
	return 0;
}

/* As in a job, but for the dates of fixes: they are looked at, and none is put down. */
static void
take_fixes(const struct place *p, struct inspection *i, struct known *k)
{
	struct err e = ERR_INIT;

	if (!policy_asks_fixes(i->policy) || !p->kept || p->kept->fixes_fd < 0)
		return;
	k->fixes.since_s = mem_array(1, sizeof(*k->fixes.since_s));
	k->fixes.n_images = 1;
	if (fix_dates_look(p->kept->fixes_fd, i->images[0].report, i->today_s, &k->fixes.since_s[0], &e) == 0)
		return;
	fixes_free(&k->fixes);
	strv_addf(&k->notes, "since when there are fixes is not known: %s", e.text);
}

static int
take_triage(const struct explain *x, const struct place *p, struct known *k, struct err *e)
{
	AUTO(triage) struct triage *t = NULL;
	AUTO_FREE char *age = NULL;

	if (!p->triage)
		return 0;
	if (triage_parse(p->triage, p->triage_len, &t, e) < 0) {
		err_wrap(e, "--triage %s", x->triage);
		e->kind = ERR_USAGE;
		return -1;
	}
	age = str_human_duration((clock_wall_s() - t->fetched_s) * 1000);
	strv_addf(&k->notes, "triage is that of a file, %s old", age);
	triage_free(k->triage);
	k->triage = take_ptr(t);
	return 0;
}

static int
take_known(const struct explain *x, const struct place *p, struct inspection *i, struct known *k,
	   struct err *e)
{
	AUTO(fetcher) struct fetcher *f = p->kept ? fetcher_start(i, p->kept, (uid_t)-1, (gid_t)-1) : NULL;

	i->fetcher = f;
	known_take(i, !p->triage, true, k);
	i->fetcher = NULL;
	take_fixes(p, i, k);
	return take_triage(x, p, k, e);
}

static void
add_notes(struct inspection *i, const struct strv *notes)
{
	for (size_t k = 0; k < notes->n; k++)
		strv_add(&i->notes, notes->v[k]);
}

/* ---- the judgement ---- */

/* As a scan here would; a server of Trivy's does not say. */
static void
look_up_release(struct place *p, struct report *r)
{
	AUTO_STRV struct strv releases = { 0 };
	AUTO_FREE char *release = identity_db_release(r->os_family, r->os_name);

	AUTO_FREE char *safe = NULL;

	if (!release)
		return;
	safe = str_safe(release, SHOWN_MAX);
	if (p->db.fd >= 0 && trivy_db_list_releases(&p->db, &releases, &p->db_fault) < 0)
		strv_free(&releases);
	if (p->db_fault.kind != ERR_NONE)
		strv_addf(&p->notes, "whether Trivy's database knows %s is not known: %s", safe,
			  p->db_fault.text);
	r->is_release_unknown = identity_is_release_unknown(r, &releases);
}

static int
read_report(struct place *p, const char *name, struct inspection *i, const struct explain *x, struct err *e)
{
	AUTO(report) struct report *r = NULL;
	struct image *m;

	if (policy_parse_report(p->report_fd, name, &r, e) < 0) {
		/* it is wrong use here, no verdict */
		err_wrap(e, "REPORT has to be what trivy image --format json writes");
		e->kind = ERR_USAGE;
		return -1;
	}
	m = inspection_add_image(i);
	look_up_release(p, r);
	m->report = take_ptr(r);
	m->repository = mem_strdup(x->image);
	m->label = mem_strdup(x->image);
	strv_copy(&m->tags, &x->tags);
	return 0;
}

static int
judge(const struct explain *x, struct place *p, struct inspection *i, struct err *e)
{
	AUTO_KNOWN struct known known = { 0 };

	i->policy = take_ptr(p->policy.policy);
	if (take_known(x, p, i, &known, e) < 0)
		return -1;
	gate_take_ignores(i);
	gate_judge_image(i, &known, &i->images[0]);
	add_notes(i, &p->notes);
	add_notes(i, &known.notes);
	if (i->ignores)
		add_notes(i, &i->ignores->notes);
	add_notes(i, &i->images[0].decision->notes);
	return 0;
}

static int
explain(const struct cli *cli, const struct explain *x, const char *report, struct err *e)
{
	AUTO_PLACE struct place p = { .report_fd = -1, .db = TRIVY_DB_DIR_INIT, .db_fault = ERR_INIT };
	struct inspection i = { .project_fd = -1, .log = &cli->log, .asks_nobody = !x->is_fresh };
	struct job_facts job = { 0 };
	int rc;

	if (policy_read_day(x->today, &i.today_s, e) < 0 || open_place(cli, x, report, &p, e) < 0)
		return -1;
	conf_set_defaults(&options_schema, &p.defaults);
	i.opt = p.policy.settings ? &p.policy.settings->opt : &p.defaults;
	i.state_dir = p.policy.settings ? p.policy.settings->state_dir : NULL;
	if (p.policy.settings)
		p.policy.settings->opt.defectdojo.wait = FRESH_WAIT_MS;
	i.objects_fd = p.objects_fd;
	job_options_facts(&x->job, x->severity, x->mode, &job);
	i.job = &job;
	rc = read_report(&p, report, &i, x, e);
	if (rc == 0)
		rc = judge(x, &p, &i, e);
	if (rc == 0) {
		(x->wants_json ? print_json : print_text)(&p, &i);
		rc = i.images[0].verdict == VERDICT_BLOCK ? CLI_BLOCKED : CLI_OK;
	}
	inspection_free(&i);
	job_facts_free(&job);
	return rc;
}

static int
check(const struct explain *x, int n_operands, struct err *e)
{
	if (n_operands != 1 || !x->job.project || !x->image)
		return err_set(e, ERR_USAGE,
			       "policy explain needs --project, --image and one report of Trivy (trivy --format json)");
	if (x->triage && x->is_fresh)
		return err_set(e, ERR_USAGE, "--triage and --fresh: only one of them can count");
	return 0;
}

int
policy_explain(const struct cli *cli, int argc, char **argv, struct err *e)
{
	struct explain x = { 0 };
	int n, rc;

	rc = options_parse(&policy_explain_options, argc, argv, &x, &n, e);
	if (rc == 0)
		rc = check(&x, n, e);
	if (rc == 0)
		rc = explain(cli, &x, argv[1], e);
	strv_free(&x.tags);
	return rc;
}
