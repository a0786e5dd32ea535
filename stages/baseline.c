#include "stages/baseline.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "stages/gate.h"
#include "stages/policy.h"

#define VERSION 3
#define VERSION_BEFORE 2 /* without refused and adopts */
#define RENEW_S ((int64_t)90 * 24 * 60 * 60)
#define FILES_MAX 4096

void
baseline_free(struct baseline *b)
{
	mem_free_at(&b->branch);
	mem_free_at(&b->image);
	mem_free_at(&b->build_id);
	mem_free_at(&b->keys);
	mem_free_at(&b->refused);
	b->n = b->n_refused = 0;
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(a, b);
}

const char *
baseline_branch(const struct job_facts *job)
{
	bool leaves_one = !job->is_tag && str_is_empty(job->target_branch) && !str_is_empty(job->ref) &&
			  !str_is_empty(job->project_path);

	return leaves_one ? job->ref : NULL;
}

/* Is the image judged against what the branch of this very job has? */
static bool
is_held_against_itself(const struct inspection *i, const struct image *m)
{
	const char *branch = baseline_branch(i->job), *other;
	struct policy_context c;

	if (!branch)
		return false;
	/* nobody judged it, so nobody let it pass */
	if (!m->decision)
		return true;
	if (m->decision->mode != GATE_ENFORCE)
		return false;
	gate_context(i->job, &c);
	other = policy_new_only_branch(m->decision->rule, &c);
	return other && str_eq(other, branch);
}

/* It blocks, or would but for what ends or is taken back some day; and it is new there, as far as anybody looked. */
static bool
is_refused(const struct image *m, size_t k)
{
	const struct decision *d = m->decision;

	if (!d)
		return true;
	if (k >= d->n_findings || d->fates[k].fate == FATE_BELOW || d->fates[k].fate == FATE_KNOWN)
		return false;
	return !m->was_known || !m->was_known[k];
}

void
baseline_make(const struct inspection *i, const struct image *m, struct baseline *ret)
{
	const struct report *r = m->report;
	bool is_own = is_held_against_itself(i, m);

	*ret = (struct baseline){ .branch = mem_strdup(i->job->ref ? i->job->ref : ""),
				  .image = identity_image(i, m),
				  .build_id = mem_strdup(""),
				  .has_places = true,
				  .adopts = !is_own ||
					    (m->decision && !m->decision->has_baseline && !i->lacks_branches),
				  .is_judged = is_own && m->decision && m->was_known,
				  .good_s = m->good_s,
				  .made_s = clock_wall_s() };
	if (!r || r->n_findings == 0)
		return;
	ret->keys = mem_array(r->n_findings, sizeof(*ret->keys));
	ret->refused = mem_array(r->n_findings, sizeof(*ret->refused));
	for (size_t k = 0; k < r->n_findings && ret->n < BASELINE_KEYS_MAX; k++) {
		char *key = ret->keys[ret->n++];

		identity_key(i->job->project_path, ret->image, r, &r->findings[k], key);
		if (is_own && is_refused(m, k))
			memcpy(ret->refused[ret->n_refused++], key, sizeof(*ret->refused));
	}
	baseline_sort(ret);
}

static void
sort_keys(identity_hex *keys, size_t n)
{
	if (n > 0)
		qsort(keys, n, sizeof(*keys), compare_keys);
}

void
baseline_sort(struct baseline *b)
{
	sort_keys(b->keys, b->n);
	sort_keys(b->refused, b->n_refused);
}

static bool
has_key(identity_hex *keys, size_t n, const char *key)
{
	return n > 0 && bsearch(key, keys, n, sizeof(*keys), compare_keys) != NULL;
}

bool
baseline_mark(const char *build_id, int64_t *ret_good_s)
{
	const char *mark = build_id ? strstr(build_id, BASELINE_BLOCKED) : NULL;
	struct err ignored = ERR_INIT;

	return mark && str_parse_int(mark + strlen(BASELINE_BLOCKED), 0, INT64_MAX, ret_good_s, &ignored) == 0;
}

bool
baseline_has(const struct baseline *b, bool is_own, const char *key)
{
	if (is_own && has_key(b->refused, b->n_refused, key))
		return false;
	return has_key(b->keys, b->n, key);
}

/* ---- JSON ---- */

static void
add_keys(cJSON *j, const char *name, identity_hex *keys, size_t n)
{
	cJSON *list = json_add_array(j, name);

	for (size_t k = 0; k < n; k++)
		cJSON_AddItemToArray(list, cJSON_CreateString(keys[k]));
}

