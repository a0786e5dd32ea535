#include "stages/trivy_db_import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/str.h"
#include "stages/archive_kind.h"
#include "stages/source.h"
#include "stages/tar.h"

#define DOCUMENT_MAX (1 << 20) /* bytes of metadata.json, index.json, a manifest */
#define RATIO_MAX 1000
#define ENTRIES_MAX 256
#define COPY_BUFFER (256 * 1024)
#define LAYOUT_DEPTH_MAX 3 /* an index may name an index */
#define BLOBS "blobs/sha256/"

/* A window of a file: all of it, or a blob in a tar. */
struct window {
	int fd; /* borrowed */
	uint64_t offset, size;
};

struct named {
	char *name;
	struct window at;
};

enum form { FORM_FILES, FORM_TAR, FORM_LAYOUT };

struct trivy_db_import {
	char *path;
	int fd; /* file or directory */
	uint64_t size;
	bool is_dir;
	int file_fds[TRIVY_DB_KINDS], metadata_fd; /* of a directory, -1: not there */

	/* filled by look() */
	enum form form;
	enum trivy_db_kind kind;
	struct named *entries; /* of a tar that is a layout */
	size_t n_entries;
	int blob_fd;	    /* of a layout that is a directory */
	struct window data; /* the tar with the two files */
};

static const char *const layer_types[TRIVY_DB_KINDS] = {
	[TRIVY_DB_VULNERABILITIES] = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
	[TRIVY_DB_JAVA] = "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip",
};

/* --- opening --- */

static int
open_in_dir(const struct trivy_db_import *i, const char *name, int *ret, struct err *e)
{
	AUTO_FD int fd = openat(i->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	*ret = -1;
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "%s/%s", i->path, name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_REFUSED, "%s/%s is no regular file", i->path, name);
	*ret = take_fd(fd);
	return 0;
}

int
trivy_db_import_open(const char *path, struct trivy_db_import **ret, struct err *e)
{
	AUTO(trivy_db_import) struct trivy_db_import *i = mem_alloc(sizeof(*i));
	struct stat st;

	i->metadata_fd = i->blob_fd = -1;
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++)
		i->file_fds[k] = -1;
	i->path = mem_strdup(path);
	i->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (i->fd < 0 || fstat(i->fd, &st) < 0)
		return err_errno(e, "%s", path);
	i->is_dir = S_ISDIR(st.st_mode);
	if (!i->is_dir && !S_ISREG(st.st_mode))
		return err_set(e, ERR_REFUSED, "%s is neither a file nor a directory", path);
	i->size = i->is_dir ? 0 : (uint64_t)st.st_size;
	if (i->is_dir && open_in_dir(i, "metadata.json", &i->metadata_fd, e) < 0)
		return -1;
	for (size_t k = 0; i->is_dir && k < TRIVY_DB_KINDS; k++)
		if (open_in_dir(i, trivy_db_forms[k].file, &i->file_fds[k], e) < 0)
			return -1;
	*ret = take_ptr(i);
	return 0;
}

void
trivy_db_import_free(struct trivy_db_import *i)
{
	for (size_t k = 0; k < i->n_entries; k++)
		free(i->entries[k].name);
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++)
		mem_close_at(&i->file_fds[k]);
	mem_close_at(&i->metadata_fd);
	mem_close_at(&i->blob_fd);
	mem_close_at(&i->fd);
	free(i->entries);
	free(i->path);
	free(i);
}

/* --- tars --- */

static int
kind_of_window(const struct window *w, enum archive_kind *ret, struct err *e)
{
	unsigned char head[ARCHIVE_KIND_BYTES];
	AUTO(source) struct source *s = source_new_file(w->fd, w->offset, w->size);
	size_t n = 0;

	if (source_read(s, head, sizeof(head), &n, e) < 0)
		return -1;
	*ret = archive_kind_of(head, n);
	return 0;
}

static int
open_tar(const struct trivy_db_import *i, const struct window *w, struct source **ret_source,
	 struct tar **ret_tar, struct err *e)
{
	const struct source_limits limits = { .out_max = TRIVY_DB_IMPORT_MAX + DOCUMENT_MAX,
					      .ratio_max = RATIO_MAX };
	const struct tar_limits tar_limits = { .size = TRIVY_DB_IMPORT_MAX, .name = 4096, .pax = DOCUMENT_MAX };
	enum archive_kind kind;

