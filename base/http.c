#include "base/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

#define CONNECT_TIMEOUT_MS 10000
#define RETRY_AFTER_MAX_S (6 * 3600) /* where newer releases of libcurl stop by themselves */

struct http {
	CURL *curl;
	char *ca_file, *proxy, *cert_file, *key;
	struct curl_slist *headers;
	int64_t connect_timeout_ms;
};

/* One file part on its way out. */
struct source {
	int fd;
	off_t start;
	uint64_t len, at;
	int no; /* errno of a failed read */
};

/* One request on its way. */
struct transfer {
	struct http_answer *answer;
	char message[CURL_ERROR_SIZE];
};

static void
wipe(char *s)
{
	explicit_bzero(s, strlen(s));
}

int
http_new(const struct http_settings *s, struct http **ret, struct err *e)
{
	AUTO(http) struct http *h = mem_alloc(sizeof(*h));
	AUTO_FREE char *header = NULL;

	for (const char *p = s->authorization; p && *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(e, ERR_SETTINGS, "the credentials hold a control character");
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, ERR_FAILED, "libcurl does not start");
	h->curl = curl_easy_init();
	if (!h->curl)
		return err_set(e, ERR_FAILED, "libcurl has no memory");
	h->ca_file = mem_strdup(str_is_empty(s->ca_file) ? NULL : s->ca_file);
	h->proxy = mem_strdup(s->proxy ? s->proxy : "");
	h->cert_file = mem_strdup(str_is_empty(s->client_cert_file) ? NULL : s->client_cert_file);
	h->key = mem_strdup(s->client_key);
	h->connect_timeout_ms = s->connect_timeout_ms > 0 ? s->connect_timeout_ms : CONNECT_TIMEOUT_MS;

	/* Without this curl waits up to a second for "100 Continue" before a body of 1 MiB and more. */
	h->headers = curl_slist_append(NULL, "Expect:");
	if (s->authorization) {
		header = mem_printf("%s: %s",
				    s->authorization_header ? s->authorization_header : "Authorization",
				    s->authorization);
		h->headers = curl_slist_append(h->headers, header);
		wipe(header);
	}
	if (s->content_type) {
		AUTO_FREE char *type = mem_printf("Content-Type: %s", s->content_type);

		h->headers = curl_slist_append(h->headers, type);
	}
	*ret = take_ptr(h);
	return 0;
}

void
http_free(struct http *h)
{
	for (struct curl_slist *l = h->headers; l; l = l->next)
		wipe(l->data);
	curl_slist_free_all(h->headers);
	if (h->curl)
		curl_easy_cleanup(h->curl);
	mem_free_at(&h->ca_file);
	mem_free_at(&h->proxy);
	mem_free_at(&h->cert_file);
	if (h->key)
		wipe(h->key);
	mem_free_at(&h->key);
	mem_free_at(&h);
}

void
http_answer_free(struct http_answer *a)
{
	buf_free(&a->body);
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	(void)size; /* always 1 */
	buf_add(&t->answer->body, data, n);
	return t->answer->body.is_full ? 0 : n;
}

static size_t
on_read(char *to, size_t size, size_t n, void *arg)
{
	struct source *s = arg;
	size_t want = size * n;
	ssize_t got;

	if (want > s->len - s->at)
		want = (size_t)(s->len - s->at);
	if (want == 0)
		return 0;
	do
		got = pread(s->fd, to, want, s->start + (off_t)s->at);
	while (got < 0 && errno == EINTR);
	if (got <= 0) { /* shorter than it was: as bad as an error */
		s->no = got < 0 ? errno : EIO;
		return CURL_READFUNC_ABORT;
	}
	s->at += (uint64_t)got;
	return (size_t)got;
}

static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	struct source *s = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > s->len)
		return CURL_SEEKFUNC_CANTSEEK;
	s->at = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int
