#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/dojo_baseline.h"
#include "stages/dojo_list.h"
#include "stages/dojo_read.h"
#include "tests/unit/canned_server.h"

#define REPLIES_MAX 48
#define WAIT_MS 20000

/* ---- a DefectDojo that says what it is told to ---- */

struct fixture {
	char token_file[64];
	char *texts[REPLIES_MAX];
	struct canned_reply replies[REPLIES_MAX];
	size_t n;
	struct canned *server;
	struct dojo *dojo;
};

static int
setup(void **state)
{
	struct fixture *f = mem_alloc(sizeof(*f));
	int fd;

	snprintf(f->token_file, sizeof(f->token_file), "/tmp/test_dojo_read.XXXXXX");
	fd = mkstemp(f->token_file);
	if (fd < 0 || write(fd, "token\n", 6) != 6)
		return -1;
	close(fd);
	*state = f;
	return 0;
}

/* Ready for other replies. */
static void
stop(struct fixture *f)
{
	if (f->dojo)
		dojo_free(f->dojo);
	f->dojo = NULL;
	if (f->server)
		canned_stop(f->server);
	f->server = NULL;
	for (size_t k = 0; k < f->n; k++)
		free(f->texts[k]);
	f->n = 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	stop(f);
	unlink(f->token_file);
	free(f);
	return 0;
}

static void
reply_with(struct fixture *f, enum canned_manner manner, char *text)
{
	assert_true(f->n < REPLIES_MAX);
	f->texts[f->n] = text;
	f->replies[f->n] = (struct canned_reply){ manner, text };
	f->n++;
}

static void
reply(struct fixture *f, const char *body)
{
	reply_with(f, CANNED_ANSWER, canned_json("200 OK", body));
}

static void
start(struct fixture *f)
{
	struct dojo_settings s = { .token_file = f->token_file };
	struct err e = ERR_INIT;

	f->server = canned_start(f->replies, f->n);
	s.url = canned_url(f->server);
	if (dojo_new(&s, &f->dojo, &e) < 0)
		fail_msg("%s", e.text);
}

/* ---- rows ---- */

#define PAGE_OF(count, rows) "{\"count\":" count ",\"next\":null,\"results\":[" rows "]}"
#define EMPTY PAGE_OF("0", "")
#define TEST_OF(product, name)                                                                              \
	"{\"test\":{\"id\":7,\"branch_tag\":\"main\",\"engagement\":{\"id\":5,\"product\":{\"id\":" product \
	",\"name\":\"" name "\"}}}}"
#define ROW_OF(id, related, more)                                                                       \
	"{\"id\":" id ",\"test\":7,\"related_fields\":" related                                         \
	",\"vulnerability_ids\":[{\"vulnerability_id\":\"CVE-1\"}],\"component_name\":\"p\","           \
	"\"component_version\":\"1\",\"service\":\"app\",\"severity\":\"High\",\"out_of_scope\":false," \
	"\"false_p\":false,\"is_mitigated\":false,\"under_review\":false," more "}"
#define WITH_ACCEPTANCE(one)                                                                                       \
	"\"active\":false,\"risk_accepted\":true,\"duplicate\":false,\"file_path\":\"a\",\"accepted_risks\":[" one \
	"]"
#define ACCEPTED WITH_ACCEPTANCE("")
#define ROW(id) ROW_OF(id, TEST_OF("1", "p"), ACCEPTED)
#define PRODUCT PAGE_OF("1", "{\"id\":1,\"name\":\"p\"}")

static int
ask(struct fixture *f, struct triage **ret, struct err *e)
{
	const struct dojo_question q = { .product = "p", .label = "p", .branch = "main", .has_branches = true };

	start(f);
	return dojo_read_triage(f->dojo, &q, clock_deadline(WAIT_MS), ret, e);
}

/* The answers about one flag, none for the other two, none that is active. */
static size_t
n_excused_by(struct fixture *f, const char *flagged)
{
	AUTO(triage) struct triage *t = NULL;
	struct err e = ERR_INIT;
	size_t n;

	reply(f, PRODUCT);
	reply(f, flagged);
	reply(f, EMPTY);
	reply(f, EMPTY);
	reply(f, EMPTY);
	assert_int_equal(ask(f, &t, &e), 0);
	n = t->n;
	stop(f);
	return n;
}