	if (kind_of_window(w, &kind, e) < 0)
		return -1;
	if (kind == ARCHIVE_GZIP)
		*ret_source = source_new_ahead(source_new_gzip(w->fd, w->offset, w->size, &limits, NULL));
	else if (kind == ARCHIVE_TAR)
		*ret_source = source_new_file(w->fd, w->offset, w->size);
	else
		return err_set(e, ERR_REFUSED, "%s is %s; expected db.tar.gz, its directory, or an OCI layout",
			       i->path, archive_kind_word(kind));
	*ret_tar = tar_new(*ret_source, &tar_limits);
	return 0;
}

/* "./trivy.db" is "trivy.db" to all who read tars. */
static const char *
plain_name(const char *name)
{
	while (str_has_prefix(name, "./"))
		for (name += 2; *name == '/'; name++)
			;
	return name;
}

static int
refuse_entry(const struct trivy_db_import *i, const char *name, const char *why, struct err *e)
{
	AUTO_FREE char *safe = str_safe(name, 80);

	return err_set(e, ERR_REFUSED, "%s: \"%s\": %s", i->path, safe, why);
}

static bool
is_top(const struct tar_entry *t)
{
	const char *name = plain_name(t->name);

	return t->type == TAR_DIR && (!*name || str_eq(name, "."));
}

static bool
find_kind(const char *name, enum trivy_db_kind *ret)
{
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++) {
		if (str_eq(name, trivy_db_forms[k].file)) {
			*ret = (enum trivy_db_kind)k;
			return true;
		}
	}
	return false;
}

/* --- an OCI layout --- */

static const struct window *
find_entry(const struct trivy_db_import *i, const char *name)
{
	for (size_t k = 0; k < i->n_entries; k++)
		if (str_eq(i->entries[k].name, name))
			return &i->entries[k].at;
	return NULL;
}

static int
open_part(struct trivy_db_import *i, const char *name, struct window *ret, struct err *e)
{
	const struct window *w;
	struct stat st;

	if (!i->is_dir) {
		w = find_entry(i, name);
		if (!w)
			return err_set(e, ERR_REFUSED, "%s: %s is missing", i->path, name);
		*ret = *w;
		return 0;
	}
	mem_close_at(&i->blob_fd);
	i->blob_fd = fs_open_beneath(i->fd, name, O_RDONLY | O_NONBLOCK, 0, e);
	if (i->blob_fd < 0)
		return err_wrap(e, "%s", i->path);
	if (fstat(i->blob_fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_REFUSED, "%s/%s is no regular file", i->path, name);
	*ret = (struct window){ i->blob_fd, 0, (uint64_t)st.st_size };
	return 0;
}

static int
read_document(struct trivy_db_import *i, const char *name, cJSON **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	AUTO(source) struct source *s = NULL;
	struct window w;
	size_t n = 0;

	if (open_part(i, name, &w, e) < 0)
		return -1;
	if (w.size > DOCUMENT_MAX)
		return err_set(e, ERR_REFUSED, "%s: %s is larger than %d bytes", i->path, name, DOCUMENT_MAX);
	text = mem_alloc((size_t)w.size + 1);
	s = source_new_file(w.fd, w.offset, w.size);
	if (source_read(s, text, (size_t)w.size, &n, e) < 0 ||
	    json_parse(text, n, DOCUMENT_MAX, JSON_UNIQUE, ret, e) < 0)
		return err_wrap(e, "%s: %s", i->path, name);
	return 0;
}

static int
hash_window(const struct window *w, char out[HASH_DIGEST_MAX], struct err *e)
{
	AUTO(hash) struct hash *h = hash_new(HASH_SHA256);
	AUTO(source) struct source *s = source_new_file(w->fd, w->offset, w->size);
	AUTO_FREE unsigned char *p = mem_alloc(COPY_BUFFER);
	size_t n;

	do {
		n = 0;
		if (source_read(s, p, COPY_BUFFER, &n, e) < 0)
			return -1;
		hash_update(h, p, n);
	} while (n == COPY_BUFFER);
	hash_digest(h, out);
	return 0;
}

/* The blob of a descriptor, as it says; its name is owned by the caller. */
static int
check_blob(struct trivy_db_import *i, const cJSON *descriptor, char **ret_name, struct window *ret,
	   struct err *e)
{
	const char *digest, *hex;
	char found[HASH_DIGEST_MAX];
	AUTO_FREE char *name = NULL;
	enum hash_algo algo;
	int64_t size;

	if (json_need_str(descriptor, "digest", &digest, e) < 0 ||
	    json_need_int(descriptor, "size", &size, e) < 0)
		return err_wrap(e, "%s: a descriptor", i->path);
	if (hash_parse_digest(digest, &algo, &hex) < 0 || algo != HASH_SHA256)
		return err_set(e, ERR_REFUSED, "%s: a descriptor's digest is no sha256", i->path);
	name = mem_printf(BLOBS "%s", hex);
	if (open_part(i, name, ret, e) < 0 || hash_window(ret, found, e) < 0)
		return -1;
	if (!str_eq(found, digest) || (int64_t)ret->size != size)
		return err_set(e, ERR_REFUSED, "%s: %s is not what its name and descriptor say", i->path,
			       name);
	*ret_name = take_ptr(name);
	return 0;
}

static int
take_layer(struct trivy_db_import *i, const cJSON *layers, struct err *e)
{
	const cJSON *layer = cJSON_GetArrayItem(layers, 0);
	const char *type = json_str(layer, "mediaType");
	AUTO_FREE char *name = NULL;

	if (cJSON_GetArraySize(layers) != 1 || !type)
		return err_set(e, ERR_REFUSED, "%s: the artifact has %d layers, expected one", i->path,
			       cJSON_GetArraySize(layers));
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++) {
		if (str_eq(type, layer_types[k])) {
			i->kind = (enum trivy_db_kind)k;
			return check_blob(i, layer, &name, &i->data, e);
		}
	}
	return refuse_entry(i, type, "no media type of a database of Trivy's", e);
}