add_part(curl_mime *form, const struct http_part *p, struct source *s)
{
	curl_mimepart *part = curl_mime_addpart(form);

	if (!part || curl_mime_name(part, p->name) != CURLE_OK)
		return -1;
	if (p->value)
		return curl_mime_data(part, p->value, CURL_ZERO_TERMINATED) == CURLE_OK ? 0 : -1;
	*s = (struct source){ .fd = p->fd, .start = p->offset, .len = p->len };
	if (curl_mime_data_cb(part, (curl_off_t)p->len, on_read, on_seek, NULL, s) != CURLE_OK ||
	    curl_mime_filename(part, p->file_name) != CURLE_OK ||
	    curl_mime_type(part, p->content_type) != CURLE_OK)
		return -1;
	return 0;
}

/* Everything but the form. */
static bool
set_options(struct http *h, const struct http_request *r, struct transfer *t, int64_t left_ms)
{
	CURL *c = h->curl;
	long connect_ms = (long)(h->connect_timeout_ms < left_ms ? h->connect_timeout_ms : left_ms);
	CURLcode rc = CURLE_OK;

	curl_easy_reset(c); /* connections stay */
	rc |= curl_easy_setopt(c, CURLOPT_URL, r->url);
	rc |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	rc |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	rc |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	rc |= curl_easy_setopt(c, CURLOPT_HTTP09_ALLOWED, 0L);
	rc |= curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	rc |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
	rc |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
	if (h->ca_file)
		rc |= curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file);
	if (h->cert_file)
		rc |= curl_easy_setopt(c, CURLOPT_SSLCERT, h->cert_file);
	if (h->cert_file && h->key) {
		struct curl_blob key = { .data = h->key, .len = strlen(h->key), .flags = CURL_BLOB_COPY };

		rc |= curl_easy_setopt(c, CURLOPT_SSLKEY_BLOB, &key);
	}
	/* An empty name switches off what the environment says. */
	rc |= curl_easy_setopt(c, CURLOPT_PROXY, h->proxy);
	rc |= curl_easy_setopt(c, CURLOPT_NOPROXY, "");
	rc |= curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	rc |= curl_easy_setopt(c, CURLOPT_USERAGENT, "tidewaiter/" TIDEWAITER_VERSION);
	rc |= curl_easy_setopt(c, CURLOPT_HTTPHEADER, h->headers);
	rc |= curl_easy_setopt(c, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); /* a proxy never sees them */
	rc |= curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)left_ms);
	rc |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
	rc |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* A resolver that hangs may not hold us beyond the deadline. */
	rc |= curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	rc |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	rc |= curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	rc |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->message);
	return rc == CURLE_OK;
}

static void
read_headers(CURL *c, struct http_answer *a)
{
	struct curl_header *h;
	curl_off_t retry = 0;
	size_t n = 0;

	if (curl_easy_header(c, "Content-Type", 0, CURLH_HEADER, -1, &h) == CURLHE_OK) {
		for (const char *p = h->value; *p && *p != ';' && n + 1 < sizeof(a->content_type); p++) {
			if (!isspace((unsigned char)*p))
				a->content_type[n++] = (char)tolower((unsigned char)*p);
		}
		a->content_type[n] = '\0';
	}
	if (curl_easy_header(c, "Retry-After", 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
	    curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &retry) == CURLE_OK && retry >= 0)
		a->retry_after_s = retry > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : retry;
	if (curl_easy_header(c, "Date", 0, CURLH_HEADER, -1, &h) == CURLHE_OK) {
		time_t date = curl_getdate(h->value, NULL);

		a->date_s = date > 0 ? date : 0;
	}
}

