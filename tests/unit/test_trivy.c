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
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/scan.h"
#include "stages/trivy.h"
#include "stages/trivy_db.h"

struct place {
	char dir[64];
	int fd;
	struct options_trivy opt;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/tidewaiter-trivy-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->opt = (struct options_trivy){
		.timeout = 20000, .memory_max = INT64_C(1) << 32, .parallel = 2, .report_max = 1 << 16
	};
	p->opt.path = mem_printf("%s/program", p->dir);
	p->opt.sha256 = mem_strdup("");
	p->opt.db_dir = mem_printf("%s/db", p->dir);
	p->opt.java_db_dir = mem_strdup("");
	strv_add(&p->opt.scanners, "vuln");
	strv_add(&p->opt.scanners, "secret");
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;

	close(p->fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, &e), 0);
	free(p->opt.path);
	free(p->opt.sha256);
	free(p->opt.db_dir);
	free(p->opt.java_db_dir);
	strv_free(&p->opt.scanners);
	free(p);
	return 0;
}

/* A program in Trivy's place. */
static void
write_program(const struct place *p, const char *script)
{
	AUTO_FREE char *text = mem_printf("#!/bin/sh\n%s\n", script);
	struct err e = ERR_INIT;

	assert_int_equal(fs_publish(p->fd, "program", text, strlen(text), 0755, 0, &e), 0);
}

static int
scan(const struct place *p, struct buf *out, struct err *e)
{
	AUTO(trivy) struct trivy *t = NULL;

	if (fs_remove_tree(p->fd, "trivy", e) < 0 || trivy_open(&p->opt, p->fd, p->dir, &t, e) < 0)
		return -1;
	return trivy_scan(t, "/the/layout", NULL, out, e);
}

