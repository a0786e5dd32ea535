#include "stages/trivy_db_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"

#define LINK_NAME "current"
#define LOCK_NAME ".lock"
#define NEW_PREFIX ".new-"
#define OLD_PREFIX ".old-"
#define LINK_PREFIX ".link-"
#define SAME_TIME_MAX 1000 /* versions of one UpdatedAt */

/* --- places --- */

/* "2026-11-24T06-12-00Z", perhaps with "-2" behind it */
static bool
is_version_name(const char *name)
{
	static const char form[] = "0000-00-00T00-00-00Z";
	size_t k = 0;

	for (; form[k]; k++)
		if (form[k] == '0' ? name[k] < '0' || name[k] > '9' : name[k] != form[k])
			return false;
	if (!name[k])
		return true;
	return name[k] == '-' && name[k + 1] && name[k + 1 + strspn(name + k + 1, "0123456789")] == '\0';
}

static bool
is_leftover_name(const char *name)
{
	return str_has_prefix(name, NEW_PREFIX) || str_has_prefix(name, OLD_PREFIX) ||
	       str_has_prefix(name, LINK_PREFIX);
}

static char *
read_link(int dirfd, const char *name)
{
	char to[256];
	ssize_t n = readlinkat(dirfd, name, to, sizeof(to));

	return n > 0 && n < (ssize_t)sizeof(to) ? mem_strndup(to, (size_t)n) : NULL;
}

int
trivy_db_store_check(enum trivy_db_kind kind, const char *link, struct err *e)
{
	const struct trivy_db_form *form = &trivy_db_forms[kind];
	AUTO_FREE char *to = NULL;
	const char *slash = link ? strrchr(link, '/') : NULL;
	struct stat st;

	/* a name that says so: the directory around it becomes ours */
	if (!slash || slash == link || !str_eq(slash + 1, LINK_NAME))
		return err_set(e, ERR_SETTINGS,
			       "%s is \"%s\": whatever brings the database there updates it. For `tidewaiter db` leave it "
			       "empty, or name a path such as /var/cache/tidewaiter/%s/" LINK_NAME,
			       form->setting, link ? link : "", form->cache_name);
	if (lstat(link, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "%s (%s)", link, form->setting);
	if (!S_ISLNK(st.st_mode))
		return err_set(e, ERR_SETTINGS,
			       "%s (%s) is there and is no link that `tidewaiter db` has made", link,
			       form->setting);
	to = read_link(AT_FDCWD, link);
	if (!to || !is_version_name(to))
		return err_set(e, ERR_SETTINGS,
			       "%s (%s) is there and is no link that `tidewaiter db` has made", link,
			       form->setting);
	return 0;
}

int
trivy_db_store_make(enum trivy_db_kind kind, const char *link, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FREE char *dir = NULL;
	AUTO_FREE char *parent = NULL;
	AUTO_FD int fd = -1;

	if (trivy_db_store_check(kind, link, e) < 0)
		return -1;
	dir = mem_strndup(link, (size_t)(strrchr(link, '/') - link));
	parent = mem_strndup(dir, (size_t)(strrchr(dir, '/') - dir));
	if (parent[0] && access(parent, F_OK) < 0 && fs_mkdirs(AT_FDCWD, parent, 0711, e) < 0)
		return -1;
	if (mkdir(dir, 0700) < 0)
		return errno == EEXIST ? 0 : err_errno(e, "%s", dir);
	fd = fs_open_dir(AT_FDCWD, dir, e);
	if (fd < 0)
		return -1;
	if ((uid != (uid_t)-1 && fchown(fd, uid, gid) < 0) || fchmod(fd, TRIVY_DB_STORE_MODE) < 0)
		return err_errno(e, "%s", dir);
	return 0;
}

int
trivy_db_store_open(enum trivy_db_kind kind, const char *link, struct trivy_db_store **ret, struct err *e)
{
	AUTO(trivy_db_store) struct trivy_db_store *s = mem_alloc(sizeof(*s));

	s->kind = kind;
	s->fd = s->lock_fd = -1;
	if (trivy_db_store_check(kind, link, e) < 0)
		return -1;
	s->link = mem_strdup(link);
	s->path = mem_strndup(link, (size_t)(strrchr(link, '/') - link));
	s->name = mem_strdup(strrchr(link, '/') + 1);
	/* a link on the way is the admin's; O_NOFOLLOW would refuse one in its place only */
	s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd < 0)
		return err_errno(e, "%s (%s)", s->path, trivy_db_forms[kind].setting);
	*ret = take_ptr(s);
	return 0;
}

