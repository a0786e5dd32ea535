#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "stages/baseline.h"
#include "stages/dojo_read.h"
#include "stages/keep_text.h"
#include "stages/triage.h"
#include "tests/unit/sample_image.h"

/* ---- matching ---- */

static const struct report no_os = { .artifact_name = "app", .os_family = "", .os_name = "" };
static const struct finding flaw = { .id = "CVE-1",
				     .package = "p",
				     .installed = "1.0",
				     .path = "app/p",
				     .fixed = "",
				     .target = "Node.js",
				     .type = "npm",
				     .class = "lang-pkgs" };

static struct triage_entry *
add(struct triage *t, int64_t finding)
{
	struct triage_entry *x = triage_add(t);

	*x = (struct triage_entry){ .id = mem_strdup("CVE-1"),
				    .component = mem_strdup("p"),
				    .version = mem_strdup("1.0"),
				    .place = mem_strdup("app/p"),
				    .service = mem_strdup("app"),
				    .product = mem_strdup("group/app"),
				    .branch = mem_strdup("main"),
				    .kind = ACCEPTED_RISK,
				    .severity = SEVERITY_HIGH,
				    .finding = finding,
				    .test = 7 };
	return x;
}

static size_t
count(struct triage *t, const struct finding *f)
{
	const struct triage_query q = {
		.triage = t, .report = &no_os, .image = "app", .service = "app", .product = "group/app"
	};
	struct policy_accepted a;
	size_t n = 0;

	triage_settle(t);
	while (triage_match(&q, f, n, &a))
		n++;
	return n;
}

static void
change(char **text, const char *to)
{
	mem_free_at(text);
	*text = mem_strdup(to);
}

static void
only_exactly_the_same_finding_matches(void **state)
{
	(void)state;
	for (int part = 0; part < 7; part++) {
		AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
		struct triage_entry *x = add(t, 1);
		char **const texts[] = { &x->id,      &x->component, &x->version, &x->place,
					 &x->service, &x->product,   &x->branch };

		assert_int_equal(count(t, &flaw), 1);
		x = &t->v[0];
		change(texts[part], "other");
		/* the branch is the policy's to look at */
		assert_int_equal(count(t, &flaw), part == 6 ? 1 : 0);
	}
}

static void
a_package_of_a_language_matches_wherever_it_lies_where_its_entry_says_so(void **state)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	struct finding f = flaw;

	(void)state;
	add(t, 1)->is_anywhere = true;
	f.path = "srv/p";
	f.class = "lang-pkgs";
	assert_int_equal(count(t, &f), 1);
	f.class = "os-pkgs";
	assert_int_equal(count(t, &f), 0);
	f.class = "lang-pkgs";
	t->v[0].is_anywhere = false;
	assert_int_equal(count(t, &f), 0);
	f.path = flaw.path;
	assert_int_equal(count(t, &f), 1);
}

static void
nothing_matches_by_a_part_of_a_name_or_without_case(void **state)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	struct finding f = flaw;

	(void)state;
	add(t, 1);
	f.id = "cve-1";
	assert_int_equal(count(t, &f), 0);
	f.id = "CVE-10";
	assert_int_equal(count(t, &f), 0);
	f = flaw;
	f.installed = "";
	assert_int_equal(count(t, &f), 0);
}

static void
two_of_one_test_that_disagree_excuse_nothing_and_two_of_different_tests_do(void **state)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));

	(void)state;
	add(t, 1);
	add(t, 2)->until_s = 5;
	assert_int_equal(count(t, &flaw), 0);
	t->v[0].is_doubtful = t->v[1].is_doubtful = false;
	t->v[1].test = 8;
	assert_int_equal(count(t, &flaw), 2);
	/* what DefectDojo has closed contradicts nothing, and says what it says */
	t->v[1].test = 7;
	t->v[0].is_closed = true;
	assert_int_equal(count(t, &flaw), 2);
	add(t, 3);
	assert_int_equal(count(t, &flaw), 1);
}

