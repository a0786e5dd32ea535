#include "stages/trivy_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/bolt.h"

#define METADATA_MAX 65536 /* bytes */
#define CLOCK_SKEW_MAX_S 3600
#define OPEN_TRIES 16 /* each costs an update that came in between */

#define SQLITE_HEAD 100 /* bytes */

const struct trivy_db_form trivy_db_forms[] = {
	[TRIVY_DB_VULNERABILITIES] = { "vulnerability database", "trivy.db", "trivy.db_dir", "db",
				       TRIVY_DB_SCHEMA },
	[TRIVY_DB_JAVA] = { "Java index", "trivy-java.db", "trivy.java_db_dir", "java-db",
			    TRIVY_JAVA_DB_SCHEMA },
};

/* What to do about a database that is no good. */
static const char *
mend(const struct trivy_db_dir *d)
{
	return d->is_new ? "the one in use stays" : "`tidewaiter db update` brings a good one";
}

/* --- opening --- */

void
trivy_db_close(struct trivy_db_dir *d)
{
	mem_free_at(&d->name);
	mem_close_at(&d->mark_fd);
	mem_close_at(&d->fd);
}

/* *ret_gone: an update removes it just now, so the link leads elsewhere already. */
static int
lock_mark(struct trivy_db_dir *d, bool *ret_gone, struct err *e)
{
	struct stat st;

	*ret_gone = false;
	d->mark_fd = openat(d->fd, TRIVY_DB_MARK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (d->mark_fd < 0 && errno != ENOENT && errno != EACCES)
		return err_errno(e, "%s/" TRIVY_DB_MARK, d->name);
	if (d->mark_fd >= 0 && flock(d->mark_fd, LOCK_SH | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_errno(e, "%s/" TRIVY_DB_MARK, d->name);
		*ret_gone = true;
	}
	/* removed before we came to lock it */
	if (fstat(d->fd, &st) < 0 || st.st_nlink == 0)
		*ret_gone = true;
	return 0;
}

int
trivy_db_open(enum trivy_db_kind kind, const char *dir, struct trivy_db_dir *ret, struct err *e)
{
	const struct trivy_db_form *form = &trivy_db_forms[kind];

	if (str_is_empty(dir))
		return err_set(e, ERR_FAILED, "%s: %s is not set", form->what, form->setting);
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		AUTO_TRIVY_DB_DIR struct trivy_db_dir d = { .kind = kind, .fd = -1, .mark_fd = -1 };
		bool is_gone;

		/* The directory may be a link that `db update` switches. */
		d.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (d.fd < 0 && errno == ENOENT) {
			err_set(e, ERR_FAILED, "%s: %s (%s) is not there: `tidewaiter db update` brings one",
				form->what, dir, form->setting);
			if (e)
				e->no = ENOENT;
			return -1;
		}
		if (d.fd < 0)
			return err_errno(e, "%s: %s (%s)", form->what, dir, form->setting);
		d.name = mem_strdup(dir);
		if (lock_mark(&d, &is_gone, e) < 0)
			return err_wrap(e, "%s", form->what);
		if (is_gone)
			continue;
		*ret = d;
		d = (struct trivy_db_dir)TRIVY_DB_DIR_INIT;
		return 0;
	}
	return err_set(e, ERR_FAILED, "%s: %s (%s) is being removed", form->what, dir, form->setting);
}

/* --- what it says of itself --- */

static int
read_metadata(const struct trivy_db_dir *d, struct trivy_db *ret, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO_FD int fd = openat(d->fd, "metadata.json", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = NULL;
	const char *updated, *next;
	size_t len;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_FAILED, "%s holds no metadata.json, so its age is not known: %s",
			       d->name, mend(d));
	if (fd < 0)
		return err_errno(e, "%s/metadata.json", d->name);
	if (fs_read_fd_max(fd, METADATA_MAX, &text, &len, e) < 0 ||
	    json_parse(text, len, METADATA_MAX, JSON_UNIQUE, &j, e) < 0 ||
	    json_need_int(j, "Version", &ret->schema, e) < 0 ||
	    json_need_str(j, "UpdatedAt", &updated, e) < 0 ||
	    clock_parse_rfc3339(updated, &ret->updated_s, e) < 0)
		return err_wrap(e, "%s/metadata.json", d->name);
	next = json_str(j, "NextUpdate");
	if (!next || clock_parse_rfc3339(next, &ret->next_update_s, NULL) < 0 || ret->next_update_s < 0)
		ret->next_update_s = 0;
	return 0;
}

static int
open_file(const struct trivy_db_dir *d, struct stat *ret_st, struct err *e)
{
	const char *name = trivy_db_forms[d->kind].file;
	AUTO_FD int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_FAILED, "%s holds no %s: %s", d->name, name, mend(d));
	if (fd < 0 || fstat(fd, ret_st) < 0)
		return err_errno(e, "%s/%s", d->name, name);
	if (!S_ISREG(ret_st->st_mode))
		return err_set(e, ERR_FAILED, "%s/%s is no regular file", d->name, name);
	return take_fd(fd);
}

