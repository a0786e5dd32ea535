#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/str.h"
#include "stages/delivery.h"
#include "stages/delivery_mend.h"

struct fixture {
	char path[64];
	int fd;
};

static int
set_up(void **state)
{
	struct fixture *f = mem_alloc(sizeof(*f));

	snprintf(f->path, sizeof(f->path), "/tmp/test_delivery.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = fs_open_dir(AT_FDCWD, f->path, NULL);
	assert_true(f->fd >= 0);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, f->path, NULL), 0);
	free(f);
	return 0;
}

static struct delivery
sample(void)
{
	struct delivery d = { .product_type = mem_strdup("CI"),
			      .product = mem_strdup("group/app"),
			      .engagement = mem_strdup("main"),
			      .test = mem_strdup("gr\xc3\xbc\xc3\x9f"),
			      .service = mem_strdup("app"),
			      .version = mem_strdup("1.0\n\"quoted\""),
			      .build_id = mem_strdup("7-0"),
			      .active = 2,
			      .keeps_old = true,
			      .created_s = 1700000000,
			      .n_findings = 3,
			      .report = mem_strdup("{\"SchemaVersion\":\n2}") };

	d.report_len = strlen(d.report);
	strv_add(&d.tags, "one");
	strv_add(&d.tags, "two");
	return d;
}

static void
write_text(struct fixture *f, const char *name, const char *text, size_t len)
{
	assert_int_equal(fs_publish(f->fd, name, text, len, 0600, 0, NULL), 0);
}

static void
assert_refused(struct fixture *f, const char *name, const char *why)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file file = DELIVERY_FILE_INIT;
	struct err e = ERR_INIT;

	if (delivery_open(f->fd, name, &d, &file, &e) == 0)
		fail_msg("%s was taken", name);
	if (!strstr(e.text, why) || !strstr(e.text, name))
		fail_msg("%s: expected \"%s\", got: %s", name, why, e.text);
}

/* ---- */

static void
what_is_written_is_read(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = sample(), got = { 0 };

	assert_int_equal(delivery_write(f->fd, "delivery-0", &d, FS_DURABLE, NULL), 0);
	assert_int_equal(delivery_read(f->fd, "delivery-0", &got, NULL), 0);
	assert_string_equal(got.product, "group/app");
	assert_string_equal(got.test, "gr\xc3\xbc\xc3\x9f");
	assert_string_equal(got.server, "");
	assert_int_equal(got.tags.n, 2);
	assert_string_equal(got.tags.v[1], "two");
	assert_int_equal(got.active, 2);
	assert_true(got.keeps_old);
	assert_int_equal(got.created_s, 1700000000);
	assert_int_equal(got.n_findings, 3);
	assert_int_equal(got.report_len, d.report_len);
	assert_memory_equal(got.report, d.report, d.report_len);
	/* Control characters of a stranger stay out of logs and databases. */
	assert_string_equal(got.version, "1.0?\"quoted\"");
}