static void
an_answer_names_kind_end_severity_branch_and_where_it_stands(void **state)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	const struct triage_query q = {
		.triage = t, .report = &no_os, .image = "app", .service = "app", .product = "group/app"
	};
	struct policy_accepted a;

	(void)state;
	add(t, 17)->until_s = 99;
	triage_settle(t);
	assert_true(triage_match(&q, &flaw, 0, &a));
	assert_int_equal(a.kind, ACCEPTED_RISK);
	assert_int_equal(a.until_s, 99);
	assert_int_equal(a.severity, SEVERITY_HIGH);
	assert_string_equal(a.branch, "main");
	assert_string_equal(a.by, "DefectDojo finding 17");
	assert_false(a.is_product_wide);
	change(&t->v[0].branch, "");
	assert_true(triage_match(&q, &flaw, 0, &a));
	assert_true(a.is_product_wide);
}

/* ---- its JSON ---- */

static void
what_is_printed_is_read_again(void **state)
{
	AUTO(triage) struct triage *t = mem_alloc(sizeof(*t));
	AUTO(triage) struct triage *again = NULL;
	AUTO_FREE char *text = NULL, *text_again = NULL;
	struct err e = ERR_INIT;

	(void)state;
	t->fetched_s = 1770000000;
	t->product = mem_strdup("group/app");
	add(t, 2)->kind = ACCEPTED_OUT_OF_SCOPE;
	add(t, 1)->until_s = 99;
	triage_settle(t);
	text = triage_print(t);
	assert_int_equal(triage_parse(text, strlen(text), &again, &e), 0);
	text_again = triage_print(again);
	assert_string_equal(text, text_again);
	assert_int_equal(count(again, &flaw), 0);
}

#define HEAD "{\"version\":4,\"fetched_s\":1,\"product\":\"p\",\"note\":\"\",\"entries\":["
#define ENTRY(until, kind, more)                                                                                                    \
	"{\"id\":\"a\",\"component\":\"b\",\"version\":\"c\",\"place\":\"d\",\"service\":\"e\",\"product\":\"p\",\"branch\":\"f\"," \
	"\"kind\":\"" kind "\",\"until_s\":" until ",\"severity\":\"HIGH\",\"finding\":1,\"test\":1,"                               \
	"\"is_anywhere\":false,\"is_closed\":false,\"is_doubtful\":false" more "}"

static void
what_is_not_exactly_so_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{}",
		HEAD "]} x",
		HEAD "],\"more\":1}",
		HEAD "null]}",
		HEAD "{}]}",
		HEAD ENTRY("-1", "risk_accepted", "") "]}",
		HEAD ENTRY("1.5", "risk_accepted", "") "]}",
		HEAD ENTRY("\"1\"", "risk_accepted", "") "]}",
		HEAD ENTRY("1", "Risk_Accepted", "") "]}",
		HEAD ENTRY("1", "", "") "]}",
		HEAD ENTRY("1", "risk_accepted", ",\"more\":1") "]}",
		HEAD ENTRY("1", "risk_accepted", ",\"id\":\"b\"") "]}",
		"{\"version\":3,\"fetched_s\":1,\"product\":\"p\",\"note\":\"\",\"entries\":[]}",
		"{\"version\":4,\"fetched_s\":1,\"product\":null,\"note\":\"\",\"entries\":[]}",
	};
	static const char *const good[] = { HEAD "]}", HEAD ENTRY("1", "risk_accepted", "") "]}" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(bad); k++) {
		AUTO(triage) struct triage *t = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(triage_parse(bad[k], strlen(bad[k]), &t, &e), -1);
		assert_null(t);
	}
	for (size_t k = 0; k < MEM_COUNT(good); k++) {
		AUTO(triage) struct triage *t = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(triage_parse(good[k], strlen(good[k]), &t, &e), 0);
	}
}

