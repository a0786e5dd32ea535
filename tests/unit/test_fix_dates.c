#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "stages/fix_dates.h"
#include "stages/policy.h"
#include "tests/unit/scratch.h"

#define NOW INT64_C(1775044800) /* 2026-04-01T12:00:00Z */
#define DAY POLICY_DAY_S

/* Sorted, as numbers are. */
static struct fix_key
key(uint32_t n)
{
	return (struct fix_key){ { 1, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n } };
}

static int
see_some(int dirfd, uint32_t first, size_t n, int64_t now_s, int64_t *since_s, struct err *e)
{
	AUTO_FREE struct fix_key *keys = mem_array(n + 1, sizeof(*keys));

	for (size_t k = 0; k < n; k++)
		keys[k] = key(first + (uint32_t)k);
	return fix_dates_see(dirfd, NULL, keys, n, now_s, clock_deadline(60000), since_s, e);
}

static int64_t
see(const struct scratch *p, uint32_t n, int64_t now_s)
{
	struct err e = ERR_INIT;
	int64_t since_s;

	if (see_some(p->fd, n, 1, now_s, &since_s, &e) < 0)
		fail_msg("%s", e.text);
	return since_s;
}

static void
keep(const struct scratch *p, const struct fix_date *v, size_t n)
{
	const struct fix_dates d = { (struct fix_date *)(uintptr_t)v, n };
	AUTO_FREE char *text = NULL;
	size_t len;

	fix_dates_print(&d, &text, &len);
	assert_int_equal(fs_publish(p->fd, "dates", text, len, 0600, 0, NULL), 0);
}

static size_t
count_files(const struct scratch *p)
{
	AUTO_DIR DIR *dir = opendir(p->path);
	const struct dirent *entry;
	size_t n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
	return n;
}

/* ---- dates ---- */

static void
the_first_time_that_a_fix_was_seen_stays(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();

	(void)state;
	assert_int_equal(see(&p, 5, NOW), NOW);
	assert_int_equal(see(&p, 3, NOW + DAY), NOW + DAY);
	assert_int_equal(see(&p, 9, NOW + 2 * DAY), NOW + 2 * DAY);
	for (int later = 0; later < 1000; later += 100) {
		assert_int_equal(see(&p, 5, NOW + later * DAY), NOW);
		assert_int_equal(see(&p, 9, NOW + (2 + later) * DAY), NOW + 2 * DAY);
	}
}

static void
a_clock_that_is_behind_makes_a_date_earlier_and_one_that_is_ahead_never_later(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	int64_t since_s;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(see(&p, 1, NOW + 3650 * DAY), NOW + 3650 * DAY);
	assert_int_equal(see(&p, 1, NOW), NOW);
	assert_int_equal(see(&p, 1, NOW + 20 * DAY), NOW);
	/* it touches no others */
	assert_int_equal(see(&p, 4, NOW), NOW);
	assert_int_equal(see(&p, 5, NOW - 20 * DAY), NOW - 20 * DAY);
	assert_int_equal(see(&p, 4, NOW + DAY), NOW);
	/* one that was never set dates nothing: it would have no time left when it is */
	assert_int_equal(see_some(p.fd, 2, 1, 1000, &since_s, &e), -1);
	assert_int_equal(since_s, 0);
	assert_int_equal(see(&p, 2, NOW), NOW);
}