cJSON *
baseline_to_json(const struct baseline *b)
{
	cJSON *j = cJSON_CreateObject();

	json_add_int(j, "version", VERSION);
	json_add_str(j, "branch", b->branch);
	json_add_str(j, "image", b->image);
	json_add_str(j, "build_id", b->build_id ? b->build_id : "");
	json_add_int(j, "made_s", b->made_s);
	json_add_bool(j, "has_places", b->has_places);
	add_keys(j, "keys", b->keys, b->n);
	add_keys(j, "refused", b->refused, b->n_refused);
	json_add_bool(j, "adopts", b->adopts);
	json_add_bool(j, "is_judged", b->is_judged);
	json_add_int(j, "good_s", b->good_s);
	return j;
}

static int
parse_keys(const cJSON *list, identity_hex **ret, size_t *ret_n, struct err *e)
{
	int n = cJSON_GetArraySize(list);
	const cJSON *one;

	if (n > BASELINE_KEYS_MAX)
		return err_set(e, ERR_REFUSED, "more than %d findings", BASELINE_KEYS_MAX);
	*ret = mem_array((size_t)n + 1, sizeof(**ret));
	cJSON_ArrayForEach(one, list)
	{
		if (!cJSON_IsString(one) || strlen(one->valuestring) != IDENTITY_KEY_SIZE - 1 ||
		    !str_is_hex(one->valuestring, IDENTITY_KEY_SIZE - 1))
			return err_set(e, ERR_REFUSED, "a finding is no key");
		snprintf((*ret)[(*ret_n)++], IDENTITY_KEY_SIZE, "%s", one->valuestring);
	}
	sort_keys(*ret, *ret_n);
	return 0;
}

static bool
has_members(const cJSON *j, int64_t version)
{
	int n = version == VERSION ? 11 : 7;

	return cJSON_GetArraySize(j) == n && cJSON_IsBool(json_get(j, "has_places")) &&
	       json_array(j, "keys") &&
	       (version != VERSION || (json_array(j, "refused") && cJSON_IsBool(json_get(j, "adopts")) &&
				       cJSON_IsBool(json_get(j, "is_judged"))));
}

int
baseline_from_json(const cJSON *j, struct baseline *ret, struct err *e)
{
	const char *branch, *image, *build_id;
	int64_t version;

	if (!cJSON_IsObject(j))
		return err_set(e, ERR_REFUSED, "baseline: it is no object");
	if (json_need_int(j, "version", &version, e) < 0)
		return err_wrap(e, "baseline");
	if (version != VERSION && version != VERSION_BEFORE)
		return err_set(e, ERR_REFUSED, "baseline: its version is not known");
	if (!has_members(j, version))
		return err_set(e, ERR_REFUSED, "baseline: it has other members");
	if (json_need_str(j, "branch", &branch, e) < 0 || json_need_str(j, "image", &image, e) < 0 ||
	    json_need_str(j, "build_id", &build_id, e) < 0 || json_need_int(j, "made_s", &ret->made_s, e) < 0)
		return err_wrap(e, "baseline");
	ret->branch = mem_strdup(branch);
	ret->image = mem_strdup(image);
	ret->build_id = mem_strdup(build_id);
	ret->has_places = json_bool(j, "has_places", false);
	ret->adopts = json_bool(j, "adopts", false);
	ret->is_judged = json_bool(j, "is_judged", false);
	ret->good_s = json_int(j, "good_s", 0);
	if (parse_keys(json_array(j, "keys"), &ret->keys, &ret->n, e) < 0 ||
	    (version == VERSION && parse_keys(json_array(j, "refused"), &ret->refused, &ret->n_refused, e) < 0))
		return err_wrap(e, "baseline");
	return 0;
}

static int
read_file(int dirfd, const char *name, struct baseline *ret, size_t *ret_len, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO_FREE char *text = NULL;
	size_t len;

	if (fs_read_max(dirfd, name, BASELINE_MAX, &text, &len, e) < 0 ||
	    json_parse(text, len, BASELINE_MAX, JSON_UNIQUE, &j, e) < 0 || baseline_from_json(j, ret, e) < 0)
		return err_wrap(e, "%s", name);
	if (ret_len)
		*ret_len = len;
	return 0;
}

static int
write_file(int dirfd, const char *name, const struct baseline *b, unsigned flags, struct err *e)
{
	AUTO_JSON cJSON *j = baseline_to_json(b);
	AUTO_FREE char *text = json_print(j);

	return fs_publish(dirfd, name, text, strlen(text), 0600, flags, e);
}

