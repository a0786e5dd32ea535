#include "stages/triage.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "stages/delivery.h"
#include "stages/delivery_mend.h"
#include "stages/identity.h"

#define VERSION 4
#define NOTE_MAX 1000
/* A clock that was set back by a little is no reason to doubt. */
#define FUTURE_MAX_S 300

/* ---- members ---- */

enum kind { TEXT, NUMBER, WORD, BOOL };

static const struct member {
	const char *key;
	enum kind kind;
	size_t offset;
	const char *const *words; /* NULL at the end */
} members[] = {
	{ "id", TEXT, offsetof(struct triage_entry, id), NULL },
	{ "component", TEXT, offsetof(struct triage_entry, component), NULL },
	{ "version", TEXT, offsetof(struct triage_entry, version), NULL },
	{ "place", TEXT, offsetof(struct triage_entry, place), NULL },
	{ "service", TEXT, offsetof(struct triage_entry, service), NULL },
	{ "product", TEXT, offsetof(struct triage_entry, product), NULL },
	{ "branch", TEXT, offsetof(struct triage_entry, branch), NULL },
	{ "kind", WORD, offsetof(struct triage_entry, kind), accepted_kind_words },
	{ "until_s", NUMBER, offsetof(struct triage_entry, until_s), NULL },
	{ "severity", WORD, offsetof(struct triage_entry, severity), severity_words },
	{ "finding", NUMBER, offsetof(struct triage_entry, finding), NULL },
	{ "test", NUMBER, offsetof(struct triage_entry, test), NULL },
	{ "is_anywhere", BOOL, offsetof(struct triage_entry, is_anywhere), NULL },
	{ "is_closed", BOOL, offsetof(struct triage_entry, is_closed), NULL },
	{ "is_doubtful", BOOL, offsetof(struct triage_entry, is_doubtful), NULL },
};

static void *
at(struct triage_entry *x, const struct member *m)
{
	return (char *)x + m->offset;
}

static const void *
at_const(const struct triage_entry *x, const struct member *m)
{
	return (const char *)x + m->offset;
}

static void
free_entry(struct triage_entry *x)
{
	for (size_t k = 0; k < MEM_COUNT(members); k++)
		if (members[k].kind == TEXT)
			mem_free_at(at(x, &members[k]));
}

void
triage_free(struct triage *t)
{
	if (!t)
		return;
	for (size_t k = 0; k < t->n; k++)
		free_entry(&t->v[k]);
	mem_free_at(&t->v);
	mem_free_at(&t->product);
	mem_free_at(&t->note);
	mem_free_at(&t);
}

struct triage_entry *
triage_add(struct triage *t)
{
	/* room for twice as many at each power of two */
	if ((t->n & (t->n - 1)) == 0)
		t->v = mem_resize(t->v, t->n ? 2 * t->n : 1, sizeof(*t->v));
	t->v[t->n] = (struct triage_entry){ 0 };
	return &t->v[t->n++];
}

/* ---- JSON ---- */

static int
parse_member(const cJSON *o, const struct member *m, struct triage_entry *x, struct err *e)
{
	const cJSON *j = json_get(o, m->key);
	const char *text;
	int index = 0;

	switch (m->kind) {
	case TEXT:
		if (json_need_str(o, m->key, &text, e) < 0)
			return -1;
		*(char **)at(x, m) = mem_strdup(text);
		return 0;
	case NUMBER:
		if (json_need_int(o, m->key, at(x, m), e) < 0)
			return -1;
		return *(int64_t *)at(x, m) < 0 ? err_set(e, ERR_REFUSED, "%s is negative", m->key) : 0;
	case WORD:
		if (json_need_str(o, m->key, &text, e) < 0)
			return -1;
		while (m->words[index] && !str_eq(m->words[index], text))
			index++;
		if (!m->words[index])
			return err_set(e, ERR_REFUSED, "%s is not a word that is known", m->key);
		*(int *)at(x, m) = index;
		return 0;
	case BOOL:
		if (!cJSON_IsBool(j))
			return err_set(e, ERR_REFUSED, "%s is not true or false", m->key);
		*(bool *)at(x, m) = cJSON_IsTrue(j);
		return 0;
	}
	return 0;
}

