#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "stages/dojo.h"

#define DETAIL_MAX 200 /* columns of what the server said */

const char *const dojo_verdict_words[] = { "delivered", "retry", "wait", "dead" };

enum body_kind { BODY_ANY, BODY_JSON, BODY_OTHER };
enum rule_flags {
	SERVER_WIDE = 1 << 0,
	MAY_RUN = 1 << 1,
};

/* What an administrator does about it, of those that several answers share. */
#define FIX_NONE "try again"
#define FIX_URL "set defectdojo.url to DefectDojo's own base URL, without /login or a redirect"
#define FIX_URL_PROXY \
	"set defectdojo.url to DefectDojo's own base URL, and let the proxies on the way pass it"
#define FIX_FRONT "let this host through without a login where something in front of DefectDojo asks for one"
#define FIX_TOKEN "put a valid API v2 token into defectdojo.token_file"
#define FIX_MEMBER "make the token's user a member of the product type (or the product) in DefectDojo"
#define FIX_NAMES "set defectdojo.product_type and the other names to what DefectDojo accepts"
#define FIX_REACH "see that this host may reach defectdojo.url: firewall, route, defectdojo.proxy"
#define FIX_LOAD "see whether DefectDojo is overloaded: its log, its database"
#define FIX_LOG "see DefectDojo's log"
#define FIX_PROXY_TIME "let the proxy before DefectDojo wait longer for its answer"

/*
 * What an answer means: the first line that fits. README.md of the recorded DefectDojo says in which order the server
 * checks; pages that are not JSON come from something in front of it, or from another place altogether.
 */
static const struct rule {
	int from, to; /* status */
	enum body_kind body;
	const char *needle; /* in the body */
	enum dojo_verdict verdict;
	unsigned flags;
	int tries_max;
	const char *reason, *fix;
} rules[] = {
	/* What could be read as success is handled before. */
	{ 100, 299, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE, 0, "not DefectDojo's answer: wrong base URL?",
	  FIX_URL },
	{ 300, 399, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE, 0, "wrong base URL: redirects are not followed",
	  FIX_URL },
	/* Of two uploads that create the same product one loses; it succeeds when sent again. */
	{ 400, 400, BODY_JSON, "with this Name already exists", DOJO_RETRY, 0, 0, NULL, FIX_NONE },
	{ 400, 400, BODY_JSON, NULL, DOJO_DEAD, 0, 0, NULL, FIX_NAMES },
	{ 400, 400, BODY_OTHER, NULL, DOJO_WAIT, SERVER_WIDE, 0,
	  "not DefectDojo's answer: wrong base URL, or a proxy refuses", FIX_URL_PROXY },
	{ 401, 401, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE, 0,
	  "something in front of DefectDojo asks for a login", FIX_FRONT },
	{ 403, 403, BODY_JSON, "\"Invalid token.\"", DOJO_WAIT, SERVER_WIDE, 0, "the token is not valid",
	  FIX_TOKEN },
	{ 403, 403, BODY_JSON, "credentials were not provided", DOJO_WAIT, SERVER_WIDE, 0, "no token arrived",
	  "let the proxy in front of DefectDojo pass the Authorization header on" },
	/* Other products may be allowed; this one will be when somebody grants it. */
	{ 403, 403, BODY_JSON, NULL, DOJO_WAIT, 0, 0, NULL, FIX_MEMBER },
	{ 403, 403, BODY_OTHER, NULL, DOJO_WAIT, 0, 0, NULL, FIX_FRONT },
	/* Its own; any other JSON is that of a gateway without a route. */
	{ 404, 404, BODY_JSON, "could not be found", DOJO_DEAD, 0, 0, NULL, FIX_NAMES },
	{ 404, 405, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE, 0,
	  "wrong base URL, or a proxy without DefectDojo", FIX_URL_PROXY },
	{ 407, 407, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE, 0, "the proxy asks for a login",
	  "name a proxy in defectdojo.proxy that lets this host through" },
	{ 408, 408, BODY_ANY, NULL, DOJO_RETRY, 0, 0, NULL, FIX_LOAD },
	{ 413, 413, BODY_ANY, NULL, DOJO_DEAD, 0, 0, "the report is too large for the server or a proxy",
	  "raise DefectDojo's DD_SCAN_FILE_MAX_SIZE and the limit on a request's body of the proxies before it" },
	{ 425, 425, BODY_ANY, NULL, DOJO_RETRY, 0, 0, NULL, FIX_LOAD },
	{ 429, 429, BODY_ANY, NULL, DOJO_RETRY, SERVER_WIDE, 0, "too many requests",
	  "raise the limit for this host in DefectDojo, or in the proxy before it" },
	{ 400, 499, BODY_JSON, NULL, DOJO_DEAD, 0, 0, NULL, FIX_LOG },
	{ 400, 499, BODY_OTHER, NULL, DOJO_WAIT, SERVER_WIDE, 0, "not DefectDojo's answer", FIX_URL_PROXY },
	/* The parser or the database fell over the report; what it wrote before stays, and so will it be again. */
	{ 500, 500, BODY_JSON, NULL, DOJO_RETRY, 0, 2, NULL, FIX_LOG },
	{ 502, 503, BODY_ANY, NULL, DOJO_RETRY, SERVER_WIDE, 0, "DefectDojo is not running",
	  "start DefectDojo; the proxy before it is there" },
	/* A proxy gave up; the application behind it did not. 522, 524: the same from a large CDN. */
	{ 504, 504, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE | MAY_RUN, 0,
	  "a proxy did not wait for the answer", FIX_PROXY_TIME },
	{ 522, 524, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE | MAY_RUN, 0,
	  "a proxy did not wait for the answer", FIX_PROXY_TIME },
	{ 500, 599, BODY_ANY, NULL, DOJO_RETRY, SERVER_WIDE, 0, "DefectDojo or a proxy has a fault", FIX_LOG },
	{ 0, 999, BODY_ANY, NULL, DOJO_WAIT, SERVER_WIDE, 0, "not an HTTP status", FIX_URL },
};

