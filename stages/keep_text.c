#include "stages/keep_text_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "stages/dojo_read.h"

#define SAME_MAX 64 /* of one flaw of one package at one place in a report */
#define TRIES_MAX 5 /* when other hosts write at the same time, which their turns prevent mostly */

static void
texts_free(struct texts *t)
{
	mem_free_at(&t->title);
	mem_free_at(&t->description);
	mem_free_at(&t->fixed);
	mem_free_at(&t->severity);
	mem_free_at(&t->cwe);
}

void
keep_text_free_entry(struct entry *x)
{
	texts_free(&x->first);
	mem_free_at(&x->told_severity);
	mem_free_at(&x->told_fixed);
}

void
keep_text_free(struct keep_text *t)
{
	if (!t)
		return;
	for (size_t k = 0; k < t->n_entries; k++)
		keep_text_free_entry(&t->entries[k]);
	for (size_t k = 0; k < t->n_now; k++) {
		struct now *x = &t->now[k];
		char **const owned[] = { &x->id, &x->package, &x->version, &x->target, &x->type, &x->path };

		texts_free(&x->texts);
		for (size_t n = 0; n < MEM_COUNT(owned); n++)
			mem_free_at(owned[n]);
	}
	mem_free_at(&t->entries);
	mem_free_at(&t->now);
	mem_free_at(&t->name);
	mem_free_at(&t->missed);
	delivery_file_close(&t->own);
	mem_free_at(&t);
}

/* ---- texts ---- */

static char *
text_of(const cJSON *o, const char *name)
{
	const char *s = json_str(o, name);

	return mem_strdup(s ? s : "");
}

static void
texts_of(const cJSON *v, struct texts *ret)
{
	const cJSON *cwes = json_array(v, "CweIDs");
	const cJSON *cwe = cwes ? cJSON_GetArrayItem(cwes, 0) : NULL;

	*ret = (struct texts){ .title = text_of(v, "Title"),
			       .description = text_of(v, "Description"),
			       .fixed = text_of(v, "FixedVersion"),
			       .severity = text_of(v, "Severity"),
			       .cwe = mem_strdup(cwe && cJSON_IsString(cwe) ? cwe->valuestring : "") };
}

static void
texts_copy(const struct texts *from, struct texts *ret)
{
	*ret = (struct texts){ .title = mem_strdup(from->title),
			       .description = mem_strdup(from->description),
			       .fixed = mem_strdup(from->fixed),
			       .severity = mem_strdup(from->severity),
			       .cwe = mem_strdup(from->cwe) };
}

bool
keep_text_equal(const struct texts *a, const struct texts *b)
{
	return str_eq(a->title, b->title) && str_eq(a->description, b->description) &&
	       str_eq(a->fixed, b->fixed) && str_eq(a->severity, b->severity) && str_eq(a->cwe, b->cwe);
}

void
keep_text_words(const struct texts *t, char out[KEPT_KEY_SIZE])
{
	kept_key((const char *const[]){ t->title, t->description, t->fixed }, 3, out);
}

/* ---- the report ---- */

/* The same flaw of the same package at the same place may stand in a report several times: the nth is the nth. */
static void
key_of(const struct keep_text *t, const struct now *x, size_t nth, char out[KEPT_KEY_SIZE])
{
	AUTO_FREE char *number = mem_printf("%zu", nth);

	kept_key((const char *const[]){ t->delivery->service, x->type, x->package, x->version, x->id,
					*x->path ? x->path : x->target, number },
		 7, out);
}

static void
set_text(cJSON *v, const char *name, const char *text)
{
	cJSON_DeleteItemFromObjectCaseSensitive(v, name);
	if (*text)
		json_add_str(v, name, text);
}

static void
set_texts(cJSON *v, const struct texts *t)
{
	set_text(v, "Title", t->title);
	set_text(v, "Description", t->description);
	set_text(v, "FixedVersion", t->fixed);
	set_text(v, "Severity", t->severity);
	cJSON_DeleteItemFromObjectCaseSensitive(v, "CweIDs");
	if (*t->cwe)
		cJSON_AddItemToArray(json_add_array(v, "CweIDs"), cJSON_CreateString(t->cwe));
}

static void
set_first(struct entry *x, const struct texts *texts)
{
	texts_copy(texts, &x->first);
	x->told_severity = mem_strdup(texts->severity);
	x->told_fixed = mem_strdup(texts->fixed);
	keep_text_words(texts, x->told_words);
	for (int k = 0; k < SEVERITY_COUNT; k++)
		x->below_s[k] = k <= (int)severity_of_word(texts->severity) ? NEVER : 0;
	x->seen_s = clock_wall_s();
}

