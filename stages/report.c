#include "stages/report.h"

#include <string.h>

#include "base/clock.h"
#include "base/str.h"

/* Where in the report a fault is, for messages. */
struct place {
	size_t result;
	const char *list; /* member of the result, NULL for the result itself */
	size_t item;
};

static const char *
type_word(const cJSON *j)
{
	if (!j || cJSON_IsNull(j))
		return "null";
	if (cJSON_IsArray(j))
		return "a list";
	if (cJSON_IsObject(j))
		return "an object";
	if (cJSON_IsString(j))
		return "a string";
	if (cJSON_IsNumber(j))
		return "a number";
	return "true or false";
}

static int
refuse(const struct place *p, const char *member, const char *found, const char *expected, struct err *e)
{
	char where[256] = "";

	if (p && p->list)
		snprintf(where, sizeof(where), "Results[%zu].%s[%zu]", p->result, p->list, p->item);
	else if (p)
		snprintf(where, sizeof(where), "Results[%zu]", p->result);
	return err_set(e, ERR_REFUSED, "%s%s%s is %s, expected %s", where, *where && *member ? "." : "",
		       member, found, expected);
}

/* A string, "" when absent. */
static int
take_str(const cJSON *o, const char *name, const struct place *p, const char **ret, struct err *e)
{
	const cJSON *j = json_get(o, name);

	if (j && !cJSON_IsString(j))
		return refuse(p, name, type_word(j), "a string", e);
	*ret = j ? j->valuestring : "";
	return 0;
}

/* A list or an object, NULL when absent. */
static int
take_list(const cJSON *o, const char *name, const struct place *p, const cJSON **ret, struct err *e)
{
	const cJSON *j = json_get(o, name);

	if (j && !cJSON_IsArray(j))
		return refuse(p, name, type_word(j), "a list", e);
	*ret = j;
	return 0;
}

static int
take_object(const cJSON *o, const char *name, const struct place *p, const cJSON **ret, struct err *e)
{
	const cJSON *j = json_get(o, name);

	if (j && !cJSON_IsObject(j))
		return refuse(p, name, type_word(j), "an object", e);
	*ret = j;
	return 0;
}

static int
take_severity(const char *word, const struct place *p, enum severity *ret, struct err *e)
{
	for (int s = 0; s < SEVERITY_COUNT; s++) {
		if (str_eq(word, severity_words[s])) {
			*ret = (enum severity)s;
			return 0;
		}
	}
	AUTO_FREE char *found = str_safe(*word ? word : "missing", 40);
	return refuse(p, "Severity", found, "UNKNOWN, LOW, MEDIUM, HIGH or CRITICAL", e);
}

static int
read_finding(const cJSON *v, const struct place *p, const struct finding *of_result, struct finding *ret,
	     struct err *e)
{
	struct finding f = *of_result;
	const cJSON *layer = NULL, *identifier = NULL;
	const char *severity, *published;

	if (!cJSON_IsObject(v))
		return refuse(p, "", type_word(v), "an object", e);
	if (take_str(v, "VulnerabilityID", p, &f.id, e) < 0 || take_str(v, "PkgName", p, &f.package, e) < 0 ||
	    take_str(v, "PkgPath", p, &f.path, e) < 0 ||
	    take_str(v, "InstalledVersion", p, &f.installed, e) < 0 ||
	    take_str(v, "FixedVersion", p, &f.fixed, e) < 0 || take_str(v, "Status", p, &f.status, e) < 0 ||
	    take_str(v, "Title", p, &f.title, e) < 0 || take_str(v, "Description", p, &f.description, e) < 0 ||
	    take_str(v, "PrimaryURL", p, &f.url, e) < 0 || take_str(v, "Severity", p, &severity, e) < 0 ||
	    take_str(v, "PublishedDate", p, &published, e) < 0 || take_object(v, "Layer", p, &layer, e) < 0 ||
	    take_object(v, "PkgIdentifier", p, &identifier, e) < 0 ||
	    take_str(layer, "DiffID", p, &f.diff_id, e) < 0 ||
	    take_str(identifier, "PURL", p, &f.purl, e) < 0 || take_severity(severity, p, &f.severity, e) < 0)
		return -1;
	if (!*f.id)
		return refuse(p, "VulnerabilityID", "missing", "the id of the vulnerability", e);
	if (!*f.package)
		return refuse(p, "PkgName", "missing", "the name of the package", e);
	/* one that is no date is one that is not known */
	if (clock_parse_rfc3339(published, &f.published_s, NULL) < 0 || f.published_s < 0)
		f.published_s = 0;
	*ret = f;
	return 0;
}

