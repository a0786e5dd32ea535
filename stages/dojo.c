#include "stages/dojo.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/str.h"
#include "stages/dojo_link.h"
#include "stages/options.h"

#define ANSWER_MAX (1024 * 1024)      /* bytes; an upload's answer has 6 KB, an HTML error page 42 KB */
#define LOOKUP_MAX (16 * 1024 * 1024) /* bytes; a row of test_imports has 140 bytes a finding */
#define SCHEMA_MAX (8 * 1024 * 1024)  /* bytes; 789 KB in 3.2.0 */
#define PAGE 100
#define PAGES_MAX 20
#define FORM_MAX (32 + DELIVERY_TAGS_MAX)
#define SCAN_TYPE "Trivy Scan"
#define FIX_OTHER "set defectdojo.url to a DefectDojo; what answers there is another program"
/* Before anything was sent: a file that cannot be read. */
#define FIX_OWN "do what the lines on files say; then see defectdojo.url and ca_file"

struct dojo {
	struct http *http;
	char *api;	 /* "<base>/api/v2" */
	const char *fix; /* dojo_fix() */
	int64_t date_s;	 /* what its last answer said, 0: nothing; and when that came */
	int64_t date_at_ms;
};

static void
wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
}

void
dojo_settings_of(const struct options_defectdojo *o, struct dojo_settings *ret)
{
	*ret = (struct dojo_settings){ .url = o->url,
				       .token_file = o->token_file,
				       .ca_file = o->ca_file,
				       .proxy = o->proxy,
				       .client_cert_file = o->client_cert_file,
				       .client_key_file = o->client_key_file };
}

/* What a file holds, without reading a secret. */
static void
hash_file(struct hash *h, const char *path)
{
	struct stat st;
	int64_t id[3] = { 0 };

	if (str_is_empty(path))
		return;
	hash_update(h, path, strlen(path) + 1);
	if (stat(path, &st) == 0) {
		id[0] = (int64_t)st.st_ino;
		id[1] = st.st_size;
		id[2] = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	}
	hash_update(h, id, sizeof(id));
}

void
dojo_settings_key(const struct dojo_settings *s, char out[DELIVERY_KEY_SIZE])
{
	const char *const files[] = { s->token_file, s->ca_file, s->client_cert_file, s->client_key_file };
	AUTO(hash) struct hash *h = hash_new(HASH_SHA256);
	char digest[HASH_DIGEST_MAX];
	const char *hex = digest;
	enum hash_algo algo;

	hash_update(h, s->url ? s->url : "", s->url ? strlen(s->url) + 1 : 1);
	hash_update(h, s->proxy ? s->proxy : "", s->proxy ? strlen(s->proxy) + 1 : 1);
	for (size_t i = 0; i < MEM_COUNT(files); i++)
		hash_file(h, files[i]);
	hash_digest(h, digest);
	if (hash_parse_digest(digest, &algo, &hex) < 0)
		hex = digest;
	snprintf(out, DELIVERY_KEY_SIZE, "%.16s", hex);
}

/* The client's certificate; *ret_key is to be wiped. */
static int
read_client(const struct dojo_settings *s, struct http_settings *hs, char **ret_key, struct err *e)
{
	bool has_cert = !str_is_empty(s->client_cert_file), has_key = !str_is_empty(s->client_key_file);

	if (has_key && !has_cert)
		return err_set(e, ERR_SETTINGS, "defectdojo.client_key_file without client_cert_file");
	if (has_key && fs_read_secret(s->client_key_file, ret_key, e) < 0)
		return -1;
	hs->client_cert_file = s->client_cert_file;
	hs->client_key = *ret_key;
	return 0;
}

