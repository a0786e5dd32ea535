#include "base/http_local.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

#define PROBLEM_MAX 4096 /* bytes of what a server says about its refusal */
#define PROBLEM_SHOWN 200

struct http_local {
	CURL *curl;
	char *path;
};

/* One request on its way. */
struct transfer {
	CURL *curl;
	const struct http_local_sink *sink;
	struct buf problem;
	bool was_ended; /* by the sink */
	char message[CURL_ERROR_SIZE];
};

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	long status = 0;

	(void)size; /* always 1 */
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		buf_add(&t->problem, data, n);
		return n;
	}
	t->was_ended = !t->sink->take(t->sink->arg, data, n);
	return t->was_ended ? 0 : n;
}

int
http_local_new(const char *path, struct http_local **ret, struct err *e)
{
	AUTO(http_local) struct http_local *h = mem_alloc(sizeof(*h));
	CURL *c;

	h->path = mem_strdup(path);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->curl = c = curl_easy_init()))
		return err_set(e, ERR_FAILED, "libcurl does not start");
	if (curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, path) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_PROXY, "") != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http") != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024) != CURLE_OK)
		return err_set(e, ERR_FAILED, "%s: libcurl does not take an option", path);
	*ret = take_ptr(h);
	return 0;
}

void
http_local_free(struct http_local *h)
{
	if (h->curl)
		curl_easy_cleanup(h->curl);
	mem_free_at(&h->path);
	mem_free_at(&h);
}

static int
refused(const struct http_local *h, const struct transfer *t, long status, struct err *e)
{
	AUTO_FREE char *first = mem_strndup(buf_str(&t->problem), strcspn(buf_str(&t->problem), "\r\n"));
	AUTO_FREE char *safe = str_safe(first, PROBLEM_SHOWN);

	return err_set(e, ERR_FAILED, "%s answers %ld%s%s", h->path, status, *safe ? ": " : "", safe);
}

static int
judge(const struct http_local *h, const struct transfer *t, CURLcode rc, struct err *e)
{
	long status = 0, no = 0;

	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
	if (rc == CURLE_COULDNT_CONNECT && curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &no) == CURLE_OK &&
	    no) {
		errno = (int)no;
		return err_errno(e, "%s", h->path);
	}
	if (rc == CURLE_OPERATION_TIMEDOUT)
		return err_set(e, ERR_TIMEOUT, "%s did not answer in time", h->path);
	if (t->was_ended) {
		err_set(e, ERR_FAILED, "%s: what it sends was not taken to its end", h->path);
		if (e)
			e->no = EPIPE;
		return -1;
	}
	if (rc != CURLE_OK)
		return err_set(e, ERR_FAILED, "%s: %s", h->path,
			       *t->message ? t->message : curl_easy_strerror(rc));
	return status == 200 ? 0 : refused(h, t, status, e);
}

int
http_local_get(struct http_local *h, const char *target, const struct http_local_sink *sink, int64_t deadline,
	       struct err *e)
{
	AUTO_FREE char *url = mem_printf("http://localhost%s", target);
	struct transfer t = { .curl = h->curl, .sink = sink, .problem = BUF_INIT(PROBLEM_MAX) };
	int64_t left = clock_left_ms(deadline);
	int rc = -1;

	if (left <= 0)
		return err_set(e, ERR_TIMEOUT, "%s: no time is left", h->path);
	if (curl_easy_setopt(h->curl, CURLOPT_URL, url) != CURLE_OK ||
	    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, &t) != CURLE_OK ||
	    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, t.message) != CURLE_OK ||
	    curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, (long)left) != CURLE_OK)
		err_set(e, ERR_FAILED, "%s: libcurl does not take %s", h->path, target);
	else
		rc = judge(h, &t, curl_easy_perform(h->curl), e);
	(void)curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, NULL);
	buf_free(&t.problem);
	return rc;
}

static bool
add_to_buf(void *arg, const void *p, size_t n)
{
	struct buf *b = arg;

	buf_add(b, p, n);
	return !b->is_full;
}

int
http_local_get_text(struct http_local *h, const char *target, int64_t deadline, struct buf *body,
		    struct err *e)
{
	const struct http_local_sink sink = { add_to_buf, body };

	if (http_local_get(h, target, &sink, deadline, e) == 0)
		return 0;
	if (body->is_full)
		return err_set(e, ERR_NO_SPACE, "%s answers %s with more than %zu bytes", h->path, target,
			       body->max);
	return -1;
}
