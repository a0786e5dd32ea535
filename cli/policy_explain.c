/* `tidewaiter policy explain REPORT`; the JSON is described in docs/reference/policy.md. */
#include <fcntl.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/policy.h"
#include "stages/render_policy.h"

#define FORMAT 1

struct explain {
	const char *policy, *project, *image, *branch, *stage, *job, *today;
	const char *severity, *mode, *waiver;
	bool is_protected, is_tag, wants_json;
};

#define AT(member) offsetof(struct explain, member)
static const struct cli_option rows[] = {
	{ "policy", "FILE", OPTION_TEXT, AT(policy), "this policy instead of that of the settings", NULL },
	{ "project", "PATH", OPTION_TEXT, AT(project), "the job's project, such as group/app", NULL },
	{ "image", "NAME", OPTION_TEXT, AT(image), "the image without registry and tag, such as group/app",
	  NULL },
	{ "branch", "NAME", OPTION_TEXT, AT(branch), "its branch or tag", NULL },
	{ "tag", NULL, OPTION_FLAG, AT(is_tag), "that is a tag", NULL },
	{ "protected", NULL, OPTION_FLAG, AT(is_protected), "and protected", NULL },
	{ "stage", "NAME", OPTION_TEXT, AT(stage), "its stage", NULL },
	{ "job", "NAME", OPTION_TEXT, AT(job), "its name", NULL },
	{ "severity", "WORD", OPTION_TEXT, AT(severity), "its TIDEWAITER_SEVERITY", NULL },
	{ "mode", "WORD", OPTION_TEXT, AT(mode), "its TIDEWAITER_MODE", NULL },
	{ "waiver", "NAME", OPTION_TEXT, AT(waiver), "its TIDEWAITER_WAIVER", NULL },
	{ "today", "DAY", OPTION_TEXT, AT(today), "as on that day, such as 2026-01-31", NULL },
	{ "json", NULL, OPTION_FLAG, AT(wants_json), "one JSON object instead of text", NULL },
};
const struct cli_options policy_explain_options = { "policy explain", rows, MEM_COUNT(rows), "REPORT" };

static void
add_safe(cJSON *o, const char *name, const char *s)
{
	AUTO_FREE char *safe = s ? str_safe(s, SIZE_MAX) : NULL;

	json_add_str(o, name, safe);
}

static void
add_time(cJSON *o, const char *name, int64_t s)
{
	char text[32];

	if (s > 0)
		clock_format_rfc3339(s, text);
	json_add_str(o, name, s > 0 ? text : NULL);
}

static cJSON *
finding_json(const struct policy *p, const struct finding *f, const struct finding_fate *fate)
{
	cJSON *o = cJSON_CreateObject();

	add_safe(o, "id", f->id);
	add_safe(o, "package", f->package);
	add_safe(o, "installed", f->installed);
	add_safe(o, "fixed", *f->fixed ? f->fixed : NULL);
	json_add_str(o, "severity", severity_words[f->severity]);
	add_safe(o, "type", f->type);
	add_safe(o, "path", f->path);
	add_safe(o, "purl", f->purl);
	json_add_bool(o, "is_blocking", fate->fate == FATE_BLOCKS);
	json_add_str(o, "fate", fate_words[fate->fate]);
	json_add_str(o, "by", fate->by);
	add_time(o, "until", fate->until_s);
	if (fate->fate == FATE_EXCEPTED)
		json_add_int(o, "line", (int64_t)p->exceptions.v[fate->entry].line);
	else
		json_add_str(o, "line", NULL);
	return o;
}