static int
look_at_layout(struct trivy_db_import *i, struct err *e)
{
	AUTO_FREE char *name = mem_strdup("index.json");

	for (int depth = 0; depth <= LAYOUT_DEPTH_MAX; depth++) {
		AUTO_JSON cJSON *j = NULL;
		AUTO_FREE char *next = NULL;
		struct window w;

		if (read_document(i, name, &j, e) < 0)
			return -1;
		if (json_array(j, "layers"))
			return take_layer(i, json_array(j, "layers"), e);
		if (cJSON_GetArraySize(json_array(j, "manifests")) != 1)
			return err_set(e, ERR_REFUSED, "%s: %s names %d manifests, expected one", i->path,
				       name, cJSON_GetArraySize(json_array(j, "manifests")));
		if (check_blob(i, cJSON_GetArrayItem(json_array(j, "manifests"), 0), &next, &w, e) < 0)
			return -1;
		mem_free_at(&name);
		name = take_ptr(next);
	}
	return err_set(e, ERR_REFUSED, "%s: its indexes are too deep in each other", i->path);
}

/* --- what is it? --- */

static int
look_at_dir(struct trivy_db_import *i, struct err *e)
{
	bool has_both = i->file_fds[0] >= 0 && i->file_fds[1] >= 0;

	if (has_both)
		return err_set(e, ERR_REFUSED, "%s holds two databases and one metadata.json", i->path);
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++) {
		if (i->file_fds[k] < 0)
			continue;
		if (i->metadata_fd < 0)
			return err_set(e, ERR_REFUSED, "%s holds no metadata.json", i->path);
		i->form = FORM_FILES;
		i->kind = (enum trivy_db_kind)k;
		return 0;
	}
	if (faccessat(i->fd, "index.json", F_OK, 0) < 0)
		return err_set(e, ERR_REFUSED,
			       "%s holds neither trivy.db nor trivy-java.db, and is no OCI layout", i->path);
	i->form = FORM_LAYOUT;
	return look_at_layout(i, e);
}

/* Until the name of a database; a plain tar with index.json in it is a layout. */
static int
look_at_tar(struct trivy_db_import *i, struct err *e)
{
	AUTO(source) struct source *s = NULL;
	AUTO(tar) struct tar *t = NULL;
	struct tar_entry entry;
	enum archive_kind kind;
	bool has;

	i->data = (struct window){ i->fd, 0, i->size };
	if (open_tar(i, &i->data, &s, &t, e) < 0)
		return -1;
	for (i->form = FORM_TAR;;) {
		if (tar_next(t, &has, &entry, e) < 0)
			return err_wrap(e, "%s", i->path);
		if (!has)
			break;
		if (entry.type == TAR_FILE && find_kind(plain_name(entry.name), &i->kind))
			return 0;
		if (entry.number > ENTRIES_MAX)
			return err_set(e, ERR_REFUSED, "%s: more than %d entries", i->path, ENTRIES_MAX);
		if (entry.type != TAR_FILE)
			continue;
		i->entries = mem_resize(i->entries, i->n_entries + 1, sizeof(struct named));
		i->entries[i->n_entries++] = (struct named){ mem_strdup(plain_name(entry.name)),
							     { i->fd, entry.offset, entry.size } };
	}
	if (!find_entry(i, "index.json"))
		return err_set(e, ERR_REFUSED,
			       "%s holds neither trivy.db nor trivy-java.db, and is no OCI layout", i->path);
	i->form = FORM_LAYOUT;
	/* places in what a compressed file holds are none in the file */
	if (kind_of_window(&i->data, &kind, e) < 0)
		return -1;
	if (kind != ARCHIVE_TAR)
		return err_set(e, ERR_REFUSED, "%s is an OCI layout, compressed as a whole: unpack it first",
			       i->path);
	return look_at_layout(i, e);
}

