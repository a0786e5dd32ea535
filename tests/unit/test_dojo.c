#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "stages/dojo.h"
#include "tests/unit/canned_server.h"
#include "tests/unit/memfd.h"

#define EXCHANGE_MAX (4 * 1024 * 1024)

/* What every recorded answer means when it comes to an upload. */
static const struct expected {
	const char *files; /* glob on the name without .json */
	enum dojo_verdict verdict;
	bool is_server_wide;
	int tries_max;
	const char *reason; /* part of it */
} table[] = {
	{ "reimport-201-*", DOJO_DELIVERED, false, 0, "test " },
	{ "import-201", DOJO_DELIVERED, false, 0, "test " },
	{ "upload-201-*", DOJO_DELIVERED, false, 0, "test " },
	{ "upload-301-no-trailing-slash", DOJO_WAIT, true, 0, "HTTP 301, wrong base URL" },
	{ "upload-400-race-product-created", DOJO_RETRY, false, 0, "already exists" },
	{ "upload-400-bad-*", DOJO_DEAD, false, 0, "HTTP 400: " },
	{ "upload-400-dedup-mode", DOJO_DEAD, false, 0,
	  "deduplication_execution_mode: \"wait\" is not a valid choice" },
	{ "upload-400-e[mn][pd]*", DOJO_DEAD, false, 0, "HTTP 400: " },
	{ "upload-400-engagement-name-301", DOJO_DEAD, false, 0, "has at most 300 characters" },
	{ "upload-400-environment-unknown", DOJO_DEAD, false, 0, "Venus does not exist" },
	{ "upload-400-extension", DOJO_DEAD, false, 0, "file: File extension" },
	{ "upload-400-foreign-product-wrong-type", DOJO_DEAD, false, 0,
	  "has a conflict with the supplied product type" },
	{ "upload-400-get-method", DOJO_DEAD, false, 0, "product_name parameter missing" },
	{ "upload-400-minimum-severity", DOJO_DEAD, false, 0, "minimum_severity: " },
	{ "upload-400-new-product-without-type", DOJO_DEAD, false, 0, "no product_type_name provided" },
	{ "upload-400-no[-t]*", DOJO_DEAD, false, 0, "HTTP 400: " },
	{ "upload-400-product-name-256", DOJO_DEAD, false, 0, "has at most 255 characters" },
	{ "upload-400-product-type-conflict", DOJO_DEAD, false, 0, "has a conflict" },
	{ "upload-400-s*", DOJO_DEAD, false, 0, "HTTP 400: " },
	{ "upload-400-t[aer]*", DOJO_DEAD, false, 0, "HTTP 400: " },
	{ "upload-400-too-large", DOJO_DEAD, false, 0, "Report file is too large" },
	{ "upload-403-bad-token", DOJO_WAIT, true, 0, "the token is not valid" },
	{ "upload-403-bearer", DOJO_WAIT, true, 0, "no token arrived" },
	{ "upload-403-no-token", DOJO_WAIT, true, 0, "no token arrived" },
	{ "upload-403-foreign-product", DOJO_WAIT, false, 0, "do not have permission" },
	{ "upload-403-new-product-type", DOJO_WAIT, false, 0, "No permission to create product_type \"Nope\"" },
	{ "upload-404-*", DOJO_DEAD, false, 0, "A test could not be found!" },
	{ "upload-415-*", DOJO_DEAD, false, 0, "Unsupported media type" },
	{ "upload-500-html-broker-down", DOJO_RETRY, true, 0, "(text/html)" },
	{ "upload-500-[binpsltv]*", DOJO_RETRY, false, 2, "Internal server error" },
	{ "upload-500-commit-hash-151", DOJO_RETRY, false, 2, "Internal server error" },
	{ "upload-502-*", DOJO_RETRY, true, 0, "not running" },
	{ "probe-400-ok", DOJO_DEAD, false, 0, "Uploading a Report File is required" },
	{ "probe-403", DOJO_WAIT, false, 0, "No permission to create products" },
	{ "any-404-unknown-path", DOJO_WAIT, true, 0, "wrong base URL" },
	/* Answers to other calls: none may be taken for a confirmed upload. */
	{ "*-200", DOJO_WAIT, true, 0, "wrong base URL" },
	{ "*-200-*", DOJO_WAIT, true, 0, "wrong base URL" },
	{ "risk-acceptance-201", DOJO_RETRY, false, 0, "half an answer" },
	{ "user-profile-403-bad-token", DOJO_WAIT, true, 0, "the token is not valid" },
	{ "user-profile-403-no-token", DOJO_WAIT, true, 0, "no token arrived" },
	{ "finding-patch-400", DOJO_DEAD, false, 0, "False positive findings cannot be verified" },
	{ "list-400-*", DOJO_DEAD, false, 0, "Select a valid choice" },
};

