#include "stages/delivery_mend.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/delivery.h"
#include "stages/options.h"

#define DESCRIPTION_CUT 500 /* code points that stay when nothing else helps */

/* ---- values ---- */

static void
set_str(cJSON *o, const char *name, const char *value)
{
	cJSON *new = cJSON_CreateString(value);

	if (cJSON_GetObjectItemCaseSensitive(o, name))
		cJSON_ReplaceItemInObjectCaseSensitive(o, name, new);
	else
		cJSON_AddItemToObject(o, name, new);
}

static void
fit(cJSON *o, const char *name, size_t max, struct delivery_mending *m)
{
	const char *s = json_str(o, name);
	AUTO_FREE char *text = NULL;

	/* So many bytes are never more code points. */
	if (!s || strlen(s) <= max)
		return;
	text = mem_strdup(s);
	delivery_fit_text(&text, max);
	if (str_eq(text, s))
		return;
	set_str(o, name, text);
	m->n_shortened++;
}

/* A null where a list is expected is a fault on the server. */
static void
drop_nulls(cJSON *j, struct delivery_mending *m)
{
	cJSON *next;

	for (cJSON *c = j->child; c; c = next) {
		next = c->next;
		if (cJSON_IsNull(c)) {
			cJSON_Delete(cJSON_DetachItemViaPointer(j, c));
			m->n_repaired++;
		} else if (cJSON_IsObject(c) || cJSON_IsArray(c)) {
			drop_nulls(c, m);
		}
	}
}

/* Any other word than the five makes it drop the vulnerability. A missing one it reads as critical: so be it said. */
static void
mend_severity(cJSON *o, struct delivery_mending *m)
{
	const char *s = json_str(o, "Severity");
	const char *word = s ? "UNKNOWN" : "CRITICAL";

	for (int i = 0; s && i < SEVERITY_COUNT; i++) {
		if (strcasecmp(s, severity_words[i]) == 0)
			word = severity_words[i];
	}
	if (str_eq(s, word))
		return;
	set_str(o, "Severity", word);
	m->n_repaired++;
}

/* What is no such container goes as a whole, what it holds beside such members one by one. */
static void
keep_members(cJSON *o, const char *name, cJSON_bool (*is_container)(const cJSON *),
	     cJSON_bool (*is_member)(const cJSON *), struct delivery_mending *m)
{
	cJSON *all = cJSON_GetObjectItemCaseSensitive(o, name), *next;

	if (all && !is_container(all)) {
		cJSON_DeleteItemFromObjectCaseSensitive(o, name);
		m->n_repaired++;
		return;
	}
	for (cJSON *c = all ? all->child : NULL; c; c = next) {
		next = c->next;
		if (is_member(c))
			continue;
		cJSON_Delete(cJSON_DetachItemViaPointer(all, c));
		m->n_repaired++;
	}
}

/* It joins them to one text. */
static void
keep_strings(cJSON *o, const char *name, struct delivery_mending *m)
{
	keep_members(o, name, cJSON_IsArray, cJSON_IsString, m);
}

/* "NVD-CWE-noinfo", which NVD writes often, costs the whole report. */
static bool
is_cwe_number(const cJSON *id)
{
	const char *s = cJSON_GetStringValue(id);
	size_t n = s && str_has_prefix(s, "CWE-") ? strspn(s + 4, "0123456789") : 0;

	return n > 0 && n < 8 && s[4 + n] == '\0';
}

static void
mend_cwe_ids(cJSON *o, struct delivery_mending *m)
{
	cJSON *list, *next;

	keep_strings(o, "CweIDs", m);
	list = cJSON_GetObjectItemCaseSensitive(o, "CweIDs");
	for (cJSON *c = list ? list->child : NULL; c; c = next) {
		next = c->next;
		if (!is_cwe_number(c))
			cJSON_Delete(cJSON_DetachItemViaPointer(list, c));
	}
}

