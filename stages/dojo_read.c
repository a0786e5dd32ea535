#include "stages/dojo_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/http.h"
#include "base/json.h"
#include "base/str.h"

#define PAGE 100
#define PAGE_MAX (16 * 1024 * 1024) /* bytes; a row has 3 KB, its description up to some dozens */
#define ANSWER_MAX (1024 * 1024)
#define PRODUCTS_MAX 20

static const char *const words[SEVERITY_COUNT] = { "Info", "Low", "Medium", "High", "Critical" };

const char *
dojo_severity_word(enum severity s)
{
	return words[s];
}

static bool
severity_of(const char *word, enum severity *ret)
{
	for (size_t k = 0; k < SEVERITY_COUNT; k++) {
		if (str_eq(words[k], word)) {
			*ret = (enum severity)k;
			return true;
		}
	}
	return false;
}

/* ---- lists ---- */

/* 0: go on; 1: this is enough; -1. */
typedef int each_row(const cJSON *row, void *arg, struct err *e);

struct seen {
	int64_t *ids;
	size_t n;
};

/* Rows come by id, so one that was shown before is the last one or an error. */
static int
take_id(const cJSON *row, int64_t *last, struct err *e)
{
	int64_t id = json_int(row, "id", -1);

	if (id < 0 || id <= *last)
		return err_set(e, ERR_FAILED, "DefectDojo's rows are not in the order that was asked for");
	*last = id;
	return 0;
}

/* All rows, page by page; path has a query already. A list that changes meanwhile does not add up and is an error. */
static int
list(struct dojo *dojo, const char *path, int64_t deadline, each_row *each, void *arg, struct err *e)
{
	int64_t total = -1, n = 0, last = -1;

	do {
		AUTO_FREE char *at = mem_printf("%s&limit=%d&offset=%" PRId64, path, PAGE, n);
		AUTO_JSON cJSON *page = NULL;
		const cJSON *rows, *row;
		int64_t count;

		if (dojo_get_json(dojo, at, PAGE_MAX, deadline, &page, e) < 0)
			return -1;
		rows = json_array(page, "results");
		count = json_int(page, "count", -1);
		if (!rows || count < 0)
			return err_set(e, ERR_FAILED, "DefectDojo's answer is no list");
		if (count > DOJO_READ_ROWS_MAX)
			return err_set(e, ERR_FAILED,
				       "DefectDojo has %" PRId64 " rows where %d are read at most", count,
				       DOJO_READ_ROWS_MAX);
		if (total >= 0 && count != total)
			return err_set(e, ERR_FAILED, "DefectDojo's findings changed while they were read");
		total = count;
		if (cJSON_GetArraySize(rows) == 0 && n < total)
			break;
		cJSON_ArrayForEach(row, rows)
		{
			if (take_id(row, &last, e) < 0 || each(row, arg, e) < 0)
				return -1;
			n++;
		}
	} while (n < total);
	if (n != total)
		return err_set(e, ERR_FAILED, "DefectDojo counts %" PRId64 " rows and shows %" PRId64, total,
			       n);
	return 0;
}

/* ---- the product ---- */

/* Names are found without case; exactly this one is wanted. *ret -1: there is none. */
static int
find_product(struct dojo *dojo, const char *name, int64_t deadline, int64_t *ret, struct err *e)
{
	AUTO_FREE char *escaped = http_escape(name);
	AUTO_FREE char *path = mem_printf("/products/?name_exact=%s&limit=%d", escaped, PRODUCTS_MAX);
	AUTO_JSON cJSON *page = NULL;
	const cJSON *rows, *row;

	*ret = -1;
	if (dojo_get_json(dojo, path, PAGE_MAX, deadline, &page, e) < 0)
		return -1;
	rows = json_array(page, "results");
	if (!rows || json_int(page, "count", -1) != cJSON_GetArraySize(rows))
		return err_set(e, ERR_FAILED, "DefectDojo shows more products of one name than there can be");
	cJSON_ArrayForEach(row, rows)
	{
		int64_t id = json_int(row, "id", -1);

		if (id < 0 || !str_eq(json_str(row, "name"), name))
			continue;
		if (*ret >= 0)
			return err_set(e, ERR_FAILED, "DefectDojo has two products of that name");
		*ret = id;
	}
	return 0;
}

/* ---- one finding ---- */

/* False where it is neither. */
static bool
flag(const cJSON *row, const char *name, bool *ret)
{
	const cJSON *j = json_get(row, name);

	*ret = cJSON_IsTrue(j);
	return cJSON_IsBool(j);
}

struct flags {
	bool active, accepted, false_p, out_of_scope, duplicate, mitigated;
};

