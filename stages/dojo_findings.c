/* dojo_read.h, the findings of one test: reading them and bringing them up to date. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/dojo_list.h"
#include "stages/dojo_read.h"

static const char *const words[SEVERITY_COUNT] = { "Info", "Low", "Medium", "High", "Critical" };

const char *
dojo_severity_word(enum severity s)
{
	return words[s];
}

bool
dojo_parse_severity(const char *word, enum severity *ret)
{
	for (size_t k = 0; k < SEVERITY_COUNT; k++) {
		if (str_eq(words[k], word)) {
			*ret = (enum severity)k;
			return true;
		}
	}
	return false;
}

bool
dojo_has_tag(const cJSON *row, const char *tag)
{
	AUTO_STRV struct strv tags = { 0 };

	json_strv(row, "tags", &tags);
	return strv_has(&tags, tag);
}

bool
dojo_has_loose_place(const cJSON *row)
{
	static const char mark[] = "\n**Target:** ";
	const char *description = json_str(row, "description"), *place = json_str(row, "file_path");
	const char *target = description ? strstr(description, mark) : NULL;
	size_t len;

	if (!target || str_is_empty(place) || !dojo_has_tag(row, "lang-pkgs"))
		return false;
	target += strlen(mark);
	len = strcspn(target, "\r\n");
	return strlen(place) != len || strncmp(target, place, len) != 0;
}

/* ---- the findings of a test ---- */

void
dojo_findings_free(struct dojo_findings *l)
{
	for (size_t k = 0; k < l->n; k++) {
		struct dojo_finding *f = &l->v[k];
		char **const texts[] = { &f->title,	 &f->severity,	    &f->description,
					 &f->mitigation, &f->vulnerability, &f->component,
					 &f->version,	 &f->place,	    &f->service };

		for (size_t t = 0; t < MEM_COUNT(texts); t++)
			mem_free_at(texts[t]);
	}
	mem_free_at(&l->v);
	l->n = 0;
}

static char *
text_of(const cJSON *row, const char *name)
{
	const char *s = json_str(row, name);

	return mem_strdup(s ? s : "");
}

/* When it was last accepted, 0: never, or that is not understood. */
static int64_t
last_accepted(const cJSON *row)
{
	const cJSON *one;
	int64_t last_s = 0;

	cJSON_ArrayForEach(one, json_array(row, "accepted_risks"))
	{
		const char *made = json_str(one, "created");
		int64_t t;

		if (made && clock_parse_rfc3339(made, &t, NULL) == 0 && t > last_s)
			last_s = t;
	}
	return last_s;
}

struct collecting {
	struct dojo_findings *to;
	int64_t test;
};

static int
collect(const cJSON *row, void *arg, struct err *e)
{
	struct collecting *c = arg;
	struct dojo_findings *l = c->to;
	const char *id = dojo_vulnerability_of(row);

	(void)e;
	if (json_int(row, "test", -1) != c->test)
		return 0;
	l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = (struct dojo_finding){ .id = json_int(row, "id", -1),
					      .title = text_of(row, "title"),
					      .severity = text_of(row, "severity"),
					      .description = text_of(row, "description"),
					      .mitigation = text_of(row, "mitigation"),
					      .vulnerability = mem_strdup(id ? id : ""),
					      .component = text_of(row, "component_name"),
					      .version = text_of(row, "component_version"),
					      .place = text_of(row, "file_path"),
					      .service = text_of(row, "service"),
					      .has_loose_place = dojo_has_loose_place(row),
					      .accepted_s = last_accepted(row) };
	return 0;
}

int
dojo_read_findings(struct dojo *dojo, int64_t test, int64_t deadline, struct dojo_findings *ret, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/findings/?test=%" PRId64 "&is_mitigated=false&o=id", test);
	AUTO_DOJO_FINDINGS struct dojo_findings l = { 0 };
	struct collecting c = { .to = &l, .test = test };

	if (dojo_list(dojo, path, deadline, collect, &c, e) < 0)
		return err_wrap(e, "reading the findings of test %" PRId64, test);
	*ret = l;
	l = (struct dojo_findings){ 0 };
	return 0;
}

