#include "stages/render_quality.h"

#include "base/mem.h"
#include "stages/identity.h"
#include "stages/policy.h"

static bool
is_excused(const struct image *m, size_t index)
{
	if (!m->decision || !m->decision->fates)
		return false;
	switch (m->decision->fates[index].fate) {
	case FATE_IGNORED:
	case FATE_EXCEPTED:
	case FATE_ACCEPTED:
		return true;
	case FATE_BELOW:
	case FATE_BLOCKS:
	case FATE_KNOWN:
	case FATE_GRACE:
	case FATE_WAIVED:
		break;
	}
	return false;
}

static const char *
severity_of(const struct image *m, size_t index)
{
	static const char *const words[SEVERITY_COUNT] = { [SEVERITY_UNKNOWN] = "info",
							   [SEVERITY_LOW] = "info",
							   [SEVERITY_MEDIUM] = "minor",
							   [SEVERITY_HIGH] = "major",
							   [SEVERITY_CRITICAL] = "critical" };

	return m->is_blocking && m->is_blocking[index] ? "blocker"
						       : words[m->report->findings[index].severity];
}

/* There is no file of the project that has it: the archive stands for it. */
static void
add_location(const struct inspection *i, const struct image *m, cJSON *o)
{
	cJSON *location = cJSON_CreateObject(), *lines = cJSON_CreateObject();

	json_add_safe_str(location, "path",
			  m->archive < i->n_archives ? i->archives[m->archive].name : m->label);
	json_add_int(lines, "begin", 1);
	cJSON_AddItemToObject(location, "lines", lines);
	cJSON_AddItemToObject(o, "location", location);
}

static void
add_finding(const struct inspection *i, const struct image *m, const char *image, size_t index, cJSON *list)
{
	const struct finding *f = &m->report->findings[index];
	AUTO_FREE char *text =
		mem_printf("%s: %s %s in %s%s%s%s%s", f->id, f->package, f->installed, image,
			   *f->fixed ? ", fixed in " : "", f->fixed, *f->title ? ": " : "", f->title);
	char key[IDENTITY_KEY_SIZE];
	cJSON *o = cJSON_CreateObject();

	identity_key(i->job->project_path ? i->job->project_path : "", image, m->report, f, key);
	cJSON_AddItemToArray(list, o);
	json_add_safe_str(o, "description", text);
	json_add_safe_str(o, "check_name", f->id);
	json_add_str(o, "fingerprint", key);
	json_add_str(o, "severity", severity_of(m, index));
	add_location(i, m, o);
}

static void
add_image(const struct inspection *i, const struct image *m, enum severity severity, cJSON *list, size_t *n)
{
	AUTO_FREE char *image = identity_image(i, m);

	for (size_t k = 0; k < m->report->n_findings && *n < RENDER_QUALITY_MAX; k++) {
		if (m->report->findings[k].severity != severity || is_excused(m, k))
			continue;
		add_finding(i, m, image, k, list);
		(*n)++;
	}
}

cJSON *
render_quality(const struct inspection *i)
{
	cJSON *list = cJSON_CreateArray();
	size_t n = 0;

	for (int severity = SEVERITY_COUNT - 1; severity >= 0; severity--)
		for (size_t k = 0; k < i->n_images; k++)
			if (i->images[k].report)
				add_image(i, &i->images[k], (enum severity)severity, list, &n);
	return list;
}