static int
sqlite_check_head(int fd, uint64_t size, struct err *e)
{
	unsigned char h[SQLITE_HEAD];
	uint64_t page_size, n_pages;

	if (pread(fd, h, sizeof(h), 0) != (ssize_t)sizeof(h) || memcmp(h, "SQLite format 3", 16) != 0)
		return err_set(e, ERR_FAILED, "no Java index of Trivy's (SQLite), or its head is damaged");
	page_size = (uint64_t)h[16] << 8 | h[17];
	page_size = page_size == 1 ? 65536 : page_size;
	n_pages = (uint64_t)h[28] << 24 | (uint64_t)h[29] << 16 | (uint64_t)h[30] << 8 | h[31];
	if (page_size < 512 || (page_size & (page_size - 1)) != 0)
		return err_set(e, ERR_FAILED, "no Java index of Trivy's (SQLite), or its head is damaged");
	/* the number of pages counts where the writer's counter agrees with the other one (1.3.7) */
	if (memcmp(h + 24, h + 92, 4) == 0 && n_pages > 0 && n_pages != size / page_size)
		return err_set(e, ERR_FAILED, "it is cut: %ju bytes of %ju are there", (uintmax_t)size,
			       (uintmax_t)(n_pages * page_size));
	return size % page_size ? err_set(e, ERR_FAILED, "it is cut: its last page is not whole") : 0;
}

/* What a reader of bytes found, with the file and the way out. */
static int
say_fault(const struct trivy_db_dir *d, const struct err *fault, struct err *e)
{
	return err_set(e, ERR_FAILED, "%s/%s: %s; %s", d->name, trivy_db_forms[d->kind].file, fault->text,
		       mend(d));
}

static int
check_head(const struct trivy_db_dir *d, int fd, uint64_t size, struct bolt *ret_bolt, struct err *e)
{
	struct err fault = ERR_INIT;
	int rc = 0;

	switch (d->kind) {
	case TRIVY_DB_VULNERABILITIES:
		rc = bolt_open(fd, size, ret_bolt, &fault);
		break;
	case TRIVY_DB_JAVA:
		rc = sqlite_check_head(fd, size, &fault);
		break;
	}
	return rc < 0 ? say_fault(d, &fault, e) : 0;
}