/* ---- keeping ---- */

int
baseline_write(const struct inspection *i, const struct image *m, size_t index, struct err *e)
{
	AUTO_BASELINE struct baseline b = { 0 };
	AUTO_FREE char *name = mem_printf(BASELINE_PREFIX "%zu", index);

	if (!baseline_branch(i->job))
		return 0;
	baseline_make(i, m, &b);
	return write_file(i->out_fd, name, &b, 0, e);
}

static int
open_project(const struct kept *k, const char *project, bool is_made, struct err *e)
{
	char name[KEPT_KEY_SIZE];

	if (k->baselines_fd < 0)
		return err_set(e, ERR_FAILED, "baselines: %s", k->fault.text);
	kept_key(&project, 1, name);
	if (is_made && mkdirat(k->baselines_fd, name, 0700) < 0 && errno != EEXIST)
		return err_errno(e, "baselines");
	return fs_open_dir(k->baselines_fd, name, e);
}

/* In any order; the names that writers leave begin with a dot. */
static int
list_files(int dir_fd, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dir_fd, e);
	struct dirent *entry;
	int rc = dir ? 0 : -1;

	while (dir && ret->n < FILES_MAX && (rc = fs_next(dir, &entry, e)) > 0)
		if (entry->d_name[0] != '.' && str_has_suffix(entry->d_name, ".json"))
			strv_add(ret, entry->d_name);
	return rc < 0 ? err_wrap(e, "baselines") : 0;
}

static char *
file_name(const struct baseline *b)
{
	char branch[KEPT_KEY_SIZE], image[KEPT_KEY_SIZE];

	kept_key((const char *const[]){ b->branch }, 1, branch);
	kept_key((const char *const[]){ b->image }, 1, image);
	return mem_printf("%s-%s.json", branch, image);
}

/*
 * What the branch had already is not refused because it stands in the report again, where the gate could not look. And where DefectDojo
 * did not say until when all there was let pass, it is what it was for this host.
 */
static void
hold_against(struct baseline *b, const struct baseline *before)
{
	size_t n = 0;

	for (size_t k = 0; k < b->n_refused; k++)
		if (b->is_judged || (before ? !baseline_has(before, true, b->refused[k]) : !b->adopts))
			memmove(b->refused[n++], b->refused[k], sizeof(*b->refused));
	b->n_refused = n;
	if (before && b->good_s == 0)
		b->good_s = before->n_refused > 0 ? before->good_s : before->made_s;
	/* the first one, which nobody judged: the next one is the first */
	if (!before && !b->is_judged && !b->adopts)
		mem_free_at(&b->branch);
	b->is_judged = b->adopts = false;
}

int
baseline_take(const struct kept *k, const struct inspection *i, size_t index, struct baseline *ret,
	      struct err *e)
{
	AUTO_BASELINE struct baseline before = { 0 };
	AUTO_FREE char *from = mem_printf(BASELINE_PREFIX "%zu", index), *name = NULL;
	AUTO_FD int dir_fd = -1;
	struct err why = ERR_INIT;
	int rc;

	if (!baseline_branch(i->job))
		return 0;
	if (read_file(i->out_fd, from, ret, NULL, e) < 0) {
		bool is_absent = e->no == ENOENT;

		baseline_free(ret);
		*ret = (struct baseline){ 0 };
		return is_absent ? (err_clear(e), 0) : -1;
	}
	/* what the scanner says of branch, build and time is not asked */
	mem_free_at(&ret->branch);
	mem_free_at(&ret->build_id);
	ret->branch = mem_strdup(i->job->ref);
	ret->build_id = mem_strdup("");
	ret->made_s = clock_wall_s();
	dir_fd = open_project(k, i->job->project_path, true, e);
	if (dir_fd < 0) {
		hold_against(ret, NULL);
		return -1;
	}
	name = file_name(ret);
	/* one that cannot be read is none, and hides nothing that was there before the image was judged */
	rc = read_file(dir_fd, name, &before, NULL, &why);
	hold_against(ret, rc == 0 ? &before : NULL);
	return 0;
}

int
baseline_keep(const struct kept *k, const struct inspection *i, struct baseline *b, const char *build_id,
	      struct err *e)
{
	AUTO_FREE char *name = NULL;
	AUTO_FD int dir_fd = -1;