void
trivy_db_store_free(struct trivy_db_store *s)
{
	mem_close_at(&s->lock_fd);
	mem_close_at(&s->fd);
	free(s->link);
	free(s->path);
	free(s->name);
	free(s);
}

/* --- what is there --- */

struct version {
	char *name;
	struct timespec published;
};

/* Names break a tie: the file system's clock may be coarse. */
static int
newer_first(const void *pa, const void *pb)
{
	const struct version *a = pa, *b = pb;

	if (a->published.tv_sec != b->published.tv_sec)
		return a->published.tv_sec > b->published.tv_sec ? -1 : 1;
	if (a->published.tv_nsec != b->published.tv_nsec)
		return a->published.tv_nsec > b->published.tv_nsec ? -1 : 1;
	return strverscmp(b->name, a->name);
}

int
trivy_db_store_list(const struct trivy_db_store *s, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(s->fd, e);
	AUTO_FREE struct version *v = NULL;
	struct dirent *entry;
	size_t n = 0;
	int rc = -1;

	while (dir && (rc = fs_next(dir, &entry, e)) > 0) {
		AUTO_FREE char *mark = mem_printf("%s/" TRIVY_DB_MARK, entry->d_name);
		struct stat st;

		/* without a mark it is nothing of ours */
		if (!is_version_name(entry->d_name) || fstatat(s->fd, mark, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		v = mem_resize(v, n + 1, sizeof(*v));
		v[n++] = (struct version){ mem_strdup(entry->d_name), st.st_mtim };
	}
	if (n)
		qsort(v, n, sizeof(*v), newer_first);
	for (size_t k = 0; k < n; k++)
		strv_take(ret, v[k].name);
	return rc < 0 ? err_wrap(e, "%s", s->path) : 0;
}

char *
trivy_db_store_current(const struct trivy_db_store *s)
{
	return read_link(s->fd, s->name);
}

/* --- removing --- */

/* *ret_busy: a scan has it open. Whoever holds the exclusive lock removes it; scans that come now see that. */
static int
remove_unused(const struct trivy_db_store *s, const char *name, bool *ret_busy, struct err *e)
{
	AUTO_FREE char *mark = mem_printf("%s/" TRIVY_DB_MARK, name);
	AUTO_FREE char *old = mem_printf(OLD_PREFIX "%s", name);
	AUTO_FD int fd = openat(s->fd, mark, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	*ret_busy = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
	if (*ret_busy)
		return 0;
	/* under a name that tells a killed removal from a version */
	if (is_version_name(name)) {
		if (renameat(s->fd, name, s->fd, old) < 0)
			return err_errno(e, "%s/%s", s->path, name);
		name = old;
	}
	if (fs_remove_tree(s->fd, name, e) < 0)
		return err_wrap(e, "%s", s->path);
	return 0;
}

static int
remove_leftovers(const struct trivy_db_store *s, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(s->fd, e);
	struct dirent *entry;
	bool is_busy;
	int rc = -1;

	while (dir && (rc = fs_next(dir, &entry, e)) > 0)
		if (is_leftover_name(entry->d_name) && remove_unused(s, entry->d_name, &is_busy, e) < 0)
			return -1;
	return rc < 0 ? err_wrap(e, "%s", s->path) : 0;
}

int
trivy_db_store_prune(const struct trivy_db_store *s, size_t *ret_busy, struct err *e)
{
	AUTO_FREE char *current = trivy_db_store_current(s);
	AUTO_STRV struct strv all = { 0 };
	size_t n_kept = 0;

	*ret_busy = 0;
	if (trivy_db_store_list(s, &all, e) < 0)
		return -1;
	for (size_t k = 0; k < all.n; k++) {
		bool is_busy = false;

		if (str_eq(all.v[k], current))
			continue;
		if (++n_kept < TRIVY_DB_KEPT)
			continue;
		if (remove_unused(s, all.v[k], &is_busy, e) < 0)
			return -1;
		*ret_busy += is_busy;
	}
	return 0;
}

/* --- changing --- */

int
trivy_db_store_lock(struct trivy_db_store *s, int64_t deadline, struct err *e)
{
	int fd = fs_lock(s->fd, LOCK_NAME, deadline, e);

	if (fd < 0)
		return err_wrap(e, "%s", s->path);
	s->lock_fd = fd;
	return remove_leftovers(s, e);
}

int
trivy_db_store_stage(const struct trivy_db_store *s, char **ret_name, struct err *e)
{
	AUTO_FREE char *name = mem_printf(NEW_PREFIX "%d", (int)getpid());

	if (fs_remove_tree(s->fd, name, e) < 0)
		return err_wrap(e, "%s", s->path);
	/* the set-group-ID bit comes from above */
	if (mkdirat(s->fd, name, 0700) < 0)
		return err_errno(e, "%s/%s", s->path, name);
	*ret_name = take_ptr(name);
	return 0;
}

/* Into a directory of their own, with the modes that they keep. */
static int
take_files(const struct trivy_db_store *s, const struct trivy_db_new *n, int to_fd, struct err *e)
{
	const char *const names[] = { trivy_db_forms[s->kind].file, "metadata.json" };

	for (size_t k = 0; k < MEM_COUNT(names); k++) {
		AUTO_FD int fd = openat(n->fd, names[k], O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		struct stat st;

		if (fd < 0 && errno == ENOENT)
			return err_set(e, ERR_FAILED, "%s holds no %s", n->from, names[k]);
		if (fd < 0 || fstat(fd, &st) < 0)
			return err_errno(e, "%s: %s", n->from, names[k]);
		if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
			return err_set(e, ERR_FAILED, "%s: %s is no plain file", n->from, names[k]);
		if (fchmod(fd, 0640) < 0 || fsync(fd) < 0 || renameat(n->fd, names[k], to_fd, names[k]) < 0)
			return err_errno(e, "%s: %s", n->from, names[k]);
	}
	return 0;
}

static int
write_mark(const struct trivy_db_store *s, int fd, const struct trivy_db_new *n, struct err *e)
{
	const char *file = trivy_db_forms[s->kind].file;
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FD int file_fd = openat(fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *mtime = NULL;
	char digest[HASH_DIGEST_MAX];
	struct stat st;

	if (file_fd < 0 || fstat(file_fd, &st) < 0)
		return err_errno(e, "%s", file);
	if (hash_of_fd(HASH_SHA256, file_fd, digest, e) < 0)
		return err_wrap(e, "%s", file);
	mtime = mem_printf("%lld", (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	json_add_str(j, "file", file);
	json_add_int(j, "size", st.st_size);
	json_add_str(j, "mtime_ns", mtime); /* beyond what a number of JSON holds exactly */
	json_add_int(j, "updated_at", n->db.updated_s);
	json_add_str(j, "digest", digest);
	json_add_int(j, "vulnerabilities", (int64_t)n->counts.vulnerabilities);
	json_add_int(j, "advisories", (int64_t)n->counts.advisories);
	json_add_int(j, "sources", (int64_t)n->counts.sources);
	text = json_print_pretty(j);
	return fs_publish(fd, TRIVY_DB_MARK, text, strlen(text), 0640, FS_DURABLE, e);
}

/* The one in use as far as it is any good: 0 where it is not, for then anything is newer. */
static int64_t
current_updated_s(const struct trivy_db_store *s)
{
	AUTO_TRIVY_DB_DIR struct trivy_db_dir d = TRIVY_DB_DIR_INIT;
	struct trivy_db db = { 0 };

	if (trivy_db_open(s->kind, s->link, &d, NULL) < 0 ||
	    trivy_db_judge(&d, clock_wall_s(), 0, &db, NULL) < 0)
		return 0;
	return db.updated_s;
}

/* *ret_is_same: nothing to do. */
static int
compare_with_current(const struct trivy_db_store *s, const struct trivy_db_new *n, bool *ret_is_same,
		     struct err *e)
{
	int64_t current = current_updated_s(s);
	char now_text[32], new_text[32];

	*ret_is_same = !n->is_forced && n->db.updated_s == current;
	if (n->is_forced || n->db.updated_s >= current)
		return 0;
	clock_format_rfc3339(current, now_text);
	clock_format_rfc3339(n->db.updated_s, new_text);
	return err_set(e, ERR_FAILED,
		       "%s is of %s, older than the one in use (%s), which stays; --force takes it", n->from,
		       new_text, now_text);
}

/* The name is the time that the database says, since that is what people compare. */
static int
place_version(const struct trivy_db_store *s, const char *from, int64_t updated_s, char **ret, struct err *e)
{
	char stamp[32];

	clock_format_rfc3339(updated_s, stamp);
	for (char *p = strchr(stamp, ':'); p; p = strchr(p, ':'))
		*p = '-';
	for (int k = 1; k < SAME_TIME_MAX; k++) {
		AUTO_FREE char *name = k == 1 ? mem_strdup(stamp) : mem_printf("%s-%d", stamp, k);

		if (renameat2(s->fd, from, s->fd, name, RENAME_NOREPLACE) == 0) {
			*ret = take_ptr(name);
			return 0;
		}
		if (errno != EEXIST)
			return err_errno(e, "%s/%s", s->path, name);
	}
	return err_set(e, ERR_FAILED, "%s: too many versions of %s", s->path, stamp);
}

static int
switch_link(const struct trivy_db_store *s, const char *version, struct err *e)
{
	AUTO_FREE char *name = mem_printf(LINK_PREFIX "%d", (int)getpid());

	if (fsync(s->fd) < 0)
		return err_errno(e, "%s", s->path);
	if (symlinkat(version, s->fd, name) < 0 || renameat(s->fd, name, s->fd, s->name) < 0)
		return err_errno(e, "%s", s->link);
	return fsync(s->fd) < 0 ? err_errno(e, "%s", s->path) : 0;
}

static int
check_new(const struct trivy_db_store *s, struct trivy_db_new *n, int fd, struct err *e)
{
	struct trivy_db_dir d = {
		.kind = s->kind, .name = (char *)(uintptr_t)n->from, .fd = fd, .mark_fd = -1, .is_new = true
	};

	if (trivy_db_judge(&d, clock_wall_s(), 0, &n->db, e) < 0)
		return -1;
	return trivy_db_verify(&d, &n->counts, e);
}

int
trivy_db_store_publish(const struct trivy_db_store *s, struct trivy_db_new *n, struct err *e)
{
	AUTO_FREE char *place = mem_printf("%s/version", n->stage);
	AUTO_FD int fd = -1;
	bool is_same;

	if (mkdirat(s->fd, place, 0750) < 0)
		return err_errno(e, "%s/%s", s->path, place);
	fd = fs_open_beneath(s->fd, place, O_RDONLY | O_DIRECTORY, 0, e);
	if (fd < 0 || take_files(s, n, fd, e) < 0 || check_new(s, n, fd, e) < 0 ||
	    compare_with_current(s, n, &is_same, e) < 0)
		return -1;
	if (is_same)
		return 0;
	/* last: until the mark is there this is no version. The mode behind it: it may cost the set-group-ID bit. */
	if (write_mark(s, fd, n, e) < 0)
		return -1;
	if (fchmod(fd, 0750) < 0 || fsync(fd) < 0)
		return err_errno(e, "%s/%s", s->path, place);
	if (place_version(s, place, n->db.updated_s, &n->name, e) < 0)
		return -1;
	return switch_link(s, n->name, e);
}