static void
triage_of_the_future_or_of_long_ago_is_not_fresh(void **state)
{
	const struct triage t = { .fetched_s = 1000000 };

	(void)state;
	assert_true(triage_is_fresh(&t, 1000000, 0));
	assert_true(triage_is_fresh(&t, 1003600, 3600 * 1000));
	assert_false(triage_is_fresh(&t, 1003601, 3600 * 1000));
	assert_false(triage_is_fresh(&t, 1000000 - 3600, 3600 * 1000));
}

/* Somebody triaged, and started the job again: what was asked for before that is not his answer. */
static void
only_what_a_job_has_asked_a_moment_ago_is_its_answer(void **state)
{
	static char note[] = "3 products are not looked at";
	struct triage t = { .fetched_s = 1000000 };

	(void)state;
	assert_true(triage_is_of_job(&t, 999999, 1000000));
	assert_true(triage_is_of_job(&t, 999999, 1000000 + TRIAGE_MOMENT_S));
	assert_false(triage_is_of_job(&t, 999999, 1000000 + TRIAGE_MOMENT_S + 1));
	assert_false(triage_is_of_job(&t, 1000000, 1000001));
	assert_false(triage_is_of_job(&t, 999000, 999999));
	assert_false(triage_is_of_job(&t, 0, 1000000));
	t.note = note;
	assert_false(triage_is_of_job(&t, 999999, 1000000));
}

/* ---- rows of DefectDojo ---- */

static cJSON *
recorded(const char *exchange)
{
	AUTO_FREE char *path = mem_printf(SHARED_DIR "/defectdojo/exchanges/%s.json", exchange);
	struct err e = ERR_INIT;
	cJSON *j = NULL;

	assert_int_equal(json_load(AT_FDCWD, path, 1 << 20, 0, &j, &e), 0);
	return j;
}

/* The first finding that was recorded, with members changed: pairs of name and JSON, NULL at the end. */
static bool
entry_of(struct triage_entry *ret, const char *const *changes)
{
	AUTO_JSON cJSON *j = recorded("findings-200-page");
	const cJSON *body = json_object(json_object(j, "response"), "body");
	AUTO_JSON cJSON *row = cJSON_Duplicate(cJSON_GetArrayItem(json_array(body, "results"), 0), true);

	for (; *changes; changes += 2)
		cJSON_ReplaceItemInObjectCaseSensitive(row, changes[0], cJSON_Parse(changes[1]));
	return dojo_read_entry(row, ret);
}

static void
forget(struct triage_entry *x)
{
	struct triage *t = mem_alloc(sizeof(*t));

	*triage_add(t) = *x;
	triage_free(t);
	*x = (struct triage_entry){ 0 };
}

#define ACCEPTED "active", "false", "risk_accepted", "true"