/* ---- tests ---- */

static void
only_rows_of_the_product_that_was_asked_for_excuse_anything(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW("9"))), 1);
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", TEST_OF("2", "p"), ACCEPTED))), 0);
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", TEST_OF("1", "P"), ACCEPTED))), 0);
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", "null", ACCEPTED))), 0);
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", "{\"test\":{\"id\":7}}", ACCEPTED))), 0);
	/* an acceptance of which nothing is said is none; one that says "never" is */
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", TEST_OF("1", "p"), WITH_ACCEPTANCE("{}")))),
			 0);
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", TEST_OF("1", "p"),
							     WITH_ACCEPTANCE("{\"id\":7}")))),
			 0);
	assert_int_equal(n_excused_by(f, PAGE_OF("1", ROW_OF("9", TEST_OF("1", "p"),
							     WITH_ACCEPTANCE(
								     "{\"id\":7,\"expiration_date\":null}")))),
			 1);
	/* a filter that was ignored brings what nobody has excused */
	assert_int_equal(n_excused_by(f, PAGE_OF("2",
						 ROW("9") "," ROW_OF("10", TEST_OF("1", "p"),
								     "\"active\":true,\"risk_accepted\":false,"
								     "\"duplicate\":false"))),
			 1);
}

static void
a_list_that_does_not_add_up_is_an_error(void **state)
{
	static const char *const lists[] = {
		PAGE_OF("0", ROW("9")),
		PAGE_OF("1", ROW("9") "," ROW("10")),
		PAGE_OF("2", ROW("9")),
		PAGE_OF("-1", ""),
		PAGE_OF("1.5", ROW("9")),
		PAGE_OF("\"1\"", ROW("9")),
		PAGE_OF("10001", ROW("9")),
		PAGE_OF("1e300", ROW("9")),
		PAGE_OF("2", ROW("9") "," ROW("9")),
		PAGE_OF("2", ROW("10") "," ROW("9")),
		PAGE_OF("1", ROW("-9")),
		PAGE_OF("1", ROW("\"9\"")),
		PAGE_OF("1", "null"),
		"{\"count\":0,\"results\":null}",
		"{\"count\":0}",
		"{\"results\":[]}",
		"[]",
		"null",
		"",
		"{\"count\":1,\"results\":[" ROW("9"),
		EMPTY "x",
	};

	for (size_t k = 0; k < MEM_COUNT(lists); k++) {
		struct fixture *f = *state;
		AUTO(triage) struct triage *t = NULL;
		struct err e = ERR_INIT;

		reply(f, PRODUCT);
		reply(f, lists[k]);
		reply(f, EMPTY);
		if (ask(f, &t, &e) == 0)
			fail_msg("taken: %s", lists[k]);
		assert_null(t);
		stop(f);
	}
}

static void
what_is_no_answer_of_defectdojo_excuses_nothing(void **state)
{
	static const char *const replies[] = {
		"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/api/v2/findings/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n"
		"{\"count\":0,\"results\":[]}",
		/* packed, though nobody asked for that */
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\n"
		"\x1f\x8b\x08\x01\x01\x01\x01\x01",
		/* cut */
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
		"{\"count\":0,\"results\":[]}",
	};

	for (size_t k = 0; k < MEM_COUNT(replies); k++) {
		struct fixture *f = *state;
		AUTO(triage) struct triage *t = NULL;
		struct err e = ERR_INIT;

		reply(f, PRODUCT);
		reply_with(f, CANNED_ANSWER, mem_strdup(replies[k]));
		reply(f, EMPTY);
		assert_int_equal(ask(f, &t, &e), -1);
		assert_int_equal(canned_count(f->server), 2);
		stop(f);
	}
}

