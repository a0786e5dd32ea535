#include "stages/dojo_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/dojo_list.h"

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
	bool active, accepted, false_p, out_of_scope, duplicate, mitigated, under_review;
};

static bool
read_flags(const cJSON *row, struct flags *f)
{
	return flag(row, "active", &f->active) && flag(row, "risk_accepted", &f->accepted) &&
	       flag(row, "false_p", &f->false_p) && flag(row, "out_of_scope", &f->out_of_scope) &&
	       flag(row, "duplicate", &f->duplicate) && flag(row, "is_mitigated", &f->mitigated) &&
	       flag(row, "under_review", &f->under_review);
}

/* Exactly one id is understood. */
const char *
dojo_vulnerability_of(const cJSON *row)
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

/* When one acceptance ends, 0: never; one whose end DefectDojo has dealt with has ended. False: that is not understood. */
static bool
read_end(const cJSON *one, int64_t *ret)
{
	static const char *const ends[] = { "expiration_date", "expiration_date_handled" };

	*ret = 0;
	/* null is "never", and said so; not a word of it is no answer of DefectDojo's */
	if (!cJSON_GetObjectItemCaseSensitive(one, ends[0]))
		return false;
	for (size_t k = 0; k < MEM_COUNT(ends); k++) {
		const cJSON *end = json_get(one, ends[k]);
		int64_t t;

		if (!end)
			continue;
		if (!cJSON_IsString(end) || !parse_time(end->valuestring, &t))
			return false;
		/* never "no end" by accident */
		t = t <= 0 ? 1 : t;
		*ret = *ret == 0 || t < *ret ? t : *ret;
	}
	return true;
}

/*
 * The first of several acceptances to expire takes the finding out of all: so does DefectDojo. *ret_at: when the first was made, 0
 * not known. False: there is one whose end is not understood.
 */
static bool
read_acceptances(const cJSON *row, int64_t *ret_until, int64_t *ret_at)
{
	const cJSON *list = json_array(row, "accepted_risks"), *one;

	*ret_until = *ret_at = 0;
	cJSON_ArrayForEach(one, list)
	{
		const char *made = json_str(one, "created");
		int64_t t;

		if (!cJSON_IsObject(one) || !read_end(one, &t))
			return false;
		if (t != 0 && (*ret_until == 0 || t < *ret_until))
			*ret_until = t;
		if (made && parse_time(made, &t) && t > 0 && (*ret_at == 0 || t < *ret_at))
			*ret_at = t;
	}
	return list != NULL;
}

static bool
read_names(const cJSON *row, struct triage_entry *ret)
{
	const char *id = dojo_vulnerability_of(row);
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
	mem_free_at(&x->product);
	mem_free_at(&x->branch);
	*x = (struct triage_entry){ 0 };
}

