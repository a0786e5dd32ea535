#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/str.h"
#include "tests/unit/canned_server.h"
#include "tests/unit/memfd.h"

#define SECRET "Token 5ecre7"

static struct http *
client(const struct http_settings *s)
{
	struct http *h = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(http_new(s, &h, &e), 0);
	return h;
}

/* One request with the settings, the answer is the caller's. */
static void
ask(const struct http_settings *s, const char *url, const struct http_part *parts, size_t n_parts, int64_t ms,
    struct http_answer *ret)
{
	AUTO(http) struct http *h = client(s);
	struct http_request r = {
		.url = url, .parts = parts, .n_parts = n_parts, .body_max = 1000, .deadline = clock_deadline(ms)
	};
	struct err e = ERR_INIT;

	assert_int_equal(http_send(h, &r, ret, &e), 0);
	assert_null(strstr(ret->fault, "5ecre7"));
}

static void
a_form_goes_with_its_length_and_the_files_bytes(void **state)
{
	AUTO_FREE char *json = canned_json("201 Created", "{}");
	struct canned_reply reply = { CANNED_ANSWER, json };
	struct canned *c = canned_start(&reply, 1);
	AUTO_FD int fd = memfd_of("part", "xxREPORTyy", 10);
	struct http_part parts[] = { { .name = "product_name", .value = "gr\xc3\xbc\xc3\x9f \"e" },
				     { .name = "empty", .value = "" },
				     { .name = "file",
				       .fd = fd,
				       .offset = 2,
				       .len = 6,
				       .file_name = "trivy.json",
				       .content_type = "application/json" } };
	struct http_settings s = { .authorization = SECRET };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	const char *got;

	(void)state;
	ask(&s, canned_url(c), parts, 3, 5000, &a);
	assert_int_equal(a.end, HTTP_ANSWERED);
	assert_int_equal(a.status, 201);
	assert_true(a.was_sent);
	assert_string_equal(a.content_type, "application/json");
	assert_string_equal(buf_str(&a.body), "{}");
	got = canned_request(c, 0);
	assert_non_null(strstr(got, "\r\nContent-Length: "));
	assert_null(strstr(got, "\r\nTransfer-Encoding:"));
	assert_null(strstr(got, "\r\nExpect:"));
	assert_non_null(strstr(got, "\r\nAuthorization: " SECRET "\r\n"));
	assert_non_null(strstr(got, "name=\"product_name\"\r\n\r\ngr\xc3\xbc\xc3\x9f \"e\r\n"));
	assert_non_null(strstr(got, "name=\"empty\"\r\n\r\n\r\n"));
	assert_non_null(strstr(got,
			       "name=\"file\"; filename=\"trivy.json\"\r\nContent-Type: application/json\r\n"
			       "\r\nREPORT\r\n"));
	canned_stop(c);
}

static void
a_patch_is_json_and_leaves_no_trace_in_the_next_request(void **state)
{
	AUTO_FREE char *text = canned_json("200 OK", "{}");
	const struct canned_reply replies[] = { { CANNED_ANSWER, text }, { CANNED_ANSWER, text } };
	struct canned *c = canned_start(replies, 2);
	const struct http_settings s = { .authorization = "Token abc" };
	AUTO(http) struct http *h = NULL;
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	AUTO_HTTP_ANSWER struct http_answer b = HTTP_ANSWER_INIT;
	struct http_request r = { .url = canned_url(c),
				  .data = "{\"a\":1}",
				  .data_len = 7,
				  .is_patch = true,
				  .body_max = 100,
				  .deadline = clock_deadline(10000) };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(http_new(&s, &h, &e), 0);
	assert_int_equal(http_send(h, &r, &a, &e), 0);
	assert_int_equal(a.status, 200);
	assert_int_equal(strncmp(canned_request(c, 0), "PATCH ", 6), 0);
	assert_non_null(strstr(canned_request(c, 0), "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(canned_request(c, 0), "\r\nAuthorization: Token abc\r\n"));
	assert_non_null(strstr(canned_request(c, 0), "\r\n\r\n{\"a\":1}"));
	r.data = NULL;
	r.is_patch = false;
	assert_int_equal(http_send(h, &r, &b, &e), 0);
	assert_int_equal(strncmp(canned_request(c, 1), "GET ", 4), 0);
	assert_null(strstr(canned_request(c, 1), "application/json\r\nAuth"));
	assert_null(strstr(canned_request(c, 1), "Content-Type"));
	canned_stop(c);
}

static void
a_redirect_is_an_answer_and_is_not_followed(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER,
				      "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n" };
	struct canned *c = canned_start(&reply, 1);
	struct http_settings s = { .authorization = SECRET };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), NULL, 0, 5000, &a);
	assert_int_equal(a.status, 302);
	assert_int_equal(canned_count(c), 1);
	canned_stop(c);
}