/* What curl's result means for whoever must decide whether to send again. */
static int
end_of(CURLcode rc, bool is_body_full, int status, enum http_end *ret)
{
	switch ((int)rc) {
	case CURLE_OK:
		*ret = HTTP_ANSWERED;
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		*ret = HTTP_TIMED_OUT;
		return 0;
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_PROXY:
		*ret = HTTP_UNREACHABLE;
		return 0;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CLIENTCERT:
		*ret = HTTP_UNTRUSTED;
		return 0;
	case CURLE_WRITE_ERROR:
		if (!is_body_full)
			return -1;
		*ret = HTTP_CUT;
		return 0;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_OUT_OF_MEMORY:
	case CURLE_ABORTED_BY_CALLBACK:
	case CURLE_READ_ERROR:
		return -1;
	default: /* cut, reset, nonsense instead of HTTP */
		*ret = status > 0 ? HTTP_CUT : HTTP_BROKEN;
		return 0;
	}
}

static bool
was_sent(CURL *c, const struct source *sources, size_t n)
{
	curl_off_t sent = 0, whole = -1;

	for (size_t i = 0; i < n; i++) {
		if (sources[i].at < sources[i].len)
			return false;
	}
	if (curl_easy_getinfo(c, CURLINFO_SIZE_UPLOAD_T, &sent) != CURLE_OK ||
	    curl_easy_getinfo(c, CURLINFO_CONTENT_LENGTH_UPLOAD_T, &whole) != CURLE_OK)
		return true;
	return sent > 0 && sent >= whole;
}

/* libcurl says "Couldn't connect" alike of a port that is closed and of a network without a route. */
static void
say_fault(struct http *h, CURLcode rc, const char *why, struct http_answer *a)
{
	AUTO_FREE char *safe = str_safe(why, sizeof(a->fault) / 4);
	long no = 0;

	if (rc == CURLE_COULDNT_CONNECT && curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &no) == CURLE_OK &&
	    no > 0)
		snprintf(a->fault, sizeof(a->fault), "%s (%s)", safe, strerror((int)no));
	else
		snprintf(a->fault, sizeof(a->fault), "%s", safe);
}

static int
fill_answer(struct http *h, CURLcode rc, const struct http_request *r, struct source *sources,
	    struct transfer *t, struct err *e)
{
	struct http_answer *a = t->answer;
	const char *why = t->message[0] ? t->message : curl_easy_strerror(rc);
	long status = 0, request_size = 0;
	curl_off_t connect_us = 0, begin_us = 0;

	for (size_t i = 0; i < r->n_parts; i++) {
		if (sources[i].no) {
			errno = sources[i].no;
			return err_errno(e, "reading what is to be sent");
		}
	}
	/* Bytes that are no HTTP have the same code as a scheme that is not known. */
	curl_easy_getinfo(h->curl, CURLINFO_REQUEST_SIZE, &request_size);
	if (rc == CURLE_UNSUPPORTED_PROTOCOL && request_size > 0)
		rc = CURLE_WEIRD_SERVER_REPLY;
	/* With TLS 1.3 a server says so when the request is on its way already; it has not looked at that. */
	if (rc == CURLE_RECV_ERROR && strstr(t->message, "certificate required"))
		rc = CURLE_SSL_CLIENTCERT;
	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
	a->status = (int)status;
	if (end_of(rc, a->body.is_full, a->status, &a->end) < 0)
		return err_set(e, ERR_FAILED, "%s: %s", r->url, why);
	if (a->status > 0)
		read_headers(h->curl, a);
	curl_easy_getinfo(h->curl, CURLINFO_CONNECT_TIME_T, &connect_us);
	/* A connection that was there already was not made. */
	curl_easy_getinfo(h->curl, CURLINFO_PRETRANSFER_TIME_T, &begin_us);
	a->was_connected = connect_us > 0 || begin_us > 0;
	a->was_sent = a->end != HTTP_UNTRUSTED && (!r->parts || was_sent(h->curl, sources, r->n_parts));
	if (a->end != HTTP_ANSWERED)
		say_fault(h, rc, a->body.is_full ? "the answer is too long" : why, a);
	return 0;
}

