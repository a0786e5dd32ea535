#include "cli/inspect_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "executor/plan.h"
#include "stages/snapshot.h"

#define RECORD_MAX (16 * 1024 * 1024)

static const struct {
	const char *key;
	size_t offset;
} numbers[] = {
	{ "dev", offsetof(struct fs_identity, dev) },
	{ "ino", offsetof(struct fs_identity, ino) },
	{ "size", offsetof(struct fs_identity, size) },
	{ "mtime_ns", offsetof(struct fs_identity, mtime_ns) },
	{ "ctime_ns", offsetof(struct fs_identity, ctime_ns) },
};

static void
add_dir(struct inspect_record_file *f, const struct layout_files *from)
{
	f->files = mem_array(from->n + 1, sizeof(*f->files));
	for (size_t k = 0; k < from->n; k++) {
		struct inspect_record_file *one = &f->files[f->n_files++];

		*one = (struct inspect_record_file){ .name = mem_strdup(from->v[k].name),
						     .id = from->v[k].id };
		memcpy(one->digest, from->v[k].snapshot.digest, sizeof(one->digest));
	}
}

struct inspect_record *
inspect_record_make(const struct inspection *i)
{
	AUTO(inspect_record) struct inspect_record *r = mem_alloc(sizeof(*r));

	r->verdict = i->verdict;
	r->mode = inspection_mode(i);
	r->files = mem_array(i->n_archives, sizeof(*r->files));
	for (size_t k = 0; k < i->n_archives; k++) {
		const struct archive *a = &i->archives[k];
		struct inspect_record_file *f = &r->files[r->n_files++];

		*f = (struct inspect_record_file){
			.name = mem_strdup(a->name),
			.id = a->id,
			.is_ignored = a->is_ignored,
			.is_unfit = a->is_unfit || a->fd < 0,
			.is_dir = a->is_dir,
		};
		memcpy(f->digest, a->snapshot.digest, sizeof(f->digest));
		if (a->is_dir)
			add_dir(f, &a->files);
	}
	return take_ptr(r);
}

static void
free_files(struct inspect_record_file *files, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		free(files[k].name);
		free_files(files[k].files, files[k].n_files);
	}
	free(files);
}

void
inspect_record_free(struct inspect_record *r)
{
	if (!r)
		return;
	free_files(r->files, r->n_files);
	free(r);
}

static void add_file(cJSON *list, const struct inspect_record_file *f);

static void
add_files(cJSON *o, const struct inspect_record_file *f)
{
	cJSON *list = json_add_array(o, "files");

	for (size_t k = 0; k < f->n_files; k++)
		add_file(list, &f->files[k]);
}

/* A file's name is any bytes, a JSON text is not: what is no UTF-8 stands there in hexadecimal digits. */
static void
add_name(cJSON *o, const char *name)
{
	AUTO_BUF struct buf hex = BUF_INIT(2 * strlen(name) + 1);

	if (str_is_utf8(name, strlen(name))) {
		json_add_str(o, "name", name);
		return;
	}
	for (const char *c = name; *c; c++)
		buf_printf(&hex, "%02x", (unsigned)(unsigned char)*c);
	json_add_str(o, "name_hex", buf_str(&hex));
}

static int
read_name(const cJSON *o, char **ret, struct err *e)
{
	const char *s = json_str(o, "name_hex");
	AUTO_FREE char *name = NULL;
	size_t n = s ? strlen(s) / 2 : 0;

	if (!s) {
		if (json_need_str(o, "name", &s, e) < 0)
			return -1;
		*ret = mem_strdup(s);
		return 0;
	}
	if (strlen(s) % 2 != 0 || strspn(s, "0123456789abcdef") != strlen(s))
		return err_set(e, ERR_FAILED, "\"name_hex\" is not understood");
	name = mem_alloc(n + 1);
	for (size_t k = 0; k < n; k++) {
		const char pair[3] = { s[2 * k], s[2 * k + 1], '\0' };

		name[k] = (char)strtol(pair, NULL, 16);
	}
	*ret = take_ptr(name);
	return 0;
}

/* Nanoseconds and device numbers are beyond what JSON numbers hold exactly: texts. */
static void
add_file(cJSON *list, const struct inspect_record_file *f)
{
	cJSON *o = json_add_object(list, NULL);

	add_name(o, f->name);
	json_add_bool(o, "is_ignored", f->is_ignored);
	json_add_bool(o, "is_unfit", f->is_unfit);
	json_add_str(o, "digest", f->digest);
	for (size_t n = 0; n < MEM_COUNT(numbers); n++) {
		AUTO_FREE char *text =
			mem_printf("%jd", (intmax_t) * (const int64_t *)(const void *)((const char *)&f->id +
										       numbers[n].offset));

		json_add_str(o, numbers[n].key, text);
	}
	if (f->is_dir)
		add_files(o, f);
}

int
inspect_record_write(int dirfd, const struct inspect_record *r, struct err *e)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	cJSON *list;

	json_add_str(j, "verdict", verdict_words[r->verdict]);
	json_add_str(j, "mode", gate_mode_words[r->mode]);
	list = json_add_array(j, "archives");
	for (size_t k = 0; k < r->n_files; k++)
		add_file(list, &r->files[k]);
	text = json_print(j);
	return fs_publish(dirfd, PLAN_INSPECTION_NAME, text, strlen(text), 0600, 0, e);
}