static const char *
shared(void)
{
	const char *s = getenv("TIDEWAITER_SHARED");

	return s ? s : SHARED_DIR;
}

static cJSON *
load_exchange(const char *file)
{
	AUTO_FREE char *path = mem_printf("%s/defectdojo/exchanges/%s", shared(), file);
	cJSON *j = NULL;
	struct err e = ERR_INIT;

	if (json_load(AT_FDCWD, path, EXCHANGE_MAX, 0, &j, &e) < 0)
		fail_msg("%s", e.text);
	return j;
}

/* The recorded answer as http_send() gives it. */
static void
answer_of(const cJSON *exchange, struct http_answer *ret)
{
	const cJSON *response = json_object(exchange, "response"), *body = json_get(response, "body");
	const char *type = json_str(json_object(response, "headers"), "Content-Type");
	AUTO_FREE char *printed = NULL;
	size_t n = 0;

	*ret = (struct http_answer){
		.end = HTTP_ANSWERED, .was_sent = true, .retry_after_s = -1, .body = BUF_INIT(EXCHANGE_MAX)
	};
	ret->status = (int)json_int(response, "status", 0);
	for (; type && *type && *type != ';'; type++)
		ret->content_type[n++] = *type;
	if (cJSON_IsString(body)) {
		buf_add_str(&ret->body, body->valuestring);
	} else if (body) {
		printed = json_print(body);
		buf_add_str(&ret->body, printed);
	}
}

static const struct expected *
expected_of(const char *stem, size_t *ret_index)
{
	/* The most exact one: a name without a glob before one with. */
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < MEM_COUNT(table); i++) {
			bool is_glob = strpbrk(table[i].files, "*[") != NULL;

			if (is_glob == (pass == 1) && str_glob(table[i].files, stem)) {
				*ret_index = i;
				return &table[i];
			}
		}
	}
	return NULL;
}

static void
every_recorded_answer_has_its_verdict(void **state)
{
	AUTO_FREE char *path = mem_printf("%s/defectdojo/exchanges", shared());
	AUTO_DIR DIR *dir = opendir(path);
	bool is_used[MEM_COUNT(table)] = { false };
	const struct dirent *entry;
	size_t n = 0;

	(void)state;
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		AUTO_FREE char *stem = NULL;
		AUTO_JSON cJSON *exchange = NULL;
		AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
		struct dojo_answer got;
		const struct expected *want;
		size_t index = 0;

		if (!str_has_suffix(entry->d_name, ".json"))
			continue;
		stem = mem_strndup(entry->d_name, strlen(entry->d_name) - strlen(".json"));
		want = expected_of(stem, &index);
		if (!want)
			fail_msg("%s: the table says nothing of it", stem);
		is_used[index] = true;
		exchange = load_exchange(entry->d_name);
		answer_of(exchange, &a);
		dojo_classify(&a, &got);
		if (got.verdict != want->verdict || got.is_server_wide != want->is_server_wide ||
		    got.tries_max != want->tries_max || !strstr(got.reason, want->reason) || got.may_run)
			fail_msg("%s: %s, server wide %d, tries %d: %s", stem, dojo_verdict_words[got.verdict],
				 got.is_server_wide, got.tries_max, got.reason);
		if ((got.verdict == DOJO_DELIVERED) == (got.fix != NULL))
			fail_msg("%s: what to do: %s", stem, got.fix ? got.fix : "nothing");
		n++;
	}
	assert_true(n >= 100);
	for (size_t i = 0; i < MEM_COUNT(table); i++) {
		if (!is_used[i])
			fail_msg("no recorded answer is %s", table[i].files);
	}
}