static void
assert_fails(const struct place *p, enum err_kind kind, const char *words)
{
	AUTO_BUF struct buf out = BUF_INIT((size_t)p->opt.report_max);
	struct err e = ERR_INIT;

	assert_int_equal(scan(p, &out, &e), -1);
	assert_int_equal(e.kind, kind);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void
nothing_of_the_caller_reaches_it(void **state)
{
	struct place *p = *state;
	AUTO_BUF struct buf out = BUF_INIT(1 << 16);
	struct err e = ERR_INIT;

	setenv("TRIVY_SEVERITY", "LOW", 1);
	setenv("TRIVY_IGNOREFILE", "/x", 1);
	write_program(p,
		      "/usr/bin/env; echo \"ARGS $*\"; echo \"CWD $(/bin/ls -A)\"; echo \"HOME $(/bin/ls -A $HOME)\"");
	if (scan(p, &out, &e) < 0)
		fail_msg("%s", e.text);
	unsetenv("TRIVY_SEVERITY");
	unsetenv("TRIVY_IGNOREFILE");
	assert_null(strstr(buf_str(&out), "TRIVY_"));
	assert_null(strstr(buf_str(&out), "--severity"));
	assert_non_null(strstr(buf_str(&out), "\nCWD \n"));
	assert_non_null(strstr(buf_str(&out), "\nHOME \n"));
	assert_non_null(strstr(buf_str(&out), "GOMEMLIMIT=3865470561"));
}

static void
every_flag_that_matters_is_given(void **state)
{
	static const char *const flags[] = { "ARGS image ",
					     "--format json",
					     "--quiet",
					     "--skip-db-update",
					     "--skip-java-db-update",
					     "--skip-check-update",
					     "--offline-scan",
					     "--cache-backend memory",
					     "--exit-code 0",
					     "--exit-on-eol 0",
					     "--list-all-pkgs",
					     "--ignorefile /dev/null",
					     "--config=",
					     "--cache-dir=",
					     "--timeout=30000ms",
					     "--scanners=vuln,secret",
					     "--input=/the/layout",
					     "--disable-telemetry" };
	struct place *p = *state;
	AUTO_BUF struct buf out = BUF_INIT(1 << 16);
	struct err e = ERR_INIT;

	write_program(p, "echo \"ARGS $*\"");
	assert_int_equal(scan(p, &out, &e), 0);
	for (size_t k = 0; k < MEM_COUNT(flags); k++) {
		if (!strstr(buf_str(&out), flags[k]))
			fail_msg("%s is not in: %s", flags[k], buf_str(&out));
	}
}

static void
write_version(const struct place *p, const char *name)
{
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;

	assert_int_equal(fs_mkdirs(p->fd, name, 0755, &e), 0);
	fd = fs_open_dir(p->fd, name, &e);
	assert_int_equal(fs_publish(fd, "metadata.json", name, strlen(name), 0644, 0, &e), 0);
}

static void
a_scan_reads_the_databases_that_were_opened_whatever_becomes_of_their_links(void **state)
{
	struct place *p = *state;
	AUTO_TRIVY_DB_DIR struct trivy_db_dir db = TRIVY_DB_DIR_INIT;
	AUTO_TRIVY_DB_DIR struct trivy_db_dir java_db = TRIVY_DB_DIR_INIT;
	AUTO_FREE char *java_dir = mem_printf("%s/java", p->dir);
	AUTO_BUF struct buf out = BUF_INIT(1 << 16);
	AUTO(trivy) struct trivy *t = NULL;
	struct err e = ERR_INIT;

	write_program(p, "cache=$(printf '%s\\n' \"$@\" | /bin/sed -n s/^--cache-dir=//p)\n"
			 "/bin/ls $cache; /bin/cat $cache/db/metadata.json $cache/java-db/metadata.json");
	write_version(p, "one");
	write_version(p, "two");
	write_version(p, "java");
	assert_int_equal(symlinkat("one", p->fd, "db"), 0);
	assert_int_equal(trivy_db_open(TRIVY_DB_VULNERABILITIES, p->opt.db_dir, &db, &e), 0);
	assert_int_equal(trivy_db_open(TRIVY_DB_JAVA, java_dir, &java_db, &e), 0);
	assert_int_equal(trivy_open(&p->opt, p->fd, p->dir, &t, &e), 0);
	assert_int_equal(trivy_take_db(t, &db, &e), 0);
	assert_int_equal(trivy_take_db(t, &java_db, &e), 0);
	assert_int_equal(unlinkat(p->fd, "db", 0), 0);
	assert_int_equal(symlinkat("two", p->fd, "db"), 0);
	assert_int_equal(renameat(p->fd, "java", p->fd, "gone"), 0);
	if (trivy_scan(t, "/layout", NULL, &out, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(buf_str(&out), "db\njava-db\nonejava");
}

static void
the_file_that_was_checked_is_what_runs(void **state)
{
	struct place *p = *state;
	AUTO(trivy) struct trivy *t = NULL;
	AUTO_BUF struct buf out = BUF_INIT(1 << 16);
	char digest[HASH_DIGEST_MAX];
	struct err e = ERR_INIT;
	AUTO_FD int fd = -1;

	write_program(p, "echo first");
	fd = openat(p->fd, "program", O_RDONLY | O_CLOEXEC);
	assert_int_equal(hash_of_fd(HASH_SHA256, fd, digest, &e), 0);
	free(p->opt.sha256);
	p->opt.sha256 = mem_strdup(strchr(digest, ':') + 1);
	assert_int_equal(trivy_open(&p->opt, p->fd, p->dir, &t, &e), 0);
	/* Another file of its name, put there after the check. */
	write_program(p, "echo second");
	assert_int_equal(trivy_scan(t, "/the/layout", NULL, &out, &e), 0);
	assert_string_equal(buf_str(&out), "first\n");
	assert_fails(p, ERR_FAILED, "trivy.sha256 asks for");
}

static void
what_is_no_program_is_named(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;

	assert_fails(p, ERR_FAILED, "program (trivy.path): No such file");
	assert_int_equal(fs_publish(p->fd, "program", "x", 1, 0644, 0, &e), 0);
	assert_fails(p, ERR_FAILED, "no executable file");
	free(p->opt.path);
	p->opt.path = mem_strdup("trivy");
	assert_fails(p, ERR_FAILED, "expected an absolute path");
	free(p->opt.path);
	p->opt.path = mem_strdup(p->dir);
	assert_fails(p, ERR_FAILED, "no executable file");
}

static void
any_other_end_than_exit_0_is_a_failure(void **state)
{
	struct place *p = *state;

	write_program(p,
		      "echo '{\"SchemaVersion\":2}'; printf '2026\\tFATAL\\tFatal error\\trun error: no such image\\n' >&2; exit 1");
	assert_fails(p, ERR_FAILED, "Trivy exited with 1: run error: no such image");
	write_program(p, "echo '{\"SchemaVersion\":2}'; exit 255");
	assert_fails(p, ERR_FAILED, "exited with 255: it said nothing");
	write_program(p, "echo '{\"SchemaVersion\":2}'; kill -9 $$");
	assert_fails(p, ERR_FAILED, "killed by SIGKILL");
	write_program(p, "echo 'cannot read /the/layout/index.json' >&2; exit 1");
	assert_fails(p, ERR_FAILED, "cannot read the image/index.json");
}

static void
a_scan_that_takes_too_long_is_killed_with_its_children(void **state)
{
	struct place *p = *state;

	p->opt.timeout = 300;
	/* The child keeps standard output open: it must be gone for the scan to end. */
	write_program(p, "/bin/sleep 1000 & /bin/sleep 1000");
	assert_fails(p, ERR_TIMEOUT, "took longer than 300ms");
}

static void
a_report_over_its_limit_is_a_failure(void **state)
{
	struct place *p = *state;

	p->opt.report_max = 1000;
	write_program(p, "i=0; while [ $i -lt 200 ]; do echo 0123456789; i=$((i + 1)); done");
	assert_fails(p, ERR_NO_SPACE, "larger than 1000B (trivy.report_max)");
}

static void
more_memory_than_allowed_is_refused_by_the_kernel(void **state)
{
	struct place *p = *state;
	AUTO_BUF struct buf out = BUF_INIT(1 << 16);
	struct err e = ERR_INIT;

	p->opt.memory_max = INT64_C(300) << 20;
	write_program(p, "exec /bin/cat /proc/self/limits");
	assert_int_equal(scan(p, &out, &e), 0);
	assert_non_null(strstr(buf_str(&out), "Max data size             314572800            314572800"));
}

static void
the_line_that_says_why_is_found(void **state)
{
	static const char *const table[][2] = {
		{ "", "it said nothing" },
		{ "\n\n", "it said nothing" },
		{ "one\ntwo\n", "two" },
		{ "2026\tINFO\tx\n2026\tFATAL\tFatal error\trun error: y\n", "run error: y" },
		{ "2026\tFATAL\tfirst\n2026\tFATAL\tlast\nusage\n", "last" },
		{ "panic: runtime error: index\n\ngoroutine 1 [running]:\nmain.go:7\n",
		  "panic: runtime error: index" },
		{ "runtime: out of memory: cannot allocate\nfatal error: out of memory\n",
		  "it needs more memory than trivy.memory_max allows" },
		{ "x: Unable to initialize the Java DB: y",
		  "the image holds Java archives, for which Trivy needs its Java index (trivy.java_db_dir)" },
		{ "2026\tFATAL\t\033[31mred\n", "?[31mred" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(table); k++) {
		AUTO_FREE char *why = trivy_explain(table[k][0]);

		assert_string_equal(why, table[k][1]);
	}
}

static void
only_supported_versions_are_accepted(void **state)
{
	static const char *const good[] = { "0.74.0", "v0.74.0", "0.74.3", "0.80.1", "0.100.0" };
	static const char *const bad[] = { "0.73.9",   "0.9.0",	   "1.0.0",	     "2.0.0",
					   "dev",      "",	   "0.74",	     "0.74.0-rc1",
					   "0.74.0 x", "0.74.0.1", "99999999999.1.1" };

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(good); k++) {
		struct err e = ERR_INIT;

		assert_int_equal(trivy_check_version(good[k], &e), 0);
	}
	for (size_t k = 0; k < MEM_COUNT(bad); k++) {
		struct err e = ERR_INIT;

		assert_int_equal(trivy_check_version(bad[k], &e), -1);
		assert_non_null(strstr(e.text, "expected 0.74.0 or newer"));
	}
}

static void
a_version_is_asked_for_without_the_callers_settings(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *version = NULL;
	struct err e = ERR_INIT;

	write_program(p, "[ \"$*\" = 'version --format json' ] || exit 1\necho '{\"Version\":\"0.74.0\"}'");
	assert_int_equal(trivy_ask_version(p->opt.path, &version, &e), 0);
	assert_string_equal(version, "0.74.0");
	write_program(p, "echo Version: 0.1");
	assert_int_equal(trivy_ask_version(p->opt.path, &version, &e), -1);
}

/* --- reports that are not ours ------------------------------------------------------------------------------ */

static int
check_report(const struct place *p, const char *text, struct err *e)
{
	AUTO(report) struct report *r = NULL;

	assert_int_equal(report_parse(text, strlen(text), 4096, &r, e), 0);
	return scan_check_report(r, "sha256:aa", p->opt.path, e);
}

static void
a_report_of_another_image_or_version_does_not_count(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;

	write_program(p, "echo '{\"Version\":\"0.60.0\"}'");
	assert_int_equal(check_report(p,
				      "{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"},\"Metadata\":{\"ImageID\":\"sha256:aa\"}}",
				      &e),
			 0);
	assert_int_equal(check_report(p,
				      "{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"},\"Metadata\":{\"ImageID\":\"sha256:bb\"}}",
				      &e),
			 -1);
	assert_non_null(strstr(e.text, "about sha256:bb, expected sha256:aa"));
	assert_int_equal(check_report(p, "{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"}}", &e), -1);
	assert_int_equal(check_report(p,
				      "{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.50.0\"},\"Metadata\":{\"ImageID\":\"sha256:aa\"}}",
				      &e),
			 -1);
	/* Old releases do not say it in the report: then the program is asked. */
	assert_int_equal(check_report(p, "{\"SchemaVersion\":2,\"Metadata\":{\"ImageID\":\"sha256:aa\"}}", &e),
			 -1);
	assert_non_null(strstr(e.text, "0.60.0 is not supported"));
}

/* --- the database ---------------------------------------------------------------------------------------------- */

#define NOW 1800000000

static void
put64(unsigned char *p, uint64_t v)
{
	for (int k = 0; k < 8; k++)
		p[k] = (unsigned char)(v >> (8 * k));
}

static void
put_meta(unsigned char *page, uint64_t n_pages, uint64_t txid)
{
	unsigned char *meta = page + 16;
	uint64_t h = 0xcbf29ce484222325u;

	put64(meta, UINT64_C(0x2ED0CDAED)); /* magic, version 2 */
	put64(meta + 8, 4096);
	put64(meta + 40, n_pages);
	put64(meta + 48, txid);
	for (int k = 0; k < 56; k++)
		h = (h ^ meta[k]) * 0x100000001b3u;
	put64(meta + 56, h);
}

/* A bbolt file of n pages, of which `there` are there; the second meta is the newer one. */
static void
write_db(const struct place *p, size_t n_pages, size_t there, const char *metadata)
{
	AUTO_FREE unsigned char *file = mem_alloc(4096 * n_pages);
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;

	put_meta(file, 3, 6);
	put_meta(file + 4096, n_pages, 7);
	assert_int_equal(fs_mkdirs(p->fd, "db", 0755, &e), 0);
	fd = fs_open_dir(p->fd, "db", &e);
	assert_int_equal(fs_publish(fd, "trivy.db", file, 4096 * there, 0644, 0, &e), 0);
	if (metadata)
		assert_int_equal(fs_publish(fd, "metadata.json", metadata, strlen(metadata), 0644, 0, &e), 0);
}

static char *
metadata_of(int version, int64_t updated_s)
{
	char date[32];

	clock_format_rfc3339(updated_s, date);
	return mem_printf("{\"Version\":%d,\"NextUpdate\":\"2030-01-01T00:00:00Z\",\"UpdatedAt\":\"%s\"}",
			  version, date);
}

static void
assert_db_refused(const struct place *p, const char *words)
{
	struct trivy_db db;
	struct err e = ERR_INIT;

	assert_int_equal(trivy_db_check(p->opt.db_dir, NOW, 48 * 3600 * 1000, &db, &e), -1);
	assert_int_equal(e.kind, ERR_FAILED);
	if (!strstr(e.text, words))
		fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void
a_whole_young_database_is_accepted_with_its_age(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *metadata = metadata_of(2, NOW - 3600);
	struct trivy_db db;
	struct err e = ERR_INIT;

	write_db(p, 8, 8, metadata);
	if (trivy_db_check(p->opt.db_dir, NOW, 48 * 3600 * 1000, &db, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(db.updated_s, NOW - 3600);
	assert_int_equal(db.age_ms, 3600 * 1000);
	assert_int_equal(db.size, 8 * 4096);
}

static void
the_age_is_judged_to_the_second(void **state)
{
	struct place *p = *state;
	struct trivy_db db;
	struct err e = ERR_INIT;
	AUTO_FREE char *just = metadata_of(2, NOW - 48 * 3600);
	AUTO_FREE char *old = metadata_of(2, NOW - 48 * 3600 - 1);
	AUTO_FREE char *future = metadata_of(2, NOW + 7200);

	write_db(p, 8, 8, just);
	assert_int_equal(trivy_db_check(p->opt.db_dir, NOW, 48 * 3600 * 1000, &db, &e), 0);
	write_db(p, 8, 8, old);
	assert_db_refused(p, "trivy.db_max_age");
	assert_int_equal(trivy_db_check(p->opt.db_dir, NOW, 0, &db, &e), 0);
	write_db(p, 8, 8, future);
	assert_db_refused(p, "future");
}

static void
a_database_that_is_absent_cut_damaged_or_of_another_schema_is_refused(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *good = metadata_of(2, NOW - 3600);
	AUTO_FREE char *schema = metadata_of(3, NOW - 3600);
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;

	assert_db_refused(p, "is not there");
	write_db(p, 8, 8, NULL);
	assert_db_refused(p, "metadata.json");
	write_db(p, 8, 8, schema);
	assert_db_refused(p, "schema 3");
	write_db(p, 8, 8, "{\"Version\":2}");
	assert_db_refused(p, "UpdatedAt");
	write_db(p, 8, 8, "nonsense");
	assert_db_refused(p, "metadata.json");
	write_db(p, 8, 7, good);
	assert_db_refused(p, "is cut");
	fd = fs_open_dir(p->fd, "db", &e);
	assert_int_equal(fs_publish(fd, "trivy.db", "", 0, 0644, 0, &e), 0);
	assert_db_refused(p, "no database");
	assert_int_equal(unlinkat(fd, "trivy.db", 0), 0);
	assert_db_refused(p, "holds no trivy.db");
	assert_int_equal(mkfifoat(fd, "trivy.db", 0644), 0);
	assert_db_refused(p, "no regular file");
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(nothing_of_the_caller_reaches_it),
		TEST(every_flag_that_matters_is_given),
		TEST(a_scan_reads_the_databases_that_were_opened_whatever_becomes_of_their_links),
		TEST(the_file_that_was_checked_is_what_runs),
		TEST(what_is_no_program_is_named),
		TEST(any_other_end_than_exit_0_is_a_failure),
		TEST(a_scan_that_takes_too_long_is_killed_with_its_children),
		TEST(a_report_over_its_limit_is_a_failure),
		TEST(more_memory_than_allowed_is_refused_by_the_kernel),
		TEST(the_line_that_says_why_is_found),
		TEST(only_supported_versions_are_accepted),
		TEST(a_version_is_asked_for_without_the_callers_settings),
		TEST(a_report_of_another_image_or_version_does_not_count),
		TEST(a_whole_young_database_is_accepted_with_its_age),
		TEST(the_age_is_judged_to_the_second),
		TEST(a_database_that_is_absent_cut_damaged_or_of_another_schema_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