static void
mend_scores(cJSON *o, struct delivery_mending *m)
{
	keep_members(o, "CVSS", cJSON_IsObject, cJSON_IsObject, m);
}

static void
mend_item(cJSON *o, struct delivery_mending *m)
{
	static const struct {
		const char *name;
		size_t max; /* code points */
	} lengths[] = {
		{ "VulnerabilityID", DELIVERY_ID_MAX }, { "InstalledVersion", DELIVERY_VERSION_MAX },
		{ "PkgName", DELIVERY_PACKAGE_MAX },	{ "PkgPath", DELIVERY_PLACE_MAX },
		{ "FilePath", DELIVERY_PLACE_MAX },
	};

	mend_severity(o, m);
	keep_strings(o, "References", m);
	mend_cwe_ids(o, m);
	mend_scores(o, m);
	for (size_t i = 0; i < MEM_COUNT(lengths); i++)
		fit(o, lengths[i].name, lengths[i].max, m);
}

/* ---- results ---- */

static const char *const lists[] = { "Vulnerabilities", "Misconfigurations", "Secrets", "Licenses" };

static void
mend_list(cJSON *result, const char *name, struct delivery_mending *m)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(result, name), *next;

	if (list && !cJSON_IsArray(list)) {
		cJSON_DeleteItemFromObjectCaseSensitive(result, name);
		m->n_dropped++;
		return;
	}
	for (cJSON *c = list ? list->child : NULL; c; c = next) {
		next = c->next;
		if (cJSON_IsObject(c)) {
			mend_item(c, m);
			continue;
		}
		cJSON_Delete(cJSON_DetachItemViaPointer(list, c));
		m->n_dropped++;
	}
}

static void
mend_result(cJSON *result, const char *artifact, struct delivery_mending *m)
{
	/* It drops a result without one, and everything in it. */
	if (str_is_empty(json_str(result, "Target"))) {
		set_str(result, "Target", str_is_empty(artifact) ? "unknown" : artifact);
		m->n_repaired++;
	}
	fit(result, "Target", DELIVERY_PLACE_MAX, m);
	for (size_t i = 0; i < MEM_COUNT(lists); i++)
		mend_list(result, lists[i], m);
}

static void
each_result(cJSON *report, void (*what)(cJSON *result, const char *artifact, struct delivery_mending *m),
	    struct delivery_mending *m)
{
	const char *artifact = json_str(report, "ArtifactName");
	cJSON *results = cJSON_GetObjectItemCaseSensitive(report, "Results"), *next;

	for (cJSON *c = results ? results->child : NULL; c; c = next) {
		next = c->next;
		if (cJSON_IsObject(c))
			what(c, artifact, m);
		else
			cJSON_Delete(cJSON_DetachItemViaPointer(results, c));
	}
}

/* ---- counting ---- */

/* What DefectDojo hashes of a finding, and of what is no vulnerability everything. */
static uint64_t
hash_item(struct hash *h, const cJSON *result, const cJSON *o, bool is_vulnerability)
{
	static const char *const names[] = { "VulnerabilityID", "PkgName", "InstalledVersion",
					     "Severity",	"Title",   "FixedVersion",
					     "Description" };
	const char *const of_result[] = { json_str(result, "Target"), json_str(result, "Type") };
	AUTO_FREE char *whole = is_vulnerability ? NULL : json_print(o);
	char digest[HASH_DIGEST_MAX], hex[17] = "";

	for (size_t i = 0; i < MEM_COUNT(of_result); i++)
		hash_update(h, of_result[i] ? of_result[i] : "", of_result[i] ? strlen(of_result[i]) + 1 : 1);
	for (size_t i = 0; is_vulnerability && i < MEM_COUNT(names); i++) {
		const char *s = json_str(o, names[i]);

		hash_update(h, s ? s : "", s ? strlen(s) + 1 : 1);
	}
	if (whole)
		hash_update(h, whole, strlen(whole));
	hash_digest(h, digest);
	memcpy(hex, strchr(digest, ':') + 1, 16);
	return strtoull(hex, NULL, 16);
}