int
dojo_new(const struct dojo_settings *s, struct dojo **ret, struct err *e)
{
	AUTO(dojo) struct dojo *d = mem_alloc(sizeof(*d));
	AUTO_FREE char *base = NULL, *token = NULL, *authorization = NULL, *key = NULL;
	struct http_settings hs = { .ca_file = s->ca_file, .proxy = s->proxy };
	int rc;

	if (dojo_base_url(s->url, &base, e) < 0 || read_client(s, &hs, &key, e) < 0)
		return -1;
	if (str_is_empty(s->token_file)) {
		wipe(key);
		return err_set(e, ERR_SETTINGS, "defectdojo.token_file is not set");
	}
	if (fs_read_secret(s->token_file, &token, e) < 0) {
		wipe(key);
		return -1;
	}
	authorization = mem_printf("Token %s", token);
	hs.authorization = authorization;
	rc = http_new(&hs, &d->http, e);
	wipe(token);
	wipe(authorization);
	wipe(key);
	if (rc < 0)
		return err_wrap(e, "%s", s->token_file);
	d->api = mem_printf("%s/api/v2", base);
	d->fix = FIX_OWN;
	*ret = take_ptr(d);
	return 0;
}

void
dojo_free(struct dojo *d)
{
	if (d->http)
		http_free(d->http);
	mem_free_at(&d->api);
	mem_free_at(&d);
}

/* ---- requests ---- */

static int
send_request(struct dojo *d, const struct http_request *r, struct http_answer *ret, struct err *e)
{
	if (http_send(d->http, r, ret, e) < 0)
		return -1;
	if (ret->date_s > 0) {
		d->date_s = ret->date_s;
		d->date_at_ms = clock_mono_ms();
	}
	return 0;
}

int64_t
dojo_clock_s(const struct dojo *d)
{
	return d->date_s > 0 ? d->date_s + (clock_mono_ms() - d->date_at_ms) / 1000 : clock_wall_s();
}

/* ---- the form of reimport-scan ---- */

struct form {
	struct http_part parts[FORM_MAX];
	size_t n;
};

static void
form_add(struct form *f, const char *name, const char *value)
{
	if (f->n < FORM_MAX)
		f->parts[f->n++] = (struct http_part){ .name = name, .value = value ? value : "" };
}

static void
form_add_set(struct form *f, const char *name, const char *value)
{
	if (!str_is_empty(value))
		form_add(f, name, value);
}

static void
form_add_tristate(struct form *f, const char *name, int value)
{
	if (value != TRI_UNSET)
		form_add(f, name, value == TRI_TRUE ? "true" : "false");
}

/* Version, branch, commit and build id always go: a reimport without them blanks them (FACTS.md, 2). */
static void
form_fill(struct form *f, const struct delivery *d)
{
	form_add(f, "scan_type", SCAN_TYPE);
	form_add_set(f, "product_type_name", d->product_type);
	form_add(f, "product_name", d->product);
	form_add(f, "engagement_name", d->engagement);
	form_add(f, "test_title", d->test);
	form_add(f, "auto_create_context", "true");
	form_add(f, "version", d->version);
	form_add(f, "branch_tag", d->branch);
	form_add(f, "commit_hash", d->commit);
	form_add(f, "build_id", d->build_id);
	form_add_set(f, "service", d->service);
	form_add(f, "deduplication_execution_mode", "sync");
	form_add(f, "close_old_findings", d->keeps_old ? "false" : "true");
	form_add_set(f, "environment", d->environment);
	form_add_set(f, "minimum_severity", d->minimum_severity);
	form_add_tristate(f, "active", d->active);
	form_add_tristate(f, "verified", d->verified);
	for (size_t i = 0; i < d->tags.n; i++)
		form_add(f, "tags", d->tags.v[i]);
}

static int
post_form(struct dojo *dojo, const struct form *f, int64_t deadline, struct http_answer *ret, struct err *e)
{
	AUTO_FREE char *url = mem_printf("%s/reimport-scan/", dojo->api);
	struct http_request r = {
		.url = url, .parts = f->parts, .n_parts = f->n, .body_max = ANSWER_MAX, .deadline = deadline
	};

	return send_request(dojo, &r, ret, e);
}

int
dojo_reimport(struct dojo *dojo, const struct delivery *d, const struct delivery_file *file, int64_t deadline,
	      struct dojo_answer *ret, struct err *e)
{
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	struct form f = { .n = 0 };

	form_fill(&f, d);
	if (f.n < FORM_MAX)
		f.parts[f.n++] = (struct http_part){ .name = "file",
						     .fd = file->fd,
						     .offset = file->offset,
						     .len = d->report_len,
						     .file_name = "trivy.json",
						     .content_type = "application/json" };
	if (post_form(dojo, &f, deadline, &a, e) < 0)
		return -1;
	dojo_classify(&a, ret);
	return 0;
}