static void
rows_are_what_they_say_without_a_contradiction(void **state)
{
	static const struct {
		bool is_excused;
		int kind;
		const char *changes[12];
	} cases[] = {
		{ false, 0, { NULL } },
		{ true, ACCEPTED_RISK, { ACCEPTED, NULL } },
		{ true,
		  ACCEPTED_FALSE_POSITIVE,
		  { "active", "false", "false_p", "true", "is_mitigated", "true", NULL } },
		{ true, ACCEPTED_OUT_OF_SCOPE, { "active", "false", "out_of_scope", "true", NULL } },
		{ false, 0, { "active", "false", NULL } },
		{ false, 0, { "active", "false", "is_mitigated", "true", NULL } },
		{ false, 0, { "risk_accepted", "true", NULL } },
		{ false, 0, { "false_p", "true", NULL } },
		{ false, 0, { ACCEPTED, "is_mitigated", "true", NULL } },
		/* people have said it of the duplicate itself */
		{ true, ACCEPTED_RISK, { ACCEPTED, "duplicate", "true", NULL } },
		{ false, 0, { "active", "false", "duplicate", "true", NULL } },
		{ false, 0, { ACCEPTED, "duplicate", "true", "active", "true", NULL } },
		{ false, 0, { ACCEPTED, "duplicate", "null", NULL } },
		{ false, 0, { ACCEPTED, "under_review", "true", NULL } },
		{ false, 0, { ACCEPTED, "under_review", "null", NULL } },
		{ false, 0, { "active", "false", "false_p", "true", "under_review", "true", NULL } },
		{ false, 0, { ACCEPTED, "accepted_risks", "null", NULL } },
		{ false, 0, { ACCEPTED, "accepted_risks", "{}", NULL } },
		{ false, 0, { "active", "false", "risk_accepted", "\"true\"", NULL } },
		{ false, 0, { "active", "false", "risk_accepted", "1", NULL } },
		{ false, 0, { ACCEPTED, "severity", "\"critical\"", NULL } },
		{ false, 0, { ACCEPTED, "component_name", "null", NULL } },
		{ false, 0, { ACCEPTED, "vulnerability_ids", "[]", NULL } },
		{ false,
		  0,
		  { ACCEPTED, "vulnerability_ids",
		    "[{\"vulnerability_id\":\"A\"},{\"vulnerability_id\":\"B\"}]", NULL } },
		{ false, 0, { ACCEPTED, "test", "null", NULL } },
		{ false, 0, { ACCEPTED, "id", "\"1\"", NULL } },
		{ false, 0, { ACCEPTED, "accepted_risks", "[{\"expiration_date\":\"soon\"}]", NULL } },
		{ false, 0, { ACCEPTED, "accepted_risks", "[{\"expiration_date\":7}]", NULL } },
		{ false, 0, { ACCEPTED, "accepted_risks", "[7]", NULL } },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct triage_entry x = { 0 };

		assert_int_equal(entry_of(&x, cases[k].changes), cases[k].is_excused);
		assert_int_equal(x.kind, cases[k].kind);
		forget(&x);
	}
}

static void
an_entry_has_the_names_that_trivy_gave(void **state)
{
	struct triage_entry x = { 0 };

	(void)state;
	assert_true(entry_of(&x, (const char *const[]){ ACCEPTED, NULL }));
	assert_string_equal(x.id, "CVE-2024-00051");
	assert_string_equal(x.component, "lib51");
	assert_string_equal(x.version, "1.0.51-1");
	assert_string_equal(x.place, "app:1 (debian 12.5)");
	assert_string_equal(x.service, "f");
	assert_int_equal(x.severity, SEVERITY_CRITICAL);
	assert_int_equal(x.until_s, 0);
	assert_int_equal(x.finding, 263);
	assert_int_equal(x.test, 55);
	forget(&x);
}

static void
of_several_acceptances_the_first_to_end_ends_it(void **state)
{
	static const struct {
		const char *risks;
		int64_t until_s;
	} cases[] = {
		{ "[{\"expiration_date\":null}]", 0 },
		{ "[{\"expiration_date\":\"2026-01-02T00:00:00Z\"}]", 1767312000 },
		{ "[{\"expiration_date\":\"2026-01-02\"}]", 1767312000 },
		{ "[{\"expiration_date\":null},{\"expiration_date\":\"2026-01-02T00:00:00Z\"},"
		  "{\"expiration_date\":\"2026-01-03T00:00:00Z\"}]",
		  1767312000 },
		{ "[{\"expiration_date\":\"2026-01-02T02:00:00.678901+02:00\"}]", 1767312000 },
		{ "[{\"expiration_date\":\"2026-01-01T19:00:00-05:00\"}]", 1767312000 },
		/* what DefectDojo has ended has ended, whatever date somebody sets afterwards */
		{ "[{\"expiration_date\":\"2026-02-02T00:00:00Z\",\"expiration_date_handled\":\"2026-01-02T00:00:00Z\"}]",
		  1767312000 },
		/* never "no end" by accident */
		{ "[{\"expiration_date\":\"1970-01-01T00:00:00Z\"}]", 1 },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct triage_entry x = { 0 };

		assert_true(entry_of(&x, (const char *const[]){ ACCEPTED, "accepted_risks", cases[k].risks,
								NULL }));
		assert_int_equal(x.until_s, cases[k].until_s);
		forget(&x);
	}
}

