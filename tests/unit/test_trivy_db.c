#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
#include "base/mem.h"
#include "base/str.h"
#include "stages/bolt.h"
#include "stages/trivy_db.h"
#include "stages/trivy_db_import.h"
#include "stages/trivy_db_store.h"
#include "stages/trivy_fetch.h"

#define PAGE 4096
#define N_PAGES 8
#define HOUR 3600

/* --- a small bbolt file ------------------------------------------------------------------------------------------ */

static void
put(unsigned char *p, size_t n, uint64_t v)
{
	for (size_t k = 0; k < n; k++)
		p[k] = (unsigned char)(v >> 8 * k);
}

static void
put_meta(unsigned char *page, uint64_t txid)
{
	unsigned char *m = page + 16;
	uint64_t h = 0xcbf29ce484222325u;

	put(m, 4, 0xED0CDAED);
	put(m + 4, 4, 2);
	put(m + 8, 4, PAGE);
	put(m + 16, 8, 3); /* root */
	put(m + 32, 8, 2); /* free list */
	put(m + 40, 8, N_PAGES);
	put(m + 48, 8, txid);
	for (int k = 0; k < 56; k++)
		h = (h ^ m[k]) * 0x100000001b3u;
	put(m + 56, 8, h);
}

enum { BRANCH = 1, LEAF = 2 };

#define ELEMENTS 4 /* there is room for */
#define BYTES (16 + 16 * ELEMENTS)
/* Elements and, behind them, their bytes. */
struct leaf {
	unsigned char *p;
	unsigned n;
	size_t at;
};

static struct leaf
start(unsigned char *p, uint64_t id, unsigned flags)
{
	put(p, 8, id);
	put(p + 8, 2, flags);
	return (struct leaf){ p, 0, 16 + 16 * ELEMENTS };
}

static void
add(struct leaf *l, unsigned flags, const char *key, const void *value, size_t len)
{
	unsigned char *element = l->p + 16 + 16 * l->n;

	memcpy(l->p + l->at, key, strlen(key));
	memcpy(l->p + l->at + strlen(key), value, len);
	put(element, 4, flags);
	put(element + 4, 4, (uint64_t)(l->p + l->at - element));
	put(element + 8, 4, strlen(key));
	put(element + 12, 4, len);
	l->at += strlen(key) + len;
	put(l->p + 10, 2, ++l->n);
}

static void
add_text(struct leaf *l, const char *key, const char *value)
{
	add(l, 0, key, value, strlen(value));
}

static void
add_bucket(struct leaf *l, const char *key, uint64_t root)
{
	unsigned char head[16] = { 0 };

	put(head, 8, root);
	add(l, 1, key, head, sizeof(head));
}

static void
add_twig(struct leaf *l, const char *key, uint64_t page)
{
	unsigned char *element = l->p + 16 + 16 * l->n;

	memcpy(l->p + l->at, key, strlen(key));
	put(element, 4, (uint64_t)(l->p + l->at - element));
	put(element + 4, 4, strlen(key));
	put(element + 8, 8, page);
	l->at += strlen(key);
	put(l->p + 10, 2, ++l->n);
}

/*
 * Page 3: the buckets. "alpine 3.20" (4): a package with an inline bucket of one advisory. "data-source": inline.
 * "vulnerability" (5): a branch over two leaves (6, 7).
 */
static unsigned char *
make_db(void)
{
	unsigned char *f = mem_alloc(N_PAGES * PAGE);
	unsigned char inner[16 + 200] = { 0 }, source[16 + 200] = { 0 };
	struct leaf l;

	put_meta(f, 6);
	put_meta(f + PAGE, 7);
	put(f + 2 * PAGE, 8, 2);
	put(f + 2 * PAGE + 8, 2, 0x10);
	l = start(inner + 16, 0, LEAF);
	add_text(&l, "CVE-2024-0001", "{\"FixedVersion\":\"1\"}");
	l = start(source + 16, 0, LEAF);
	add_text(&l, "alpine 3.20", "{\"ID\":\"alpine\"}");
	l = start(f + 3 * PAGE, 3, LEAF);
	add_bucket(&l, "alpine 3.20", 4);
	add(&l, 1, "data-source", source, sizeof(source));
	add_bucket(&l, "vulnerability", 5);
	l = start(f + 4 * PAGE, 4, LEAF);
	add(&l, 1, "openssl", inner, sizeof(inner));
	l = start(f + 5 * PAGE, 5, BRANCH);
	add_twig(&l, "CVE-2024-0001", 6);
	add_twig(&l, "CVE-2024-0003", 7);
	l = start(f + 6 * PAGE, 6, LEAF);
	add_text(&l, "CVE-2024-0001", "{}");
	add_text(&l, "CVE-2024-0002", "{}");
	l = start(f + 7 * PAGE, 7, LEAF);
	add_text(&l, "CVE-2024-0003", "{}");
	return f;
}