int
dojo_probe(struct dojo *dojo, const struct delivery *d, int64_t deadline, struct dojo_probe *ret,
	   struct err *e)
{
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	struct form f = { .n = 0 };

	form_fill(&f, d);
	if (post_form(dojo, &f, deadline, &a, e) < 0)
		return -1;
	dojo_classify(&a, &ret->answer);
	ret->is_accepted = a.end == HTTP_ANSWERED && a.status == 400 &&
			   strstr(buf_str(&a.body), "Uploading a Report File is required") != NULL;
	return 0;
}

/* ---- reading back ---- */

/* An answer that is no JSON with status 200: why, in the server's own words. */
static int
check_json(struct dojo *dojo, const struct http_answer *a, struct err *e)
{
	struct dojo_answer why;

	if (a->end == HTTP_ANSWERED && a->status == 200 && str_eq(a->content_type, "application/json"))
		return 0;
	dojo_classify(a, &why);
	dojo->fix = why.fix ? why.fix : FIX_OWN;
	err_set(e, a->end == HTTP_TIMED_OUT ? ERR_TIMEOUT : ERR_FAILED, "%s", why.reason);
	if (e && (why.is_server_wide || a->end == HTTP_TIMED_OUT))
		e->no = EHOSTDOWN;
	else if (e && (a->status == 401 || a->status == 403))
		e->no = EACCES;
	return -1;
}

const char *
dojo_fix(const struct dojo *dojo)
{
	return dojo->fix;
}

int
dojo_get_json(struct dojo *dojo, const char *path, size_t max, int64_t deadline, cJSON **ret, struct err *e)
{
	AUTO_FREE char *url = mem_printf("%s%s", dojo->api, path);
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	struct http_request r = { .url = url, .body_max = max, .deadline = deadline };

	dojo->fix = FIX_OWN;
	if (send_request(dojo, &r, &a, e) < 0 || check_json(dojo, &a, e) < 0)
		return -1;
	dojo->fix = FIX_OTHER; /* where the caller misses something in it */
	if (json_parse(buf_str(&a.body), a.body.len, max, 0, ret, e) < 0)
		return err_wrap(e, "DefectDojo's answer");
	return 0;
}

int
dojo_patch_json(struct dojo *dojo, const char *path, const cJSON *body, int64_t deadline, cJSON **ret,
		struct err *e)
{
	AUTO_FREE char *url = mem_printf("%s%s", dojo->api, path);
	AUTO_FREE char *text = json_print(body);
	AUTO_HTTP_ANSWER struct http_answer a = HTTP_ANSWER_INIT;
	struct http_request r = { .url = url,
				  .data = text,
				  .data_len = strlen(text),
				  .is_patch = true,
				  .body_max = ANSWER_MAX,
				  .deadline = deadline };

	if (send_request(dojo, &r, &a, e) < 0 || check_json(dojo, &a, e) < 0)
		return -1;
	return json_parse(buf_str(&a.body), a.body.len, ANSWER_MAX, 0, ret, e) < 0
		       ? err_wrap(e, "DefectDojo's answer")
		       : 0;
}

/* Rows of a list, filtered by us: the API ignores filters that it does not know (FACTS.md, 4). */
struct rows {
	const struct delivery *d;
	int64_t parent; /* what they must belong to */
	int64_t ids[PAGE];
	size_t n;
};

typedef bool row_match(const cJSON *row, const struct rows *r);

static int
list_rows(struct dojo *dojo, const char *query, row_match *is_match, int64_t deadline, struct rows *rows,
	  struct err *e)
{
	for (int64_t offset = 0; offset < (int64_t)PAGE * PAGES_MAX; offset += PAGE) {
		AUTO_FREE char *path = mem_printf("%s&limit=%d&offset=%lld", query, PAGE, (long long)offset);
		AUTO_JSON cJSON *page = NULL;
		const cJSON *row;

		if (dojo_get_json(dojo, path, LOOKUP_MAX, deadline, &page, e) < 0)
			return -1;
		if (!json_array(page, "results") || json_int(page, "count", -1) < 0)
			return err_set(e, ERR_FAILED, "DefectDojo's answer is no list");
		cJSON_ArrayForEach(row, json_array(page, "results"))
		{
			int64_t id = json_int(row, "id", -1);

			if (id >= 0 && is_match(row, rows) && rows->n < MEM_COUNT(rows->ids))
				rows->ids[rows->n++] = id;
		}
		if (offset + PAGE >= json_int(page, "count", 0))
			return 0;
	}
	return err_set(e, ERR_FAILED, "DefectDojo lists more than %d rows for one name", PAGE * PAGES_MAX);
}