static void
a_page_beyond_all_measure_is_not_read_to_its_end(void **state)
{
	struct fixture *f = *state;
	AUTO(triage) struct triage *t = NULL;
	AUTO_FREE char *body = mem_alloc(DOJO_PAGE_MAX + 100);
	struct err e = ERR_INIT;

	memset(body, ' ', DOJO_PAGE_MAX + 10);
	memcpy(body + DOJO_PAGE_MAX + 10, EMPTY, sizeof(EMPTY));
	reply(f, PRODUCT);
	reply(f, body);
	assert_int_equal(ask(f, &t, &e), -1);
}

static void
a_server_that_is_silent_is_left_at_the_deadline(void **state)
{
	const struct dojo_question q = { .product = "p", .label = "p" };
	struct fixture *f = *state;
	AUTO(triage) struct triage *t = NULL;
	struct err e = ERR_INIT;

	reply(f, PRODUCT);
	reply_with(f, CANNED_HANG, mem_strdup(""));
	start(f);
	assert_int_equal(dojo_read_triage(f->dojo, &q, clock_deadline(300), &t, &e), -1);
	assert_int_equal(e.kind, ERR_TIMEOUT);
}

/* ---- pages ---- */

/* Rows with these ids, as a page of `count`. */
static void
reply_rows(struct fixture *f, int64_t count, int64_t from, size_t n)
{
	AUTO_STRV struct strv rows = { 0 };
	AUTO_FREE char *all = NULL, *body = NULL;

	for (size_t k = 0; k < n; k++)
		strv_addf(&rows, "{\"id\":%lld}", (long long)from + (long long)k);
	all = strv_join(&rows, ",");
	body = mem_printf("{\"count\":%lld,\"next\":\"http://127.0.0.1:1/\",\"results\":[%s]}",
			  (long long)count, all);
	reply(f, body);
}

static int
count_row(const cJSON *row, void *arg, struct err *e)
{
	size_t *n = arg;

	(void)row;
	(void)e;
	++*n;
	return 0;
}

static int
list(struct fixture *f, size_t *ret_n, struct err *e)
{
	*ret_n = 0;
	start(f);
	return dojo_list(f->dojo, "/findings/?test=7&o=id", clock_deadline(WAIT_MS), count_row, ret_n, e);
}

static void
pages_are_asked_for_by_offset_and_no_link_is_followed(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	size_t n;

	reply_rows(f, 150, 1, 100);
	reply_rows(f, 150, 100, 51);
	assert_int_equal(list(f, &n, &e), 0);
	assert_int_equal(n, 150);
	assert_int_equal(canned_count(f->server), 2);
	assert_non_null(strstr(canned_request(f->server, 0), "&limit=100&offset=0 "));
	assert_non_null(strstr(canned_request(f->server, 1), "&limit=100&offset=99 "));
}

static void
rows_that_come_or_go_between_two_pages_are_noticed(void **state)
{
	static const struct {
		int64_t count, from;
		size_t n;
	} second[] = {
		{ 149, 100, 50 }, /* one went */
		{ 151, 100, 52 }, /* one came */
		{ 150, 101, 51 }, /* one of the first page went, one came behind */
		{ 150, 99, 51 },  /* the other way round */
		{ 150, 1, 51 },	  /* the first page again */
		{ 150, 100, 1 },  /* no end in sight */
		{ 150, 100, 0 },  { 150, 100, 60 },
	};

	for (size_t k = 0; k < MEM_COUNT(second); k++) {
		struct fixture *f = *state;
		struct err e = ERR_INIT;
		size_t n;

		reply_rows(f, 150, 1, 100);
		reply_rows(f, second[k].count, second[k].from, second[k].n);
		reply_rows(f, 150, 100, 1);
		assert_int_equal(list(f, &n, &e), -1);
		stop(f);
	}
}

/* ---- places ---- */

#define OF_TARGET(target) \
	",\"tags\":[\"npm\",\"lang-pkgs\"],\"description\":\"t\\n**Target:** " target "\\n**Type:** npm\\n\""
#define LANGUAGE OF_TARGET("Node.js")
#define OTHER(flags, place) ROW_OF("10", "null", flags ",\"risk_accepted\":false,\"file_path\":\"" place "\"")
#define IS_ACTIVE "\"active\":true,\"duplicate\":false"
#define CLOSED "\"active\":false,\"duplicate\":false"
#define DUPLICATE "\"active\":false,\"duplicate\":true"