static bool
read_flags(const cJSON *row, struct flags *f)
{
	return flag(row, "active", &f->active) && flag(row, "risk_accepted", &f->accepted) &&
	       flag(row, "false_p", &f->false_p) && flag(row, "out_of_scope", &f->out_of_scope) &&
	       flag(row, "duplicate", &f->duplicate) && flag(row, "is_mitigated", &f->mitigated);
}

/* Exactly one id is understood. */
static const char *
vulnerability_of(const cJSON *row)
{
	const cJSON *ids = json_array(row, "vulnerability_ids");

	if (!ids || cJSON_GetArraySize(ids) != 1)
		return NULL;
	return json_str(cJSON_GetArrayItem(ids, 0), "vulnerability_id");
}

static bool
parse_time(const char *text, int64_t *ret)
{
	struct err ignored = ERR_INIT;

	if (strlen(text) == strlen("2026-01-02"))
		return policy_parse_date(text, ret);
	return clock_parse_rfc3339(text, ret, &ignored) == 0;
}

/*
 * The first of several acceptances to expire takes the finding out of all: so does DefectDojo. *ret_at: when the first was made, 0
 * not known. False: there is one whose end is not understood.
 */
static bool
read_acceptances(const cJSON *row, int64_t *ret_until, int64_t *ret_at)
{
	const cJSON *one;

	*ret_until = *ret_at = 0;
	cJSON_ArrayForEach(one, json_array(row, "accepted_risks"))
	{
		const cJSON *end = json_get(one, "expiration_date");
		const char *made = json_str(one, "created");
		int64_t t = 0;

		if (!cJSON_IsObject(one) ||
		    (end && (!cJSON_IsString(end) || !parse_time(end->valuestring, &t))))
			return false;
		if (end && t <= 0)
			t = 1;
		if (end && (*ret_until == 0 || t < *ret_until))
			*ret_until = t;
		if (made && parse_time(made, &t) && t > 0 && (*ret_at == 0 || t < *ret_at))
			*ret_at = t;
	}
	return true;
}

static bool
read_names(const cJSON *row, struct triage_entry *ret)
{
	const char *id = vulnerability_of(row);
	const char *component = json_str(row, "component_name"), *version = json_str(row, "component_version");
	const char *place = json_str(row, "file_path"), *service = json_str(row, "service");

	if (str_is_empty(id) || str_is_empty(component))
		return false;
	*ret = (struct triage_entry){ .id = mem_strdup(id),
				      .component = mem_strdup(component),
				      .version = mem_strdup(version ? version : ""),
				      .place = mem_strdup(place ? place : ""),
				      .service = mem_strdup(service ? service : ""),
				      .finding = json_int(row, "id", -1),
				      .test = json_int(row, "test", -1) };
	return ret->finding >= 0 && ret->test >= 0;
}

static void
forget_names(struct triage_entry *x)
{
	mem_free_at(&x->id);
	mem_free_at(&x->component);
	mem_free_at(&x->version);
	mem_free_at(&x->place);
	mem_free_at(&x->service);
	mem_free_at(&x->branch);
	*x = (struct triage_entry){ 0 };
}

static bool
read_kind(const cJSON *row, struct triage_entry *x)
{
	struct flags f;
	enum severity severity;
	int64_t accepted_s = 0;

	/* of a duplicate its original says what there is to say; one that is active, too, is in contradiction to itself */
	if (!read_flags(row, &f) || f.duplicate || f.active ||
	    !severity_of(json_str(row, "severity"), &severity))
		return false;
	if (f.false_p)
		x->kind = ACCEPTED_FALSE_POSITIVE;
	else if (f.out_of_scope)
		x->kind = ACCEPTED_OUT_OF_SCOPE;
	else if (f.accepted && !f.mitigated && read_acceptances(row, &x->until_s, &accepted_s))
		x->kind = ACCEPTED_RISK;
	else
		return false;
	x->severity = (int)dojo_severity_at(json_str(row, "description"), severity, accepted_s);
	return true;
}

bool
dojo_read_entry(const cJSON *row, struct triage_entry *ret)
{
	struct triage_entry x = { 0 };

	if (!read_names(row, &x) || !read_kind(row, &x)) {
		forget_names(&x);
		return false;
	}
	*ret = x;
	return true;
}

/* ---- what is excused in a product ---- */

struct reading {
	struct dojo *dojo;
	int64_t deadline;
	int64_t product;
	const char *product_name, *branch;
	bool has_branches;
	struct triage *triage;
};