/* It was CRITICAL at first. */
static void
a_severity_that_fell_and_rose_again_is_what_it_was_to_who_accepted_before(void **state)
{
	const int64_t raised_s = 1767312000, fell_s = raised_s - 1000;
	const struct dojo_raised raised = {
		.from = SEVERITY_HIGH, .to = SEVERITY_CRITICAL, .at_s = raised_s, .since_s = fell_s
	};
	AUTO_FREE char *line = dojo_raised_line(&raised);
	struct dojo_raised again;

	(void)state;
	assert_string_equal(
		line,
		"**Severity raised:** High to Critical at 2026-01-02T00:00:00Z, below it since 2026-01-01T23:43:20Z");
	assert_true(dojo_read_raised(line, strlen(line), &again));
	assert_memory_equal(&again, &raised, sizeof(again));
	assert_int_equal(dojo_severity_at(line, SEVERITY_CRITICAL, fell_s - 1), SEVERITY_CRITICAL);
	assert_int_equal(dojo_severity_at(line, SEVERITY_CRITICAL, fell_s), SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at(line, SEVERITY_CRITICAL, raised_s), SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at(line, SEVERITY_CRITICAL, raised_s + 1), SEVERITY_CRITICAL);
	assert_int_equal(dojo_severity_at(line, SEVERITY_CRITICAL, 0), SEVERITY_HIGH);
	/* what is not understood counts for longer */
	assert_int_equal(dojo_severity_at("**Severity raised:** High to Critical at x, below it since y",
					  SEVERITY_CRITICAL, 5),
			 SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at("**Severity raised:** High to Critical at 2026-01-02T00:00:00Z, below it since y",
					  SEVERITY_CRITICAL, 5),
			 SEVERITY_HIGH);
}

static void
a_severity_that_was_raised_counts_for_those_who_accepted_after_it(void **state)
{
	const int64_t raised_s = 1767312000;
	const struct dojo_raised raised = { .from = SEVERITY_HIGH, .to = SEVERITY_CRITICAL, .at_s = raised_s };
	AUTO_FREE char *line = dojo_raised_line(&raised), *hostile = NULL;
	AUTO_FREE char *text = mem_printf("Text\n\n%s\nmore", line);
	AUTO_FREE char *twice =
		mem_printf("**Severity raised:** Low to High at 2025-01-01T00:00:00Z\n%s", line);

	(void)state;
	assert_string_equal(line, "**Severity raised:** High to Critical at 2026-01-02T00:00:00Z");
	assert_int_equal(dojo_severity_at(text, SEVERITY_CRITICAL, raised_s + 1), SEVERITY_CRITICAL);
	assert_int_equal(dojo_severity_at(text, SEVERITY_CRITICAL, raised_s), SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at(text, SEVERITY_CRITICAL, raised_s - 1), SEVERITY_HIGH);
	/* a name that begins such a line takes nothing from the one that is behind it */
	hostile = mem_printf("x\n**Target:** " DOJO_RAISED "x.tar\n**Severity raised:** x\n%s", line);
	assert_int_equal(dojo_severity_at(hostile, SEVERITY_CRITICAL, raised_s - 1), SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at(twice, SEVERITY_CRITICAL, raised_s - 1), SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at(twice, SEVERITY_CRITICAL, 1000), SEVERITY_LOW);
	/* when it was accepted is not known */
	assert_int_equal(dojo_severity_at(text, SEVERITY_CRITICAL, 0), SEVERITY_HIGH);
	assert_int_equal(dojo_severity_at(NULL, SEVERITY_CRITICAL, 0), SEVERITY_CRITICAL);
}

static void
a_line_that_somebody_made_up_raises_nothing(void **state)
{
	static const char *const lines[] = {
		"**Severity raised:** Critical to High at 2026-01-02T00:00:00Z",
		"**Severity raised:** Nothing to High at 2026-01-02T00:00:00Z",
		"**Severity raised:** ",
		"**Severity raised:** High",
		"**Severity raised:** High to ",
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(lines); k++)
		assert_int_equal(dojo_severity_at(lines[k], SEVERITY_HIGH, 5), SEVERITY_HIGH);
	/* one whose time is no time counts against whoever accepted */
	assert_int_equal(dojo_severity_at("**Severity raised:** Low to High at never", SEVERITY_HIGH, 5),
			 SEVERITY_LOW);
}