/* --- places ------------------------------------------------------------------------------------------------------ */

struct place {
	char dir[64];
	int fd;
	char *link;
	int64_t now;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/tidewaiter-db-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->link = mem_printf("%s/db/current", p->dir);
	p->now = clock_wall_s();
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	close(p->fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	free(p->link);
	free(p);
	return 0;
}

static char *
metadata_of(int64_t updated_s)
{
	char date[32];

	clock_format_rfc3339(updated_s, date);
	return mem_printf("{\"Version\":2,\"NextUpdate\":\"2030-01-01T00:00:00Z\",\"UpdatedAt\":\"%s\"}",
			  date);
}

/* A directory `name` with a database of that age. */
static int
write_dir(int at, const char *name, const unsigned char *file, size_t len, int64_t updated_s)
{
	AUTO_FREE char *metadata = metadata_of(updated_s);
	struct err e = ERR_INIT;
	int fd;

	assert_int_equal(fs_mkdirs(at, name, 0755, &e), 0);
	fd = fs_open_dir(at, name, &e);
	assert_int_equal(fs_publish(fd, "trivy.db", file, len, 0644, 0, &e), 0);
	assert_int_equal(fs_publish(fd, "metadata.json", metadata, strlen(metadata), 0644, 0, &e), 0);
	return fd;
}

static int
verify(struct place *p, const unsigned char *file, size_t len, struct trivy_db_counts *counts, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/looked-at", p->dir);
	AUTO_TRIVY_DB_DIR struct trivy_db_dir d = TRIVY_DB_DIR_INIT;

	close(write_dir(p->fd, "looked-at", file, len, p->now));
	assert_int_equal(trivy_db_open(TRIVY_DB_VULNERABILITIES, path, &d, e), 0);
	return trivy_db_verify(&d, counts, e);
}

static void
assert_damaged(struct place *p, const unsigned char *file, const char *words)
{
	struct err e = ERR_INIT;

	if (verify(p, file, N_PAGES * PAGE, NULL, &e) == 0)
		fail_msg("taken for whole, expected \"%s\"", words);
	assert_int_equal(e.kind, ERR_FAILED);
	if (!strstr(e.text, words) || !strstr(e.text, "tidewaiter db update"))
		fail_msg("\"%s\" does not say \"%s\" and the way out", e.text, words);
}

/* --- pages ------------------------------------------------------------------------------------------------------- */

static void
a_whole_database_is_counted(void **state)
{
	struct place *p = *state;
	AUTO_FREE unsigned char *f = make_db();
	struct trivy_db_counts n;
	struct err e = ERR_INIT;

	if (verify(p, f, N_PAGES * PAGE, &n, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(n.vulnerabilities, 3);
	assert_int_equal(n.advisories, 1);
	assert_int_equal(n.sources, 1);
}

static void
every_page_that_holds_something_is_missed_when_it_is_zeroed(void **state)
{
	struct place *p = *state;

	for (size_t k = 3; k < N_PAGES; k++) {
		AUTO_FREE unsigned char *f = make_db();

		memset(f + k * PAGE, 0, PAGE);
		assert_damaged(p, f, "damaged: page");
	}
}

static void
every_cut_at_a_page_is_noticed(void **state)
{
	struct place *p = *state;
	AUTO_FREE unsigned char *f = make_db();

	for (size_t k = 0; k < N_PAGES; k++) {
		struct err e = ERR_INIT;

		assert_int_equal(verify(p, f, k * PAGE, NULL, &e), -1);
		assert_non_null(strstr(e.text, k < 1 ? "its head is damaged" : "it is cut"));
	}
}

/* A change of `n` bytes at an offset. */
static void
damaged_by(struct place *p, size_t at, size_t n, uint64_t v, const char *words)
{
	AUTO_FREE unsigned char *f = make_db();

	put(f + at, n, v);
	assert_damaged(p, f, words);
}

static void
each_thing_that_bbolt_takes_on_trust_is_looked_at(void **state)
{
	struct place *p = *state;
	size_t branch = 5 * PAGE + 16, leaf = 6 * PAGE + 16;

	damaged_by(p, 6 * PAGE, 8, 7, "not what it should be");
	damaged_by(p, 6 * PAGE + 8, 2, 0x10, "of no kind");
	damaged_by(p, 6 * PAGE + 10, 2, 60000, "do not fit");
	damaged_by(p, 6 * PAGE + 12, 4, 5, "runs out of the file");
	damaged_by(p, 6 * PAGE + 12, 4, 1, "used twice"); /* as overflow it would take page 7 */
	damaged_by(p, branch + 8, 8, 99, "outside the file");
	damaged_by(p, branch + 8, 8, 5, "used twice"); /* itself: a circle */
	damaged_by(p, branch + 16 + 8, 8, 6, "used twice");
	damaged_by(p, leaf + 4, 4, PAGE, "outside it");
	damaged_by(p, leaf + 4, 4, 8, "outside it"); /* into the elements */
	damaged_by(p, leaf + 8, 4, UINT32_MAX, "outside it");
	damaged_by(p, leaf + 8, 4, 0, "key without bytes");
	damaged_by(p, leaf, 4, 2, "no known kind");
	/* two elements in the same bytes */
	damaged_by(p, leaf + 16 + 4, 4, 16 * ELEMENTS - 16, "or in another");
	/* the second key of a leaf before the first; the first of a leaf below what the branch says, or before the page before */
	damaged_by(p, 6 * PAGE + BYTES + 15, 1, 'A', "not in order");
	damaged_by(p, 7 * PAGE + BYTES, 1, 'A', "not in order");
	damaged_by(p, 6 * PAGE + BYTES, 1, 'A', "belong elsewhere");
	/* a hole in a value */
	damaged_by(p, 6 * PAGE + BYTES + 13, 2, 0, "zeros in an entry of vulnerability");
	/* "alpine 3.20"/"openssl" is inline: a bucket in it would be one too many */
	damaged_by(p, 4 * PAGE + BYTES + 7 + 16 + 16, 4, 1, "a bucket in an inline bucket");
}

static void
a_database_without_vulnerabilities_is_none(void **state)
{
	struct place *p = *state;
	AUTO_FREE unsigned char *f = make_db();
	struct leaf l;

	memset(f + 3 * PAGE, 0, PAGE);
	l = start(f + 3 * PAGE, 3, LEAF);
	add_bucket(&l, "alpine 3.20", 4);
	assert_damaged(p, f, "no vulnerability at all");
}

/* --- the store --------------------------------------------------------------------------------------------------- */

static struct trivy_db_store *
open_store(const struct place *p)
{
	struct trivy_db_store *s = NULL;
	struct err e = ERR_INIT;

	if (trivy_db_store_make(TRIVY_DB_VULNERABILITIES, p->link, (uid_t)-1, 0, &e) < 0 ||
	    trivy_db_store_open(TRIVY_DB_VULNERABILITIES, p->link, &s, &e) < 0 ||
	    trivy_db_store_lock(s, clock_deadline(0), &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

/* Brings a database of that age into the store. The new version's name, NULL where there is none. */
static char *
publish(const struct trivy_db_store *s, const unsigned char *file, int64_t updated_s, bool is_forced, int rc,
	struct err *e)
{
	AUTO_FREE char *stage = NULL;
	AUTO_FREE char *from = NULL;
	AUTO_FD int fd = -1;
	struct trivy_db_new n = { .from = "the mirror", .is_forced = is_forced };

	assert_int_equal(trivy_db_store_stage(s, &stage, e), 0);
	from = mem_printf("%s/got", stage);
	fd = write_dir(s->fd, from, file, N_PAGES * PAGE, updated_s);
	n.fd = fd;
	n.stage = stage;
	if (trivy_db_store_publish(s, &n, e) != rc)
		fail_msg("expected %d: %s", rc, e->text);
	assert_int_equal(fs_remove_tree(s->fd, stage, NULL), 0);
	return n.name;
}

static void
assert_current(const struct trivy_db_store *s, const char *name)
{
	AUTO_FREE char *current = trivy_db_store_current(s);

	assert_string_equal(current, name);
}

static void
the_last_two_versions_are_kept_and_the_link_leads_to_the_newest(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	AUTO_FREE unsigned char *f = make_db();
	AUTO_STRV struct strv all = { 0 };
	char *names[4] = { NULL };
	struct trivy_db db;
	struct err e = ERR_INIT;
	size_t n_busy;

	for (int k = 0; k < 4; k++) {
		names[k] = publish(s, f, p->now - (4 - k) * HOUR, false, 0, &e);
		assert_current(s, names[k]);
		assert_int_equal(trivy_db_store_prune(s, &n_busy, &e), 0);
		assert_int_equal(n_busy, 0);
	}
	assert_int_equal(trivy_db_store_list(s, &all, &e), 0);
	assert_int_equal(all.n, 2);
	assert_string_equal(all.v[0], names[3]);
	assert_string_equal(all.v[1], names[2]);
	assert_int_equal(trivy_db_check(p->link, p->now, 0, &db, &e), 0);
	assert_true(db.is_ours);
	assert_int_equal(db.counts.vulnerabilities, 3);
	free(names[0]);
	free(names[1]);
	free(names[2]);
	free(names[3]);
}

static void
a_version_that_a_scan_holds_stays_until_it_is_given_back(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	AUTO_FREE unsigned char *f = make_db();
	AUTO_FREE char *first = NULL;
	AUTO_FREE char *second = NULL;
	AUTO_FREE char *third = NULL;
	AUTO_TRIVY_DB_DIR struct trivy_db_dir scan = TRIVY_DB_DIR_INIT;
	struct err e = ERR_INIT;
	size_t n_busy;

	first = publish(s, f, p->now - 3 * HOUR, false, 0, &e);
	assert_int_equal(trivy_db_open(TRIVY_DB_VULNERABILITIES, p->link, &scan, &e), 0);
	second = publish(s, f, p->now - 2 * HOUR, false, 0, &e);
	third = publish(s, f, p->now - HOUR, false, 0, &e);
	assert_int_equal(trivy_db_store_prune(s, &n_busy, &e), 0);
	assert_int_equal(n_busy, 1);
	assert_int_equal(trivy_db_verify(&scan, NULL, &e), 0);
	trivy_db_close(&scan);
	assert_int_equal(trivy_db_store_prune(s, &n_busy, &e), 0);
	assert_int_equal(n_busy, 0);
	assert_int_equal(faccessat(s->fd, first, F_OK, 0), -1);
	assert_int_equal(faccessat(s->fd, second, F_OK, 0), 0);
	assert_current(s, third);
}

static void
nothing_older_is_taken_but_by_force_and_nothing_of_the_same_date_twice(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	AUTO_FREE unsigned char *f = make_db();
	AUTO_FREE char *first = NULL;
	AUTO_FREE char *older = NULL;
	struct err e = ERR_INIT;

	first = publish(s, f, p->now - HOUR, false, 0, &e);
	assert_null(publish(s, f, p->now - HOUR, false, 0, &e));
	assert_null(publish(s, f, p->now - 2 * HOUR, false, -1, &e));
	assert_non_null(strstr(e.text, "older than the one in use"));
	assert_non_null(strstr(e.text, "--force"));
	assert_current(s, first);
	older = publish(s, f, p->now - 2 * HOUR, true, 0, &e);
	assert_current(s, older);
}

static void
what_is_no_good_changes_nothing(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	AUTO_FREE unsigned char *f = make_db();
	AUTO_FREE char *first = publish(s, f, p->now - HOUR, false, 0, NULL);
	AUTO_STRV struct strv all = { 0 };
	struct err e = ERR_INIT;

	assert_null(publish(s, f, p->now + 3 * HOUR, false, -1, &e));
	assert_non_null(strstr(e.text, "made in the future"));
	memset(f + 6 * PAGE, 0, PAGE);
	assert_null(publish(s, f, p->now, true, -1, &e));
	assert_non_null(strstr(e.text, "the mirror/trivy.db: damaged: page 6"));
	assert_non_null(strstr(e.text, "the one in use stays"));
	assert_current(s, first);
	assert_int_equal(trivy_db_store_list(s, &all, &e), 0);
	assert_int_equal(all.n, 1);
}

static void
what_was_changed_since_it_was_checked_is_not_used(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	AUTO_FREE unsigned char *f = make_db();
	AUTO_FREE char *name = publish(s, f, p->now - HOUR, false, 0, NULL);
	AUTO_FREE char *metadata = metadata_of(p->now);
	AUTO_FD int dir = fs_open_dir(s->fd, name, NULL);
	AUTO_FD int file = openat(dir, "trivy.db", O_WRONLY | O_CLOEXEC);
	struct timespec times[2];
	struct trivy_db db;
	struct err e = ERR_INIT;
	struct stat st;

	assert_int_equal(fstat(file, &st), 0);
	times[0] = times[1] = st.st_mtim;
	assert_int_equal(pwrite(file, "x", 1, 6 * PAGE), 1);
	assert_int_equal(trivy_db_check(p->link, p->now, 0, &db, &e), -1);
	assert_non_null(strstr(e.text, "was changed since"));
	assert_int_equal(futimens(file, times), 0);
	assert_int_equal(trivy_db_check(p->link, p->now, 0, &db, &e), 0);
	assert_int_equal(fs_publish(dir, "metadata.json", metadata, strlen(metadata), 0644, 0, &e), 0);
	assert_int_equal(trivy_db_check(p->link, p->now, 0, &db, &e), -1);
	assert_non_null(strstr(e.text, "metadata.json belongs to another"));
}

static void
what_killed_processes_left_is_removed_and_nothing_else(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	struct err e = ERR_INIT;
	static const char *const left[] = { ".new-12/cache/db", ".old-2026-11-24T00-00-00Z" };
	static const char *const others[] = { "2026-11-24T00-00-00Z", "lost+found", "admin" };

	for (size_t k = 0; k < MEM_COUNT(left); k++)
		assert_int_equal(fs_mkdirs(s->fd, left[k], 0755, &e), 0);
	for (size_t k = 0; k < MEM_COUNT(others); k++)
		assert_int_equal(fs_mkdirs(s->fd, others[k], 0755, &e), 0);
	assert_int_equal(symlinkat("nowhere", s->fd, ".link-12"), 0);
	mem_close_at(&s->lock_fd);
	assert_int_equal(trivy_db_store_lock(s, clock_deadline(0), &e), 0);
	assert_int_equal(faccessat(s->fd, ".new-12", F_OK, 0), -1);
	assert_int_equal(faccessat(s->fd, left[1], F_OK, 0), -1);
	assert_int_equal(faccessat(s->fd, ".link-12", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	for (size_t k = 0; k < MEM_COUNT(others); k++)
		assert_int_equal(faccessat(s->fd, others[k], F_OK, 0), 0);
}

static void
one_at_a_time_changes_a_store(void **state)
{
	struct place *p = *state;
	AUTO(trivy_db_store) struct trivy_db_store *s = open_store(p);
	AUTO(trivy_db_store) struct trivy_db_store *other = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(trivy_db_store_open(TRIVY_DB_VULNERABILITIES, p->link, &other, &e), 0);
	assert_int_equal(trivy_db_store_lock(other, clock_deadline(0), &e), -1);
	assert_int_equal(e.kind, ERR_TIMEOUT);
	mem_close_at(&s->lock_fd);
	err_clear(&e);
	assert_int_equal(trivy_db_store_lock(other, clock_deadline(0), &e), 0);
}

static void
a_directory_or_link_of_an_admin_is_no_store(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *plain = mem_printf("%s/theirs", p->dir);
	AUTO_FREE char *dir = mem_printf("%s/a/current", p->dir);
	AUTO_FREE char *link = mem_printf("%s/b/current", p->dir);
	struct err e = ERR_INIT;

	assert_int_equal(fs_mkdirs(p->fd, "a/current", 0755, &e), 0);
	assert_int_equal(fs_mkdirs(p->fd, "b", 0755, &e), 0);
	assert_int_equal(symlink("theirs", link), 0);
	assert_int_equal(trivy_db_store_check(TRIVY_DB_VULNERABILITIES, plain, &e), -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_non_null(strstr(e.text, "trivy.db_dir"));
	assert_int_equal(trivy_db_store_check(TRIVY_DB_VULNERABILITIES, dir, &e), -1);
	assert_int_equal(trivy_db_store_check(TRIVY_DB_JAVA, link, &e), -1);
	assert_non_null(strstr(e.text, "trivy.java_db_dir"));
	assert_int_equal(trivy_db_store_check(TRIVY_DB_VULNERABILITIES, "", &e), -1);
	assert_int_equal(trivy_db_store_check(TRIVY_DB_VULNERABILITIES, p->link, &e), 0);
}

/* --- the Java index ---------------------------------------------------------------------------------------------- */

static void
a_java_index_that_is_cut_is_noticed(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *metadata = mem_strdup("{\"Version\":1,\"UpdatedAt\":\"2026-01-01T00:00:00Z\"}");
	AUTO_FREE unsigned char *f = mem_alloc(3 * PAGE);
	AUTO_FREE char *dir = mem_printf("%s/java", p->dir);
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;

	memcpy(f, "SQLite format 3", 16);
	f[16] = PAGE >> 8;
	f[31] = 3; /* pages, big endian */
	assert_int_equal(mkdir(dir, 0755), 0);
	fd = fs_open_dir(p->fd, "java", &e);
	assert_int_equal(fs_publish(fd, "metadata.json", metadata, strlen(metadata), 0644, 0, &e), 0);
	assert_int_equal(trivy_java_db_check(dir, &e), -1);
	assert_non_null(strstr(e.text, "holds no trivy-java.db"));
	assert_int_equal(fs_publish(fd, "trivy-java.db", f, 3 * PAGE, 0644, 0, &e), 0);
	assert_int_equal(trivy_java_db_check(dir, &e), 0);
	assert_int_equal(fs_publish(fd, "trivy-java.db", f, 2 * PAGE, 0644, 0, &e), 0);
	assert_int_equal(trivy_java_db_check(dir, &e), -1);
	assert_non_null(strstr(e.text, "it is cut"));
	assert_int_equal(fs_publish(fd, "trivy-java.db", f, 3 * PAGE - 1, 0644, 0, &e), 0);
	assert_int_equal(trivy_java_db_check(dir, &e), -1);
	f[0] = 'X';
	assert_int_equal(fs_publish(fd, "trivy-java.db", f, 3 * PAGE, 0644, 0, &e), 0);
	assert_int_equal(trivy_java_db_check(dir, &e), -1);
	assert_non_null(strstr(e.text, "SQLite"));
}

/* --- what Trivy says --------------------------------------------------------------------------------------------- */

static void
why_a_download_failed_is_said_in_one_line(void **state)
{
	AUTO_FREE char *text =
		trivy_fetch_explain("2026-11-24T20:00:00Z\tINFO\t[vulndb] Need to update DB\n"
				    "2026-11-24T20:00:00Z\tFATAL\tFatal error\trun error: 1 error occurred:\n"
				    "\t* Get \"https://x/v2/\": refused\n\n\n");
	AUTO_FREE char *full =
		trivy_fetch_explain("FATAL\tFatal error\tcopy: write /x: no space left on device\n");
	AUTO_FREE char *nothing = trivy_fetch_explain("");

	(void)state;
	assert_string_equal(text, "run error: 1 error occurred: * Get \"https://x/v2/\": refused");
	assert_non_null(strstr(full, "no space left"));
	assert_string_equal(nothing, "it said nothing");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_whole_database_is_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(every_page_that_holds_something_is_missed_when_it_is_zeroed,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(every_cut_at_a_page_is_noticed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(each_thing_that_bbolt_takes_on_trust_is_looked_at, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_database_without_vulnerabilities_is_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_last_two_versions_are_kept_and_the_link_leads_to_the_newest,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_version_that_a_scan_holds_stays_until_it_is_given_back,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_older_is_taken_but_by_force_and_nothing_of_the_same_date_twice,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_good_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_was_changed_since_it_was_checked_is_not_used, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_killed_processes_left_is_removed_and_nothing_else,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_at_a_time_changes_a_store, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_directory_or_link_of_an_admin_is_no_store, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_java_index_that_is_cut_is_noticed, set_up, tear_down),
		cmocka_unit_test(why_a_download_failed_is_said_in_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