/* What becomes of one excused finding at place a when the test has `other`, too. */
static void
ask_beside(struct fixture *f, const char *more, const char *other, bool *ret_anywhere, bool *ret_doubtful)
{
	AUTO(triage) struct triage *t = NULL;
	AUTO_FREE char *excused =
		mem_printf(PAGE_OF("1", ROW_OF("9", TEST_OF("1", "p"), ACCEPTED "%s")), more);
	AUTO_FREE char *beside = *other ? mem_printf(PAGE_OF("1", "%s"), other) : mem_strdup(EMPTY);
	struct err e = ERR_INIT;

	reply(f, PRODUCT);
	reply(f, excused);
	reply(f, EMPTY);
	reply(f, EMPTY);
	reply(f, beside);
	assert_int_equal(ask(f, &t, &e), 0);
	assert_int_equal(t->n, 1);
	*ret_anywhere = t->v[0].is_anywhere;
	*ret_doubtful = t->v[0].is_doubtful;
	stop(f);
}

static void
a_package_of_a_language_counts_anywhere_unless_the_server_tells_places_apart(void **state)
{
	static const struct {
		const char *more, *other;
		bool is_anywhere, is_doubtful;
	} cases[] = {
		{ LANGUAGE, "", true, false },
		{ "", "", false, false }, /* of the system */
		{ OF_TARGET("a"), "", false, false },
		{ OF_TARGET("a/b"), "", true, false },
		{ ",\"tags\":[\"lang-pkgs\"]", "", false, false }, /* does not say */
		{ LANGUAGE, OTHER(DUPLICATE, "b"), true, false },
		{ LANGUAGE, OTHER(IS_ACTIVE, "b"), false, false },
		{ LANGUAGE, OTHER(CLOSED, "b"), false, false },
		{ LANGUAGE, OTHER(IS_ACTIVE, "a"), true, true },
		{ LANGUAGE, OTHER(CLOSED, "a"), true, false },
		{ "", OTHER(IS_ACTIVE, "b"), false, false },
		{ "", OTHER(IS_ACTIVE, "a"), false, true },
	};
	struct fixture *f = *state;

	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		bool is_anywhere, is_doubtful;

		ask_beside(f, cases[k].more, cases[k].other, &is_anywhere, &is_doubtful);
		assert_int_equal(is_anywhere, cases[k].is_anywhere);
		assert_int_equal(is_doubtful, cases[k].is_doubtful);
	}
}

/* ---- baselines ---- */

static const struct dojo_branch a_branch = {
	.product = "p", .engagement = "main", .branch = "main", .project = "group/app"
};

#define ENGAGEMENT PAGE_OF("1", "{\"id\":5,\"name\":\"main\",\"product\":1}")
#define BRANCH_OF(engagement, product, branch)                                                 \
	"{\"test\":{\"id\":7,\"branch_tag\":\"" branch "\",\"engagement\":{\"id\":" engagement \
	",\"product\":{\"id\":" product "}}}}"
#define FOUND(related, more)                                                                  \
	"{\"id\":9,\"related_fields\":" related                                               \
	",\"vulnerability_ids\":[{\"vulnerability_id\":\"CVE-1\"}],\"component_name\":\"p\"," \
	"\"component_version\":\"1\",\"file_path\":\"a\",\"description\":\"t\\n**Type:** npm\\n\"," more "}"
#define OPEN "\"service\":\"app\",\"is_mitigated\":false"

/* Findings of one image that the branch has by this answer; 0: no image of it is known. */
static size_t
n_in_baseline(struct fixture *f, const char *findings)
{
	struct baselines l = { 0 };
	const struct baseline *b;
	struct err e = ERR_INIT;
	char place[KEPT_KEY_SIZE];
	size_t n;

	reply(f, PRODUCT);
	reply(f, ENGAGEMENT);
	reply(f, findings);
	reply(f, EMPTY);
	reply(f, EMPTY);
	start(f);
	assert_int_equal(dojo_read_baselines(f->dojo, &a_branch, clock_deadline(WAIT_MS), &l, &e), 0);
	assert_true(l.n <= 1);
	baseline_place("p", "main", "app", place);
	b = baselines_find(&l, "main", place);
	n = b ? b->n : 0;
	baselines_free(&l);
	stop(f);
	return n;
}