static void
a_body_over_its_limit_is_cut_and_the_status_kept(void **state)
{
	AUTO_FREE char *body = mem_alloc(5001), *json = NULL;
	struct canned_reply reply = { .manner = CANNED_ANSWER };
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	struct canned *c;

	(void)state;
	memset(body, 'x', 5000);
	json = canned_json("500 Oops", body);
	reply.text = json;
	c = canned_start(&reply, 1);
	ask(&s, canned_url(c), NULL, 0, 5000, &a);
	assert_int_equal(a.end, HTTP_CUT);
	assert_int_equal(a.status, 500);
	assert_true(a.body.len <= 1000);
	canned_stop(c);
}

static void
headers_for_waiting_are_read(void **state)
{
	struct canned_reply replies[] = {
		{ CANNED_ANSWER,
		  "HTTP/1.1 503 No\r\nRetry-After: 120\r\nDate: Thu, 01 Jan 1970 00:01:40 GMT\r\n"
		  "Content-Type: Text/HTML; charset=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
		{ CANNED_ANSWER,
		  "HTTP/1.1 503 No\r\nRetry-After: 99999999\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
		{ CANNED_ANSWER, "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
	};
	struct canned *c = canned_start(replies, 3);
	struct http_settings s = { 0 };
	int64_t expected[] = { 120, 6 * 3600, -1 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

		ask(&s, canned_url(c), NULL, 0, 5000, &a);
		assert_int_equal(a.retry_after_s, expected[i]);
		assert_int_equal(a.date_s, i == 0 ? 100 : 0);
		assert_string_equal(a.content_type, i == 0 ? "text/html" : "");
	}
	canned_stop(c);
}

static void
a_closed_port_is_unreachable_and_nothing_was_sent(void **state)
{
	struct canned *c = canned_start(NULL, 0);
	AUTO_FREE char *url = mem_strdup(canned_url(c));
	struct http_part part = { .name = "a", .value = "b" };
	struct http_settings s = { .authorization = SECRET };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	canned_stop(c);
	ask(&s, url, &part, 1, 5000, &a);
	assert_int_equal(a.end, HTTP_UNREACHABLE);
	assert_int_equal(a.status, 0);
	assert_false(a.was_sent);
	assert_true(a.fault[0] != '\0');
}

static void
a_server_that_reads_all_and_closes_may_have_acted(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER, "" };
	struct canned *c = canned_start(&reply, 1);
	struct http_part part = { .name = "a", .value = "b" };
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), &part, 1, 5000, &a);
	assert_int_equal(a.end, HTTP_BROKEN);
	assert_true(a.was_sent);
	canned_stop(c);
}

static void
what_is_no_http_is_no_answer_and_may_follow_an_act(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER, "SSH-2.0-x\r\n" };
	struct canned *c = canned_start(&reply, 1);
	struct http_part part = { .name = "a", .value = "b" };
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), &part, 1, 5000, &a);
	assert_int_equal(a.end, HTTP_BROKEN);
	assert_int_equal(a.status, 0);
	assert_true(a.was_sent);
	canned_stop(c);
}