static void
a_delivery_is_for_its_owner_alone_and_leaves_no_other_name(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = sample();
	struct stat st;

	assert_int_equal(delivery_write(f->fd, "delivery-0", &d, 0, NULL), 0);
	assert_int_equal(fstatat(f->fd, "delivery-0", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(unlinkat(f->fd, "delivery-0", 0), 0);
	assert_int_equal(rmdir(f->path), 0); /* nothing else was there */
	assert_int_equal(mkdir(f->path, 0700), 0);
}

static void
a_copy_has_a_new_head_and_the_same_report(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = sample(), head = { 0 }, got = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file from = DELIVERY_FILE_INIT;

	assert_int_equal(delivery_write(f->fd, "a", &d, 0, NULL), 0);
	assert_int_equal(delivery_open(f->fd, "a", &head, &from, NULL), 0);
	assert_null(head.report);
	head.server = (free(head.server), mem_strdup("https://dojo.example"));
	assert_int_equal(delivery_copy(f->fd, "b", &head, &from, FS_DURABLE, NULL), 0);
	assert_int_equal(delivery_read(f->fd, "b", &got, NULL), 0);
	assert_string_equal(got.server, "https://dojo.example");
	assert_memory_equal(got.report, d.report, d.report_len);
}

static void
empty_and_overlarge_deliveries_are_not_written(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = sample();
	struct err e = ERR_INIT;
	size_t len = d.report_len;

	d.report_len = 0;
	assert_int_equal(delivery_write(f->fd, "x", &d, 0, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	d.report_len = (size_t)DELIVERY_REPORT_MAX + 1;
	assert_int_equal(delivery_write(f->fd, "x", &d, 0, &e), -1);
	d.report_len = len;
	free(d.commit);
	d.commit = mem_alloc(DELIVERY_HEAD_MAX + 1);
	memset(d.commit, 'x', DELIVERY_HEAD_MAX);
	assert_int_equal(delivery_write(f->fd, "x", &d, 0, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_int_equal(faccessat(f->fd, "x", F_OK, 0), -1);
}

static void
absence_is_told_by_its_errno(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file file = DELIVERY_FILE_INIT;
	struct err e = ERR_INIT;

	assert_int_equal(delivery_open(f->fd, "nothing", &d, &file, &e), -1);
	assert_int_equal(e.no, ENOENT);
}

static void
links_pipes_and_directories_are_refused(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = sample();

	assert_int_equal(delivery_write(f->fd, "real", &d, 0, NULL), 0);
	assert_int_equal(symlinkat("real", f->fd, "symlink"), 0);
	assert_refused(f, "symlink", "symlink");
	assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
	assert_refused(f, "fifo", "not a regular file");
	assert_int_equal(mkdirat(f->fd, "dir", 0700), 0);
	assert_refused(f, "dir", "not a regular file");
	assert_int_equal(linkat(f->fd, "real", f->fd, "hard", 0), 0);
	assert_refused(f, "hard", "one link");
	assert_int_equal(unlinkat(f->fd, "hard", 0), 0);
}

/* The head of a good delivery, with one part of it replaced. */
static char *
head_with(struct fixture *f, const char *part, const char *with)
{
	AUTO_DELIVERY struct delivery d = sample();
	AUTO_FREE char *text = NULL;
	size_t len;
	char *at;

	assert_int_equal(delivery_write(f->fd, "good", &d, 0, NULL), 0);
	assert_int_equal(fs_read_max(f->fd, "good", 100000, &text, &len, NULL), 0);
	*strchr(text, '\n') = '\0';
	at = strstr(text, part);
	if (!at)
		fail_msg("%s is not in %s", part, text);
	return mem_printf("%.*s%s%s", (int)(at - text), text, with, at + strlen(part));
}

static void
heads_that_are_not_ours_are_refused_by_name(void **state)
{
	static const struct {
		const char *part, *with, *why;
	} cases[] = {
		{ "\"format\":1", "\"format\":2", "format 2, expected 1" },
		{ "\"format\":1,", "", "format" },
		{ "\"product\":\"group/app\",", "", "\"product\" is missing" },
		{ "\"product\":\"group/app\"", "\"product\":7", "\"product\"" },
		{ "\"product\":\"group/app\"", "\"product\":\"a\",\"product\":\"b\"", "twice" },
		{ "\"product\":\"group/app\"", "\"product\":\"\\u0000\"", "head" },
		{ "\"product\":\"group/app\"", "\"product\":\"\xff\"", "UTF-8" },
		{ "[\"one\",\"two\"]", "[\"one\",2]", "tags" },
		{ "[\"one\",\"two\"]", "{}", "tags" },
		{ "\"active\":2", "\"active\":3", "active is 3" },
		{ "\"active\":2", "\"active\":-1", "active is -1" },
		{ "\"n_findings\":3", "\"n_findings\":1e300", "n_findings" },
		{ "\"n_findings\":3", "\"n_findings\":99999999", "n_findings" },
		{ "\"report_len\":20", "\"report_len\":0", "the report is empty" },
		{ "\"report_len\":20", "\"report_len\":104857601", "report_len is" },
		{ "{\"format\"", "x{\"format\"", "head" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *head = head_with(f, cases[i].part, cases[i].with);
		AUTO_DELIVERY struct delivery d = { 0 };
		struct err e = ERR_INIT;

		if (delivery_parse_head(head, strlen(head), &d, &e) == 0)
			fail_msg("taken: %s", head);
		assert_true(e.kind == ERR_REFUSED || e.kind == ERR_UNSUPPORTED);
		if (!strstr(e.text, cases[i].why))
			fail_msg("expected \"%s\", got: %s", cases[i].why, e.text);
	}
}

static void
a_file_that_is_shorter_or_longer_than_its_head_says_is_refused(void **state)
{
	struct fixture *f = *state;
	AUTO_DELIVERY struct delivery d = sample();
	AUTO_FREE char *text = NULL, *longer = NULL;
	size_t len;

	assert_int_equal(delivery_write(f->fd, "good", &d, 0, NULL), 0);
	assert_int_equal(fs_read_max(f->fd, "good", 100000, &text, &len, NULL), 0);
	write_text(f, "short", text, len - 1);
	assert_refused(f, "short", "its head says");
	longer = mem_printf("%sx", text);
	write_text(f, "long", longer, len + 1);
	assert_refused(f, "long", "its head says");
	write_text(f, "headless", text + strlen(text) - 2, 2);
	assert_refused(f, "headless", "no head");
	write_text(f, "empty", "", 0);
	assert_refused(f, "empty", "no head");
}

static void
a_head_without_an_end_is_refused_by_its_length(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *text = mem_alloc(DELIVERY_HEAD_MAX * 2);

	memset(text, 'x', DELIVERY_HEAD_MAX * 2);
	write_text(f, "endless", text, DELIVERY_HEAD_MAX * 2);
	assert_refused(f, "endless", "no head within");
}

/* ---- lengths ---- */

static size_t
points(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static char *
repeat(const char *unit, size_t n)
{
	AUTO_BUF struct buf b = BUF_INIT(100000);

	for (size_t i = 0; i < n; i++)
		buf_add_str(&b, unit);
	return buf_take(&b);
}

static void
long_values_are_shortened_and_stay_different(void **state)
{
	struct delivery d = { 0 };
	struct {
		char **text;
		size_t max;
	} fields[] = {
		{ &d.version, 100 }, { &d.branch, 150 }, { &d.commit, 150 },  { &d.build_id, 150 },
		{ &d.service, 200 }, { &d.test, 255 },	 { &d.product, 255 }, { &d.engagement, 300 },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(fields); i++) {
		AUTO_FREE char *one = repeat("\xc3\xbc", fields[i].max + 1),
			       *two = repeat("\xc3\xbc", fields[i].max + 2);
		AUTO_FREE char *exact = repeat("\xc3\xbc", fields[i].max), *first = NULL;

		*fields[i].text = mem_strdup(exact);
		delivery_fit(&d);
		assert_string_equal(*fields[i].text, exact);

		free(*fields[i].text);
		*fields[i].text = mem_strdup(one);
		delivery_fit(&d);
		first = mem_strdup(*fields[i].text);
		assert_int_equal(points(first), fields[i].max);
		assert_true(str_is_utf8(first, strlen(first)));
		delivery_fit(&d);
		assert_string_equal(*fields[i].text, first);

		free(*fields[i].text);
		*fields[i].text = mem_strdup(two);
		delivery_fit(&d);
		assert_string_not_equal(*fields[i].text, first);
	}
	delivery_free(&d);
}

static void
blanks_at_the_ends_of_a_name_go_as_the_server_lets_them_go(void **state)
{
	struct delivery d = { .test = mem_strdup("  my app "),
			      .engagement = mem_strdup("   "),
			      .version = mem_strdup(""),
			      .token_file = mem_strdup("/a path ") };

	(void)state;
	delivery_fit(&d);
	assert_string_equal(d.test, "my app");
	assert_string_equal(d.engagement, "");
	assert_string_equal(d.version, "");
	assert_string_equal(d.token_file, "/a path ");
	delivery_free(&d);
}

static void
blanks_beyond_ascii_make_no_name_another_one(void **state)
{
	static const struct {
		const char *blank, *mark;
	} cases[] = {
		{ "\xc2\x85", "?0085" },     { "\xc2\xa0", "?00a0" },	  { "\xe1\x9a\x80", "?1680" },
		{ "\xe2\x80\x80", "?2000" }, { "\xe2\x80\x8a", "?200a" }, { "\xe2\x80\xa8", "?2028" },
		{ "\xe2\x80\xa9", "?2029" }, { "\xe2\x80\xaf", "?202f" }, { "\xe2\x81\x9f", "?205f" },
		{ "\xe3\x80\x80", "?3000" },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		const char *blank = cases[k].blank, *mark = cases[k].mark;
		AUTO_FREE char *both = mem_printf("%s%sx", mark, mark);
		AUTO_FREE char *behind = mem_printf("main%s", mark);
		AUTO_FREE char *within = mem_printf("a%sb", blank);
		AUTO_DELIVERY struct delivery d = { .branch = mem_printf("main%s", blank),
						    .engagement = mem_printf("%s", blank),
						    .test = mem_printf("%s%sx", blank, blank),
						    .product = mem_strdup(within) };

		for (int twice = 0; twice < 2; twice++) {
			delivery_fit(&d);
			assert_string_equal(d.branch, behind);
			assert_string_equal(d.engagement, mark);
			assert_string_equal(d.test, both);
			/* the server leaves it */
			assert_string_equal(d.product, within);
		}
	}
	/* letters that begin with the same bytes */
	AUTO_DELIVERY struct delivery d = { .branch = mem_strdup("\xe2\x80\x93\xc3\xa0\xe2\x80\x8b") };

	delivery_fit(&d);
	assert_string_equal(d.branch, "\xe2\x80\x93\xc3\xa0\xe2\x80\x8b");
}

static void
tags_lose_what_would_split_or_refuse_them(void **state)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	(void)state;
	strv_add(&d.tags, "a b,c\"d'e");
	delivery_fit(&d);
	assert_string_equal(d.tags.v[0], "a-b-c-d-e");
}

static void
a_key_stands_for_one_test(void **state)
{
	static const char *const names[][3] = {
		{ "p", "e", "t" }, { "p", "e", "u" }, { "p", "et", "" }, { "pe", "", "t" }, { "q", "e", "t" }
	};
	char keys[MEM_COUNT(names)][DELIVERY_KEY_SIZE], again[DELIVERY_KEY_SIZE];

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(names); i++) {
		AUTO_DELIVERY struct delivery d = { .product = mem_strdup(names[i][0]),
						    .engagement = mem_strdup(names[i][1]),
						    .test = mem_strdup(names[i][2]) };

		delivery_key(&d, keys[i]);
		assert_true(str_is_hex(keys[i], DELIVERY_KEY_SIZE - 1));
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(keys[i], keys[k]);
		/* A server that gets another name is no other test. */
		d.server = mem_strdup("https://dojo.example");
		d.build_id = mem_strdup("8");
		delivery_key(&d, again);
		assert_string_equal(keys[i], again);
	}
}

#define WITH_FIXTURE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

/* ---- mending a report ---- */

#define VULN(more) "{\"VulnerabilityID\":\"CVE-1\",\"PkgName\":\"p\",\"Severity\":\"HIGH\"" more "}"
#define REPORT(result) "{\"SchemaVersion\":2,\"ArtifactName\":\"app\",\"Results\":[" result "]}"
#define RESULT(list) "{\"Target\":\"t\"," list "}"

static char *
mend_within(const char *text, size_t size_max, struct delivery_mending *m, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	char *ret = NULL;

	assert_int_equal(json_parse(text, strlen(text), 1 << 24, 0, &j, NULL), 0);
	return delivery_mend(j, size_max, &ret, m, e) < 0 ? NULL : ret;
}

static char *
mend(const char *text, struct delivery_mending *m)
{
	char *ret = mend_within(text, 1 << 24, m, NULL);

	assert_non_null(ret);
	return ret;
}

static void
a_report_without_fault_stays_as_it_is(void **state)
{
	const char *text = REPORT(RESULT("\"Vulnerabilities\":[" VULN(
		",\"References\":[\"https://a\"],\"CweIDs\":[\"CWE-79\"],\"CVSS\":{\"nvd\":{\"V3Score\":9.8}}") "]"));
	struct delivery_mending m;
	AUTO_FREE char *ret = mend(text, &m);

	(void)state;
	assert_string_equal(ret, text);
	assert_int_equal(m.n_findings, 1);
	assert_int_equal(m.n_shortened + m.n_repaired + m.n_dropped, 0);
	assert_int_equal(m.went, MEND_KEPT_ALL);
}

static void
nothing_that_is_null_or_of_another_type_than_the_parser_reads_is_sent(void **state)
{
	struct delivery_mending m;
	AUTO_FREE char *ret = mend(
		REPORT(RESULT(
			"\"Misconfigurations\":null,\"Secrets\":[null,7,{\"Severity\":\"LOW\",\"Title\":\"s\"}],\"Licenses\":{},"
			"\"Vulnerabilities\":[" VULN(
				",\"References\":[\"https://a\",null,3],\"CVSS\":{\"nvd\":null,\"ghsa\":4},\"CweIDs\":\"CWE-1\"") "]")),
		&m);

	(void)state;
	assert_null(strstr(ret, "null"));
	assert_non_null(strstr(ret, "\"References\":[\"https://a\"]"));
	assert_non_null(strstr(ret, "\"CVSS\":{}"));
	assert_non_null(strstr(ret, "\"Secrets\":[{\"Severity\":\"LOW\",\"Title\":\"s\"}]"));
	assert_null(strstr(ret, "CweIDs"));
	assert_null(strstr(ret, "Licenses"));
	assert_int_equal(m.n_findings, 2);
	assert_int_equal(m.n_dropped, 2);
}

static void
only_weaknesses_with_a_number_are_sent(void **state)
{
	struct delivery_mending m;
	AUTO_FREE char *ret = mend(
		REPORT(RESULT("\"Vulnerabilities\":[" VULN(
			",\"CweIDs\":[\"NVD-CWE-noinfo\",\"CWE-79\",\"CWE-\",\"CWE-7x\",7,\"CWE-99999999\"]") "]")),
		&m);

	(void)state;
	assert_non_null(strstr(ret, "\"CweIDs\":[\"CWE-79\"]"));
}

static void
a_severity_outside_of_the_five_words_drops_nothing(void **state)
{
	struct delivery_mending m;
	AUTO_FREE char *ret =
		mend(REPORT(RESULT("\"Secrets\":[{\"Severity\":\"critical\"},{\"Severity\":\"NONE\"},{}]")),
		     &m);

	(void)state;
	assert_non_null(
		strstr(ret,
		       "[{\"Severity\":\"CRITICAL\"},{\"Severity\":\"UNKNOWN\"},{\"Severity\":\"CRITICAL\"}]"));
	assert_int_equal(m.n_repaired, 3);
}

static void
a_result_without_a_target_has_the_images_name(void **state)
{
	struct delivery_mending m;
	AUTO_FREE char *ret = mend(REPORT("{\"Vulnerabilities\":[" VULN("") "]},7"), &m);

	(void)state;
	assert_non_null(strstr(ret, "\"Target\":\"app\""));
	assert_int_equal(m.n_findings, 1);
}

static void
values_over_the_servers_lengths_are_shortened_and_stay_apart(void **state)
{
	static const struct {
		const char *name;
		size_t max;
	} lengths[] = {
		{ "VulnerabilityID", 50 }, { "InstalledVersion", 100 }, { "PkgName", 500 }, { "PkgPath", 4000 }
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(lengths); i++) {
		AUTO_FREE char *long_text = mem_alloc(lengths[i].max + 2);
		AUTO_FREE char *text = NULL, *exact = NULL, *ret = NULL, *same = NULL;
		AUTO_JSON cJSON *j = NULL;
		struct delivery_mending m;
		const cJSON *list;

		memset(long_text, 'a', lengths[i].max);
		exact = mem_printf(REPORT(RESULT("\"Vulnerabilities\":[{\"Severity\":\"LOW\",\"%s\":\"%s\"}]")),
				   lengths[i].name, long_text);
		same = mend(exact, &m);
		assert_int_equal(m.n_shortened, 0);
		text = mem_printf(REPORT(RESULT("\"Vulnerabilities\":[{\"Severity\":\"LOW\",\"%s\":\"%sb\"},"
						"{\"Severity\":\"LOW\",\"%s\":\"%sc\"}]")),
				  lengths[i].name, long_text, lengths[i].name, long_text);
		ret = mend(text, &m);
		assert_int_equal(m.n_shortened, 2);
		assert_int_equal(json_parse(ret, strlen(ret), 1 << 24, 0, &j, NULL), 0);
		list = json_array(json_array(j, "Results")->child, "Vulnerabilities");
		assert_int_equal(strlen(json_str(list->child, lengths[i].name)), lengths[i].max);
		assert_string_not_equal(json_str(list->child, lengths[i].name),
					json_str(list->child->next, lengths[i].name));
	}
}

static void
what_stands_twice_in_a_report_is_counted_once_among_the_distinct(void **state)
{
	struct delivery_mending m;
	AUTO_FREE char *ret = mend(
		REPORT(RESULT("\"Vulnerabilities\":[" VULN(",\"PkgPath\":\"a\"") "," VULN(",\"PkgPath\":\"b\"") "," VULN(
			",\"InstalledVersion\":\"2\"") "," VULN(",\"InstalledVersion\":\"3\",\"Status\":\"not_affected\"") "]")),
		&m);

	(void)state;
	assert_non_null(ret);
	assert_int_equal(m.n_findings, 4);
	assert_int_equal(m.n_distinct, 2);
}

static void
what_is_too_large_loses_links_first_and_then_the_ends_of_descriptions(void **state)
{
	AUTO_FREE char *filler = mem_alloc(2001), *text = NULL, *small = NULL, *smaller = NULL;
	struct delivery_mending m;
	struct err e = ERR_INIT;

	(void)state;
	memset(filler, 'x', 2000);
	text = mem_printf(REPORT(RESULT("\"Vulnerabilities\":[" VULN(
				  ",\"References\":[\"%s\"],\"Description\":\"%s\"") "]")),
			  filler, filler);
	small = mend_within(text, 3000, &m, &e);
	assert_non_null(small);
	assert_int_equal(m.went, MEND_DROPPED_LINKS);
	assert_null(strstr(small, "References"));
	assert_non_null(strstr(small, filler));
	smaller = mend_within(text, 1000, &m, &e);
	assert_non_null(smaller);
	assert_int_equal(m.went, MEND_CUT_TEXTS);
	assert_int_equal(m.n_findings, 1);
	assert_null(mend_within(text, 100, &m, &e));
	assert_int_equal(e.kind, ERR_REFUSED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(what_is_written_is_read),
		WITH_FIXTURE(a_delivery_is_for_its_owner_alone_and_leaves_no_other_name),
		WITH_FIXTURE(a_copy_has_a_new_head_and_the_same_report),
		WITH_FIXTURE(empty_and_overlarge_deliveries_are_not_written),
		WITH_FIXTURE(absence_is_told_by_its_errno),
		WITH_FIXTURE(links_pipes_and_directories_are_refused),
		WITH_FIXTURE(heads_that_are_not_ours_are_refused_by_name),
		WITH_FIXTURE(a_file_that_is_shorter_or_longer_than_its_head_says_is_refused),
		WITH_FIXTURE(a_head_without_an_end_is_refused_by_its_length),
		cmocka_unit_test(long_values_are_shortened_and_stay_different),
		cmocka_unit_test(blanks_at_the_ends_of_a_name_go_as_the_server_lets_them_go),
		cmocka_unit_test(blanks_beyond_ascii_make_no_name_another_one),
		cmocka_unit_test(tags_lose_what_would_split_or_refuse_them),
		cmocka_unit_test(a_key_stands_for_one_test),
		cmocka_unit_test(a_report_without_fault_stays_as_it_is),
		cmocka_unit_test(nothing_that_is_null_or_of_another_type_than_the_parser_reads_is_sent),
		cmocka_unit_test(only_weaknesses_with_a_number_are_sent),
		cmocka_unit_test(a_severity_outside_of_the_five_words_drops_nothing),
		cmocka_unit_test(a_result_without_a_target_has_the_images_name),
		cmocka_unit_test(values_over_the_servers_lengths_are_shortened_and_stay_apart),
		cmocka_unit_test(what_stands_twice_in_a_report_is_counted_once_among_the_distinct),
		cmocka_unit_test(what_is_too_large_loses_links_first_and_then_the_ends_of_descriptions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