int
dojo_update_finding(struct dojo *dojo, int64_t finding, const char *severity, const char *mitigation,
		    const char *description, int64_t deadline, int64_t *ret_accepted_s, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/findings/%" PRId64 "/", finding);
	AUTO_JSON cJSON *j = cJSON_CreateObject(), *row = NULL;

	if (severity)
		json_add_str(j, "severity", severity);
	if (mitigation)
		json_add_str(j, "mitigation", mitigation);
	if (description)
		json_add_str(j, "description", description);
	if (dojo_patch_json(dojo, path, j, deadline, &row, e) < 0)
		return err_wrap(e, "finding %" PRId64, finding);
	*ret_accepted_s = last_accepted(row);
	return 0;
}

int
dojo_read_hash_fields(struct dojo *dojo, int64_t deadline, struct strv *ret, struct err *e)
{
	AUTO_JSON cJSON *page = NULL;
	const cJSON *row;

	strv_free(ret);
	if (dojo_get_json(dojo, "/tests/?scan_type=Trivy%20Scan&limit=10", DOJO_PAGE_MAX, deadline, &page,
			  e) < 0)
		return -1;
	cJSON_ArrayForEach(row, json_array(page, "results"))
	{
		if (str_eq(json_str(row, "scan_type"), "Trivy Scan") && ret->n == 0)
			json_strv(row, "hash_code_fields", ret);
	}
	return 0;
}

/* ---- severities that were raised ---- */

#define AT " at "
#define SINCE ", below it since "

char *
dojo_raised_line(const struct dojo_raised *r)
{
	char at[32], since[32];

	clock_format_rfc3339(r->at_s, at);
	clock_format_rfc3339(r->since_s, since);
	return mem_printf(DOJO_RAISED "%s to %s" AT "%s%s%s", words[r->from], words[r->to], at,
			  r->since_s > 0 ? SINCE : "", r->since_s > 0 ? since : "");
}

/* What is not understood counts for longer rather than for less: who knows not when it was raised knows not what was accepted. */
static void
read_times(char *at, struct dojo_raised *ret)
{
	char *since = strstr(at, SINCE);

	if (since)
		*since = '\0';
	if (clock_parse_rfc3339(at, &ret->at_s, NULL) < 0)
		ret->at_s = INT64_MAX;
	if (!since || clock_parse_rfc3339(since + strlen(SINCE), &ret->since_s, NULL) < 0 || ret->since_s < 0)
		ret->since_s = 0;
}

bool
dojo_read_raised(const char *line, size_t len, struct dojo_raised *ret)
{
	AUTO_FREE char *copy = mem_strndup(line, len);
	char *from = copy + strlen(DOJO_RAISED), *to, *at;

	if (!str_has_prefix(copy, DOJO_RAISED))
		return false;
	to = strstr(from, " to ");
	at = to ? strstr(to + strlen(" to "), AT) : NULL;
	if (!at)
		return false;
	*to = *at = '\0';
	read_times(at + strlen(AT), ret);
	if (!dojo_parse_severity(to + strlen(" to "), &ret->to))
		ret->to = SEVERITY_CRITICAL;
	return dojo_parse_severity(from, &ret->from);
}

enum severity
dojo_severity_at(const char *description, enum severity now, int64_t accepted_s)
{
	const char *line = description;

	/* line by line: what a name in another one says begins none */
	while (line) {
		size_t len = strcspn(line, "\r\n");
		struct dojo_raised r;

		if (dojo_read_raised(line, len, &r) && r.from < now &&
		    (accepted_s == 0 || (accepted_s <= r.at_s && accepted_s >= r.since_s)))
			now = r.from;
		line = line[len] ? line + len + 1 : NULL;
	}
	return now;
}