static void
print_json(const struct policy_opened *o, const struct report *r, const struct decision *d)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	cJSON *list;

	json_add_int(j, "format", FORMAT);
	json_add_str(j, "version", TIDEWAITER_VERSION);
	add_safe(j, "policy", o->origin);
	json_add_str(j, "rule", d->rule_index < o->policy->rules.n ? d->rule->name : NULL);
	json_add_str(j, "mode", gate_mode_words[d->mode]);
	json_add_str(j, "severity", severity_words[d->severity]);
	json_add_bool(j, "fixable_only", d->fixable_only);
	json_add_str(j, "verdict", verdict_words[d->verdict]);
	json_add_strv(j, "reasons", &d->reasons);
	json_add_strv(j, "notes", &d->notes);
	json_add_str(j, "waiver", d->waiver ? d->waiver->name : NULL);
	list = json_add_array(j, "findings");
	for (size_t k = 0; k < d->n_findings; k++)
		cJSON_AddItemToArray(list, finding_json(o->policy, &r->findings[k], &d->fates[k]));
	text = json_print_pretty(j);
	fputs(text, stdout);
}

static void
print_finding(const struct finding *f, const struct finding_fate *fate)
{
	AUTO_FREE char *id = str_safe(f->id, 40), *package = str_safe(f->package, 60);
	AUTO_FREE char *installed = str_safe(f->installed, 40), *fixed = str_safe(f->fixed, 40);
	AUTO_FREE char *excuse = render_policy_excuse(fate);

	printf("%-8s  %s in %s %s, %s%s\n          %s%s\n", severity_words[f->severity], id, package,
	       installed, *fixed ? "fixed in " : "no fix yet", fixed,
	       excuse			   ? excuse
	       : fate->fate == FATE_BLOCKS ? "blocks: "
					   : "does not block: ",
	       excuse ? "" : fate->by);
}

static void
print_text(const struct policy_opened *o, const struct report *r, const struct decision *d)
{
	AUTO_FREE char *what = policy_describe(d->severity, d->fixable_only);

	for (size_t k = 0; k < d->n_findings; k++)
		print_finding(&r->findings[k], &d->fates[k]);
	printf("%s%s: rule %s (mode %s, blocks %s)\n", d->n_findings > 0 ? "\n" : "", o->policy->name,
	       policy_rule_name(o->policy, d), gate_mode_words[d->mode], what);
	printf("verdict: %s\n", verdict_words[d->verdict]);
	for (size_t k = 0; k < d->reasons.n; k++)
		printf("  %s\n", d->reasons.v[k]);
	for (size_t k = 0; k < d->notes.n; k++)
		printf("  note: %s\n", d->notes.v[k]);
}

static const char *
or_empty(const char *s)
{
	return s ? s : "";
}

static int
explain(const struct cli *cli, const struct explain *x, const char *report, struct err *e)
{
	AUTO_POLICY_OPENED struct policy_opened o = { 0 };
	AUTO(report) struct report *r = NULL;
	AUTO_DECISION struct decision d = { 0 };
	const struct policy_context c = {
		.project = or_empty(x->project),
		.branch = or_empty(x->branch),
		.stage = or_empty(x->stage),
		.job = or_empty(x->job),
		.default_branch = "",
		.target_branch = "",
		.is_tag = x->is_tag,
		.is_protected = x->is_protected,
		.image = or_empty(x->image),
		.wants_severity = x->severity,
		.wants_mode = x->mode,
		.wants_waiver = x->waiver,
	};
	int64_t now_s;

	if (policy_read_day(x->today, &now_s, e) < 0 || policy_open(cli, x->policy, &o, e) < 0)
		return -1;
	if (policy_read_report(AT_FDCWD, report, &r, e) < 0) {
		/* a report that cannot be read is wrong use here, no verdict */
		if (e->kind == ERR_REFUSED)
			e->kind = ERR_USAGE;
		return -1;
	}
	policy_decide(o.policy, r, &c, now_s, &d);
	if (x->wants_json)
		print_json(&o, r, &d);
	else
		print_text(&o, r, &d);
	return d.verdict == VERDICT_BLOCK ? CLI_BLOCKED : CLI_OK;
}

int
policy_explain(const struct cli *cli, int argc, char **argv, struct err *e)
{
	struct explain x = { 0 };
	int n;

	if (options_parse(&policy_explain_options, argc, argv, &x, &n, e) < 0)
		return -1;
	if (n != 1 || !x.project || !x.image)
		return err_set(e, ERR_USAGE,
			       "policy explain needs --project, --image and one report of Trivy (trivy --format json)");
	return explain(cli, &x, argv[1], e);
}