/* ---- baselines ---- */

struct place {
	char path[64];
	struct kept *kept;
	struct sample s;
};

static void
place_make(struct place *p)
{
	snprintf(p->path, sizeof(p->path), "/tmp/test_triage.XXXXXX");
	assert_non_null(mkdtemp(p->path));
	p->kept = kept_open(p->path, (uid_t)-1, (gid_t)-1);
	assert_int_equal(p->kept->fault.kind, ERR_NONE);
	sample_init(&p->s);
	sample_add_image(&p->s, sample_report);
	p->s.i.images[0].decision = mem_alloc(sizeof(struct decision));
	p->s.i.images[0].decision->mode = GATE_AUDIT;
	p->s.i.out_fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
place_free(struct place *p)
{
	struct err e = ERR_INIT;

	close(p->s.i.out_fd);
	p->s.i.out_fd = -1;
	sample_free(&p->s);
	kept_free(p->kept);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->path, &e), 0);
}

static void
keep(struct place *p)
{
	AUTO_BASELINE struct baseline b = { 0 };
	struct err e = ERR_INIT;

	assert_int_equal(baseline_write(&p->s.i, &p->s.i.images[0], 0, &e), 0);
	assert_int_equal(baseline_take(p->kept, &p->s.i, 0, &b, &e), 0);
	assert_int_equal(baseline_keep(p->kept, &p->s.i, &b, "7-0", &e), 0);
}

static size_t
n_kept(struct place *p)
{
	struct baselines l = { 0 };
	struct err e = ERR_INIT;
	size_t n;

	assert_int_equal(baselines_load(p->kept, "group/app", (const char *const[]){ NULL }, &l, &e), 0);
	n = l.n;
	baselines_free(&l);
	return n;
}

static void
a_branch_remembers_what_was_found_on_it(void **state)
{
	struct place p;
	struct baselines l = { 0 };
	const struct baseline *b;
	const struct image *m;
	struct err e = ERR_INIT;

	(void)state;
	place_make(&p);
	m = &p.s.i.images[0];
	keep(&p);
	assert_int_equal(baselines_load(p.kept, "group/app", (const char *const[]){ "main", NULL }, &l, &e),
			 0);
	b = baselines_find(&l, "main", "group/app");
	assert_non_null(b);
	for (size_t k = 0; k < m->report->n_findings; k++) {
		char key[IDENTITY_KEY_SIZE];

		identity_key("group/app", "group/app", m->report, &m->report->findings[k], key);
		assert_true(baseline_has(b, false, key));
		key[0] = key[0] == '0' ? '1' : '0';
		assert_false(baseline_has(b, false, key));
	}
	assert_null(baselines_find(&l, "other", "group/app"));
	assert_null(baselines_find(&l, "main", "group/other"));
	baselines_free(&l);
	assert_int_equal(baselines_load(p.kept, "group/other", (const char *const[]){ NULL }, &l, &e), 0);
	assert_int_equal(l.n, 0);
	baselines_free(&l);
	place_free(&p);
}

static void
jobs_of_tags_and_merge_requests_leave_no_baseline(void **state)
{
	struct place p;

	(void)state;
	place_make(&p);
	p.s.job.is_tag = true;
	keep(&p);
	assert_int_equal(n_kept(&p), 0);
	p.s.job.is_tag = false;
	mem_free_at(&p.s.job.target_branch);
	p.s.job.target_branch = mem_strdup("main");
	keep(&p);
	assert_int_equal(n_kept(&p), 0);
	mem_free_at(&p.s.job.target_branch);
	keep(&p);
	keep(&p);
	assert_int_equal(n_kept(&p), 1);
	place_free(&p);
}

