#include "stages/render_json.h"

#include "base/clock.h"
#include "base/mem.h"
#include "stages/dojo_link.h"
#include "stages/explain.h"
#include "stages/policy.h"
#include "stages/policy_source.h"
#include "stages/report_stage.h"

static const char *
fault_word(enum err_kind kind)
{
	switch (kind) {
	case ERR_REFUSED:
		return "refused";
	case ERR_UNSUPPORTED:
		return "unsupported";
	case ERR_TIMEOUT:
		return "timeout";
	case ERR_NO_SPACE:
		return "no_space";
	case ERR_NONE:
	case ERR_FAILED:
	case ERR_USAGE:
	case ERR_SETTINGS:
		break;
	}
	return "failed";
}

static void
add_or_null(cJSON *o, const char *name, const char *s)
{
	json_add_safe_str(o, name, str_is_empty(s) ? NULL : s);
}

static void
add_fault(cJSON *o, const struct err *fault)
{
	cJSON *f;

	if (fault->kind == ERR_NONE) {
		json_add_str(o, "fault", NULL);
		return;
	}
	f = json_add_object(o, "fault");
	json_add_str(f, "kind", fault_word(fault->kind));
	json_add_safe_str(f, "text", fault->text);
}

static void
add_archives(const struct inspection *i, cJSON *j)
{
	cJSON *list = json_add_array(j, "archives");

	for (size_t k = 0; k < i->n_archives; k++) {
		cJSON *o = cJSON_CreateObject();

		cJSON_AddItemToArray(list, o);
		json_add_safe_str(o, "name", i->archives[k].name);
		json_add_bool(o, "is_ignored", i->archives[k].is_ignored);
		add_fault(o, &i->archives[k].fault);
	}
}

static void
add_layers(const struct image *m, cJSON *o)
{
	cJSON *list = json_add_array(o, "layers");

	for (size_t k = 0; k < m->n_layers; k++) {
		cJSON *layer = cJSON_CreateObject();
		AUTO_FREE char *step = NULL;

		cJSON_AddItemToArray(list, layer);
		json_add_str(layer, "diff_id", m->layers[k].diff_id);
		json_add_int(layer, "size", (int64_t)m->layers[k].size);
		if (!str_is_empty(m->layers[k].created_by))
			step = explain_step_name(m->layers[k].created_by);
		json_add_str(layer, "step", step);
		json_add_bool(layer, "is_base", k < m->base_layers);
	}
}

static void
add_fate(const struct inspection *i, const struct image *m, size_t index, cJSON *o)
{
	const struct finding_fate *f = m->decision && m->decision->fates ? &m->decision->fates[index] : NULL;

	json_add_str(o, "fate", f ? fate_words[f->fate] : NULL);
	json_add_safe_str(o, "by", f ? f->by : NULL);
	json_add_time(o, "until", f ? f->until_s : 0);
	json_add_safe_str(o, "lapsed", f ? f->lapsed : NULL);
	if (f && f->fate == FATE_EXCEPTED && i->policy)
		json_add_int(o, "line", (int64_t)i->policy->exceptions.v[f->entry].line);
	else
		json_add_str(o, "line", NULL);
}

cJSON *
render_json_finding(const struct inspection *i, const struct image *m, size_t index)
{
	const struct finding *f = &m->report->findings[index];
	size_t layer = explain_find_layer(m, f->diff_id);
	cJSON *o = cJSON_CreateObject();

	json_add_safe_str(o, "id", f->id);
	json_add_safe_str(o, "package", f->package);
	json_add_safe_str(o, "installed", f->installed);
	add_or_null(o, "fixed", f->fixed);
	json_add_str(o, "severity", severity_words[f->severity]);
	json_add_safe_str(o, "status", f->status);
	json_add_safe_str(o, "title", f->title);
	json_add_safe_str(o, "url", f->url);
	json_add_safe_str(o, "target", f->target);
	json_add_safe_str(o, "class", f->class);
	json_add_safe_str(o, "type", f->type);
	json_add_safe_str(o, "path", f->path);
	json_add_safe_str(o, "purl", f->purl);
	if (layer < m->n_layers)
		json_add_int(o, "layer", (int64_t)layer);
	else
		json_add_str(o, "layer", NULL);
	json_add_bool(o, "is_blocking", m->is_blocking && m->is_blocking[index]);
	add_fate(i, m, index, o);
	return o;
}

static void
add_counts(const struct image *m, cJSON *o)
{
	const struct report *r = m->report;
	cJSON *counts = json_add_object(o, "counts"), *severity;

	json_add_int(counts, "packages", (int64_t)r->n_packages);
	json_add_int(counts, "findings", (int64_t)r->n_findings);
	json_add_int(counts, "blocking", (int64_t)m->n_blocking);
	json_add_int(counts, "fixable", (int64_t)r->n_fixable);
	json_add_int(counts, "secrets", (int64_t)r->n_secrets);
	json_add_int(counts, "misconfigurations", (int64_t)r->n_misconfigurations);
	severity = json_add_object(counts, "severity");
	for (int s = SEVERITY_COUNT - 1; s >= 0; s--)
		json_add_int(severity, severity_words[s], (int64_t)r->n_of_severity[s]);
}