static void
a_confirmed_upload_brings_its_counts(void **state)
{
	static const struct {
		const char *file;
		bool is_first;
		int64_t n_created, n_untouched, n_reactivated, n_closed;
		int64_t our_count;
		bool is_short;
	} cases[] = {
		{ "reimport-201-first.json", true, 5, 0, 0, 0, 5, false },
		{ "reimport-201-second.json", false, 1, 3, 0, 2, 4, false },
		{ "reimport-201-second.json", false, 1, 3, 0, 2, 5, true },
		{ "reimport-201-second.json", false, 1, 3, 0, 2, 3, true },
		{ "reimport-201-reactivated.json", false, 0, 3, 2, 1, 5, false },
		/* A false positive and one out of scope are in no bucket. */
		{ "reimport-201-triaged.json", false, 0, 3, 1, 0, 6, false },
		{ "reimport-201-triaged.json", false, 0, 3, 1, 0, 7, true },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_JSON cJSON *exchange = load_exchange(cases[i].file);
		AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
		AUTO_FREE char *line = NULL;
		struct delivery d = { .n_findings = cases[i].our_count };
		struct dojo_answer got;

		answer_of(exchange, &a);
		dojo_classify(&a, &got);
		assert_true(got.has_counts);
		assert_int_equal(got.is_first, cases[i].is_first);
		assert_int_equal(got.n_created, cases[i].n_created);
		assert_int_equal(got.n_untouched, cases[i].n_untouched);
		assert_int_equal(got.n_reactivated, cases[i].n_reactivated);
		assert_int_equal(got.n_closed, cases[i].n_closed);
		if (dojo_is_short(&d, &got, &line) != cases[i].is_short)
			fail_msg("%s with %lld", cases[i].file, (long long)cases[i].our_count);
		assert_int_equal(line != NULL, cases[i].is_short);
	}
}

static void
with_a_minimum_severity_nothing_is_reckoned(void **state)
{
	struct delivery d = { .n_findings = 9, .minimum_severity = (char *)(uintptr_t) "High" };
	struct dojo_answer a = { .has_counts = true, .n_created = 2 };
	char *line = NULL;

	(void)state;
	assert_false(dojo_is_short(&d, &a, &line));
}

static void
what_stands_twice_in_a_report_may_be_one_finding_there(void **state)
{
	struct delivery d = { .n_findings = 5, .n_distinct = 3 };
	struct dojo_answer a = { .has_counts = true };
	AUTO_FREE char *line = NULL;

	(void)state;
	for (a.n_untouched = 3; a.n_untouched <= 5; a.n_untouched++)
		assert_false(dojo_is_short(&d, &a, &line));
	assert_true(dojo_is_short(&d, &a, &line)); /* six */
	mem_free_at(&line);
	a.n_untouched = 2;
	assert_true(dojo_is_short(&d, &a, &line));
}