static int read_files(const cJSON *list, bool is_top, struct inspect_record_file **ret, size_t *ret_n,
		      struct err *e);

/* A record's own files, and (not is_top) what is in a directory of it. */
static int
read_file(const cJSON *o, bool is_top, struct inspect_record_file *f, struct err *e)
{
	const char *s;

	if (read_name(o, &f->name, e) < 0)
		return -1;
	f->is_ignored = json_bool(o, "is_ignored", false);
	f->is_unfit = json_bool(o, "is_unfit", true);
	if (json_need_str(o, "digest", &s, e) < 0)
		return -1;
	snprintf(f->digest, sizeof(f->digest), "%s", s);
	for (size_t n = 0; n < MEM_COUNT(numbers); n++) {
		if (json_need_str(o, numbers[n].key, &s, e) < 0 ||
		    str_parse_int(s, INT64_MIN + 1, INT64_MAX,
				  (int64_t *)(void *)((char *)&f->id + numbers[n].offset), e) < 0)
			return -1;
	}
	if (json_array(o, "files") && is_top) {
		f->is_dir = true;
		return read_files(json_array(o, "files"), false, &f->files, &f->n_files, e);
	}
	return 0;
}

static int
read_files(const cJSON *list, bool is_top, struct inspect_record_file **ret, size_t *ret_n, struct err *e)
{
	const cJSON *o;

	*ret = mem_array((size_t)cJSON_GetArraySize(list) + 1, sizeof(**ret));
	cJSON_ArrayForEach(o, list)
	{
		if (read_file(o, is_top, &(*ret)[(*ret_n)++], e) < 0)
			return -1;
	}
	return 0;
}

static int
read_record(const cJSON *j, struct inspect_record *r, struct err *e)
{
	const cJSON *list = json_array(j, "archives");
	const char *word, *mode;
	int v = 0;

	if (json_need_str(j, "verdict", &word, e) < 0 || json_need_str(j, "mode", &mode, e) < 0)
		return -1;
	while (verdict_words[v] && strcmp(verdict_words[v], word) != 0)
		v++;
	while (gate_mode_words[r->mode] && strcmp(gate_mode_words[r->mode], mode) != 0)
		r->mode++;
	if (!verdict_words[v] || !gate_mode_words[r->mode] || !list)
		return err_set(e, ERR_FAILED, "\"verdict\", \"mode\" or \"archives\" is not understood");
	r->verdict = (enum verdict)v;
	return read_files(list, true, &r->files, &r->n_files, e);
}

int
inspect_record_read(int dirfd, struct inspect_record **ret, struct err *e)
{
	AUTO(inspect_record) struct inspect_record *r = mem_alloc(sizeof(*r));
	AUTO_JSON cJSON *j = NULL;

	if (json_load(dirfd, PLAN_INSPECTION_NAME, RECORD_MAX, JSON_UNIQUE, &j, e) < 0) {
		if (e->no != ENOENT)
			return -1;
		err_clear(e);
		*ret = NULL;
		return 0;
	}
	if (read_record(j, r, e) < 0)
		return err_wrap(e, PLAN_INSPECTION_NAME);
	*ret = take_ptr(r);
	return 0;
}

const struct inspect_record_file *
inspect_record_find(const struct inspect_record *r, const char *name)
{
	for (size_t k = 0; r && k < r->n_files; k++)
		if (strcmp(r->files[k].name, name) == 0)
			return &r->files[k];
	return NULL;
}

static const char *
compare_file(const struct inspect_record_file *f, int fd)
{
	char digest[HASH_DIGEST_MAX];
	struct fs_identity now;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return "cannot be looked at";
	fs_identity_of(&st, &now);
	if (now.dev != f->id.dev || now.ino != f->id.ino)
		return "is another file";
	if (now.size != f->id.size)
		return "has another size";
	if (now.mtime_ns != f->id.mtime_ns)
		return "was written to";
	if (now.ctime_ns != f->id.ctime_ns)
		return "was changed";
	/* its times are as they were, but a mapping or a descriptor of another process may tell nothing of it */
	if (!f->digest[0] && !snapshot_has_writer(fd))
		return NULL;
	if (!f->digest[0])
		return "is open for writing in another process";
	if (hash_of_fd(HASH_SHA256, fd, digest, NULL) < 0 || strcmp(digest, f->digest) != 0)
		return "was written to through a mapping";
	return NULL;
}

static const char *
compare_dir(const struct inspect_record_file *f, const struct layout_files *now)
{
	if (now->n != f->n_files)
		return now->n > f->n_files ? "has more files in it" : "has fewer files in it";
	for (size_t k = 0; k < now->n; k++) {
		const char *what = strcmp(f->files[k].name, now->v[k].name) != 0
					   ? "has other files in it"
					   : compare_file(&f->files[k], now->v[k].fd);

		if (what)
			return what;
	}
	return NULL;
}

const char *
inspect_record_compare(const struct inspect_record_file *f, const struct archive *a)
{
	if (f->is_dir != a->is_dir)
		return "is another file";
	return f->is_dir ? compare_dir(f, &a->files) : compare_file(f, a->fd);
}