/* What to do where nobody answered, by what libcurl and OpenSSL say: the first line that fits. */
static const struct silence {
	enum http_end end;
	const char *needle; /* in the fault; "": any */
	const char *fix;
} silences[] = {
	{ HTTP_UNREACHABLE, "resolve proxy", "mend the name in defectdojo.proxy, or this host's name server" },
	{ HTTP_UNREACHABLE, "resolve host", "mend the name in defectdojo.url, or this host's name server" },
	{ HTTP_UNREACHABLE, "onnection refused",
	  "start DefectDojo, or mend the port in defectdojo.url or proxy" },
	{ HTTP_UNREACHABLE, "", FIX_REACH },
	{ HTTP_UNTRUSTED, "self-signed", "put its authority into defectdojo.ca_file" },
	{ HTTP_UNTRUSTED, "issuer certificate", "put its authority into defectdojo.ca_file" },
	{ HTTP_UNTRUSTED, "has expired", "the server needs a new one" },
	{ HTTP_UNTRUSTED, "not yet valid", "is this host's clock right?" },
	{ HTTP_UNTRUSTED, "subject name", "defectdojo.url must have a name that is in it" },
	{ HTTP_UNTRUSTED, "wrong version number", "is that a port without TLS?" },
	{ HTTP_UNTRUSTED, "alert certificate requir", "set defectdojo.client_cert_file" },
	{ HTTP_UNTRUSTED, "alert bad certificate", "see defectdojo.client_cert_file" },
	{ HTTP_UNTRUSTED, "alert unknown ca", "see defectdojo.client_cert_file" },
	{ HTTP_UNTRUSTED, "", "see defectdojo.ca_file and url" },
};

