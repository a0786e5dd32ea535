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
		cmocka_unit_test(tags_lose_what_would_split_or_refuse_them),
		cmocka_unit_test(a_key_stands_for_one_test),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