static int
read_vulnerabilities(struct report *r, const cJSON *list, struct place *p, const struct finding *of_result,
		     struct err *e)
{
	const cJSON *v;

	p->list = "Vulnerabilities";
	p->item = 0;
	cJSON_ArrayForEach(v, list)
	{
		struct finding *f = &r->findings[r->n_findings];

		if (read_finding(v, p, of_result, f, e) < 0)
			return -1;
		r->n_findings++;
		r->n_of_severity[f->severity]++;
		r->n_fixable += *f->fixed != '\0';
		p->item++;
	}
	return 0;
}

/* How many things a list of the result holds; each must be an object. */
static int
count_list(const cJSON *result, const char *name, struct place *p, size_t *count, struct err *e)
{
	const cJSON *list = NULL, *item;

	p->list = NULL;
	if (take_list(result, name, p, &list, e) < 0)
		return -1;
	p->list = name;
	p->item = 0;
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsObject(item))
			return refuse(p, "", type_word(item), "an object", e);
		p->item++;
	}
	*count += p->item;
	return 0;
}

static void
count_misconfigurations(struct report *r, const cJSON *result)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(result, "Misconfigurations"))
	{
		const char *status = json_str(item, "Status");

		/* checks that were passed are listed, too, where Trivy is asked to */
		if (status && !str_eq(status, "FAIL"))
			continue;
		r->n_misconfigurations_of[severity_of_word(json_str(item, "Severity"))]++;
	}
}

static int
read_result(struct report *r, const cJSON *result, size_t index, struct err *e)
{
	struct place p = { .result = index };
	struct finding of_result = { .result = index };
	size_t n_before = r->n_packages;
	const cJSON *vulnerabilities;

	if (!cJSON_IsObject(result))
		return refuse(&p, "", type_word(result), "an object", e);
	if (take_str(result, "Target", &p, &of_result.target, e) < 0 ||
	    take_str(result, "Class", &p, &of_result.class, e) < 0 ||
	    take_str(result, "Type", &p, &of_result.type, e) < 0 ||
	    take_list(result, "Vulnerabilities", &p, &vulnerabilities, e) < 0 ||
	    read_vulnerabilities(r, vulnerabilities, &p, &of_result, e) < 0 ||
	    count_list(result, "Packages", &p, &r->n_packages, e) < 0 ||
	    count_list(result, "Secrets", &p, &r->n_secrets, e) < 0 ||
	    count_list(result, "Misconfigurations", &p, &r->n_misconfigurations, e) < 0)
		return -1;
	if (str_eq(of_result.class, "os-pkgs"))
		r->n_system_packages += r->n_packages - n_before;
	count_misconfigurations(r, result);
	return 0;
}

bool
report_lacks_packages(const struct report *r)
{
	return r->n_packages == 0 || (*r->os_family && r->n_system_packages == 0);
}

static int
read_results(struct report *r, struct err *e)
{
	const cJSON *results, *result;
	size_t n = 0, index = 0;

	if (take_list(r->json, "Results", NULL, &results, e) < 0)
		return -1;
	cJSON_ArrayForEach(result, results)
	{
		const cJSON *list = json_array(result, "Vulnerabilities");

		n += list ? (size_t)cJSON_GetArraySize(list) : 0;
	}
	r->findings = mem_array(n ? n : 1, sizeof(*r->findings));
	cJSON_ArrayForEach(result, results)
	{
		if (read_result(r, result, index++, e) < 0)
			return -1;
	}
	r->n_results = index;
	return 0;
}