/* Is all as `tidewaiter db` left it? Somebody else's directory says nothing about that. */
static int
check_mark(const struct trivy_db_dir *d, const struct stat *st, struct trivy_db *ret, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO_FREE char *text = NULL;
	const char *name = trivy_db_forms[d->kind].file;
	int64_t mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
	const char *said;
	size_t len;

	if (d->mark_fd < 0)
		return 0;
	if (lseek(d->mark_fd, 0, SEEK_SET) < 0)
		return err_errno(e, "%s/" TRIVY_DB_MARK, d->name);
	if (fs_read_fd_max(d->mark_fd, TRIVY_DB_MARK_MAX, &text, &len, e) < 0 ||
	    json_parse(text, len, TRIVY_DB_MARK_MAX, JSON_UNIQUE, &j, e) < 0 ||
	    json_need_str(j, "mtime_ns", &said, e) < 0)
		return err_wrap(e, "%s/" TRIVY_DB_MARK, d->name);
	if (!str_eq(json_str(j, "file"), name) || json_int(j, "size", -1) != st->st_size ||
	    strtoll(said, NULL, 10) != mtime_ns)
		return err_set(e, ERR_FAILED,
			       "%s/%s was changed since `tidewaiter db` brought and checked it; %s", d->name,
			       name, mend(d));
	if (json_int(j, "updated_at", -1) != ret->updated_s)
		return err_set(e, ERR_FAILED, "%s/metadata.json belongs to another %s; %s", d->name, name,
			       mend(d));
	ret->is_ours = true;
	ret->counts = (struct trivy_db_counts){ .vulnerabilities = (uint64_t)json_int(j, "vulnerabilities", 0),
						.advisories = (uint64_t)json_int(j, "advisories", 0),
						.sources = (uint64_t)json_int(j, "sources", 0) };
	return 0;
}

static int
judge_age(const struct trivy_db_dir *d, int64_t now_s, int64_t max_age_ms, struct trivy_db *db, struct err *e)
{
	AUTO_FREE char *age = NULL;
	AUTO_FREE char *max = NULL;

	/* The age is judged by the wall clock of both sides: one from the future is a clock that is wrong. */
	if (db->updated_s > now_s + CLOCK_SKEW_MAX_S)
		return err_set(e, ERR_FAILED, "%s was made in the future; is the clock right?", d->name);
	db->age_ms = db->updated_s < now_s ? (now_s - db->updated_s) * 1000 : 0;
	if (max_age_ms <= 0 || db->age_ms <= max_age_ms)
		return 0;
	age = str_human_duration(db->age_ms);
	max = str_human_duration(max_age_ms);
	return err_set(e, ERR_FAILED,
		       "%s is %s old, allowed are %s (trivy.db_max_age): `tidewaiter db update` brings a newer one",
		       d->name, age, max);
}

static int
judge(const struct trivy_db_dir *d, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret, struct err *e)
{
	const struct trivy_db_form *form = &trivy_db_forms[d->kind];
	struct trivy_db db = { 0 };
	struct bolt b;
	struct stat st;
	AUTO_FD int fd = -1;
	int rc;

	if (read_metadata(d, &db, e) < 0)
		return -1;
	if (db.schema != form->schema)
		return err_set(e, ERR_FAILED,
			       "%s is of schema %jd, this Trivy reads schema %jd: look at %s and at Trivy's version",
			       d->name, (intmax_t)db.schema, (intmax_t)form->schema,
			       d->kind == TRIVY_DB_JAVA ? "trivy.java_db_repositories"
							: "trivy.db_repositories");
	fd = open_file(d, &st, e);
	if (fd < 0 || check_head(d, fd, (uint64_t)st.st_size, &b, e) < 0)
		return -1;
	db.size = (uint64_t)st.st_size;
	if (check_mark(d, &st, &db, e) < 0)
		return -1;
	rc = judge_age(d, now_s, max_age_ms, &db, e);
	*ret = db;
	return rc;
}

int
trivy_db_judge(const struct trivy_db_dir *d, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret,
	       struct err *e)
{
	if (judge(d, now_s, max_age_ms, ret, e) == 0)
		return 0;
	/* A fault of the host, whatever a parser calls it: a job cannot have made it. */
	if (e)
		e->kind = ERR_FAILED;
	return err_wrap(e, "%s", trivy_db_forms[d->kind].what);
}

/* --- the whole of it --- */