static void
a_server_that_resets_in_the_middle_cannot_have_acted(void **state)
{
	struct canned_reply reply = { .manner = CANNED_RESET_EARLY };
	struct canned *c = canned_start(&reply, 1);
	size_t len = 32 * 1024 * 1024;
	AUTO_FREE char *big = mem_alloc(len);
	AUTO_FD int fd = memfd_of("part", big, len);
	struct http_part part = {
		.name = "file", .fd = fd, .len = len, .file_name = "f", .content_type = "a/b"
	};
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), &part, 1, 20000, &a);
	assert_int_equal(a.status, 0);
	assert_false(a.was_sent);
	canned_stop(c);
}

static void
an_early_refusal_is_read_although_the_body_is_not(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER_EARLY,
				      "HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nContent-Length: 0\r\n"
				      "Connection: close\r\n\r\n" };
	struct canned *c = canned_start(&reply, 1);
	size_t len = 4 * 1024 * 1024;
	AUTO_FREE char *big = mem_alloc(len);
	AUTO_FD int fd = memfd_of("part", big, len);
	struct http_part part = {
		.name = "file", .fd = fd, .len = len, .file_name = "f", .content_type = "a/b"
	};
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), &part, 1, 20000, &a);
	assert_int_equal(a.status, 413);
	canned_stop(c);
}

static void
silence_ends_at_the_deadline(void **state)
{
	struct canned_reply reply = { .manner = CANNED_HANG };
	struct canned *c = canned_start(&reply, 1);
	struct http_part part = { .name = "a", .value = "b" };
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), &part, 1, 300, &a);
	assert_int_equal(a.end, HTTP_TIMED_OUT);
	assert_int_equal(a.status, 0);
	assert_true(a.was_sent);
	canned_stop(c);
}

static void
without_time_nothing_is_begun(void **state)
{
	struct canned *c = canned_start(NULL, 0);
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), NULL, 0, 0, &a);
	assert_int_equal(a.end, HTTP_TIMED_OUT);
	assert_false(a.was_sent);
	assert_int_equal(canned_count(c), 0);
	canned_stop(c);
}

static void
half_an_answer_is_told_from_a_whole_one(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER,
				      "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"test\": 1" };
	struct canned *c = canned_start(&reply, 1);
	struct http_settings s = { 0 };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, canned_url(c), NULL, 0, 5000, &a);
	assert_int_equal(a.end, HTTP_CUT);
	assert_int_equal(a.status, 201);
	canned_stop(c);
}

static void
the_environments_proxy_is_ignored_and_the_settings_one_used(void **state)
{
	AUTO_FREE char *json = canned_json("200 OK", "{}");
	struct canned_reply replies[] = { { CANNED_ANSWER, json }, { CANNED_ANSWER, json } };
	struct canned *c = canned_start(replies, 2);
	struct http_settings direct = { 0 }, proxied = { .proxy = canned_url(c) };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT, b = HTTP_ANSWER_INIT;

	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	ask(&direct, canned_url(c), NULL, 0, 5000, &a);
	setenv("no_proxy", "*", 1);
	ask(&proxied, "http://dojo.invalid/x", NULL, 0, 5000, &b);
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
	unsetenv("no_proxy");
	assert_int_equal(a.status, 200);
	assert_int_equal(b.status, 200);
	assert_true(str_has_prefix(canned_request(c, 1), "GET http://dojo.invalid/x "));
	canned_stop(c);
}

static void
a_server_without_tls_is_not_trusted_over_https(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER_BLIND, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n" };
	struct canned *c = canned_start(&reply, 1);
	AUTO_FREE char *url = mem_printf("https%s", canned_url(c) + strlen("http"));
	struct http_settings s = { .authorization = SECRET };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;

	(void)state;
	ask(&s, url, NULL, 0, 5000, &a);
	assert_int_equal(a.end, HTTP_UNTRUSTED);
	canned_stop(c);
}