int
trivy_db_import_look(struct trivy_db_import *i, enum trivy_db_kind *ret_kind, struct err *e)
{
	if ((i->is_dir ? look_at_dir(i, e) : look_at_tar(i, e)) < 0)
		return -1;
	*ret_kind = i->kind;
	return 0;
}

/* --- copying --- */

static int
write_entry(struct tar *t, int to_fd, const char *name, struct err *e)
{
	AUTO_FD int fd = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	AUTO_FREE unsigned char *p = mem_alloc(COPY_BUFFER);
	size_t n;

	if (fd < 0)
		return err_errno(e, "%s", name);
	do {
		n = 0;
		if (tar_read(t, p, COPY_BUFFER, &n, e) < 0 || fs_write_all(fd, p, n, e) < 0)
			return err_wrap(e, "%s", name);
	} while (n == COPY_BUFFER);
	return 0;
}

static int
take_entry(const struct trivy_db_import *i, struct tar *t, const struct tar_entry *entry, bool has[2],
	   int to_fd, struct err *e)
{
	const char *const names[] = { trivy_db_forms[i->kind].file, "metadata.json" };
	const char *name = plain_name(entry->name);
	size_t k = 0;

	while (k < MEM_COUNT(names) && !str_eq(name, names[k]))
		k++;
	if (k == MEM_COUNT(names))
		return refuse_entry(i, entry->name, "nothing else belongs into it", e);
	if (entry->type != TAR_FILE)
		return refuse_entry(i, entry->name, "no regular file", e);
	if (has[k])
		return refuse_entry(i, entry->name, "twice", e);
	if (k == 1 && entry->size > DOCUMENT_MAX)
		return refuse_entry(i, entry->name, "too large", e);
	has[k] = true;
	if (write_entry(t, to_fd, names[k], e) < 0)
		return err_wrap(e, "%s", i->path);
	return 0;
}

static int
copy_tar(const struct trivy_db_import *i, int to_fd, struct err *e)
{
	AUTO(source) struct source *s = NULL;
	AUTO(tar) struct tar *t = NULL;
	struct tar_entry entry;
	bool has_files[2] = { false, false }, has;

	if (open_tar(i, &i->data, &s, &t, e) < 0)
		return -1;
	for (;;) {
		if (tar_next(t, &has, &entry, e) < 0)
			return err_wrap(e, "%s", i->path);
		if (!has)
			break;
		if (!is_top(&entry) && take_entry(i, t, &entry, has_files, to_fd, e) < 0)
			return -1;
	}
	if (!has_files[0] || !has_files[1])
		return err_set(e, ERR_REFUSED, "%s holds no %s", i->path,
			       has_files[0] ? "metadata.json" : trivy_db_forms[i->kind].file);
	return 0;
}

static int
copy_file(const struct trivy_db_import *i, int from, const char *name, uint64_t max, int to_fd, struct err *e)
{
	AUTO_FD int fd = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	struct stat st;

	if (fd < 0 || fstat(from, &st) < 0)
		return err_errno(e, "%s", name);
	if ((uint64_t)st.st_size > max)
		return refuse_entry(i, name, "too large", e);
	return fs_copy(from, 0, fd, (uint64_t)st.st_size, e) < 0 ? err_wrap(e, "%s/%s", i->path, name) : 0;
}

int
trivy_db_import_copy(const struct trivy_db_import *i, int to_fd, struct err *e)
{
	if (i->form != FORM_FILES)
		return copy_tar(i, to_fd, e);
	if (copy_file(i, i->file_fds[i->kind], trivy_db_forms[i->kind].file, TRIVY_DB_IMPORT_MAX, to_fd, e) < 0)
		return -1;
	return copy_file(i, i->metadata_fd, "metadata.json", DOCUMENT_MAX, to_fd, e);
}

const char *
trivy_db_import_name(const struct trivy_db_import *i)
{
	return i->path;
}
