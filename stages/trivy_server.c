#include "stages/trivy_server.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/http.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/relay.h"

#define ANSWER_MAX 65536 /* bytes */
#define TIMEOUT_MS 20000
#define CLOCK_SKEW_MAX_S 3600

static int
parse(const struct buf *body, struct trivy_db *db, char ret_version[32], struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	const char *version, *updated;
	const cJSON *o;

	if (json_parse(buf_str(body), body->len, ANSWER_MAX, 0, &j, e) < 0 ||
	    json_need_str(j, "Version", &version, e) < 0)
		return -1;
	o = json_object(j, "VulnerabilityDB");
	if (!o)
		return err_set(e, ERR_FAILED, "it has no vulnerability database");
	if (json_need_int(o, "Version", &db->schema, e) < 0 || json_need_str(o, "UpdatedAt", &updated, e) < 0 ||
	    clock_parse_rfc3339(updated, &db->updated_s, e) < 0)
		return -1;
	snprintf(ret_version, 32, "%.31s", version);
	return 0;
}

static int
judge(struct trivy_db *db, int64_t now_s, int64_t max_age_ms, struct err *e)
{
	if (db->schema != TRIVY_DB_SCHEMA)
		return err_set(e, ERR_FAILED, "its vulnerability database is of schema %jd, expected %d",
			       (intmax_t)db->schema, TRIVY_DB_SCHEMA);
	if (db->updated_s > now_s + CLOCK_SKEW_MAX_S)
		return err_set(e, ERR_FAILED,
			       "its vulnerability database was made in the future; are the clocks right?");
	db->age_ms = db->updated_s < now_s ? (now_s - db->updated_s) * 1000 : 0;
	if (max_age_ms > 0 && db->age_ms > max_age_ms) {
		AUTO_FREE char *age = str_human_duration(db->age_ms);
		AUTO_FREE char *max = str_human_duration(max_age_ms);

		return err_set(e, ERR_FAILED,
			       "its vulnerability database is %s old, allowed are %s (trivy.db_max_age)", age,
			       max);
	}
	return 0;
}

static int
ask(const char *url, const struct http_settings *settings, const char *see, int64_t now_s, int64_t max_age_ms,
    struct trivy_db *ret_db, char ret_version[32], struct err *e)
{
	const struct http_request r = { .url = url,
					.body_max = ANSWER_MAX,
					.deadline = clock_deadline(TIMEOUT_MS) };
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	AUTO(http) struct http *h = NULL;
	int rc = 0;

	if (http_new(settings, &h, e) < 0 || http_send(h, &r, &a, e) < 0)
		return -1;
	if (a.end != HTTP_ANSWERED)
		rc = err_set(e, ERR_FAILED, "no answer (%s)%s", a.fault, see);
	else if (a.status != 200)
		rc = err_set(e, ERR_FAILED, "no answer (HTTP %d)%s", a.status, see);
	else if (parse(&a.body, ret_db, ret_version, e) < 0)
		rc = -1;
	else
		rc = judge(ret_db, now_s, max_age_ms, e);
	if (rc < 0 && e)
		e->kind = ERR_FAILED; /* of the host's making, whatever a parser calls it */
	return rc < 0 ? err_wrap(e, "Trivy server (trivy.server)") : 0;
}

int
trivy_server_ask(int port, const char *token, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret_db,
		 char ret_version[32], struct err *e)
{
	const struct http_settings settings = { .authorization = token,
						.authorization_header = RELAY_TOKEN_HEADER };
	AUTO_FREE char *url = mem_printf("http://127.0.0.1:%d/version", port);

	return ask(url, &settings, "; see above", now_s, max_age_ms, ret_db, ret_version, e);
}

int
trivy_server_look(const struct options_trivy *o, int64_t now_s, struct trivy_db *ret_db, char ret_version[32],
		  struct err *e)
{
	AUTO_FREE char *token = NULL, *url = NULL;
	struct http_settings settings = { .ca_file = o->server_ca_file,
					  .authorization_header = RELAY_TOKEN_HEADER };
	size_t len = strlen(o->server);
	int rc;

	while (len > 0 && o->server[len - 1] == '/')
		len--;
	url = mem_printf("%.*s/version", (int)len, o->server);
	if (!str_is_empty(o->server_token_file) && fs_read_secret(o->server_token_file, &token, e) < 0)
		return err_wrap(e, "trivy.server_token_file");
	settings.authorization = token;
	rc = ask(url, &settings, "", now_s, o->db_max_age, ret_db, ret_version, e);
	if (token)
		explicit_bzero(token, strlen(token));
	return rc;
}