struct hashes {
	uint64_t *v;
	size_t n;
};

static void
count_result(const cJSON *result, struct hash *h, struct hashes *all, struct delivery_mending *m)
{
	for (size_t i = 0; i < MEM_COUNT(lists); i++) {
		const cJSON *list = json_array(result, lists[i]), *o;
		size_t n = list ? (size_t)cJSON_GetArraySize(list) : 0;

		m->n_findings += (int64_t)n;
		if (n == 0)
			continue;
		all->v = mem_resize(all->v, all->n + n, sizeof(*all->v));
		cJSON_ArrayForEach(o, list)
		{
			/* It comes in mitigated, and is in no count afterwards. */
			if (!str_eq(json_str(o, "Status"), "not_affected"))
				all->v[all->n++] = hash_item(h, result, o, i == 0);
		}
	}
}

static int
compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void
count(const cJSON *report, struct delivery_mending *m)
{
	AUTO(hash) struct hash *h = hash_new(HASH_SHA256);
	struct hashes all = { 0 };
	const cJSON *result;

	cJSON_ArrayForEach(result, json_array(report, "Results")) count_result(result, h, &all, m);
	if (all.n > 0)
		qsort(all.v, all.n, sizeof(*all.v), compare);
	for (size_t i = 0; i < all.n; i++)
		m->n_distinct += i == 0 || all.v[i] != all.v[i - 1];
	mem_free_at(&all.v);
}

/* ---- size ---- */

static void
each_item(cJSON *result, void (*what)(cJSON *item))
{
	for (size_t i = 0; i < MEM_COUNT(lists); i++) {
		cJSON *list = cJSON_GetObjectItemCaseSensitive(result, lists[i]);

		for (cJSON *c = list ? list->child : NULL; c; c = c->next)
			what(c);
	}
}

static void
drop_item_links(cJSON *item)
{
	static const char *const names[] = { "References", "CVSS",	    "VendorSeverity",  "VendorIDs",
					     "DataSource", "PublishedDate", "LastModifiedDate" };

	for (size_t i = 0; i < MEM_COUNT(names); i++)
		cJSON_DeleteItemFromObjectCaseSensitive(item, names[i]);
}

static void
cut_item_text(cJSON *item)
{
	struct delivery_mending ignored = { 0 };

	fit(item, "Description", DESCRIPTION_CUT, &ignored);
}

static void
drop_links(cJSON *result, const char *artifact, struct delivery_mending *m)
{
	(void)artifact;
	m->went = MEND_DROPPED_LINKS;
	each_item(result, drop_item_links);
}

static void
cut_texts(cJSON *result, const char *artifact, struct delivery_mending *m)
{
	(void)artifact;
	m->went = MEND_CUT_TEXTS;
	each_item(result, cut_item_text);
}

int
delivery_mend(cJSON *report, size_t size_max, char **ret_text, struct delivery_mending *ret, struct err *e)
{
	struct delivery_mending m = { 0 };
	AUTO_FREE char *text = NULL, *size = NULL;

	drop_nulls(report, &m);
	each_result(report, mend_result, &m);
	text = json_print(report);
	if (strlen(text) > size_max) {
		each_result(report, drop_links, &m);
		mem_free_at(&text);
		text = json_print(report);
	}
	if (strlen(text) > size_max) {
		each_result(report, cut_texts, &m);
		mem_free_at(&text);
		text = json_print(report);
	}
	if (strlen(text) > size_max) {
		size = str_human_size(strlen(text));
		return err_set(e, ERR_REFUSED,
			       "%s without links and long texts, DefectDojo takes at most %zu bytes", size,
			       size_max);
	}
	count(report, &m);
	*ret_text = take_ptr(text);
	*ret = m;
	return 0;
}