/* Names of products are found without case, so they are compared without. */
static bool
is_product(const cJSON *row, const struct rows *r)
{
	const char *name = json_str(row, "name");

	return name && r->d->product && strcasecmp(name, r->d->product) == 0;
}

static bool
is_engagement(const cJSON *row, const struct rows *r)
{
	return json_int(row, "product", -1) == r->parent && str_eq(json_str(row, "name"), r->d->engagement);
}

static bool
is_test(const cJSON *row, const struct rows *r)
{
	return json_int(row, "engagement", -1) == r->parent && str_eq(json_str(row, "title"), r->d->test);
}

/* Two images can share a test: then their services tell the rows apart. */
static bool
is_import(const cJSON *row, const struct rows *r)
{
	const char *service = json_str(json_object(row, "import_settings"), "service");

	return json_int(row, "test", -1) == r->parent && str_eq(json_str(row, "build_id"), r->d->build_id) &&
	       (!service || str_eq(service, r->d->service));
}

static int
find_children(struct dojo *dojo, const struct delivery *d, const char *path, const char *by,
	      const struct rows *parents, const char *name_key, const char *name, row_match *is_match,
	      int64_t deadline, struct rows *ret, struct err *e)
{
	AUTO_FREE char *escaped = http_escape(name ? name : "");

	*ret = (struct rows){ .d = d };
	for (size_t i = 0; i < parents->n; i++) {
		AUTO_FREE char *query = mem_printf("%s?%s=%lld&%s=%s", path, by, (long long)parents->ids[i],
						   name_key, escaped);

		ret->parent = parents->ids[i];
		if (list_rows(dojo, query, is_match, deadline, ret, e) < 0)
			return -1;
	}
	return 0;
}

int
dojo_ask_fate(struct dojo *dojo, const struct delivery *d, int64_t deadline, enum dojo_fate *ret,
	      struct err *e)
{
	AUTO_FREE char *name = http_escape(d->product ? d->product : "");
	AUTO_FREE char *query = mem_printf("/products/?name_exact=%s", name);
	struct rows products = { .d = d }, engagements, tests, imports;

	if (list_rows(dojo, query, is_product, deadline, &products, e) < 0 ||
	    find_children(dojo, d, "/engagements/", "product", &products, "name", d->engagement,
			  is_engagement, deadline, &engagements, e) < 0 ||
	    find_children(dojo, d, "/tests/", "engagement", &engagements, "title", d->test, is_test, deadline,
			  &tests, e) < 0 ||
	    find_children(dojo, d, "/test_imports/", "test", &tests, "build_id", d->build_id, is_import,
			  deadline, &imports, e) < 0)
		return err_wrap(e, "asking whether it had arrived");
	*ret = imports.n > 0 ? DOJO_LANDED : DOJO_ABSENT;
	return 0;
}

int
dojo_whoami(struct dojo *dojo, int64_t deadline, struct dojo_user *ret, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	const cJSON *user;
	const char *name;

	if (dojo_get_json(dojo, "/user_profile/", ANSWER_MAX, deadline, &j, e) < 0)
		return -1;
	user = json_object(j, "user");
	if (json_need_str(user, "username", &name, e) < 0)
		return err_wrap(e, "user_profile");
	ret->name = str_safe(name, 150);
	ret->is_staff = json_bool(user, "is_staff", false);
	ret->is_superuser = json_bool(user, "is_superuser", false);
	return 0;
}

int
dojo_version(struct dojo *dojo, int64_t deadline, char **ret, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	const char *version;

	if (dojo_get_json(dojo, "/oa3/schema/?format=json", SCHEMA_MAX, deadline, &j, e) < 0)
		return -1;
	if (json_need_str(json_object(j, "info"), "version", &version, e) < 0)
		return err_wrap(e, "schema");
	*ret = str_safe(version, 40);
	return 0;
}