static void
faults_on_our_side_are_errors(void **state)
{
	struct canned_reply reply = { CANNED_ANSWER, "" };
	struct canned_reply silence = { CANNED_HANG, "" };
	struct canned *c = canned_start(&reply, 1);
	/* of its own: one that hangs up first would be the fault that is told */
	struct canned *waiting = canned_start(&silence, 1);
	AUTO_FREE char *https = mem_printf("https%s", canned_url(c) + strlen("http"));
	struct http_settings s = { .ca_file = "/nonexistent/ca.pem" };
	AUTO(http) struct http *h = client(&s);
	struct http_part part = { .name = "file", .fd = -1, .len = 5, .file_name = "f", .content_type = "a/b" };
	struct http_request requests[] = {
		{ .url = https, .body_max = 10, .deadline = clock_deadline(5000) },
		{ .url = "file:///etc/passwd", .body_max = 10, .deadline = clock_deadline(5000) },
		{ .url = canned_url(waiting),
		  .parts = &part,
		  .n_parts = 1,
		  .body_max = 10,
		  .deadline = clock_deadline(5000) },
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
		struct err e = ERR_INIT;

		assert_int_equal(http_send(h, &requests[i], &a, &e), -1);
		assert_true(e.text[0] != '\0');
	}
	canned_stop(c);
	canned_stop(waiting);
}

static void
credentials_with_a_line_break_are_refused_and_not_shown(void **state)
{
	struct http_settings s = { .authorization = "Token abc\r\nX-Evil: 1" };
	struct http *h = NULL;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(http_new(&s, &h, &e), -1);
	assert_null(strstr(e.text, "abc"));
}

static void
base_urls_are_normalised_or_refused(void **state)
{
	static const char *const good[][2] = {
		{ "https://dojo.example/", "https://dojo.example" },
		{ "http://127.0.0.1:8080", "http://127.0.0.1:8080" },
		{ "https://example.org/dojo//", "https://example.org/dojo" },
	};
	static const char *const bad[] = { "",
					   "dojo.example",
					   "ftp://dojo.example",
					   "file:///etc/passwd",
					   "https://ci:hunter2@dojo.example",
					   "https://dojo.example/?a=b",
					   "https://dojo.example/#x",
					   "https://",
					   "https://a b/" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(good); i++) {
		AUTO_FREE char *got = NULL;

		assert_int_equal(http_base_url(good[i][0], &got, NULL), 0);
		assert_string_equal(got, good[i][1]);
	}
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		AUTO_FREE char *got = NULL;
		struct err e = ERR_INIT;

		if (http_base_url(bad[i], &got, &e) == 0)
			fail_msg("%s was taken", bad[i]);
		assert_int_equal(e.kind, ERR_SETTINGS);
		assert_null(strstr(e.text, "hunter2"));
	}
}

static void
values_of_a_query_are_escaped(void **state)
{
	AUTO_FREE char *got = http_escape("a&b=c d/\xc3\xbc%~-._");

	(void)state;
	assert_string_equal(got, "a%26b%3Dc%20d%2F%C3%BC%25~-._");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_form_goes_with_its_length_and_the_files_bytes),
		cmocka_unit_test(a_patch_is_json_and_leaves_no_trace_in_the_next_request),
		cmocka_unit_test(a_redirect_is_an_answer_and_is_not_followed),
		cmocka_unit_test(a_body_over_its_limit_is_cut_and_the_status_kept),
		cmocka_unit_test(headers_for_waiting_are_read),
		cmocka_unit_test(a_closed_port_is_unreachable_and_nothing_was_sent),
		cmocka_unit_test(a_server_that_reads_all_and_closes_may_have_acted),
		cmocka_unit_test(what_is_no_http_is_no_answer_and_may_follow_an_act),
		cmocka_unit_test(a_server_that_resets_in_the_middle_cannot_have_acted),
		cmocka_unit_test(an_early_refusal_is_read_although_the_body_is_not),
		cmocka_unit_test(silence_ends_at_the_deadline),
		cmocka_unit_test(without_time_nothing_is_begun),
		cmocka_unit_test(half_an_answer_is_told_from_a_whole_one),
		cmocka_unit_test(the_environments_proxy_is_ignored_and_the_settings_one_used),
		cmocka_unit_test(a_server_without_tls_is_not_trusted_over_https),
		cmocka_unit_test(faults_on_our_side_are_errors),
		cmocka_unit_test(credentials_with_a_line_break_are_refused_and_not_shown),
		cmocka_unit_test(base_urls_are_normalised_or_refused),
		cmocka_unit_test(values_of_a_query_are_escaped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
