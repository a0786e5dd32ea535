#include "stages/trivy_db.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

#define METADATA_MAX 65536 /* bytes */
#define CLOCK_SKEW_MAX_S 3600

/* bbolt: page header and meta, little endian on every machine that Trivy is built for. */
#define BOLT_MAGIC 0xED0CDAEDu
#define BOLT_VERSION 2u
#define BOLT_PAGE_HEADER 16
#define BOLT_META_SIZE 64
#define BOLT_META_CHECKED 56 /* bytes before the checksum */
#define BOLT_PAGE_MIN 1024u
#define BOLT_PAGE_MAX 65536u

struct bolt_meta {
	uint32_t page_size;
	uint64_t n_pages; /* high water mark: what the file must hold */
	uint64_t txid;
};

static uint32_t
le32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t
le64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static uint64_t
fnv1a(const unsigned char *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

static bool
read_meta(int fd, off_t at, struct bolt_meta *ret)
{
	unsigned char page[BOLT_PAGE_HEADER + BOLT_META_SIZE];
	const unsigned char *meta = page + BOLT_PAGE_HEADER;

	if (pread(fd, page, sizeof(page), at) != (ssize_t)sizeof(page))
		return false;
	if (le32(meta) != BOLT_MAGIC || le32(meta + 4) != BOLT_VERSION ||
	    le64(meta + BOLT_META_CHECKED) != fnv1a(meta, BOLT_META_CHECKED))
		return false;
	ret->page_size = le32(meta + 8);
	ret->n_pages = le64(meta + 40);
	ret->txid = le64(meta + 48);
	return ret->page_size >= BOLT_PAGE_MIN && ret->page_size <= BOLT_PAGE_MAX &&
	       (ret->page_size & (ret->page_size - 1)) == 0;
}

/* The newer of the two metas, as bbolt chooses. */
static bool
find_meta(int fd, struct bolt_meta *ret)
{
	struct bolt_meta first, second;
	bool has_first = read_meta(fd, 0, &first), has_second = false;

	if (has_first) {
		has_second = read_meta(fd, (off_t)first.page_size, &second);
	} else {
		for (uint32_t size = BOLT_PAGE_MIN; size <= BOLT_PAGE_MAX && !has_second; size *= 2)
			has_second = read_meta(fd, (off_t)size, &second) && second.page_size == size;
	}
	if (!has_first && !has_second)
		return false;
	*ret = !has_first || (has_second && second.txid > first.txid) ? second : first;
	return true;
}

static int
check_file(int dirfd, const char *dir, const char *name, uint64_t *ret_size, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct bolt_meta meta;
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_FAILED, "%s holds no %s: run `trivy image --download-db-only` into it",
			       dir, name);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "%s/%s", dir, name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_FAILED, "%s/%s is no regular file", dir, name);
	if (!find_meta(fd, &meta))
		return err_set(e, ERR_FAILED,
			       "%s/%s is no database of Trivy's (bbolt), or its head is damaged: fetch it again",
			       dir, name);
	if (meta.n_pages > (uint64_t)st.st_size / meta.page_size)
		return err_set(e, ERR_FAILED,
			       "%s/%s is cut: %jd bytes of at least %ju are there; fetch it again", dir, name,
			       (intmax_t)st.st_size, (uintmax_t)(meta.n_pages * meta.page_size));
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static int
read_metadata(int dirfd, const char *dir, int64_t schema, int64_t *ret_updated_s, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO_FD int fd = openat(dirfd, "metadata.json", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = NULL;
	const char *updated;
	int64_t version;
	size_t len;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_FAILED, "%s holds no metadata.json, so its age is not known", dir);
	if (fd < 0)
		return err_errno(e, "%s/metadata.json", dir);
	if (fs_read_fd_max(fd, METADATA_MAX, &text, &len, e) < 0 ||
	    json_parse(text, len, METADATA_MAX, 0, &j, e) < 0 ||
	    json_need_int(j, "Version", &version, e) < 0 || json_need_str(j, "UpdatedAt", &updated, e) < 0 ||
	    clock_parse_rfc3339(updated, ret_updated_s, e) < 0) {
		/* A fault of the host, whatever a parser calls it: a job cannot have made it. */
		if (e)
			e->kind = ERR_FAILED;
		return err_wrap(e, "%s/metadata.json", dir);
	}
	if (version != schema)
		return err_set(e, ERR_FAILED, "%s is of schema %jd, this Trivy reads schema %jd", dir,
			       (intmax_t)version, (intmax_t)schema);
	return 0;
}

static int
open_db_dir(const char *dir, const char *setting, struct err *e)
{
	int fd;

	if (str_is_empty(dir))
		return err_set(e, ERR_FAILED, "%s is not set", setting);
	/* The directory may be a link that `db update` switches. */
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "%s (%s)", dir, setting);
	return fd;
}

int
trivy_db_check(const char *dir, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret, struct err *e)
{
	AUTO_FD int dirfd = open_db_dir(dir, "trivy.db_dir", e);
	struct trivy_db db = { 0 };

	if (dirfd < 0 || read_metadata(dirfd, dir, TRIVY_DB_SCHEMA, &db.updated_s, e) < 0 ||
	    check_file(dirfd, dir, "trivy.db", &db.size, e) < 0)
		return err_wrap(e, "vulnerability database");
	/* The age is judged by the wall clock of both sides: one from the future is a clock that is wrong. */
	if (db.updated_s > now_s + CLOCK_SKEW_MAX_S)
		return err_set(e, ERR_FAILED,
			       "vulnerability database: %s was made in the future; is the clock right?", dir);
	db.age_ms = db.updated_s < now_s ? (now_s - db.updated_s) * 1000 : 0;
	*ret = db;
	if (max_age_ms > 0 && db.age_ms > max_age_ms) {
		AUTO_FREE char *age = str_human_duration(db.age_ms);
		AUTO_FREE char *max = str_human_duration(max_age_ms);

		return err_set(e, ERR_FAILED,
			       "vulnerability database: %s is %s old, allowed are %s (trivy.db_max_age)", dir,
			       age, max);
	}
	return 0;
}

int
trivy_java_db_check(const char *dir, struct err *e)
{
	AUTO_FD int dirfd = open_db_dir(dir, "trivy.java_db_dir", e);
	int64_t updated_s;
	struct stat st;

	if (dirfd < 0 || read_metadata(dirfd, dir, TRIVY_JAVA_DB_SCHEMA, &updated_s, e) < 0)
		return err_wrap(e, "Java index");
	if (fstatat(dirfd, "trivy-java.db", &st, 0) < 0)
		return err_errno(e, "Java index: %s/trivy-java.db", dir);
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return err_set(e, ERR_FAILED, "Java index: %s/trivy-java.db is empty or no regular file", dir);
	return 0;
}