	if (!b->branch)
		return 0;
	mem_free_at(&b->build_id);
	b->build_id = mem_strdup(build_id);
	dir_fd = open_project(k, i->job->project_path, true, e);
	if (dir_fd < 0)
		return -1;
	name = file_name(b);
	kept_tidy(dir_fd, RENEW_S);
	return write_file(dir_fd, name, b, FS_DURABLE, e);
}

/* ---- reading ---- */

void
baselines_free(struct baselines *l)
{
	for (size_t k = 0; k < l->n; k++)
		baseline_free(&l->v[k]);
	mem_free_at(&l->v);
	l->n = 0;
}

/* A file that may be read; its name begins with the key of its branch. */
struct candidate {
	const char *name;
	int64_t mtime_s;
	bool is_first;
};

static int
compare_candidates(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->is_first != b->is_first)
		return a->is_first ? -1 : 1;
	return (a->mtime_s < b->mtime_s) - (a->mtime_s > b->mtime_s);
}

static bool
is_of(const char *name, const char *const *branches)
{
	for (; *branches; branches++) {
		char key[KEPT_KEY_SIZE];

		kept_key(branches, 1, key);
		if (str_has_prefix(name, key))
			return true;
	}
	return false;
}

static struct candidate *
order(int dir_fd, const struct strv *names, const char *const *first)
{
	struct candidate *l = mem_array(names->n + 1, sizeof(*l));

	for (size_t k = 0; k < names->n; k++) {
		struct stat st = { 0 };

		l[k] = (struct candidate){ .name = names->v[k], .is_first = is_of(names->v[k], first) };
		if (fstatat(dir_fd, names->v[k], &st, AT_SYMLINK_NOFOLLOW) == 0)
			l[k].mtime_s = (int64_t)st.st_mtime;
	}
	qsort(l, names->n, sizeof(*l), compare_candidates);
	return l;
}

int
baselines_load(const struct kept *k, const char *project, const char *const *first, struct baselines *ret,
	       struct err *e)
{
	AUTO_STRV struct strv names = { 0 };
	AUTO_FREE struct candidate *l = NULL;
	AUTO_FD int dir_fd = open_project(k, project, false, e);
	size_t size = 0;

	if (dir_fd < 0 && e->no == ENOENT) {
		err_clear(e);
		return 0;
	}
	if (dir_fd < 0 || list_files(dir_fd, &names, e) < 0)
		return -1;
	l = order(dir_fd, &names, first);
	ret->v = mem_array(BASELINES_GIVEN_MAX, sizeof(*ret->v));
	for (size_t x = 0; x < names.n && ret->n < BASELINES_GIVEN_MAX && size < BASELINES_SIZE_MAX; x++) {
		struct baseline b = { 0 };
		struct err ignored = ERR_INIT;
		size_t len = 0;

		/* one that cannot be read is none */
		if (read_file(dir_fd, l[x].name, &b, &len, &ignored) == 0)
			ret->v[ret->n++] = b;
		else
			baseline_free(&b);
		size += len;
	}
	return 0;
}

cJSON *
baselines_to_json(const struct baselines *l)
{
	cJSON *list = cJSON_CreateArray();

	for (size_t k = 0; k < l->n; k++)
		cJSON_AddItemToArray(list, baseline_to_json(&l->v[k]));
	return list;
}

void
baselines_add_json(struct baselines *l, const cJSON *list)
{
	const cJSON *one;

	cJSON_ArrayForEach(one, list)
	{
		struct baseline b = { 0 };
		struct err ignored = ERR_INIT;

		if (l->n >= 2 * BASELINES_GIVEN_MAX)
			return;
		if (baseline_from_json(one, &b, &ignored) < 0) {
			baseline_free(&b);
			continue;
		}
		l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
		l->v[l->n++] = b;
	}
}

void
baselines_set_outdated(struct baselines *l, const char *branch)
{
	for (size_t k = 0; k < l->n; k++)
		if (str_eq(l->v[k].branch, branch))
			l->v[k].is_outdated = true;
}

const struct baseline *
baselines_find(const struct baselines *l, const char *branch, const char *image)
{
	for (size_t k = 0; k < l->n; k++)
		if (str_eq(l->v[k].branch, branch) && str_eq(l->v[k].image, image))
			return &l->v[k];
	return NULL;
}

void
baseline_delivered(const char *product, const char *engagement, const char *test, char out[KEPT_KEY_SIZE])
{
	kept_key((const char *const[]){ product, engagement, "test", test }, 4, out);
}

void
baseline_place(const char *product, const char *engagement, const char *service, char out[KEPT_KEY_SIZE])
{
	kept_key((const char *const[]){ product, engagement, service }, 3, out);
}