/* As it will be sent for ever. */
static size_t
remember(struct keep_text *t, const struct now *x, const char *key)
{
	struct entry *made = keep_text_add(t);

	snprintf(made->key, sizeof(made->key), "%s", key);
	set_first(made, &x->texts);
	return t->n_entries - 1;
}

/* Keys of this report that were met before, each once more often. */
struct met {
	char (*keys)[KEPT_KEY_SIZE];
	size_t n, size;
};

static size_t
slot_of(const struct met *m, const char *key)
{
	size_t at =
		(size_t)strtoul((char[]){ key[0], key[1], key[2], key[3], key[4], key[5], '\0' }, NULL, 16) %
		m->size;

	while (*m->keys[at] && !str_eq(m->keys[at], key))
		at = (at + 1) % m->size;
	return at;
}

/* Will DefectDojo take it in (defectdojo.minimum_severity)? */
static bool
is_wanted(const struct keep_text *t, const struct texts *x)
{
	enum severity minimum;

	return !dojo_parse_severity(t->delivery->minimum_severity, &minimum) ||
	       severity_of_word(x->severity) >= minimum;
}

/* What it was first sent with, unless either is of no interest there: such a one has nothing to keep, and is not hidden by it. */
static bool
apply(struct keep_text *t, struct now *x, cJSON *v)
{
	struct entry *known = &t->entries[x->entry];

	known->seen_s = clock_wall_s();
	if (keep_text_equal(&x->texts, &known->first))
		return false;
	if (!is_wanted(t, &x->texts)) {
		x->entry = SIZE_MAX;
		return false;
	}
	if (!is_wanted(t, &known->first)) {
		keep_text_free_entry(known);
		set_first(known, &x->texts);
		return false;
	}
	set_texts(v, &known->first);
	return true;
}

static void
take_finding(struct keep_text *t, struct met *m, const cJSON *result, cJSON *v, bool *is_changed)
{
	struct now x = { .id = text_of(v, "VulnerabilityID"),
			 .package = text_of(v, "PkgName"),
			 .version = text_of(v, "InstalledVersion"),
			 .path = text_of(v, "PkgPath"),
			 .target = text_of(result, "Target"),
			 .type = text_of(result, "Type") };
	char key[KEPT_KEY_SIZE];
	size_t nth = 0, at;
	bool is_known;

	texts_of(v, &x.texts);
	do {
		key_of(t, &x, nth++, key);
		at = slot_of(m, key);
	} while (*m->keys[at] && nth < SAME_MAX);
	/* of more than so many of a kind none is known: whoever makes such a report may not keep us busy */
	is_known = !*m->keys[at];
	snprintf(m->keys[at], sizeof(m->keys[at]), "%s", key);
	x.entry = is_known ? keep_text_find(t, key) : SIZE_MAX;
	if (is_known && x.entry == SIZE_MAX && t->n_entries < KEEP_TEXT_FINDINGS_MAX)
		x.entry = remember(t, &x, key);
	else if (x.entry == SIZE_MAX)
		t->n_over++;
	if (x.entry != SIZE_MAX)
		*is_changed = apply(t, &x, v) || *is_changed;
	t->now[t->n_now++] = x;
}

static size_t
count_findings(const cJSON *report)
{
	const cJSON *result;
	size_t n = 0;

	cJSON_ArrayForEach(result, json_array(report, "Results")) n +=
		json_array(result, "Vulnerabilities")
			? (size_t)cJSON_GetArraySize(json_array(result, "Vulnerabilities"))
			: 0;
	return n;
}

/* *ret_changed: it is not to be sent as it came. */
static void
take_report(struct keep_text *t, const cJSON *report, bool *ret_changed)
{
	size_t n = count_findings(report);
	struct met m = { .size = 2 * n + 1 };
	const cJSON *result;
	cJSON *v;

	*ret_changed = false;
	t->now = mem_array(n + 1, sizeof(*t->now));
	m.keys = mem_array(m.size, sizeof(*m.keys));
	cJSON_ArrayForEach(result, json_array(report, "Results"))
	{
		cJSON_ArrayForEach(v, json_array(result, "Vulnerabilities")) if (cJSON_IsObject(v))
			take_finding(t, &m, result, v, ret_changed);
	}
	mem_free_at(&m.keys);
}