/* Of the buckets at the top some are Trivy's own, each other one is a source: package → advisory → details. */
static bool
is_source(const char *top)
{
	static const char *const own[] = { "vulnerability",
					   "vulnerability-id",
					   "vulnerability-detail",
					   "advisory-detail",
					   "data-source",
					   "Red Hat CPE",
					   "trivy" };

	for (size_t k = 0; k < MEM_COUNT(own); k++)
		if (str_eq(top, own[k]))
			return false;
	return true;
}

static int
visit(void *arg, const struct bolt_item *item, struct err *e)
{
	struct trivy_db_counts *n = arg;

	if (item->depth == 0)
		return item->is_bucket ? 0 : err_set(e, ERR_FAILED, "damaged: an entry outside all buckets");
	/* Keys are names, values are JSON: a zero is a hole. */
	if (memchr(item->key, '\0', item->key_len) ||
	    (!item->is_bucket && item->value_len > 0 && memchr(item->value, '\0', item->value_len)))
		return err_set(e, ERR_FAILED, "damaged: zeros in an entry of %.80s", item->top);
	if (item->is_bucket)
		return 0;
	if (item->depth == 1 && str_eq(item->top, "vulnerability"))
		n->vulnerabilities++;
	else if (item->depth == 1 && str_eq(item->top, "data-source"))
		n->sources++;
	else if (item->depth == 2 && is_source(item->top))
		n->advisories++;
	return 0;
}

static int
take_release(void *arg, const struct bolt_item *item, struct err *e)
{
	(void)e;
	if (item->is_bucket && !memchr(item->key, '\0', item->key_len))
		strv_take(arg, mem_strndup((const char *)item->key, item->key_len));
	return 0;
}

int
trivy_db_list_releases(const struct trivy_db_dir *d, struct strv *ret, struct err *e)
{
	struct err fault = ERR_INIT;
	struct bolt b;
	struct stat st;
	AUTO_FD int fd = open_file(d, &st, e);

	if (fd < 0 || check_head(d, fd, (uint64_t)st.st_size, &b, e) < 0)
		return err_wrap(e, "%s", trivy_db_forms[d->kind].what);
	if (bolt_walk_top(&b, take_release, ret, &fault) < 0) {
		say_fault(d, &fault, e);
		return err_wrap(e, "%s", trivy_db_forms[d->kind].what);
	}
	strv_sort(ret);
	return 0;
}

int
trivy_db_verify(const struct trivy_db_dir *d, struct trivy_db_counts *counts, struct err *e)
{
	const struct trivy_db_form *form = &trivy_db_forms[d->kind];
	struct err fault = ERR_INIT;
	struct trivy_db_counts n = { 0 };
	struct bolt b;
	struct stat st;
	AUTO_FD int fd = open_file(d, &st, e);

	if (fd < 0 || check_head(d, fd, (uint64_t)st.st_size, &b, e) < 0)
		return err_wrap(e, "%s", form->what);
	if (d->kind == TRIVY_DB_VULNERABILITIES) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
		if (bolt_walk(&b, visit, &n, &fault) < 0 ||
		    (n.vulnerabilities == 0 &&
		     err_set(&fault, ERR_FAILED, "it holds no vulnerability at all") < 0)) {
			say_fault(d, &fault, e);
			return err_wrap(e, "%s", form->what);
		}
	}
	if (counts)
		*counts = n;
	return 0;
}

/* --- in one --- */

int
trivy_db_check(const char *dir, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret, struct err *e)
{
	AUTO_TRIVY_DB_DIR struct trivy_db_dir d = TRIVY_DB_DIR_INIT;

	if (trivy_db_open(TRIVY_DB_VULNERABILITIES, dir, &d, e) < 0)
		return -1;
	return trivy_db_judge(&d, now_s, max_age_ms, ret, e);
}

int
trivy_java_db_check(const char *dir, struct err *e)
{
	AUTO_TRIVY_DB_DIR struct trivy_db_dir d = TRIVY_DB_DIR_INIT;
	struct trivy_db db;

	if (trivy_db_open(TRIVY_DB_JAVA, dir, &d, e) < 0)
		return -1;
	return trivy_db_judge(&d, clock_wall_s(), 0, &db, e);
}