/* Answers that nobody recorded, and none at all. */
static void
faults_of_the_network_are_told_apart(void **state)
{
	static const struct {
		enum http_end end;
		int status;
		bool was_sent;
		const char *type, *body;
		enum dojo_verdict verdict;
		bool may_run;
	} cases[] = {
		{ HTTP_UNREACHABLE, 0, false, "", "", DOJO_RETRY, false },
		{ HTTP_UNTRUSTED, 0, false, "", "", DOJO_WAIT, false },
		{ HTTP_BROKEN, 0, false, "", "", DOJO_RETRY, false },
		{ HTTP_BROKEN, 0, true, "", "", DOJO_WAIT, true },
		{ HTTP_TIMED_OUT, 0, false, "", "", DOJO_RETRY, false },
		{ HTTP_TIMED_OUT, 0, true, "", "", DOJO_WAIT, true },
		{ HTTP_CUT, 201, true, "application/json", "{\"test\": 1", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 201, true, "application/json", "{\"test\": 1", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 201, true, "application/json", "[]", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 201, true, "application/json", "{\"test\": \"1\"}", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 201, true, "text/html", "<html>", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 200, true, "text/html", "<html>login", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 204, true, "", "", DOJO_WAIT, false },
		{ HTTP_CUT, 302, true, "", "", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 307, true, "text/html", "", DOJO_WAIT, false },
		{ HTTP_CUT, 400, true, "application/json", "{\"mess", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 400, true, "text/html", "<html>", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 401, true, "text/html", "<html>", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 403, true, "text/html", "<html>", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 404, true, "application/json", "{\"message\": \"no Route matched\"}",
		  DOJO_WAIT, false },
		{ HTTP_ANSWERED, 407, false, "text/html", "<html>", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 413, true, "text/html", "<html>", DOJO_DEAD, false },
		{ HTTP_CUT, 413, false, "text/html", "<ht", DOJO_DEAD, false },
		{ HTTP_ANSWERED, 429, true, "text/html", "<html>", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 503, true, "text/html", "<html>", DOJO_RETRY, false },
		{ HTTP_ANSWERED, 504, true, "text/html", "<html>", DOJO_WAIT, true },
		{ HTTP_ANSWERED, 504, false, "text/html", "<html>", DOJO_WAIT, false },
		{ HTTP_ANSWERED, 524, true, "text/html", "<html>", DOJO_WAIT, true },
		{ HTTP_ANSWERED, 999, true, "text/html", "<html>", DOJO_WAIT, false },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_HTTP_ANSWER struct http_answer a = { .end = cases[i].end,
							  .status = cases[i].status,
							  .was_sent = cases[i].was_sent,
							  .retry_after_s = 7,
							  .fault = "cut",
							  .body = BUF_INIT(1000) };
		struct dojo_answer got;

		snprintf(a.content_type, sizeof(a.content_type), "%s", cases[i].type);
		buf_add_str(&a.body, cases[i].body);
		dojo_classify(&a, &got);
		if (got.verdict != cases[i].verdict || got.may_run != cases[i].may_run)
			fail_msg("case %zu: %s, may run %d: %s", i, dojo_verdict_words[got.verdict],
				 got.may_run, got.reason);
		assert_int_equal(got.was_sent, cases[i].was_sent);
		assert_int_equal(got.retry_after_s, 7);
		assert_true(got.reason[0] != '\0');
	}
}