/* The first text in one of the error bodies: an array, {"detail"}, {"message"}, {"<field>": […]}. */
static const char *
find_detail(const cJSON *j, const char **ret_field)
{
	const cJSON *c;
	const char *s;

	if (cJSON_IsArray(j))
		return cJSON_GetStringValue(cJSON_GetArrayItem(j, 0));
	s = json_str(j, "detail");
	cJSON_ArrayForEach(c, j)
	{
		if (s)
			break;
		if (cJSON_IsArray(c) && cJSON_IsString(c->child) && !str_eq(c->string, "pro")) {
			s = c->child->valuestring;
			*ret_field = str_eq(c->string, "non_field_errors") ? NULL : c->string;
		}
	}
	return s ? s : json_str(j, "message");
}

/* "HTTP 400, reason: what the server said" */
static void
set_reason(struct dojo_answer *ret, const char *reason, const cJSON *body, const char *content_type)
{
	AUTO_BUF struct buf b = BUF_INIT(sizeof(ret->reason) - 1);
	const char *field = NULL, *detail = body ? find_detail(body, &field) : NULL;

	buf_printf(&b, "HTTP %d", ret->status);
	if (reason)
		buf_printf(&b, ", %s", reason);
	if (detail) {
		AUTO_BUF struct buf safe = BUF_INIT(4 * DETAIL_MAX);

		str_add_safe(&safe, detail, DETAIL_MAX / 2);
		buf_add_str(&b, ": ");
		if (field)
			str_add_safe(&b, field, 40);
		buf_printf(&b, "%s%s", field ? ": " : "", buf_str(&safe));
	} else if (!body && content_type[0]) {
		buf_add_str(&b, " (");
		str_add_safe(&b, content_type, 40);
		buf_add_char(&b, ')');
	}
	snprintf(ret->reason, sizeof(ret->reason), "%s", buf_str(&b));
}

static int64_t
count_of(const cJSON *bucket, const char *name)
{
	return json_int(json_object(bucket, "total"), name, -1);
}

static void
read_counts(const cJSON *body, struct dojo_answer *ret)
{
	const cJSON *statistics = json_object(body, "statistics");
	const cJSON *after = json_object(statistics, "after"), *delta = json_object(statistics, "delta");

	ret->is_first = !delta;
	if (delta) {
		ret->n_created = count_of(json_object(delta, "created"), "total");
		ret->n_untouched = count_of(json_object(delta, "untouched"), "total");
		ret->n_reactivated = count_of(json_object(delta, "reactivated"), "total");
		ret->n_closed = count_of(json_object(delta, "closed"), "total");
		ret->n_triaged = count_of(after, "false_p") + count_of(after, "out_of_scope");
	} else {
		ret->n_created = count_of(after, "total");
	}
	ret->has_counts = ret->n_created >= 0 && ret->n_untouched >= 0 && ret->n_reactivated >= 0 &&
			  ret->n_closed >= 0 && ret->n_triaged >= 0;
}

static const char *
fix_of_silence(const struct http_answer *a)
{
	for (size_t i = 0; i < MEM_COUNT(silences); i++) {
		if (silences[i].end == a->end && strstr(a->fault, silences[i].needle))
			return silences[i].fix;
	}
	return a->was_connected ? FIX_LOAD : FIX_REACH;
}

static void
classify_silence(const struct http_answer *a, struct dojo_answer *ret)
{
	ret->verdict = DOJO_RETRY;
	ret->fix = fix_of_silence(a);
	switch (a->end) {
	case HTTP_UNREACHABLE:
		ret->is_server_wide = true;
		break;
	case HTTP_UNTRUSTED:
		ret->verdict = DOJO_WAIT;
		ret->is_server_wide = true;
		break;
	case HTTP_TIMED_OUT:
	case HTTP_BROKEN:
	case HTTP_CUT:
	case HTTP_ANSWERED:
		/* Hanging up cancels nothing there. */
		if (a->was_sent) {
			ret->verdict = DOJO_WAIT;
			ret->may_run = true;
		} else {
			/* It is our own deadline that was too short for so large a report, not the server. */
			ret->is_server_wide = a->end != HTTP_TIMED_OUT || !a->was_connected;
		}
		break;
	}
	if (a->end == HTTP_UNTRUSTED)
		snprintf(ret->reason, sizeof(ret->reason), "%s (%.60s)", a->fault, ret->fix);
	else if (ret->may_run)
		snprintf(ret->reason, sizeof(ret->reason), "sent, no answer yet (%s)", a->fault);
	else
		snprintf(ret->reason, sizeof(ret->reason), "%s", a->fault);
}