static void
a_first_inspection_that_nobody_judged_leaves_none(void **state)
{
	struct place p;

	(void)state;
	place_make(&p);
	mem_free_at(&p.s.i.images[0].decision);
	keep(&p);
	assert_int_equal(n_kept(&p), 0);
	place_free(&p);
}

static void
the_branch_of_a_baseline_is_the_payloads_whatever_the_scanner_says(void **state)
{
	struct place p;
	AUTO_BASELINE struct baseline b = { 0 };
	struct baselines l = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	place_make(&p);
	mem_free_at(&p.s.job.ref);
	p.s.job.ref = mem_strdup("main");
	assert_int_equal(baseline_write(&p.s.i, &p.s.i.images[0], 0, &e), 0);
	mem_free_at(&p.s.job.ref);
	p.s.job.ref = mem_strdup("feature");
	assert_int_equal(baseline_take(p.kept, &p.s.i, 0, &b, &e), 0);
	assert_int_equal(baseline_keep(p.kept, &p.s.i, &b, "7-0", &e), 0);
	assert_int_equal(baselines_load(p.kept, "group/app", (const char *const[]){ NULL }, &l, &e), 0);
	assert_null(baselines_find(&l, "main", "group/app"));
	assert_non_null(baselines_find(&l, "feature", "group/app"));
	baselines_free(&l);
	place_free(&p);
}

static void
a_baseline_that_is_none_is_not_kept(void **state)
{
	static const char *const bad[] = {
		"{", "{}",
		"{\"version\":2,\"branch\":\"b\",\"image\":\"i\",\"build_id\":\"\",\"made_s\":1,\"has_places\":true,\"keys\":[\"x\"]}",
		"{\"version\":2,\"branch\":\"b\",\"image\":\"i\",\"build_id\":\"\",\"made_s\":1,\"has_places\":true,\"keys\":[null]}",
		"{\"version\":2,\"branch\":\"b\",\"image\":\"i\",\"build_id\":\"\",\"made_s\":1,\"has_places\":true,\"keys\":[],\"more\":1}"
	};
	struct place p;

	(void)state;
	place_make(&p);
	for (size_t k = 0; k < MEM_COUNT(bad); k++) {
		AUTO_BASELINE struct baseline b = { 0 };
		struct err e = ERR_INIT;

		assert_int_equal(fs_publish(p.s.i.out_fd, "baseline-0", bad[k], strlen(bad[k]), 0600, 0, &e),
				 0);
		assert_int_equal(baseline_take(p.kept, &p.s.i, 0, &b, &e), -1);
	}
	assert_int_equal(n_kept(&p), 0);
	place_free(&p);
}

/* ---- texts ---- */

#define VULNERABILITY(id, text, severity, fix)                                                           \
	"{\"VulnerabilityID\":\"" id "\",\"PkgName\":\"p\",\"InstalledVersion\":\"1\",\"Title\":\"" text \
	"\",\"Severity\":\"" severity "\"" fix "}"
#define REPORT(list)                                                                                         \
	"{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"t\",\"Type\":\"debian\",\"Vulnerabilities\":[" list \
	"]}]}"

/* What would be sent of this report. Owned by the caller. */
static char *
sent(struct place *p, const char *report)
{
	struct delivery d = { .product = (char *)(uintptr_t) "p",
			      .engagement = (char *)(uintptr_t) "e",
			      .test = (char *)(uintptr_t) "t",
			      .service = (char *)(uintptr_t) "s",
			      .report_len = strlen(report) };
	AUTO_DELIVERY_FILE struct delivery_file f = DELIVERY_FILE_INIT;
	AUTO(keep_text) struct keep_text *t = NULL;
	struct err e = ERR_INIT;
	const struct delivery_file *out;
	char *text;

	assert_int_equal(fs_publish(p->s.i.out_fd, "report", report, strlen(report), 0600, 0, &e), 0);
	f.fd = openat(p->s.i.out_fd, "report", O_RDONLY | O_CLOEXEC);
	assert_int_equal(keep_text_begin(p->kept, NULL, &d, &f, CLOCK_DEADLINE_NEVER, &t, &e), 0);
	out = keep_text_file(t);
	text = mem_array(keep_text_len(t) + 1, 1);
	assert_int_equal(pread(out->fd, text, keep_text_len(t), out->offset), (ssize_t)keep_text_len(t));
	return text;
}