static int
parse_entry(const cJSON *o, struct triage *t, struct err *e)
{
	struct triage_entry *x = triage_add(t);

	if (!cJSON_IsObject(o) || cJSON_GetArraySize(o) != (int)MEM_COUNT(members))
		return err_set(e, ERR_REFUSED, "an entry has other members");
	for (size_t k = 0; k < MEM_COUNT(members); k++)
		if (parse_member(o, &members[k], x, e) < 0)
			return err_wrap(e, "an entry");
	return 0;
}

static int
parse_head(const cJSON *o, struct triage *t, struct err *e)
{
	int64_t version;
	const char *text;

	if (json_need_int(o, "version", &version, e) < 0 ||
	    json_need_int(o, "fetched_s", &t->fetched_s, e) < 0 || json_need_str(o, "product", &text, e) < 0)
		return -1;
	t->product = mem_strdup(text);
	if (version != VERSION)
		return err_set(e, ERR_REFUSED, "version %" PRId64 " is not known", version);
	if (json_need_str(o, "note", &text, e) < 0)
		return -1;
	t->note = str_safe(text, NOTE_MAX);
	return 0;
}

int
triage_from_json(const cJSON *j, struct triage **ret, struct err *e)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	const cJSON *list = json_array(j, "entries"), *one;
	size_t n = 0;

	if (parse_head(j, t, e) < 0)
		return err_wrap(e, "triage");
	if (!list || cJSON_GetArraySize(j) != 5)
		return err_set(e, ERR_REFUSED, "triage: it has other members");
	cJSON_ArrayForEach(one, list)
	{
		if (n++ >= TRIAGE_ENTRIES_MAX)
			return err_set(e, ERR_REFUSED, "triage: more than %d entries", TRIAGE_ENTRIES_MAX);
		if (parse_entry(one, t, e) < 0)
			return err_wrap(e, "triage");
	}
	triage_settle(t);
	*ret = take_ptr(t);
	return 0;
}

int
triage_parse(const char *text, size_t len, struct triage **ret, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;

	if (json_parse(text, len, TRIAGE_MAX, JSON_UNIQUE, &j, e) < 0)
		return err_wrap(e, "triage");
	return triage_from_json(j, ret, e);
}

static void
print_member(cJSON *o, const struct member *m, const struct triage_entry *x)
{
	const char *text;

	switch (m->kind) {
	case TEXT:
		text = *(char *const *)at_const(x, m);
		json_add_str(o, m->key, text ? text : "");
		break;
	case NUMBER:
		json_add_int(o, m->key, *(const int64_t *)at_const(x, m));
		break;
	case WORD:
		json_add_str(o, m->key, m->words[*(const int *)at_const(x, m)]);
		break;
	case BOOL:
		json_add_bool(o, m->key, *(const bool *)at_const(x, m));
		break;
	}
}

cJSON *
triage_to_json(const struct triage *t)
{
	cJSON *j = cJSON_CreateObject();
	cJSON *list;

	json_add_int(j, "version", VERSION);
	json_add_int(j, "fetched_s", t->fetched_s);
	json_add_str(j, "product", t->product ? t->product : "");
	json_add_str(j, "note", t->note ? t->note : "");
	list = json_add_array(j, "entries");
	for (size_t k = 0; k < t->n; k++) {
		cJSON *o = cJSON_CreateObject();

		for (size_t m = 0; m < MEM_COUNT(members); m++)
			print_member(o, &members[m], &t->v[k]);
		cJSON_AddItemToArray(list, o);
	}
	return j;
}

char *
triage_print(const struct triage *t)
{
	AUTO_JSON cJSON *j = triage_to_json(t);

	return json_print(j);
}

bool
triage_is_fresh(const struct triage *t, int64_t now_s, int64_t max_age_ms)
{
	return t->fetched_s <= now_s + FUTURE_MAX_S && now_s - t->fetched_s <= max_age_ms / 1000;
}

bool
triage_is_of_job(const struct triage *t, int64_t job_began_s, int64_t now_s)
{
	return job_began_s > 0 && str_is_empty(t->note) && t->fetched_s > job_began_s &&
	       t->fetched_s <= now_s && now_s - t->fetched_s <= TRIAGE_MOMENT_S;
}