static int
read_report(const struct delivery *d, const struct delivery_file *f, cJSON **ret, struct err *e)
{
	AUTO_FREE char *text = mem_array(d->report_len + 1, 1);
	size_t at = 0;

	while (at < d->report_len) {
		ssize_t n = pread(f->fd, text + at, d->report_len - at, f->offset + (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_errno(e, "report")
				     : err_set(e, ERR_FAILED, "the report is cut off");
		at += (size_t)n;
	}
	return json_parse(text, d->report_len, KEEP_TEXT_REPORT_MAX, 0, ret, e);
}

static int
make_own(struct keep_text *t, const cJSON *report, struct err *e)
{
	AUTO_FREE char *text = json_print(report);

	t->own_len = strlen(text);
	t->own.fd = memfd_create("report", MFD_CLOEXEC);
	if (t->own.fd < 0)
		return err_errno(e, "memfd_create");
	return fs_write_all(t->own.fd, text, t->own_len, e);
}

/* What this report has brought is not known, and sent as it is: what was known stays so. */
static void
forget_new(struct keep_text *t)
{
	while (t->n_entries > t->n_sorted)
		keep_text_free_entry(&t->entries[--t->n_entries]);
	for (size_t k = 0; k < t->n_now; k++)
		if (t->now[k].entry != SIZE_MAX && t->now[k].entry >= t->n_sorted)
			t->now[k].entry = SIZE_MAX;
}

/* As keep_text_write(), but that no report waits for room: then what was known counts as it was. */
static int
put_down(struct keep_text *t, int64_t deadline, struct err *e)
{
	size_t n_new = t->n_entries - t->n_sorted;
	struct err why = ERR_INIT;
	int rc = keep_text_write(t, deadline, &why);

	if (rc < 0 && why.kind == ERR_NO_SPACE && n_new > 0) {
		mem_free_at(&t->missed);
		t->missed = mem_printf("the texts of %zu new findings are not kept: %s", n_new, why.text);
		forget_new(t);
		err_clear(&why);
		rc = keep_text_write(t, deadline, &why);
	}
	if (rc < 0 && why.kind == ERR_NO_SPACE)
		return 1;
	if (rc < 0)
		*e = why;
	return rc;
}

/* 1, or 0 when another host was at it meanwhile, or -1. */
static int
begin(struct keep_text *t, int64_t deadline, struct err *e)
{
	AUTO_JSON cJSON *report = NULL;
	bool is_changed = false;
	int rc;

	if (t->delivery->report_len > KEEP_TEXT_REPORT_MAX) {
		t->missed =
			mem_printf("the report is larger than %d MiB and went with the texts of today (defectdojo.keep_text)",
				   KEEP_TEXT_REPORT_MAX >> 20);
		return 1;
	}
	if (keep_text_read(t, deadline, e) < 0 || read_report(t->delivery, t->file, &report, e) < 0)
		return -1;
	take_report(t, report, &is_changed);
	if (t->n_over > 0)
		t->missed =
			mem_printf("the texts of %zu findings are not kept: there are too many", t->n_over);
	rc = put_down(t, deadline, e);
	return rc == 1 && is_changed && make_own(t, report, e) < 0 ? -1 : rc;
}

int
keep_text_begin(const struct kept *k, struct fleet_place *place, const struct delivery *d,
		const struct delivery_file *f, int64_t deadline, struct keep_text **ret, struct err *e)
{
	char key[DELIVERY_KEY_SIZE];

	delivery_key(d, key);
	for (unsigned n = 0; n < TRIES_MAX; n++) {
		AUTO(keep_text) struct keep_text *t = mem_alloc(sizeof(*t));
		int rc;

		*t = (struct keep_text){ .kept = k,
					 .place = place,
					 .delivery = d,
					 .file = f,
					 .own = DELIVERY_FILE_INIT,
					 .own_len = d->report_len,
					 .name = mem_printf("%s.json", key) };
		rc = begin(t, deadline, e);
		if (rc < 0)
			return -1;
		if (rc == 1) {
			*ret = take_ptr(t);
			return 0;
		}
	}
	return err_set(e, ERR_FAILED, "other hosts keep changing what is kept of this test");
}

const struct delivery_file *
keep_text_file(const struct keep_text *t)
{
	return t->own.fd >= 0 ? &t->own : t->file;
}

const char *
keep_text_missed(const struct keep_text *t)
{
	return t->missed;
}

size_t
keep_text_len(const struct keep_text *t)
{
	return t->own_len;
}