static void
a_branch_has_what_its_own_rows_say_is_open_or_taken_out_by_triage(void **state)
{
	static const struct {
		const char *row;
		size_t n;
	} cases[] = {
		{ FOUND(BRANCH_OF("5", "1", "main"), OPEN), 1 },
		{ FOUND(BRANCH_OF("6", "1", "main"), OPEN), 0 },
		{ FOUND(BRANCH_OF("5", "2", "main"), OPEN), 0 },
		{ FOUND(BRANCH_OF("5", "1", "Main"), OPEN), 0 },
		{ FOUND(BRANCH_OF("5", "1", "refs/tags/main"), OPEN), 0 },
		{ FOUND("null", OPEN), 0 },
		{ FOUND(BRANCH_OF("5", "1", "main"), "\"service\":null,\"is_mitigated\":false"), 0 },
		{ FOUND(BRANCH_OF("5", "1", "main"), "\"service\":\"App\",\"is_mitigated\":false"), 0 },
		{ FOUND(BRANCH_OF("5", "1", "main"), "\"service\":\"app\",\"is_mitigated\":true"), 0 },
		{ FOUND(BRANCH_OF("5", "1", "main"), "\"service\":\"app\",\"is_mitigated\":\"false\""), 0 },
		{ FOUND(BRANCH_OF("5", "1", "main"),
			"\"service\":\"app\",\"is_mitigated\":true,\"false_p\":true"),
		  1 },
		{ FOUND(BRANCH_OF("5", "1", "main"), "\"service\":\"app\""), 0 },
	};

	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		AUTO_FREE char *page = mem_printf(PAGE_OF("1", "%s"), cases[k].row);

		assert_int_equal(n_in_baseline(*state, page), cases[k].n);
	}
}

static void
a_branch_that_is_there_twice_or_half_is_not_known(void **state)
{
	static const char *const engagements[] = {
		PAGE_OF("2",
			"{\"id\":5,\"name\":\"main\",\"product\":1},{\"id\":6,\"name\":\"main\",\"product\":1}"),
		"<html>",
	};

	for (size_t k = 0; k < MEM_COUNT(engagements); k++) {
		struct fixture *f = *state;
		struct baselines l = { 0 };
		struct err e = ERR_INIT;

		reply(f, PRODUCT);
		reply(f, engagements[k]);
		start(f);
		assert_int_equal(dojo_read_baselines(f->dojo, &a_branch, clock_deadline(WAIT_MS), &l, &e), -1);
		baselines_free(&l);
		stop(f);
	}
}