static void
a_finding_goes_with_the_text_it_first_went_with(void **state)
{
	static const char first[] =
		REPORT(VULNERABILITY("A", "old", "HIGH", "") "," VULNERABILITY("B", "b", "LOW", ""));
	static const char second[] = REPORT(
		VULNERABILITY("B", "b", "LOW",
			      "") "," VULNERABILITY("A", "new", "CRITICAL",
						    ",\"FixedVersion\":\"2\"") "," VULNERABILITY("C", "c",
												 "LOW", ""));
	struct place p;

	(void)state;
	place_make(&p);
	AUTO_FREE char *one = sent(&p, first);
	assert_string_equal(one, first);
	AUTO_FREE char *two = sent(&p, second);
	assert_non_null(strstr(two, "\"old\""));
	assert_null(strstr(two, "\"new\""));
	assert_null(strstr(two, "CRITICAL"));
	assert_null(strstr(two, "FixedVersion"));
	assert_non_null(strstr(two, "\"c\""));
	/* as ever */
	AUTO_FREE char *three = sent(&p, second);
	assert_string_equal(two, three);
	place_free(&p);
}

static void
two_that_differ_in_their_text_alone_stay_two(void **state)
{
	static const char first[] =
		REPORT(VULNERABILITY("A", "x", "LOW", "") "," VULNERABILITY("A", "y", "LOW", ""));
	static const char second[] =
		REPORT(VULNERABILITY("A", "x2", "LOW", "") "," VULNERABILITY("A", "y2", "LOW", ""));
	struct place p;

	(void)state;
	place_make(&p);
	AUTO_FREE char *one = sent(&p, first);
	assert_string_equal(one, first);
	AUTO_FREE char *two = sent(&p, second);
	assert_string_equal(two, first);
	place_free(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_exactly_the_same_finding_matches),
		cmocka_unit_test(a_package_of_a_language_matches_wherever_it_lies_where_its_entry_says_so),
		cmocka_unit_test(nothing_matches_by_a_part_of_a_name_or_without_case),
		cmocka_unit_test(two_of_one_test_that_disagree_excuse_nothing_and_two_of_different_tests_do),
		cmocka_unit_test(an_answer_names_kind_end_severity_branch_and_where_it_stands),
		cmocka_unit_test(what_is_printed_is_read_again),
		cmocka_unit_test(what_is_not_exactly_so_is_refused),
		cmocka_unit_test(triage_of_the_future_or_of_long_ago_is_not_fresh),
		cmocka_unit_test(only_what_a_job_has_asked_a_moment_ago_is_its_answer),
		cmocka_unit_test(rows_are_what_they_say_without_a_contradiction),
		cmocka_unit_test(an_entry_has_the_names_that_trivy_gave),
		cmocka_unit_test(of_several_acceptances_the_first_to_end_ends_it),
		cmocka_unit_test(a_severity_that_fell_and_rose_again_is_what_it_was_to_who_accepted_before),
		cmocka_unit_test(a_severity_that_was_raised_counts_for_those_who_accepted_after_it),
		cmocka_unit_test(a_line_that_somebody_made_up_raises_nothing),
		cmocka_unit_test(a_branch_remembers_what_was_found_on_it),
		cmocka_unit_test(jobs_of_tags_and_merge_requests_leave_no_baseline),
		cmocka_unit_test(a_first_inspection_that_nobody_judged_leaves_none),
		cmocka_unit_test(the_branch_of_a_baseline_is_the_payloads_whatever_the_scanner_says),
		cmocka_unit_test(a_baseline_that_is_none_is_not_kept),
		cmocka_unit_test(a_finding_goes_with_the_text_it_first_went_with),
		cmocka_unit_test(two_that_differ_in_their_text_alone_stay_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