/* Of our product, by what the row itself says: id and name. */
static const cJSON *
test_of(const struct reading *r, const cJSON *row)
{
	const cJSON *test = json_object(json_object(row, "related_fields"), "test");
	const cJSON *product = json_object(json_object(test, "engagement"), "product");

	if (!test || json_int(product, "id", -1) != r->product ||
	    !str_eq(json_str(product, "name"), r->product_name) ||
	    json_int(test, "id", -1) != json_int(row, "test", -2))
		return NULL;
	return test;
}

static int
take_excused(const cJSON *row, void *arg, struct err *e)
{
	struct reading *r = arg;
	const cJSON *test = test_of(r, row);
	struct triage_entry x = { 0 };
	const char *branch = json_str(test, "branch_tag");

	if (!test || !dojo_read_entry(row, &x))
		return 0;
	/* false positive and out of scope at once comes in two lists */
	for (size_t k = 0; k < r->triage->n; k++) {
		if (r->triage->v[k].finding == x.finding) {
			forget_names(&x);
			return 0;
		}
	}
	if (r->triage->n >= TRIAGE_ENTRIES_MAX) {
		forget_names(&x);
		return err_set(e, ERR_FAILED, "more than %d findings are excused", TRIAGE_ENTRIES_MAX);
	}
	x.branch = mem_strdup(r->has_branches && branch ? branch : "");
	*triage_add(r->triage) = x;
	return 0;
}

static int
read_excused(struct reading *r, struct err *e)
{
	static const char *const flags[] = { "risk_accepted", "false_p", "out_of_scope" };

	for (size_t k = 0; k < MEM_COUNT(flags); k++) {
		AUTO_FREE char *path = mem_printf("/findings/?test__engagement__product=%" PRId64
						  "&%s=true&duplicate=false&related_fields=true&o=id",
						  r->product, flags[k]);

		if (list(r->dojo, path, r->deadline, take_excused, r, e) < 0)
			return -1;
	}
	return 0;
}

struct doubting {
	struct triage *triage;
	int64_t test;
};

static bool
is_same(const struct triage_entry *a, const struct triage_entry *b)
{
	return a->test == b->test && str_eq(a->id, b->id) && str_eq(a->component, b->component) &&
	       str_eq(a->version, b->version) && str_eq(a->place, b->place) && str_eq(a->service, b->service);
}

static int
doubt(const cJSON *row, void *arg, struct err *e)
{
	struct doubting *d = arg;
	struct triage_entry x = { 0 };

	(void)e;
	if (cJSON_IsTrue(json_get(row, "active")) && read_names(row, &x) && x.test == d->test)
		for (size_t k = 0; k < d->triage->n; k++)
			if (is_same(&d->triage->v[k], &x))
				d->triage->v[k].is_doubtful = true;
	forget_names(&x);
	return 0;
}

/* The tests of excused findings, those of our branch first. */
static size_t
list_tests(const struct reading *r, int64_t tests[DOJO_READ_TESTS_MAX])
{
	size_t n = 0;

	for (int round = 0; round < 2; round++) {
		for (size_t k = 0; k < r->triage->n; k++) {
			const struct triage_entry *x = &r->triage->v[k];
			bool is_ours = str_eq(x->branch, r->branch ? r->branch : "");
			size_t at = 0;

			while (at < n && tests[at] != x->test)
				at++;
			if (at == n && n < DOJO_READ_TESTS_MAX && is_ours == (round == 0))
				tests[n++] = x->test;
		}
	}
	return n;
}

/* Without those of tests that nobody looked at. */
static void
keep_seen(struct triage *t, const int64_t *tests, size_t n_tests)
{
	size_t n = 0;

	for (size_t k = 0; k < t->n; k++) {
		size_t at = 0;

		while (at < n_tests && tests[at] != t->v[k].test)
			at++;
		if (at < n_tests)
			t->v[n++] = t->v[k];
		else
			forget_names(&t->v[k]);
	}
	if (n < t->n) {
		mem_free_at(&t->note);
		t->note = mem_printf("%zu excused findings beyond the first %d tests are not looked at",
				     t->n - n, DOJO_READ_TESTS_MAX);
	}
	t->n = n;
}

static int
read_doubts(struct reading *r, struct err *e)
{
	int64_t tests[DOJO_READ_TESTS_MAX];
	size_t n = list_tests(r, tests);

	for (size_t k = 0; k < n; k++) {
		AUTO_FREE char *path = mem_printf("/findings/?test=%" PRId64 "&active=true&o=id", tests[k]);
		struct doubting d = { .triage = r->triage, .test = tests[k] };

		if (list(r->dojo, path, r->deadline, doubt, &d, e) < 0)
			return -1;
	}
	keep_seen(r->triage, tests, n);
	return 0;
}