/* Where each image has its own product and engagement: all are read that can be of this project and branch, and kept apart. */
static void
a_branch_in_many_products_and_engagements_is_told_by_their_names(void **state)
{
	static char prefix[] = "g/app: ", none[] = "", suffix[] = " (main)";
	static const struct name_ends product_ends = { prefix, none }, engagement_ends = { none, suffix };
	static const struct dojo_branch many = { .product_ends = &product_ends,
						 .engagement_ends = &engagement_ends,
						 .branch = "main",
						 .project = "g/app" };
	static const struct {
		const char *product, *engagement, *service;
		bool is_there;
	} cases[] = {
		{ "g/app: x", "x (main)", "app", true },  { "g/app: y", "y (main)", "app", true },
		{ "g/app: x", "y (main)", "app", false }, { "g/app: y", "x (main)", "app", false },
		{ "g/app: x", "x (main)", "x", false },	  { "g/appx", "x (main)", "app", false },
		{ "g/app: x", "x (dev)", "app", false },
	};
	struct fixture *f = *state;
	struct baselines l = { 0 };
	struct err e = ERR_INIT;

	reply(f, PAGE_OF("3", "{\"id\":1,\"name\":\"g/app: x\"},{\"id\":2,\"name\":\"g/app: y\"},"
			      "{\"id\":3,\"name\":\"g/appx\"}"));
	/* another branch's, and one of another product, which the filter should not have let through */
	reply(f, PAGE_OF("3", "{\"id\":5,\"name\":\"x (main)\",\"product\":1},"
			      "{\"id\":6,\"name\":\"x (dev)\",\"product\":1},"
			      "{\"id\":7,\"name\":\"z (main)\",\"product\":3}"));
	reply(f, PAGE_OF("1", FOUND(BRANCH_OF("5", "1", "main"), OPEN)));
	reply(f, EMPTY);
	reply(f, EMPTY);
	reply(f, PAGE_OF("1", "{\"id\":8,\"name\":\"y (main)\",\"product\":2}"));
	reply(f, PAGE_OF("1", FOUND(BRANCH_OF("8", "2", "main"), OPEN)));
	reply(f, EMPTY);
	reply(f, EMPTY);
	start(f);
	if (dojo_read_baselines(f->dojo, &many, clock_deadline(WAIT_MS), &l, &e) < 0)
		fail_msg("%s", e.text);
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		char place[KEPT_KEY_SIZE];

		baseline_place(cases[k].product, cases[k].engagement, cases[k].service, place);
		if ((baselines_find(&l, "main", place) != NULL) != cases[k].is_there)
			fail_msg("%s, %s, %s", cases[k].product, cases[k].engagement, cases[k].service);
	}
	assert_int_equal(l.n, 2);
	baselines_free(&l);
}

static void
engagements_that_are_not_all_shown_are_none(void **state)
{
	static char none[] = "";
	static const struct name_ends ends = { none, none };
	static const struct dojo_branch many = {
		.product = "p", .engagement_ends = &ends, .branch = "main", .project = "g/app"
	};
	struct fixture *f = *state;
	AUTO_STRV struct strv builds = { 0 };
	struct err e = ERR_INIT;

	reply(f, PRODUCT);
	reply(f, PAGE_OF("2", "{\"id\":5,\"name\":\"x\",\"product\":1}"));
	start(f);
	assert_int_equal(dojo_read_builds(f->dojo, &many, clock_deadline(WAIT_MS), &builds, &e), -1);
	assert_non_null(strstr(e.text, "does not show all engagements"));
}

/* -1, or the build ids. */
static int
n_builds(struct fixture *f, const char *tests)
{
	AUTO_STRV struct strv builds = { 0 };
	struct err e = ERR_INIT;
	int rc;

	reply(f, PRODUCT);
	reply(f, ENGAGEMENT);
	reply(f, tests);
	start(f);
	rc = dojo_read_builds(f->dojo, &a_branch, clock_deadline(WAIT_MS), &builds, &e);
	stop(f);
	return rc < 0 ? -1 : (int)builds.n;
}

#define BUILD(engagement, branch, id) \
	"{\"engagement\":" engagement ",\"branch_tag\":\"" branch "\",\"build_id\":" id "}"

static void
the_last_builds_of_a_branch_are_those_of_its_own_tests(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(n_builds(f, EMPTY), 0);
	assert_int_equal(n_builds(f,
				  PAGE_OF("5",
					  BUILD("5", "main", "\"7-0\"") "," BUILD("5", "main", "\"7-1\"") "," BUILD(
						  "6", "main",
						  "\"8-0\"") "," BUILD("5", "x",
								       "\"9-0\"") "," BUILD("5", "main",
											    "null"))),
			 2);
	/* a part of them could hold all that is newer */
	assert_int_equal(n_builds(f, PAGE_OF("2", BUILD("5", "main", "\"7-0\""))), -1);
	assert_int_equal(n_builds(f, "{}"), -1);
}

/* ---- products ---- */