static bool
read_kind(const cJSON *row, struct triage_entry *x)
{
	struct flags f;
	enum severity severity;
	int64_t accepted_s = 0;

	/*
	 * Of a duplicate its original says what there is to say, unless people have said it of the duplicate itself, on a branch whose
	 * findings DefectDojo saw on another one before. One that is active, too, is in contradiction to itself; of one under review
	 * somebody wants to know whether it is right.
	 */
	if (!read_flags(row, &f) || f.active || f.under_review ||
	    !dojo_parse_severity(json_str(row, "severity"), &severity))
		return false;
	if (f.false_p)
		x->kind = ACCEPTED_FALSE_POSITIVE;
	else if (f.out_of_scope)
		x->kind = ACCEPTED_OUT_OF_SCOPE;
	else if (f.accepted && !f.mitigated && read_acceptances(row, &x->until_s, &accepted_s))
		x->kind = ACCEPTED_RISK;
	else
		return false;
	x->is_closed = f.mitigated;
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

/* ---- what is excused in products ---- */

struct reading {
	struct dojo *dojo;
	int64_t deadline;
	const struct dojo_question *q;
	struct triage *triage;
	struct strv notes; /* what is missing from it */
};

struct excusing {
	struct reading *r;
	const struct dojo_product *product;
};

/* Of that product, by what the row itself says: id and name. */
static const cJSON *
test_of(const struct dojo_product *p, const cJSON *row)
{
	const cJSON *test = json_object(json_object(row, "related_fields"), "test");
	const cJSON *product = json_object(json_object(test, "engagement"), "product");

	if (!test || json_int(product, "id", -1) != p->id || !str_eq(json_str(product, "name"), p->name) ||
	    json_int(test, "id", -1) != json_int(row, "test", -2))
		return NULL;
	return test;
}

static int
take_excused(const cJSON *row, void *arg, struct err *e)
{
	const struct excusing *in = arg;
	struct reading *r = in->r;
	const cJSON *test = test_of(in->product, row);
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
	x.product = mem_strdup(in->product->name);
	x.branch = mem_strdup(r->q->has_branches && branch ? branch : "");
	x.is_anywhere = dojo_has_loose_place(row);
	*triage_add(r->triage) = x;
	return 0;
}

static int
read_excused(struct reading *r, const struct dojo_product *p, struct err *e)
{
	static const char *const flags[] = { "risk_accepted", "false_p", "out_of_scope" };
	struct excusing in = { r, p };

	for (size_t k = 0; k < MEM_COUNT(flags); k++) {
		AUTO_FREE char *path = mem_printf("/findings/?test__engagement__product=%" PRId64
						  "&%s=true&related_fields=true&o=id",
						  p->id, flags[k]);

		if (dojo_list(r->dojo, path, r->deadline, take_excused, &in, e) < 0)
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
	       str_eq(a->version, b->version) && str_eq(a->service, b->service);
}

/*
 * Who finds it open in that place, too, knows not what counts. Who finds it in another one, and not as its duplicate, knows that here the
 * place tells findings apart, as it does by a setting of the server: what is said of one is not said of the other.
 */
static int
doubt(const cJSON *row, void *arg, struct err *e)
{
	struct doubting *d = arg;
	struct triage_entry x = { 0 };

	(void)e;
	if (!cJSON_IsTrue(json_get(row, "duplicate")) && read_names(row, &x) && x.test == d->test)
		for (size_t k = 0; k < d->triage->n; k++) {
			struct triage_entry *known = &d->triage->v[k];
			bool is_in_place = str_eq(known->place, x.place);

			if (!is_same(known, &x))
				continue;
			if (is_in_place && cJSON_IsTrue(json_get(row, "active")))
				known->is_doubtful = true;
			if (!is_in_place)
				known->is_anywhere = false;
		}
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
			bool is_ours = str_eq(x->branch, r->q->branch ? r->q->branch : "");
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
keep_seen(struct reading *r, const int64_t *tests, size_t n_tests)
{
	struct triage *t = r->triage;
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
	if (n < t->n)
		strv_addf(&r->notes, "%zu excused findings beyond the first %d tests are not looked at",
			  t->n - n, DOJO_READ_TESTS_MAX);
	t->n = n;
}

static int
read_doubts(struct reading *r, int64_t test, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/findings/?test=%" PRId64 "&is_mitigated=false&o=id", test);
	struct doubting d = { .triage = r->triage, .test = test };

	return dojo_list(r->dojo, path, r->deadline, doubt, &d, e);
}

/* ---- all of it ---- */

static int
read_products(struct reading *r, struct err *e)
{
	AUTO_DOJO_PRODUCTS struct dojo_products l = { 0 };
	int64_t tests[DOJO_READ_TESTS_MAX];
	size_t n;

	if (dojo_find_products(r->dojo, r->q, r->deadline, &l, e) < 0)
		return -1;
	if (l.n_more > 0)
		strv_addf(&r->notes, "%zu products beyond the first %d are not looked at", l.n_more,
			  DOJO_READ_PRODUCTS_MAX);
	for (size_t k = 0; k < l.n; k++)
		if (read_excused(r, &l.v[k], e) < 0)
			return -1;
	n = list_tests(r, tests);
	for (size_t k = 0; k < n; k++)
		if (read_doubts(r, tests[k], e) < 0)
			return -1;
	keep_seen(r, tests, n);
	return 0;
}

int
dojo_read_triage(struct dojo *dojo, const struct dojo_question *q, int64_t deadline, struct triage **ret,
		 struct err *e)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	struct reading r = { .dojo = dojo, .deadline = deadline, .q = q, .triage = t };
	int rc;

	/* what changes while it is read counts as it was before */
	t->fetched_s = clock_wall_s();
	t->product = mem_strdup(q->label);
	rc = read_products(&r, e);
	t->note = strv_join(&r.notes, "; ");
	strv_free(&r.notes);
	if (rc < 0)
		return err_wrap(e, "reading DefectDojo's triage");
	triage_settle(t);
	*ret = take_ptr(t);
	return 0;
}
