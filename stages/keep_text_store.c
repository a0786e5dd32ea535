/* What is kept of a test's findings: read, looked up, written; on this host, and for all hosts where they share it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "stages/keep_text_private.h"

#define VERSION 1

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static int
read_key(const cJSON *o, const char *name, char out[KEPT_KEY_SIZE], struct err *e)
{
	const char *s;

	if (json_need_str(o, name, &s, e) < 0)
		return -1;
	if (strlen(s) != KEPT_KEY_SIZE - 1 || !str_is_hex(s, KEPT_KEY_SIZE - 1))
		return err_set(e, ERR_FAILED, "%s is no key", name);
	snprintf(out, KEPT_KEY_SIZE, "%s", s);
	return 0;
}

/* Of a release that did not keep it: nobody knows. NEVER is null. */
static void
read_below(const cJSON *o, struct entry *x)
{
	const cJSON *list = json_array(o, "below");

	for (int k = 0; k < SEVERITY_COUNT; k++) {
		const cJSON *one = list ? cJSON_GetArrayItem(list, k) : NULL;
		double s = one && cJSON_IsNumber(one) ? one->valuedouble : 0;

		x->below_s[k] = cJSON_IsNull(one) ? NEVER : s > 0 && s < 1e12 ? (int64_t)s : 0;
	}
}

static int
read_entry(const cJSON *o, struct entry *x, struct err *e)
{
	const struct {
		const char *name;
		char **to;
	} members[] = {
		{ "title", &x->first.title },	  { "description", &x->first.description },
		{ "fixed", &x->first.fixed },	  { "severity", &x->first.severity },
		{ "cwe", &x->first.cwe },	  { "told_severity", &x->told_severity },
		{ "told_fixed", &x->told_fixed },
	};

	for (size_t k = 0; k < MEM_COUNT(members); k++) {
		const char *s;

		if (json_need_str(o, members[k].name, &s, e) < 0)
			return -1;
		*members[k].to = mem_strdup(s);
	}
	if (read_key(o, "key", x->key, e) < 0 || read_key(o, "told_words", x->told_words, e) < 0)
		return -1;
	read_below(o, x);
	return json_need_int(o, "seen_s", &x->seen_s, e);
}

struct entry *
keep_text_add(struct keep_text *t)
{
	if ((t->n_entries & (t->n_entries - 1)) == 0)
		t->entries = mem_resize(t->entries, t->n_entries ? 2 * t->n_entries : 1, sizeof(*t->entries));
	t->entries[t->n_entries] = (struct entry){ 0 };
	return &t->entries[t->n_entries++];
}

static void
sort_entries(struct keep_text *t)
{
	if (t->n_entries > 0)
		qsort(t->entries, t->n_entries, sizeof(*t->entries), compare_entries);
	t->n_sorted = t->n_entries;
}

size_t
keep_text_find(const struct keep_text *t, const char *key)
{
	struct entry wanted;
	const struct entry *x;

	snprintf(wanted.key, sizeof(wanted.key), "%s", key);
	x = t->n_sorted == 0 ? NULL
			     : bsearch(&wanted, t->entries, t->n_sorted, sizeof(*t->entries), compare_entries);
	return x ? (size_t)(x - t->entries) : SIZE_MAX;
}

/* Adds the findings in `j` that are not known yet: as many as its bytes can hold, since what two know may be more than one would begin. */
static int
add_kept(struct keep_text *t, const cJSON *j, struct err *e)
{
	const cJSON *one;
	int64_t version;

	if (json_need_int(j, "version", &version, e) < 0)
		return -1;
	if (version != VERSION || !json_array(j, "findings"))
		return err_set(e, ERR_FAILED, "it is of another release");
	cJSON_ArrayForEach(one, json_array(j, "findings"))
	{
		struct entry x = { 0 };

		if (read_entry(one, &x, e) < 0) {
			keep_text_free_entry(&x);
			return -1;
		}
		if (keep_text_find(t, x.key) == SIZE_MAX)
			*keep_text_add(t) = x;
		else
			keep_text_free_entry(&x);
	}
	sort_entries(t);
	return 0;
}

static int
read_own(struct keep_text *t, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;

	if (t->kept->texts_fd < 0)
		return err_set(e, ERR_FAILED, "%s", t->kept->fault.text);
	if (json_load(t->kept->texts_fd, t->name, KEEP_TEXT_FILE_MAX, JSON_UNIQUE, &j, e) < 0)
		return e->no == ENOENT ? (err_clear(e), 0) : -1;
	return add_kept(t, j, e);
}

static int
read_shared(struct keep_text *t, int64_t deadline, struct err *e)
{
	AUTO_BUF struct buf text = BUF_INIT(KEEP_TEXT_FILE_MAX);
	AUTO_JSON cJSON *j = NULL;
	int rc = fleet_read(t->place, deadline, &text, e);

	if (rc <= 0)
		return rc;
	return json_parse(text.data, text.len, KEEP_TEXT_FILE_MAX, JSON_UNIQUE, &j, e) < 0 ? -1
											   : add_kept(t, j, e);
}

int
keep_text_read(struct keep_text *t, int64_t deadline, struct err *e)
{
	if (t->place && read_shared(t, deadline, e) < 0)
		return -1;
	return read_own(t, e) < 0 ? err_wrap(e, "texts/%s", t->name) : 0;
}

static cJSON *
print_entry(const struct entry *x)
{
	cJSON *o = cJSON_CreateObject(), *list;

	json_add_str(o, "key", x->key);
	json_add_str(o, "title", x->first.title);
	json_add_str(o, "description", x->first.description);
	json_add_str(o, "fixed", x->first.fixed);
	json_add_str(o, "severity", x->first.severity);
	json_add_str(o, "cwe", x->first.cwe);
	json_add_str(o, "told_severity", x->told_severity);
	json_add_str(o, "told_fixed", x->told_fixed);
	json_add_str(o, "told_words", x->told_words);
	json_add_int(o, "seen_s", x->seen_s);
	list = json_add_array(o, "below");
	for (int k = 0; k < SEVERITY_COUNT; k++)
		cJSON_AddItemToArray(list, x->below_s[k] == NEVER ? cJSON_CreateNull()
								  : cJSON_CreateNumber((double)x->below_s[k]));
	return o;
}

int
keep_text_write(const struct keep_text *t, int64_t deadline, struct err *e)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	int64_t oldest_s = clock_wall_s() - FLEET_KEEP_S;
	struct err full = ERR_INIT;
	cJSON *list;
	int rc;

	json_add_int(j, "version", VERSION);
	list = json_add_array(j, "findings");
	for (size_t k = 0; k < t->n_entries; k++)
		if (t->entries[k].seen_s >= oldest_s)
			cJSON_AddItemToArray(list, print_entry(&t->entries[k]));
	text = json_print(j);
	if (strlen(text) > KEEP_TEXT_FILE_MAX)
		return err_set(e, ERR_NO_SPACE, "the texts of this test are larger than %d bytes",
			       KEEP_TEXT_FILE_MAX);
	rc = t->place ? fleet_write(t->place, deadline, text, strlen(text), e) : 1;
	if (rc == 1 &&
	    fs_publish(t->kept->texts_fd, t->name, text, strlen(text), 0600, FS_DURABLE, &full) < 0 &&
	    !(t->place && full.kind == ERR_NO_SPACE)) {
		if (e)
			*e = full;
		return err_wrap(e, "texts/%s", t->name);
	}
	if (t->kept->texts_fd >= 0)
		kept_tidy(t->kept->texts_fd, FLEET_KEEP_S);
	return rc;
}