static void
add_advice(const struct image *m, cJSON *o)
{
	AUTO_EXPLANATION struct explanation x = { 0 };
	cJSON *advice;

	explain_image(m, &x);
	if (x.n_changes == 0) {
		json_add_str(o, "advice", NULL);
		return;
	}
	advice = json_add_object(o, "advice");
	json_add_str(advice, "text", x.changes[0].text);
	json_add_int(advice, "fixes", (int64_t)x.changes[0].n_fixed);
}

static void
add_report(const struct inspection *i, const struct image *m, cJSON *o)
{
	static const char *const members[] = { "distribution", "counts", "advice", "findings" };
	const struct report *r = m->report;
	AUTO_FREE size_t *order = NULL;
	cJSON *distribution, *list;
	size_t n;

	if (!r) {
		for (size_t k = 0; k < MEM_COUNT(members); k++)
			json_add_str(o, members[k], NULL);
		return;
	}
	distribution = json_add_object(o, "distribution");
	add_or_null(distribution, "family", r->os_family);
	add_or_null(distribution, "name", r->os_name);
	json_add_bool(distribution, "is_end_of_life", r->is_os_eol);
	add_counts(m, o);
	add_advice(m, o);
	list = json_add_array(o, "findings");
	order = explain_sorted(m, false, &n);
	for (size_t k = 0; k < n; k++)
		cJSON_AddItemToArray(list, render_json_finding(i, m, order[k]));
}

/* How it was judged: null where the policy could not be used. */
static void
add_decision(const struct inspection *i, const struct image *m, cJSON *o)
{
	static const struct strv none = { 0 };
	const struct decision *d = m->decision;
	bool is_rule = d && i->policy && d->rule && d->rule != &i->policy->otherwise;

	json_add_str(o, "mode", gate_mode_words[m->mode]);
	json_add_str(o, "rule", is_rule ? d->rule->name : NULL);
	json_add_str(o, "severity", d ? severity_words[d->severity] : NULL);
	json_add_bool(o, "fixable_only", d && d->fixable_only);
	json_add_str(o, "waiver", d && d->waiver ? d->waiver->name : NULL);
	json_add_time(o, "waiver_until", d && d->waiver ? d->waiver_until_s : 0);
	json_add_safe_strv(o, "notes", d ? &d->notes : &none);
}

/* The page of the product: it is told before it is delivered, and which test that will be is not known yet. */
static void
add_dojo(const struct inspection *i, const struct image *m, cJSON *o)
{
	AUTO_FREE char *product = m->report ? report_product(i, m) : NULL;
	AUTO_FREE char *link = product ? dojo_link_product(i->opt->defectdojo.url, product) : NULL;

	json_add_str(o, "product_url", link);
}

static void
add_image(const struct inspection *i, const struct image *m, cJSON *list)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToArray(list, o);
	json_add_safe_str(o, "name", m->label);
	json_add_safe_str(o, "repository", m->repository);
	json_add_safe_strv(o, "tags", &m->tags);
	json_add_safe_str(o, "archive", m->archive < i->n_archives ? i->archives[m->archive].name : NULL);
	json_add_safe_str(o, "report", m->report_name);
	json_add_str(o, "config_digest", m->config_digest);
	json_add_str(o, "manifest_digest", *m->manifest_digest ? m->manifest_digest : NULL);
	add_or_null(o, "platform", m->platform);
	json_add_safe_str(o, "os", m->os);
	json_add_safe_str(o, "architecture", m->architecture);
	json_add_str(o, "verdict", verdict_words[m->verdict]);
	json_add_safe_strv(o, "reasons", &m->reasons);
	add_decision(i, m, o);
	add_dojo(i, m, o);
	add_fault(o, &m->fault);
	add_layers(m, o);
	add_report(i, m, o);
}

static void
add_policy(const struct inspection *i, cJSON *j)
{
	const struct policy_source *s = i->policy_source;
	cJSON *o;

	if (!s || !s->origin) {
		json_add_str(j, "policy", NULL);
		return;
	}
	o = json_add_object(j, "policy");
	json_add_safe_str(o, "origin", s->origin);
	json_add_time(o, "fetched", s->fetched_s);
	add_or_null(o, "contact", i->policy ? i->policy->contact : NULL);
}

cJSON *
render_json(const struct inspection *i)
{
	cJSON *j = cJSON_CreateObject(), *gate, *trivy, *images;

	json_add_int(j, "format", RENDER_JSON_FORMAT);
	json_add_str(j, "version", TIDEWAITER_VERSION);
	json_add_str(j, "verdict", verdict_words[i->verdict]);
	json_add_safe_strv(j, "reasons", &i->reasons);
	json_add_safe_strv(j, "notes", &i->notes);
	json_add_str(j, "mode", gate_mode_words[inspection_mode(i)]);
	add_or_null(j, "project", i->job->project_path);
	add_or_null(j, "ref", i->job->ref);
	add_or_null(j, "commit", i->job->sha);
	json_add_int(j, "job_id", i->job->job_id);
	gate = json_add_object(j, "gate");
	json_add_str(gate, "severity", severity_words[i->opt->gate.severity]);
	json_add_bool(gate, "fixable_only", i->opt->gate.fixable_only);
	add_policy(i, j);
	trivy = json_add_object(j, "trivy");
	json_add_safe_str(trivy, "version", i->trivy_version);
	json_add_time(trivy, "database", i->db_updated_s);
	add_archives(i, j);
	images = json_add_array(j, "images");
	for (size_t k = 0; k < i->n_images; k++)
		add_image(i, &i->images[k], images);
	return j;
}