static int
read_metadata(struct report *r, struct err *e)
{
	const cJSON *metadata = NULL, *os = NULL, *trivy = NULL, *config = NULL;

	if (take_object(r->json, "Metadata", NULL, &metadata, e) < 0 ||
	    take_object(r->json, "Trivy", NULL, &trivy, e) < 0 ||
	    take_object(metadata, "OS", NULL, &os, e) < 0 ||
	    take_object(metadata, "ImageConfig", NULL, &config, e) < 0 ||
	    take_str(config, "architecture", NULL, &r->architecture, e) < 0 ||
	    take_str(os, "Family", NULL, &r->os_family, e) < 0 ||
	    take_str(os, "Name", NULL, &r->os_name, e) < 0 ||
	    take_str(metadata, "ImageID", NULL, &r->image_id, e) < 0 ||
	    take_str(r->json, "ArtifactName", NULL, &r->artifact_name, e) < 0 ||
	    take_str(trivy, "Version", NULL, &r->trivy_version, e) < 0)
		return -1;
	/* "none" is Trivy's word for an image whose OS it was told to leave alone. */
	if (str_eq(r->os_family, "none"))
		r->os_family = "";
	r->is_os_eol = json_bool(os, "EOSL", false);
	return 0;
}

static int
check_schema(const cJSON *j, struct err *e)
{
	const cJSON *version;

	if (cJSON_IsArray(j))
		return err_set(e, ERR_REFUSED,
			       "a list of results, Trivy's form before 0.20; expected schema %d",
			       REPORT_SCHEMA);
	if (!cJSON_IsObject(j))
		return err_set(e, ERR_REFUSED, "%s, expected a report of schema %d", type_word(j),
			       REPORT_SCHEMA);
	version = json_get(j, "SchemaVersion");
	if (!version)
		return err_set(e, ERR_REFUSED,
			       "an object without SchemaVersion, expected a report of schema %d",
			       REPORT_SCHEMA);
	if (!cJSON_IsNumber(version))
		return err_set(e, ERR_REFUSED, "SchemaVersion is %s, expected %d", type_word(version),
			       REPORT_SCHEMA);
	if (version->valuedouble != REPORT_SCHEMA)
		return err_set(e, ERR_REFUSED, "schema %g, expected %d", version->valuedouble, REPORT_SCHEMA);
	return 0;
}

int
report_parse(const char *text, size_t len, size_t max, struct report **ret, struct err *e)
{
	AUTO(report) struct report *r = mem_alloc(sizeof(*r));

	if (len > max)
		return err_set(e, ERR_NO_SPACE, "%zu bytes, allowed are %zu", len, max);
	if (json_parse(text, len, max, 0, &r->json, e) < 0) {
		if (e)
			e->kind = ERR_REFUSED;
		return -1;
	}
	if (check_schema(r->json, e) < 0 || read_metadata(r, e) < 0 || read_results(r, e) < 0)
		return -1;
	*ret = take_ptr(r);
	return 0;
}

void
report_free(struct report *r)
{
	if (!r)
		return;
	cJSON_Delete(r->json);
	mem_free_at(&r->findings);
	mem_free_at(&r);
}

static void
replace_str(cJSON *o, const char *name, const char *value)
{
	cJSON *new = cJSON_CreateString(value);

	if (json_get(o, name))
		cJSON_ReplaceItemInObjectCaseSensitive(o, name, new);
	else
		cJSON_AddItemToObject(o, name, new);
}

/* "<old> (debian 12.5)" becomes "<name> (debian 12.5)"; other targets are files in the image. */
static void
rename_target(cJSON *result, const char *old, const char *name)
{
	const char *target = json_str(result, "Target");
	AUTO_FREE char *new = NULL;
	const char *rest;

	if (!target || !*old || !str_has_prefix(target, old))
		return;
	rest = target + strlen(old);
	if (*rest && !str_has_prefix(rest, " ("))
		return;
	new = mem_printf("%s%s", name, rest);
	replace_str(result, "Target", new);
}

void
report_rename(struct report *r, const char *name, const struct strv *tags)
{
	AUTO_FREE char *old = mem_strdup(r->artifact_name);
	cJSON *results = cJSON_GetObjectItemCaseSensitive(r->json, "Results");
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(r->json, "Metadata");
	cJSON *result;
	size_t k = 0, index = 0;

	cJSON_ArrayForEach(result, results)
	{
		rename_target(result, old, name);
		for (; k < r->n_findings && r->findings[k].result == index; k++) {
			const char *target = json_str(result, "Target");

			r->findings[k].target = target ? target : "";
		}
		index++;
	}
	replace_str(r->json, "ArtifactName", name);
	r->artifact_name = json_str(r->json, "ArtifactName");
	if (tags->n > 0 && cJSON_IsObject(metadata)) {
		cJSON_DeleteItemFromObjectCaseSensitive(metadata, "RepoTags");
		json_add_strv(metadata, "RepoTags", tags);
	}
}