int
dojo_read_triage(struct dojo *dojo, const char *product, const char *branch, bool has_branches,
		 int64_t deadline, struct triage **ret, struct err *e)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	struct reading r = { .dojo = dojo,
			     .deadline = deadline,
			     .product_name = product,
			     .branch = branch,
			     .has_branches = has_branches,
			     .triage = t };

	/* what changes while it is read counts as it was before */
	t->fetched_s = clock_wall_s();
	t->product = mem_strdup(product);
	t->note = mem_strdup("");
	if (find_product(dojo, product, deadline, &r.product, e) < 0 ||
	    (r.product >= 0 && (read_excused(&r, e) < 0 || read_doubts(&r, e) < 0)))
		return err_wrap(e, "reading DefectDojo's triage");
	triage_settle(t);
	*ret = take_ptr(t);
	return 0;
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

struct collecting {
	struct dojo_findings *to;
	int64_t test;
};

static int
collect(const cJSON *row, void *arg, struct err *e)
{
	struct collecting *c = arg;
	struct dojo_findings *l = c->to;
	const char *id = vulnerability_of(row);

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
					      .service = text_of(row, "service") };
	return 0;
}

int
dojo_read_findings(struct dojo *dojo, int64_t test, int64_t deadline, struct dojo_findings *ret, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/findings/?test=%" PRId64 "&o=id", test);
	AUTO_DOJO_FINDINGS struct dojo_findings l = { 0 };
	struct collecting c = { .to = &l, .test = test };

	if (list(dojo, path, deadline, collect, &c, e) < 0)
		return err_wrap(e, "reading the findings of test %" PRId64, test);
	*ret = l;
	l = (struct dojo_findings){ 0 };
	return 0;
}

int
dojo_update_finding(struct dojo *dojo, int64_t finding, const char *severity, const char *mitigation,
		    const char *description, int64_t deadline, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/findings/%" PRId64 "/", finding);
	AUTO_JSON cJSON *j = cJSON_CreateObject();

	if (severity)
		json_add_str(j, "severity", severity);
	if (mitigation)
		json_add_str(j, "mitigation", mitigation);
	if (description)
		json_add_str(j, "description", description);
	if (dojo_patch_json(dojo, path, j, deadline, e) < 0)
		return err_wrap(e, "finding %" PRId64, finding);
	return 0;
}

int
dojo_read_hash_fields(struct dojo *dojo, int64_t deadline, struct strv *ret, struct err *e)
{
	AUTO_JSON cJSON *page = NULL;
	const cJSON *row;

	strv_free(ret);
	if (dojo_get_json(dojo, "/tests/?scan_type=Trivy%20Scan&limit=10", PAGE_MAX, deadline, &page, e) < 0)
		return -1;
	cJSON_ArrayForEach(row, json_array(page, "results"))
	{
		if (str_eq(json_str(row, "scan_type"), "Trivy Scan") && ret->n == 0)
			json_strv(row, "hash_code_fields", ret);
	}
	return 0;
}

/* ---- severities that were raised ---- */

char *
dojo_raised_line(enum severity from, enum severity to, int64_t at_s)
{
	char time[32];

	clock_format_rfc3339(at_s, time);
	return mem_printf(DOJO_RAISED "%s to %s at %s", words[from], words[to], time);
}

/* The part of `text` up to `end` (a text or '\0'), cut off; NULL: it is not there. */
static char *
part(const char **text, const char *end)
{
	const char *at = *end ? strstr(*text, end) : *text + strcspn(*text, "\r\n");
	char *ret;

	if (!at)
		return NULL;
	ret = mem_strndup(*text, (size_t)(at - *text));
	*text = at + strlen(end);
	return ret;
}

enum severity
dojo_severity_at(const char *description, enum severity now, int64_t accepted_s)
{
	const char *p = description ? description : "";

	while ((p = strstr(p, DOJO_RAISED))) {
		AUTO_FREE char *from = NULL, *to = NULL, *at = NULL;
		struct err ignored = ERR_INIT;
		enum severity severity;
		int64_t at_s;

		p += strlen(DOJO_RAISED);
		from = part(&p, " to ");
		to = from ? part(&p, " at ") : NULL;
		at = to ? part(&p, "") : NULL;
		if (!at || !severity_of(from, &severity) || severity >= now)
			continue;
		/* who knows not when it was accepted knows not what was accepted */
		if (accepted_s == 0 || clock_parse_rfc3339(at, &at_s, &ignored) < 0 || accepted_s <= at_s)
			now = severity;
	}
	return now;
}