static void
a_fault_of_tls_says_what_to_do(void **state)
{
	/* What libcurl 7.88 with OpenSSL 3.0 says. */
	static const char *const cases[][2] = {
		{ "SSL certificate problem: self-signed certificate", "defectdojo.ca_file" },
		{ "SSL certificate problem: unable to get local issuer certificate", "defectdojo.ca_file" },
		{ "SSL certificate problem: certificate has expired", "needs a new one" },
		{ "SSL certificate problem: certificate is not yet valid", "clock" },
		{ "SSL: no alternative certificate subject name matches target host name 'localhost'",
		  "defectdojo.url" },
		{ "OpenSSL/3.0.22: error:0A00010B:SSL routines::wrong version number", "without TLS" },
		{ "OpenSSL SSL_read: OpenSSL/3.0.22: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
		  "set defectdojo.client_cert_file" },
		{ "OpenSSL SSL_connect: Connection reset by peer", "see defectdojo.ca_file and url" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
		struct dojo_answer got;

		a.end = HTTP_UNTRUSTED;
		snprintf(a.fault, sizeof(a.fault), "%s", cases[i][0]);
		dojo_classify(&a, &got);
		assert_non_null(strstr(got.reason, cases[i][0]));
		assert_non_null(strstr(got.reason, cases[i][1]));
		assert_true(got.is_server_wide && !got.may_run);
	}
}

static void
what_a_server_says_is_made_fit_for_a_terminal(void **state)
{
	AUTO_HTTP_ANSWER struct http_answer a = { .end = HTTP_ANSWERED,
						  .status = 400,
						  .body = BUF_INIT(100000),
						  .content_type = "application/json" };
	struct dojo_answer got;

	(void)state;
	buf_add_str(&a.body, "{\"message\": \"\\u001b[31m\\n");
	for (int i = 0; i < 5000; i++)
		buf_add_char(&a.body, 'x');
	buf_add_str(&a.body, "\"}");
	dojo_classify(&a, &got);
	assert_null(strpbrk(got.reason, "\033\n"));
	assert_true(strlen(got.reason) < 400);
}

/* ---- the client against canned answers ---- */

struct fixture {
	char dir[64];
	char *token_file;
	struct canned *server;
	struct dojo *dojo;
	struct canned_reply replies[8];
	char *texts[8];
	size_t n;
};

static int
set_up(void **state)
{
	struct fixture *f = mem_alloc(sizeof(*f));
	AUTO_FD int dir = -1;

	snprintf(f->dir, sizeof(f->dir), "/tmp/test_dojo.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->token_file = mem_printf("%s/token", f->dir);
	dir = fs_open_dir(AT_FDCWD, f->dir, NULL);
	assert_int_equal(fs_publish(dir, "token", "s3cret\n", 7, 0600, 0, NULL), 0);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->dojo)
		dojo_free(f->dojo);
	if (f->server)
		canned_stop(f->server);
	for (size_t i = 0; i < f->n; i++)
		free(f->texts[i]);
	unlink(f->token_file);
	rmdir(f->dir);
	free(f->token_file);
	free(f);
	return 0;
}

static void
reply(struct fixture *f, const char *status, const char *body)
{
	f->texts[f->n] = canned_json(status, body);
	f->replies[f->n] = (struct canned_reply){ CANNED_ANSWER, f->texts[f->n] };
	f->n++;
}

static void
reply_recorded(struct fixture *f, const char *file)
{
	AUTO_JSON cJSON *exchange = load_exchange(file);
	const cJSON *response = json_object(exchange, "response");
	AUTO_FREE char *body = json_print(json_get(response, "body"));
	AUTO_FREE char *status = mem_printf("%lld %s", (long long)json_int(response, "status", 0),
					    json_str(response, "reason"));

	reply(f, status, body);
}

static void
start(struct fixture *f)
{
	struct dojo_settings s = { .token_file = f->token_file };
	AUTO_FREE char *url = NULL;
	struct err e = ERR_INIT;

	f->server = canned_start(f->replies, f->n);
	url = mem_printf("%s/sub/api/v2/", canned_url(f->server));
	s.url = url;
	if (dojo_new(&s, &f->dojo, &e) < 0)
		fail_msg("%s", e.text);
}

static struct delivery
sample(void)
{
	static char report[] = "{\"SchemaVersion\": 2}";

	return (struct delivery){ .product_type = (char *)(uintptr_t) "CI",
				  .product = (char *)(uintptr_t) "p&1",
				  .engagement = (char *)(uintptr_t) "main",
				  .test = (char *)(uintptr_t) "img",
				  .service = (char *)(uintptr_t) "app",
				  .version = (char *)(uintptr_t) "",
				  .branch = (char *)(uintptr_t) "main",
				  .commit = (char *)(uintptr_t) "c0ffee",
				  .build_id = (char *)(uintptr_t) "b-2",
				  .active = 0,
				  .verified = 2,
				  .report = report,
				  .report_len = sizeof(report) - 1 };
}

static void
an_upload_has_every_field_each_time(void **state)
{
	struct fixture *f = *state;
	struct delivery d = sample();
	AUTO_FD int fd = memfd_of("report", d.report, d.report_len);
	struct delivery_file file = { .fd = fd };
	struct dojo_answer a;
	static const char *const fields[] = {
		"name=\"scan_type\"\r\n\r\nTrivy Scan\r\n",
		"name=\"product_type_name\"\r\n\r\nCI\r\n",
		"name=\"product_name\"\r\n\r\np&1\r\n",
		"name=\"engagement_name\"\r\n\r\nmain\r\n",
		"name=\"test_title\"\r\n\r\nimg\r\n",
		"name=\"auto_create_context\"\r\n\r\ntrue\r\n",
		"name=\"version\"\r\n\r\n\r\n",
		"name=\"branch_tag\"\r\n\r\nmain\r\n",
		"name=\"commit_hash\"\r\n\r\nc0ffee\r\n",
		"name=\"build_id\"\r\n\r\nb-2\r\n",
		"name=\"service\"\r\n\r\napp\r\n",
		"name=\"deduplication_execution_mode\"\r\n\r\nsync\r\n",
		"name=\"close_old_findings\"\r\n\r\ntrue\r\n",
		"name=\"verified\"\r\n\r\nfalse\r\n",
		"name=\"tags\"\r\n\r\none\r\n",
		"name=\"tags\"\r\n\r\ntwo\r\n",
		"name=\"file\"; filename=\"trivy.json\"\r\nContent-Type: application/json\r\n\r\n{\"SchemaVersion\": 2}\r\n",
		"\r\nAuthorization: Token s3cret\r\n",
	};
	const char *got;

	strv_add(&d.tags, "one");
	strv_add(&d.tags, "two");
	reply_recorded(f, "reimport-201-second.json");
	start(f);
	assert_int_equal(dojo_reimport(f->dojo, &d, &file, clock_deadline(5000), &a, NULL), 0);
	assert_int_equal(a.verdict, DOJO_DELIVERED);
	got = canned_request(f->server, 0);
	assert_true(str_has_prefix(got, "POST /sub/api/v2/reimport-scan/ HTTP/1.1\r\n"));
	for (size_t i = 0; i < MEM_COUNT(fields); i++) {
		if (!strstr(got, fields[i]))
			fail_msg("missing: %s", fields[i]);
	}
	/* What is unset is not sent: the server has its own default. */
	assert_null(strstr(got, "name=\"active\""));
	assert_null(strstr(got, "name=\"environment\""));
	assert_null(strstr(got, "name=\"minimum_severity\""));
	strv_free(&d.tags);
}

static void
a_probe_has_no_file_and_succeeds_when_one_is_asked_for(void **state)
{
	struct fixture *f = *state;
	struct delivery d = sample();
	struct dojo_probe p;

	reply_recorded(f, "probe-400-ok.json");
	reply_recorded(f, "probe-403.json");
	reply_recorded(f, "upload-201-no-results.json");
	start(f);
	assert_int_equal(dojo_probe(f->dojo, &d, clock_deadline(5000), &p, NULL), 0);
	assert_true(p.is_accepted);
	assert_null(strstr(canned_request(f->server, 0), "filename="));
	assert_int_equal(dojo_probe(f->dojo, &d, clock_deadline(5000), &p, NULL), 0);
	assert_false(p.is_accepted);
	assert_non_null(strstr(p.answer.reason, "No permission to create products"));
	assert_int_equal(dojo_probe(f->dojo, &d, clock_deadline(5000), &p, NULL), 0);
	assert_false(p.is_accepted);
}

#define LIST(rows) "{\"count\": 1, \"next\": null, \"results\": [" rows "]}"

static enum dojo_fate
fate_of(struct fixture *f)
{
	struct delivery d = sample();
	enum dojo_fate fate = DOJO_ABSENT;
	struct err e = ERR_INIT;

	if (dojo_ask_fate(f->dojo, &d, clock_deadline(5000), &fate, &e) < 0)
		fail_msg("%s", e.text);
	return fate;
}

static void
a_row_of_the_same_build_and_service_says_it_landed(void **state)
{
	struct fixture *f = *state;

	reply(f, "200 OK", LIST("{\"id\": 7, \"name\": \"P&1\"}"));
	reply(f, "200 OK", LIST("{\"id\": 8, \"name\": \"main\", \"product\": 7}"));
	reply(f, "200 OK", LIST("{\"id\": 9, \"title\": \"img\", \"engagement\": 8}"));
	reply(f, "200 OK",
	      LIST("{\"id\": 10, \"test\": 9, \"build_id\": \"b-2\", \"import_settings\": {\"service\": \"app\"}}"));
	start(f);
	assert_int_equal(fate_of(f), DOJO_LANDED);
	assert_true(
		str_has_prefix(canned_request(f->server, 0), "GET /sub/api/v2/products/?name_exact=p%261&"));
	assert_true(str_has_prefix(canned_request(f->server, 1),
				   "GET /sub/api/v2/engagements/?product=7&name=main&"));
	assert_true(str_has_prefix(canned_request(f->server, 2),
				   "GET /sub/api/v2/tests/?engagement=8&title=img&"));
	assert_true(str_has_prefix(canned_request(f->server, 3),
				   "GET /sub/api/v2/test_imports/?test=9&build_id=b-2&"));
}

static void
rows_that_a_filter_should_have_kept_out_do_not_count(void **state)
{
	struct fixture *f = *state;

	reply(f, "200 OK", LIST("{\"id\": 6, \"name\": \"other\"}, {\"id\": 7, \"name\": \"p&1\"}"));
	reply(f, "200 OK",
	      LIST("{\"id\": 5, \"name\": \"main\", \"product\": 6}, {\"id\": 8, \"name\": \"main\", \"product\": 7}"));
	reply(f, "200 OK",
	      LIST("{\"id\": 4, \"title\": \"img2\", \"engagement\": 8}, {\"id\": 9, \"title\": \"img\", \"engagement\": 8}"));
	reply(f, "200 OK",
	      LIST("{\"id\": 10, \"test\": 9, \"build_id\": \"B-2\"}, {\"id\": 11, \"test\": 3, \"build_id\": \"b-2\"}, "
		   "{\"id\": 12, \"test\": 9, \"build_id\": \"b-2\", \"import_settings\": {\"service\": \"x\"}}"));
	start(f);
	assert_int_equal(fate_of(f), DOJO_ABSENT);
	assert_int_equal(canned_count(f->server), 4);
}

static void
without_its_product_nothing_landed(void **state)
{
	struct fixture *f = *state;

	reply_recorded(f, "test-imports-200-empty.json");
	start(f);
	assert_int_equal(fate_of(f), DOJO_ABSENT);
	assert_int_equal(canned_count(f->server), 1);
}

static void
a_question_that_is_not_answered_is_an_error_not_an_absence(void **state)
{
	struct fixture *f = *state;
	struct delivery d = sample();
	enum dojo_fate fate;

	reply_recorded(f, "user-profile-403-bad-token.json");
	reply(f, "200 OK", "{\"detail\": 1}");
	reply(f, "200 OK", "{\"count\": 0, \"resu");
	reply(f, "502 Bad Gateway", "");
	start(f);
	for (int i = 0; i < 4; i++) {
		struct err e = ERR_INIT;

		assert_int_equal(dojo_ask_fate(f->dojo, &d, clock_deadline(5000), &fate, &e), -1);
		assert_true(e.text[0] != '\0');
		assert_null(strstr(e.text, "s3cret"));
	}
}

static void
who_the_token_is_can_be_asked(void **state)
{
	struct fixture *f = *state;
	struct dojo_user u;

	reply_recorded(f, "user-profile-200.json");
	start(f);
	assert_int_equal(dojo_whoami(f->dojo, clock_deadline(5000), &u, NULL), 0);
	assert_string_equal(u.name, "ci");
	assert_false(u.is_staff || u.is_superuser);
	free(u.name);
}

static void
the_version_is_read_from_the_schema(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *version = NULL;

	reply(f, "200 OK", "{\"openapi\": \"3.0.3\", \"info\": {\"version\": \"3.2.0\"}}");
	start(f);
	assert_int_equal(dojo_version(f->dojo, clock_deadline(5000), &version, NULL), 0);
	assert_string_equal(version, "3.2.0");
}

static void
a_token_that_others_may_read_is_refused(void **state)
{
	struct fixture *f = *state;
	struct dojo_settings s = { .url = "https://dojo.example", .token_file = f->token_file };
	struct err e = ERR_INIT;

	assert_int_equal(chmod(f->token_file, 0644), 0);
	assert_int_equal(dojo_new(&s, &f->dojo, &e), -1);
	assert_non_null(strstr(e.text, f->token_file));
	assert_null(strstr(e.text, "s3cret"));
}

#define WITH_FIXTURE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_recorded_answer_has_its_verdict),
		cmocka_unit_test(a_confirmed_upload_brings_its_counts),
		cmocka_unit_test(with_a_minimum_severity_nothing_is_reckoned),
		cmocka_unit_test(what_stands_twice_in_a_report_may_be_one_finding_there),
		cmocka_unit_test(faults_of_the_network_are_told_apart),
		cmocka_unit_test(a_fault_of_tls_says_what_to_do),
		cmocka_unit_test(what_a_server_says_is_made_fit_for_a_terminal),
		WITH_FIXTURE(an_upload_has_every_field_each_time),
		WITH_FIXTURE(a_probe_has_no_file_and_succeeds_when_one_is_asked_for),
		WITH_FIXTURE(a_row_of_the_same_build_and_service_says_it_landed),
		WITH_FIXTURE(rows_that_a_filter_should_have_kept_out_do_not_count),
		WITH_FIXTURE(without_its_product_nothing_landed),
		WITH_FIXTURE(a_question_that_is_not_answered_is_an_error_not_an_absence),
		WITH_FIXTURE(who_the_token_is_can_be_asked),
		WITH_FIXTURE(the_version_is_read_from_the_schema),
		WITH_FIXTURE(a_token_that_others_may_read_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