/* `type` goes before the other headers and lives until the request is over. */
static bool
set_patch(struct http *h, struct curl_slist *type)
{
	type->next = h->headers;
	return curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, "PATCH") == CURLE_OK &&
	       curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, type) == CURLE_OK;
}

int
http_send(struct http *h, const struct http_request *r, struct http_answer *ret, struct err *e)
{
	AUTO_FREE struct source *sources = mem_array(r->n_parts + 1, sizeof(*sources));
	struct transfer t = { .answer = ret };
	int64_t left_ms = clock_left_ms(r->deadline);
	struct curl_slist json_type = { .data = (char[]){ "Content-Type: application/json" } };
	curl_mime *form = NULL;
	bool is_ready;
	int rc = -1;

	*ret = (struct http_answer)HTTP_ANSWER_INIT;
	ret->body = (struct buf)BUF_INIT(r->body_max);
	if (left_ms <= 0) {
		ret->end = HTTP_TIMED_OUT;
		snprintf(ret->fault, sizeof(ret->fault), "no time is left");
		return 0;
	}
	is_ready = set_options(h, r, &t, left_ms < INT_MAX ? left_ms : INT_MAX);
	/* On a connection that was there before, libcurl sends once more by itself when that ends without an answer: but it may have arrived. */
	is_ready =
		is_ready && curl_easy_setopt(h->curl, CURLOPT_FRESH_CONNECT, r->parts ? 1L : 0L) == CURLE_OK;
	if (is_ready && r->parts) {
		form = curl_mime_init(h->curl);
		is_ready = form != NULL;
		for (size_t i = 0; is_ready && i < r->n_parts; i++)
			is_ready = add_part(form, &r->parts[i], &sources[i]) == 0;
		is_ready = is_ready && curl_easy_setopt(h->curl, CURLOPT_MIMEPOST, form) == CURLE_OK;
	}
	if (is_ready && !r->parts && r->data)
		is_ready = curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->data_len) ==
				   CURLE_OK &&
			   curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, r->data) == CURLE_OK &&
			   (!r->is_patch || set_patch(h, &json_type));
	if (is_ready)
		rc = fill_answer(h, curl_easy_perform(h->curl), r, sources, &t, e);
	else
		err_set(e, ERR_FAILED, "libcurl does not take the request");
	/* Nothing on this stack may stay behind in the handle. */
	curl_easy_reset(h->curl);
	curl_mime_free(form);
	return rc;
}

int
http_base_url(const char *url, char **ret, struct err *e)
{
	static const CURLUPart forbidden[] = { CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
					       CURLUPART_FRAGMENT };
	static const char *const names[] = { "a user name", "a password", "a query", "a fragment" };
	CURLU *u = curl_url();
	char *part = NULL;
	const char *why = NULL;
	size_t len = strlen(url);

	if (!u || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK)
		why = "not a URL";
	for (size_t i = 0; !why && i < MEM_COUNT(forbidden); i++) {
		if (curl_url_get(u, forbidden[i], &part, 0) == CURLUE_OK)
			why = names[i];
		curl_free(part);
		part = NULL;
	}
	if (!why && curl_url_get(u, CURLUPART_SCHEME, &part, 0) == CURLUE_OK && !str_eq(part, "http") &&
	    !str_eq(part, "https"))
		why = "a scheme other than http and https";
	curl_free(part);
	curl_url_cleanup(u);
	if (why) /* the URL itself may hold a password */
		return err_set(e, ERR_SETTINGS,
			       "the URL is refused: found %s, expected http(s)://host[:port][/path]", why);
	while (len > 0 && url[len - 1] == '/')
		len--;
	*ret = mem_strndup(url, len);
	return 0;
}

char *
http_escape(const char *s)
{
	AUTO_BUF struct buf b = BUF_INIT(SIZE_MAX / 2);

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		if (isalnum(*p) || strchr("-._~", *p))
			buf_add_char(&b, (char)*p);
		else
			buf_printf(&b, "%%%02X", *p);
	}
	return mem_strdup(buf_str(&b));
}
