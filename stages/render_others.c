#include "stages/render_others.h"

#include "base/json.h"
#include "base/mem.h"
#include "stages/policy.h"

#define ID_MAX 60
#define TITLE_MAX 80
#define TARGET_MAX 200

struct listing {
	const struct policy_rule *rule;
	struct strv *lines;
	size_t max, n;
};

static void
add(struct listing *l, const char *kind, const cJSON *item, const char *id_key, const char *target)
{
	const char *id = json_str(item, id_key), *title = json_str(item, "Title");
	const char *severity = json_str(item, "Severity");
	int64_t line = json_int(item, "StartLine", 0);
	AUTO_FREE char *safe_id = str_safe(id ? id : "?", ID_MAX),
		       *safe_title = str_safe(title ? title : "", TITLE_MAX);
	AUTO_FREE char *safe_severity = str_safe(severity ? severity : "UNKNOWN", ID_MAX);
	AUTO_FREE char *safe_target = str_safe(target ? target : "", TARGET_MAX);
	AUTO_FREE char *at = line > 0 ? mem_printf(", line %lld", (long long)line) : mem_strdup("");

	if (l->n++ >= l->max)
		return;
	strv_addf(l->lines, "%s %s%s%s%s, %s, in %s%s", kind, safe_id, *safe_title ? " (" : "", safe_title,
		  *safe_title ? ")" : "", safe_severity, safe_target, at);
}

static void
list_result(struct listing *l, const cJSON *result)
{
	const char *target = json_str(result, "Target");
	const cJSON *item;

	if (l->rule->secrets != REACT_PASS)
		cJSON_ArrayForEach(item, json_array(result, "Secrets"))
			add(l, "secret", item, "RuleID", target);
	if (l->rule->misconfigurations == MISCONFIGURATIONS_OFF)
		return;
	cJSON_ArrayForEach(item, json_array(result, "Misconfigurations"))
	{
		int severity = (int)severity_of_word(json_str(item, "Severity"));

		if (str_eq(json_str(item, "Status"), "FAIL") && severity + 1 >= l->rule->misconfigurations)
			add(l, "misconfiguration", item, "ID", target);
	}
}

void
render_others(const struct image *m, size_t max, struct strv *lines)
{
	struct listing l = { .rule = m->decision ? m->decision->rule : NULL, .lines = lines, .max = max };
	const cJSON *result;

	if (!l.rule || !m->report)
		return;
	cJSON_ArrayForEach(result, json_array(m->report->json, "Results")) list_result(&l, result);
	if (l.n > max)
		strv_addf(lines, "… and %zu more: the JSON report has all", l.n - max);
}

const char *
render_others_advice(const struct image *m)
{
	if (!m->decision || !m->report || m->report->n_secrets == 0 ||
	    m->decision->rule->secrets == REACT_PASS)
		return NULL;
	return "A secret stays in its layer when a later step removes it: build without it, and replace it where it is used.";
}