static bool
is_fitting(const struct rule *r, const struct http_answer *a, const cJSON *body)
{
	if (a->status < r->from || a->status > r->to)
		return false;
	if ((r->body == BODY_JSON && !body) || (r->body == BODY_OTHER && body))
		return false;
	return !r->needle || strstr(buf_str(&a->body), r->needle);
}

static void
classify_status(const struct http_answer *a, const cJSON *body, struct dojo_answer *ret)
{
	const struct rule *r = rules;

	if (a->status == 201) {
		/* Something did answer "created", and DefectDojo answers at the very end: it may well be there. */
		ret->verdict = DOJO_RETRY;
		ret->fix = FIX_LOG;
		set_reason(ret, "half an answer", NULL, "");
		return;
	}
	/* The body would tell whether it is worth another try, and it is not whole. */
	if (a->end != HTTP_ANSWERED && !body && a->status >= 400 && a->status < 600 && a->status != 413) {
		ret->verdict = DOJO_RETRY;
		ret->fix = FIX_LOG;
		ret->may_run = a->status == 504;
		set_reason(ret, "half an answer", NULL, "");
		return;
	}
	while (!is_fitting(r, a, body)) /* the last one fits all */
		r++;
	ret->verdict = r->verdict;
	ret->is_server_wide = r->flags & SERVER_WIDE;
	ret->may_run = (r->flags & MAY_RUN) && a->was_sent;
	ret->tries_max = r->tries_max;
	ret->fix = r->fix;
	set_reason(ret, r->reason, body, a->content_type);
}

void
dojo_classify(const struct http_answer *a, struct dojo_answer *ret)
{
	AUTO_JSON cJSON *body = NULL;
	int64_t test_id;

	*ret = (struct dojo_answer){ .status = a->status,
				     .was_sent = a->was_sent,
				     .retry_after_s = a->retry_after_s,
				     .date_s = a->date_s };
	ret->body_len = a->body.len < sizeof(ret->body) ? a->body.len : sizeof(ret->body);
	if (ret->body_len > 0)
		memcpy(ret->body, buf_str(&a->body), ret->body_len);
	if (a->status == 0) {
		classify_silence(a, ret);
		return;
	}
	/* A body that does not parse is as good as none. */
	if (a->end == HTTP_ANSWERED && str_eq(a->content_type, "application/json") &&
	    json_parse(buf_str(&a->body), a->body.len, a->body.max, 0, &body, NULL) < 0)
		body = NULL;
	test_id = json_int(body, "test", -1);
	if (a->status == 201 && test_id > 0) {
		ret->verdict = DOJO_DELIVERED;
		ret->test_id = test_id;
		read_counts(body, ret);
		snprintf(ret->reason, sizeof(ret->reason), "test %lld", (long long)test_id);
		return;
	}
	classify_status(a, body, ret);
}

bool
dojo_is_short(const struct delivery *d, const struct dojo_answer *a, char **ret)
{
	int64_t explained = a->n_created + a->n_untouched + a->n_reactivated;
	/* What stands twice in a report is one finding there, from the second time on (FACTS.md, 3). */
	int64_t least = d->n_distinct > 0 ? d->n_distinct : d->n_findings;

	/* With a minimum severity DefectDojo drops what is below it. */
	if (!a->has_counts || !str_is_empty(d->minimum_severity))
		return false;
	if (explained <= d->n_findings && explained + a->n_triaged >= least)
		return false;
	*ret = mem_printf("our report has %lld findings, DefectDojo accounts for %lld (%lld new, %lld known, %lld back) "
			  "and has %lld triaged ones",
			  (long long)d->n_findings, (long long)explained, (long long)a->n_created,
			  (long long)a->n_untouched, (long long)a->n_reactivated, (long long)a->n_triaged);
	return true;
}