static void
nothing_is_written_where_nothing_is_new(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	struct stat before, after;

	(void)state;
	see(&p, 1, NOW);
	assert_int_equal(fstatat(p.fd, "dates", &before, 0), 0);
	see(&p, 1, NOW + 6 * DAY);
	assert_int_equal(fstatat(p.fd, "dates", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	see(&p, 1, NOW + 8 * DAY);
	assert_int_equal(fstatat(p.fd, "dates", &after, 0), 0);
	assert_int_not_equal(before.st_ino, after.st_ino);
	assert_int_equal(after.st_mode & 07777, 0600);
}

/* ---- what lies there ---- */

static void
assert_refused(const struct scratch *p, const char *words)
{
	struct err e = ERR_INIT;
	int64_t since_s = 7;

	assert_int_equal(see_some(p->fd, 1, 1, NOW + DAY, &since_s, &e), -1);
	assert_non_null(strstr(e.text, words));
	assert_int_equal(since_s, 0);
}

static void
what_is_cut_off_or_changed_gives_no_dates_and_stays_as_it_is(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	AUTO_FREE char *text = NULL;
	size_t len;

	(void)state;
	see(&p, 1, NOW);
	see(&p, 2, NOW);
	assert_int_equal(fs_read_max(p.fd, "dates", 65536, &text, &len, NULL), 0);
	for (size_t n = 0; n < len; n++) {
		AUTO_FREE char *changed = mem_alloc(len);
		struct fix_dates d = { 0 };

		assert_int_equal(fix_dates_parse(text, n, &d, NULL), -1);
		memcpy(changed, text, len);
		changed[n] ^= 4;
		assert_int_equal(fix_dates_parse(changed, len, &d, NULL), -1);
	}
	assert_int_equal(fs_publish(p.fd, "dates", text, len - 1, 0600, 0, NULL), 0);
	assert_refused(&p, "cut off");
	assert_int_equal(fs_publish(p.fd, "dates", "", 0, 0600, 0, NULL), 0);
	assert_refused(&p, "cut off");
	text[len - 1] ^= 1;
	assert_int_equal(fs_publish(p.fd, "dates", text, len, 0600, 0, NULL), 0);
	assert_refused(&p, "checksum");
	/* removed by hand, all begins anew */
	assert_int_equal(unlinkat(p.fd, "dates", 0), 0);
	assert_int_equal(see(&p, 1, NOW + DAY), NOW + DAY);
}

static void
records_out_of_order_twice_or_of_no_time_are_refused(void **state)
{
	const struct fix_date bad[][2] = {
		{ { key(2), NOW, NOW }, { key(1), NOW, NOW } },
		{ { key(1), NOW, NOW }, { key(1), NOW, NOW } },
		{ { key(1), 0, NOW }, { key(2), NOW, NOW } },
		{ { key(1), NOW, -1 }, { key(2), NOW, NOW } },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(bad); k++) {
		AUTO_SCRATCH struct scratch p = scratch_new();

		keep(&p, bad[k], 2);
		assert_refused(&p, "record");
	}
}

static void
a_file_that_others_may_write_is_not_believed(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();

	(void)state;
	see(&p, 1, NOW);
	assert_int_equal(fchmodat(p.fd, "dates", 0620, 0), 0);
	assert_refused(&p, "not a file that belongs to user");
	assert_int_equal(fchmodat(p.fd, "dates", 0600, 0), 0);
	assert_int_equal(linkat(p.fd, "dates", p.fd, "other", 0), 0);
	assert_refused(&p, "not a file that belongs to user");
	assert_int_equal(unlinkat(p.fd, "dates", 0), 0);
	assert_int_equal(symlinkat("other", p.fd, "dates"), 0);
	assert_refused(&p, "dates");
	assert_int_equal(unlinkat(p.fd, "dates", 0), 0);
	assert_int_equal(mkfifoat(p.fd, "dates", 0600), 0);
	assert_refused(&p, "not a file that belongs to user");
	assert_int_equal(unlinkat(p.fd, "dates", 0), 0);
	if (geteuid() != 0)
		return;
	see(&p, 1, NOW);
	assert_int_equal(fchownat(p.fd, "dates", 12345, 12345, 0), 0);
	assert_refused(&p, "not a file that belongs to user");
}

/* ---- the bound ---- */

static void
fill(const struct scratch *p, int64_t seen_s)
{
	AUTO_FREE struct fix_date *v = mem_array(FIX_DATES_MAX, sizeof(*v));

	for (size_t k = 0; k < FIX_DATES_MAX; k++)
		v[k] = (struct fix_date){ key((uint32_t)(2 * k)), NOW, seen_s };
	keep(p, v, FIX_DATES_MAX);
}

static void
where_there_is_no_room_a_new_fix_has_no_date_and_the_known_ones_keep_theirs(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	const struct fix_key keys[] = { key(10), key(11), key(12) };
	struct err e = ERR_INIT;
	int64_t since_s[3];
	struct stat before, after;

	(void)state;
	fill(&p, NOW);
	assert_int_equal(fstatat(p.fd, "dates", &before, 0), 0);
	assert_int_equal(fix_dates_see(p.fd, NULL, keys, 3, NOW + DAY, clock_deadline(5000), since_s, &e), -1);
	assert_non_null(strstr(e.text, "no room for 1 of 3"));
	assert_int_equal(since_s[0], NOW);
	assert_int_equal(since_s[1], 0);
	assert_int_equal(since_s[2], NOW);
	assert_int_equal(fstatat(p.fd, "dates", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void
what_nobody_has_seen_for_more_than_a_year_makes_room_where_it_is_needed(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	int64_t later = NOW + (FIX_UNSEEN_DAYS + 1) * DAY;

	(void)state;
	fill(&p, NOW);
	/* seen again after all that time, it still has its date */
	assert_int_equal(see(&p, 10, later), NOW);
	assert_int_equal(see(&p, 11, later), later);
	assert_int_equal(see(&p, 10, later), NOW);
	assert_int_equal(fix_dates_read(p.fd, &d, NULL), 0);
	assert_int_equal(d.n, FIX_DATES_MAX);
}

/* ---- processes ---- */

static void
many_at_once_lose_nothing(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	pid_t pids[8];

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(pids); k++) {
		pids[k] = fork();
		if (pids[k] == 0) {
			int64_t since_s[40];

			/* each a range of its own, and one that all see */
			for (uint32_t round = 0; round < 20; round++)
				if (see_some(p.fd, 1000 + 1000 * (uint32_t)k + 10 * round, 10, NOW + (int)k,
					     since_s, NULL) < 0 ||
				    see_some(p.fd, 10 * round, 40, NOW + (int)k, since_s, NULL) < 0)
					_exit(1);
			_exit(0);
		}
	}
	for (size_t k = 0; k < MEM_COUNT(pids); k++) {
		int status;

		assert_int_equal(waitpid(pids[k], &status, 0), pids[k]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(fix_dates_read(p.fd, &d, NULL), 0);
	assert_int_equal(d.n, 8 * 200 + 10 * 19 + 40);
	/* whoever came first, the earliest that anybody saw it counts */
	for (uint32_t k = 0; k < 10 * 19 + 40; k++)
		assert_int_equal(see(&p, k, NOW + DAY), NOW);
}

/* Nobody waits to look: the file that is open may be replaced before it is read. */
static void
who_looks_while_others_write_reads_what_was_or_what_is(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(see(&p, 0, NOW), NOW);
	pid = fork();
	if (pid == 0) {
		int64_t since_s[1];

		for (uint32_t k = 1; k < 2000; k++)
			if (see_some(p.fd, k, 1, NOW, since_s, NULL) < 0)
				_exit(1);
		_exit(0);
	}
	for (size_t n = 1; waitpid(pid, &status, WNOHANG) == 0;) {
		AUTO_FIX_DATES struct fix_dates d = { 0 };
		struct err e = ERR_INIT;

		if (fix_dates_read(p.fd, &d, &e) < 0)
			fail_msg("%s", e.text);
		assert_true(d.n >= n);
		n = d.n;
	}
	assert_int_equal(status, 0);
}

/* What was answered stands there, whenever it was killed, and what it was writing is gone with the next one. */
static void
a_process_that_is_killed_leaves_all_that_it_answered(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	uint32_t first = 0;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		int ends[2];
		pid_t pid;
		uint32_t n;

		assert_int_equal(pipe(ends), 0);
		pid = fork();
		if (pid == 0) {
			int64_t since_s[200];

			for (n = first;; n += 200)
				if (see_some(p.fd, n, 200, NOW + round, since_s, NULL) < 0 ||
				    write(ends[1], &n, sizeof(n)) != sizeof(n))
					_exit(1);
		}
		close(ends[1]);
		/* in the middle of the one that follows */
		assert_int_equal(read(ends[0], &n, sizeof(n)), sizeof(n));
		usleep(200 * round);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		for (; read(ends[0], &n, sizeof(n)) == sizeof(n);)
			;
		close(ends[0]);
		for (uint32_t k = first; k < n + 200; k += 37)
			assert_int_equal(see(&p, k, NOW + 100), NOW + round);
		first = n + 400;
	}
	see(&p, 4000000, NOW);
	assert_int_equal(count_files(&p), 2); /* dates and lock */
}

static void
where_nothing_can_be_written_only_what_is_known_has_a_date(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	pid_t pid;
	int status;

	(void)state;
	see(&p, 1, NOW);
	pid = fork();
	if (pid == 0) {
		struct rlimit limit = { 60, 60 }; /* as long as it is */
		struct err e = ERR_INIT;
		int64_t since_s[2];

		signal(SIGXFSZ, SIG_IGN);
		if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
			_exit(1);
		if (see_some(p.fd, 1, 2, NOW + DAY, since_s, &e) == 0 || since_s[0] != NOW || since_s[1] != 0)
			_exit(2);
		_exit(see_some(p.fd, 1, 1, NOW + DAY, since_s, &e) == 0 && since_s[0] == NOW ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(see(&p, 2, NOW + 2 * DAY), NOW + 2 * DAY);
}

/* ---- what several hosts know ---- */

static void
of_two_hosts_the_earliest_date_counts(void **state)
{
	struct fix_date a[] = { { key(1), NOW - 9, NOW - 5 }, { key(3), NOW - 7, NOW - 7 } },
			b[] = { { key(1), NOW - 8, NOW - 1 },
				{ key(2), NOW + 99, NOW + 99 },
				{ key(3), NOW - 8, NOW - 8 } },
			both[] = { { key(1), NOW - 9, NOW - 1 },
				   { key(2), NOW + 99, NOW + 99 },
				   { key(3), NOW - 8, NOW - 7 } };
	const struct fix_dates mine = { a, 2 }, other = { b, 3 };

	(void)state;
	for (int turned = 0; turned < 2; turned++) {
		AUTO_FIX_DATES struct fix_dates joined = { 0 };
		AUTO_FIX_DATES struct fix_dates again = { 0 };

		assert_true(fix_dates_join(turned ? &other : &mine, turned ? &mine : &other, &joined));
		assert_int_equal(joined.n, 3);
		assert_memory_equal(joined.v, both, sizeof(both));
		assert_false(fix_dates_join(&joined, &mine, &again));
	}
}

static void
what_others_know_is_put_down_as_far_as_there_is_room(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	struct fix_date other[] = { { key(1), NOW - DAY, NOW }, { key(10), NOW - DAY, NOW } };
	const struct fix_dates others = { other, 2 };
	const struct fix_key asked = key(10);
	struct err e = ERR_INIT;
	int64_t since_s;

	(void)state;
	fill(&p, NOW);
	assert_int_equal(fix_dates_see(p.fd, &others, &asked, 1, NOW, clock_deadline(5000), &since_s, &e), 0);
	assert_int_equal(since_s, NOW - DAY);
	assert_int_equal(see(&p, 10, NOW), NOW - DAY);
	assert_int_equal(fix_dates_read(p.fd, &d, NULL), 0);
	assert_int_equal(d.n, FIX_DATES_MAX);
}

/* ---- keys ---- */

static struct report *
report_of(const char *system, const char *release, const char *results)
{
	AUTO_FREE char *text =
		mem_printf("{\"SchemaVersion\":2,\"Metadata\":{\"OS\":{\"Family\":\"%s\",\"Name\":\"%s\"}},\"Results\":[%s]}",
			   system, release, results);
	struct report *r = NULL;
	struct err e = ERR_INIT;

	if (report_parse(text, strlen(text), 65536, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

static char *
os_result(const char *package, const char *source, const char *id, const char *fixed)
{
	return mem_printf(
		"{\"Target\":\"t\",\"Class\":\"os-pkgs\",\"Type\":\"debian\",\"Packages\":[{\"ID\":\"other\",\"SrcName\":\"o\"},"
		"{\"ID\":\"%s@1\",\"Name\":\"%s\",\"SrcName\":\"%s\"}],\"Vulnerabilities\":[{\"VulnerabilityID\":\"%s\","
		"\"PkgID\":\"%s@1\",\"PkgName\":\"%s\",\"InstalledVersion\":\"1\",\"FixedVersion\":\"%s\",\"Severity\":\"HIGH\"}]}",
		package, package, source, id, package, package, fixed);
}

/* Do the first findings of both have a key in common? */
static bool
are_same(const struct report *one, const struct report *other)
{
	AUTO_FIX_KEYS struct fix_keys x = { 0 }, y = { 0 };
	bool is_same = false;

	fix_keys_make(one, &x);
	fix_keys_make(other, &y);
	assert_int_equal(x.n, 1);
	assert_int_equal(y.n, 1);
	for (size_t a = 0; a < FIX_KEYS; a++)
		for (size_t b = 0; b < FIX_KEYS; b++)
			is_same = is_same || (!fix_key_is_none(&x.of[0][a]) &&
					      fix_key_compare(&x.of[0][a], &y.of[0][b]) == 0);
	return is_same;
}

static void
the_same_fix_is_known_by_release_id_and_package_or_source(void **state)
{
	static const struct {
		const char *system, *release, *package, *source, *id, *fixed;
		bool is_same;
	} others[] = {
		{ "debian", "12.9", "libssl3", "openssl", "CVE-1", "9", true },
		{ "debian", "12", "libssl3-renamed", "openssl", "CVE-1", "9", true },
		{ "debian", "12", "libssl3", "openssl-renamed", "CVE-1", "9", true },
		{ "debian", "12", "libssl3", "", "CVE-1", "9", true },
		{ "debian", "11", "libssl3", "openssl", "CVE-1", "9", false },
		{ "ubuntu", "12", "libssl3", "openssl", "CVE-1", "9", false },
		{ "debian", "12", "libssl3", "openssl", "CVE-2", "9", false },
		{ "debian", "12", "other", "else", "CVE-1", "9", false },
		/* a package that has the name of a source is not that source */
		{ "debian", "12", "openssl", "else", "CVE-1", "9", false },
		/* the version that fixes it is the advisory's to say, whatever the image calls its release */
		{ "debian", "99", "other", "else", "CVE-1", "3.0.11", true },
		{ "ubuntu", "12", "libssl3", "openssl", "CVE-1", "3.0.11", false },
		{ "debian", "12", "other", "else", "CVE-2", "3.0.11", false },
	};
	AUTO_FREE char *first = os_result("libssl3", "openssl", "CVE-1", "3.0.11");
	AUTO(report) struct report *r = report_of("debian", "12.5", first);

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(others); k++) {
		AUTO_FREE char *text =
			os_result(others[k].package, others[k].source, others[k].id, others[k].fixed);
		AUTO(report) struct report *other = report_of(others[k].system, others[k].release, text);

		if (are_same(r, other) != others[k].is_same)
			fail_msg("case %zu", k);
	}
}

static char *
language_result(const char *name, const char *purl)
{
	return mem_printf("{\"Target\":\"t\",\"Class\":\"lang-pkgs\",\"Type\":\"x\",\"Vulnerabilities\":[{\"VulnerabilityID\":\"CVE-1\","
			  "\"PkgName\":\"%s\",\"InstalledVersion\":\"1\",\"FixedVersion\":\"2\",\"Severity\":\"HIGH\","
			  "\"PkgIdentifier\":{\"PURL\":\"%s\"}}]}",
			  name, purl);
}

/* Each with another build would begin a time of its own. */
static void
a_package_of_a_language_is_the_same_however_its_name_is_spelled(void **state)
{
	static const struct {
		const char *name, *purl;
		bool is_same;
	} others[] = {
		{ "some-lib", "pkg:pypi/some-lib@1", true },	{ "Some-Lib", "pkg:pypi/some-lib@1", true },
		{ "some_lib", "pkg:pypi/some-lib@1", true },	{ "SOME.lib", "pkg:pypi/some-lib@1", true },
		{ "some__-.lib", "pkg:pypi/some-lib@1", true }, { "somelib", "pkg:pypi/somelib@1", false },
		{ "some-lib", "pkg:npm/some-lib@1", false },
	};
	AUTO_FREE char *first = language_result("some-lib", "pkg:pypi/some-lib@1");
	AUTO(report) struct report *r = report_of("debian", "12.5", first);

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(others); k++) {
		AUTO_FREE char *text = language_result(others[k].name, others[k].purl);
		AUTO(report) struct report *other = report_of("debian", "12.5", text);

		if (are_same(r, other) != others[k].is_same)
			fail_msg("case %zu", k);
	}
}

static void
a_finding_without_a_fix_has_no_key_and_a_package_of_a_language_one_by_its_ecosystem(void **state)
{
	static const char npm[] =
		"{\"Target\":\"t\",\"Class\":\"lang-pkgs\",\"Type\":\"%s\",\"Vulnerabilities\":[{\"VulnerabilityID\":\"CVE-1\","
		"\"PkgName\":\"lodash\",\"InstalledVersion\":\"1\",\"FixedVersion\":\"2\",\"Severity\":\"HIGH\","
		"\"PkgIdentifier\":{\"PURL\":\"pkg:npm/lodash@1\"}}]}";
	AUTO_FREE char *unfixed = os_result("libssl3", "openssl", "CVE-1", "");
	AUTO_FREE char *a = mem_printf(npm, "npm"), *b = mem_printf(npm, "node-pkg");
	AUTO_FREE char *all = mem_printf("%s,%s,%s", unfixed, a, b);
	AUTO(report) struct report *r = report_of("debian", "12.5", all);
	AUTO_FIX_KEYS struct fix_keys keys = { 0 };

	(void)state;
	fix_keys_make(r, &keys);
	assert_int_equal(keys.n, 3);
	assert_true(fix_key_is_none(&keys.of[0][0]) && fix_key_is_none(&keys.of[0][1]));
	assert_false(fix_key_is_none(&keys.of[1][0]));
	assert_int_equal(fix_key_compare(&keys.of[1][0], &keys.of[2][0]), 0);
}

static void
who_only_looks_puts_nothing_down(void **state)
{
	AUTO_SCRATCH struct scratch p = scratch_new();
	AUTO_FREE char *one = os_result("libssl3", "openssl", "CVE-1", "9"),
		       *two = os_result("libssl3", "openssl", "CVE-2", "9"),
		       *three = os_result("libssl3", "openssl", "CVE-3", "");
	AUTO_FREE char *all = mem_printf("%s,%s,%s", one, two, three);
	AUTO(report) struct report *r = report_of("debian", "12.5", all);
	AUTO_FIX_KEYS struct fix_keys keys = { 0 };
	AUTO_FREE int64_t *since_s = NULL;
	int64_t put_s;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(fix_dates_look(p.fd, r, NOW, &since_s, &e), 0);
	assert_int_equal(since_s[0], NOW);
	assert_int_equal(count_files(&p), 0);
	mem_free_at(&since_s);
	fix_keys_make(r, &keys);
	assert_int_equal(fix_dates_see(p.fd, NULL, &keys.of[0][1], 1, NOW, clock_deadline(5000), &put_s, &e),
			 0);
	assert_int_equal(fix_dates_look(p.fd, r, NOW + DAY, &since_s, &e), 0);
	assert_int_equal(since_s[0], NOW);
	assert_int_equal(since_s[1], NOW + DAY);
	assert_int_equal(since_s[2], 0);
	mem_free_at(&since_s);
	assert_int_equal(fix_dates_look(p.fd, r, NOW + 2 * DAY, &since_s, &e), 0);
	assert_int_equal(since_s[1], NOW + 2 * DAY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_time_that_a_fix_was_seen_stays),
		cmocka_unit_test(a_clock_that_is_behind_makes_a_date_earlier_and_one_that_is_ahead_never_later),
		cmocka_unit_test(nothing_is_written_where_nothing_is_new),
		cmocka_unit_test(what_is_cut_off_or_changed_gives_no_dates_and_stays_as_it_is),
		cmocka_unit_test(records_out_of_order_twice_or_of_no_time_are_refused),
		cmocka_unit_test(a_file_that_others_may_write_is_not_believed),
		cmocka_unit_test(where_there_is_no_room_a_new_fix_has_no_date_and_the_known_ones_keep_theirs),
		cmocka_unit_test(what_nobody_has_seen_for_more_than_a_year_makes_room_where_it_is_needed),
		cmocka_unit_test(many_at_once_lose_nothing),
		cmocka_unit_test(who_looks_while_others_write_reads_what_was_or_what_is),
		cmocka_unit_test(a_process_that_is_killed_leaves_all_that_it_answered),
		cmocka_unit_test(where_nothing_can_be_written_only_what_is_known_has_a_date),
		cmocka_unit_test(of_two_hosts_the_earliest_date_counts),
		cmocka_unit_test(what_others_know_is_put_down_as_far_as_there_is_room),
		cmocka_unit_test(the_same_fix_is_known_by_release_id_and_package_or_source),
		cmocka_unit_test(a_package_of_a_language_is_the_same_however_its_name_is_spelled),
		cmocka_unit_test(
			a_finding_without_a_fix_has_no_key_and_a_package_of_a_language_one_by_its_ecosystem),
		cmocka_unit_test(who_only_looks_puts_nothing_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