/* ---- order and look-up ---- */

static int
compare_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "");
}

/* Wherever it is. */
static int
compare_finding(const struct triage_entry *a, const struct triage_entry *b)
{
	int c = compare_text(a->id, b->id);

	c = c ? c : compare_text(a->component, b->component);
	c = c ? c : compare_text(a->version, b->version);
	c = c ? c : compare_text(a->service, b->service);
	return c ? c : compare_text(a->product, b->product);
}

static int
compare_placed(const struct triage_entry *a, const struct triage_entry *b)
{
	int c = compare_finding(a, b);

	return c ? c : compare_text(a->place, b->place);
}

static int
compare(const void *pa, const void *pb)
{
	const struct triage_entry *a = pa, *b = pb;
	int c = compare_placed(a, b);

	c = c ? c : (a->test > b->test) - (a->test < b->test);
	return c ? c : (a->finding > b->finding) - (a->finding < b->finding);
}

static bool
says_the_same(const struct triage_entry *a, const struct triage_entry *b)
{
	return a->kind == b->kind && a->until_s == b->until_s && a->severity == b->severity &&
	       a->is_doubtful == b->is_doubtful;
}

void
triage_settle(struct triage *t)
{
	size_t end;

	for (size_t k = 0; k < t->n; k++)
		snprintf(t->v[k].by, sizeof(t->v[k].by), "DefectDojo finding %" PRId64, t->v[k].finding);
	if (t->n > 0)
		qsort(t->v, t->n, sizeof(*t->v), compare);
	for (size_t k = 0; k < t->n; k = end) {
		const struct triage_entry *first = NULL; /* that is open */
		bool is_doubtful = false;

		for (end = k; end < t->n && t->v[end].test == t->v[k].test &&
			      compare_placed(&t->v[end], &t->v[k]) == 0;
		     end++) {
			if (t->v[end].is_closed)
				continue;
			is_doubtful = is_doubtful || (first && !says_the_same(&t->v[end], first));
			first = first ? first : &t->v[end];
		}
		for (size_t x = k; is_doubtful && x < end; x++)
			t->v[x].is_doubtful = t->v[x].is_doubtful || !t->v[x].is_closed;
	}
}

/* Of the entries about this finding, the first; t->n: there is none. */
static size_t
first_about(const struct triage *t, const struct triage_entry *wanted)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_finding(&t->v[middle], wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* As it was delivered. */
static char *
fitted(char *text, size_t max)
{
	delivery_fit_text(&text, max);
	return text;
}

bool
triage_match(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret)
{
	const struct triage_query *q = arg;
	AUTO_FREE char *place = fitted(identity_place(q->report, f, q->image), DELIVERY_PLACE_MAX);
	AUTO_FREE char *id = fitted(mem_strdup(f->id), DELIVERY_ID_MAX);
	AUTO_FREE char *component = fitted(mem_strdup(f->package), DELIVERY_PACKAGE_MAX);
	AUTO_FREE char *version = fitted(mem_strdup(f->installed), DELIVERY_VERSION_MAX);
	AUTO_FREE char *service = mem_strdup(q->service), *product = mem_strdup(q->product);
	const struct triage_entry wanted = {
		.id = id, .component = component, .version = version, .service = service, .product = product
	};
	/* as dojo_has_loose_place() */
	bool is_loose = identity_is_of_language(f) && *f->path;

	for (size_t k = first_about(q->triage, &wanted);
	     k < q->triage->n && compare_finding(&q->triage->v[k], &wanted) == 0; k++) {
		const struct triage_entry *x = &q->triage->v[k];

		if (x->is_doubtful || !(str_eq(x->place, place) || (x->is_anywhere && is_loose)) || nth-- > 0)
			continue;
		*ret = (struct policy_accepted){ .kind = (enum accepted_kind)x->kind,
						 .until_s = x->until_s,
						 .severity = (enum severity)x->severity,
						 .branch = q->branch && str_eq(x->branch, q->fitted_branch)
								   ? q->branch
								   : x->branch,
						 .is_product_wide = str_is_empty(x->branch),
						 .by = x->by };
		return true;
	}
	return false;
}