static void
a_product_is_the_one_of_exactly_that_name(void **state)
{
	static const struct {
		const char *answer;
		int rc;
		int64_t id;
	} cases[] = {
		{ PRODUCT, 0, 1 },
		{ EMPTY, 0, -1 },
		{ PAGE_OF("1", "{\"id\":1,\"name\":\"P\"}"), 0, -1 },
		{ PAGE_OF("2", "{\"id\":1,\"name\":\"P\"},{\"id\":2,\"name\":\"p\"}"), 0, 2 },
		{ PAGE_OF("2", "{\"id\":1,\"name\":\"p\"},{\"id\":2,\"name\":\"p\"}"), -1, 0 },
		{ PAGE_OF("21", "{\"id\":1,\"name\":\"p\"}"), -1, 0 },
		{ "{}", -1, 0 },
	};

	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct fixture *f = *state;
		struct err e = ERR_INIT;
		int64_t id;

		reply(f, cases[k].answer);
		start(f);
		assert_int_equal(dojo_find_product(f->dojo, "p", clock_deadline(WAIT_MS), &id, &e),
				 cases[k].rc);
		if (cases[k].rc == 0)
			assert_int_equal(id, cases[k].id);
		stop(f);
	}
}

static void
of_many_products_those_that_begin_and_end_so_are_read(void **state)
{
	const struct dojo_question q = { .prefix = "g/app/", .suffix = "!", .label = "g/app/{image}!" };
	struct fixture *f = *state;
	AUTO_DOJO_PRODUCTS struct dojo_products l = { 0 };
	struct err e = ERR_INIT;

	reply(f, PAGE_OF("6", "{\"id\":1,\"name\":\"g/app/x!\"},{\"id\":2,\"name\":\"G/app/x!\"},"
			      "{\"id\":3,\"name\":\"og/app/x!\"},{\"id\":4,\"name\":\"g/app/x\"},"
			      "{\"id\":5,\"name\":\"g/app!\"},{\"id\":6,\"name\":\"g/app/y/z!\"}"));
	start(f);
	assert_int_equal(dojo_find_products(f->dojo, &q, clock_deadline(WAIT_MS), &l, &e), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].id, 1);
	assert_string_equal(l.v[1].name, "g/app/y/z!");
	assert_non_null(strstr(canned_request(f->server, 0), "/products/?name=g%2Fapp%2F&o=id&"));
}

static void
products_beyond_the_bound_are_said_to_be_left_out(void **state)
{
	const struct dojo_question q = { .prefix = "g/", .suffix = "", .label = "g/{image}" };
	struct fixture *f = *state;
	AUTO_STRV struct strv rows = { 0 };
	AUTO_FREE char *all = NULL, *body = NULL;
	AUTO_DOJO_PRODUCTS struct dojo_products l = { 0 };
	struct err e = ERR_INIT;

	for (int k = 0; k < DOJO_READ_PRODUCTS_MAX + 3; k++)
		strv_addf(&rows, "{\"id\":%d,\"name\":\"g/%d\"}", k, k);
	all = strv_join(&rows, ",");
	body = mem_printf("{\"count\":%zu,\"results\":[%s]}", rows.n, all);
	reply(f, body);
	start(f);
	assert_int_equal(dojo_find_products(f->dojo, &q, clock_deadline(WAIT_MS), &l, &e), 0);
	assert_int_equal(l.n, DOJO_READ_PRODUCTS_MAX);
	assert_int_equal(l.n_more, 3);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(only_rows_of_the_product_that_was_asked_for_excuse_anything),
		T(a_list_that_does_not_add_up_is_an_error),
		T(what_is_no_answer_of_defectdojo_excuses_nothing),
		T(a_page_beyond_all_measure_is_not_read_to_its_end),
		T(a_server_that_is_silent_is_left_at_the_deadline),
		T(pages_are_asked_for_by_offset_and_no_link_is_followed),
		T(rows_that_come_or_go_between_two_pages_are_noticed),
		T(a_package_of_a_language_counts_anywhere_unless_the_server_tells_places_apart),
		T(a_branch_has_what_its_own_rows_say_is_open_or_taken_out_by_triage),
		T(a_branch_that_is_there_twice_or_half_is_not_known),
		T(a_branch_in_many_products_and_engagements_is_told_by_their_names),
		T(engagements_that_are_not_all_shown_are_none),
		T(the_last_builds_of_a_branch_are_those_of_its_own_tests),
		T(a_product_is_the_one_of_exactly_that_name),
		T(of_many_products_those_that_begin_and_end_so_are_read),
		T(products_beyond_the_bound_are_said_to_be_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
