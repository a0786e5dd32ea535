#include "stages/tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "tests/unit/archive_builder.h"

static const struct tar_limits limits = { 1ULL << 40, 4096, 1 << 20 };
#define GNU "ustar  \0"

/* Reads all; "name:size" of each entry, joined, into `out`. */
static int
read_all(const struct buf *tar, struct strv *out, struct err *e)
{
	AUTO_FD int fd = build_fd(tar->data, tar->len);
	AUTO(source) struct source *src = source_new_file(fd, 0, tar->len);
	AUTO(tar) struct tar *t = tar_new(src, &limits);
	struct tar_entry n;
	bool has = true;

	for (;;) {
		if (tar_next(t, &has, &n, e) < 0)
			return -1;
		if (!has)
			return 0;
		strv_addf(out, "%s:%llu", n.name, (unsigned long long)n.size);
	}
}

static void
expect_refusal(const struct buf *tar, const char *rule)
{
	struct err e = ERR_INIT;
	AUTO_STRV struct strv names = { 0 };

	assert_int_equal(read_all(tar, &names, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	if (!str_has_prefix(e.text, rule))
		fail_msg("expected \"%s…\", got \"%s\"", rule, e.text);
}

static void
expect_names(const struct buf *tar, const char *expected)
{
	struct err e = ERR_INIT;
	AUTO_STRV struct strv names = { 0 };
	AUTO_FREE char *joined = NULL;

	if (read_all(tar, &names, &e) < 0)
		fail_msg("%s", e.text);
	joined = strv_join(&names, " ");
	assert_string_equal(joined ? joined : "", expected);
}

static void
reads_files_in_their_order(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	(void)state;

	build_text(&tar, "a", "12345");
	build_text(&tar, "b/c", "");
	build_end(&tar);
	expect_names(&tar, "a:5 b/c:0");
}

static void
joins_the_prefix_of_posix(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header h = { .name = "layer.tar", .prefix = "some/folder" };
	(void)state;

	build_entry(&tar, &h, "x", 1);
	build_end(&tar);
	expect_names(&tar, "some/folder/layer.tar:1");
}

static void
reads_long_names_of_gnu(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header longlink = { .name = "././@LongLink", .type = 'L', .magic = GNU };
	const struct build_header h = { .name = "cut short", .magic = GNU };
	(void)state;

	build_entry(&tar, &longlink, "a/very/long/name", 17);
	build_entry(&tar, &h, "x", 1);
	build_end(&tar);
	expect_names(&tar, "a/very/long/name:1");
}

static void
reads_names_and_sizes_of_pax(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf pax = BUF_INIT(BUILD_MAX);
	(void)state;

	build_pax_record(&pax, "path", "längerer/name");
	build_pax_record(&pax, "mtime", "1700000000.25");
	build_pax_record(&pax, "size", "3");
	build_pax(&tar, 'x', &pax);
	build_text(&tar, "short", "123");
	build_text(&tar, "next", "");
	build_end(&tar);
	expect_names(&tar, "längerer/name:3 next:0");
}

static void
reads_sizes_in_base_256_and_the_old_form(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header base256 = { .name = "a",
					      .magic = GNU,
					      .size_field = "\200\0\0\0\0\0\0\0\0\0\0\5" };
	const struct build_header old = { .name = "folder/", .type = '0', .magic = "\0\0\0\0\0\0\0\0" };
	(void)state;

	build_entry(&tar, &base256, "12345", 5);
	build_header(&tar, &old);
	build_end(&tar);
	expect_names(&tar, "a:5 folder/:0");
}

static void
an_empty_tar_has_no_entries_whatever_follows(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	(void)state;

	build_end(&tar);
	buf_add_str(&tar, "a file system begins here");
	expect_names(&tar, "");
}

static void
a_harmless_global_header_is_passed_over(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf pax = BUF_INIT(BUILD_MAX);
	(void)state;

	build_pax_record(&pax, "comment", "0123abcd");
	build_pax(&tar, 'g', &pax);
	build_text(&tar, "a", "");
	build_end(&tar);
	expect_names(&tar, "a:0");
}

/* One header that lies, between honest entries. */
static void
refuse_header(const struct build_header *h, const char *rule)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

	build_text(&tar, "first", "1");
	build_header(&tar, h);
	build_end(&tar);
	expect_refusal(&tar, rule);
}

static void
a_header_that_readers_take_differently_is_refused(void **state)
{
	(void)state;
	refuse_header(&(struct build_header){ .name = "a", .checksum_off = 1 }, "header: entry 2 (a)");
	refuse_header(&(struct build_header){ .name = "a", .magic = GNU, .prefix = "b" },
		      "header: entry 2 (a)");
	refuse_header(&(struct build_header){ .name = "a",
					      .magic = "ustar\0"
						       "99" },
		      "header: entry 2 (a)");
	refuse_header(&(struct build_header){ .name = "a", .type = 'Q' }, "header: entry 2 (a)");
	refuse_header(&(struct build_header){ .name = "a", .type = 'S', .magic = GNU }, "sparse: entry 2 (a)");
	refuse_header(&(struct build_header){ .name = "a", .type = 'x', .magic = GNU }, "header: entry 2 (a)");
	refuse_header(&(struct build_header){ .name = "a", .type = 'L' }, "header: entry 2 (a)");
}

static void
an_impossible_size_is_refused(void **state)
{
	(void)state;
	refuse_header(&(struct build_header){ .name = "a",
					      .size_field = "\377\377\377\377\377\377\377\377\377\377\376\0" },
		      "size: entry 2 (a): it is negative");
	refuse_header(&(struct build_header){ .name = "a",
					      .size_field = "\200\0\0\0\177\377\377\377\377\377\377\377" },
		      "size: ");
	refuse_header(&(struct build_header){ .name = "a", .size_field = "\200\1\0\0\0\0\0\0\0\0\0\0" },
		      "size: ");
	refuse_header(&(struct build_header){ .name = "a", .size_field = "0000000zz00\0" }, "size: ");
	refuse_header(&(struct build_header){ .name = "a", .size_field = "\0\0\0\0\0\0\0\0\0\0\0\0" },
		      "size: ");
	refuse_header(&(struct build_header){ .name = "a", .type = '2', .link = "b", .size = 5 }, "size: ");
	refuse_header(&(struct build_header){ .name = "a/", .type = '5', .size = 5 }, "size: ");
}

static void
refuse_pax(char type, const char *const *records, const char *rule)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf pax = BUF_INIT(BUILD_MAX);

	for (; records[0]; records += 2)
		build_pax_record(&pax, records[0], records[1]);
	build_pax(&tar, type, &pax);
	build_text(&tar, "a", "12345");
	build_end(&tar);
	expect_refusal(&tar, rule);
}

static void
a_pax_header_that_hides_something_is_refused(void **state)
{
	(void)state;
	refuse_pax('g', (const char *const[]){ "path", "manifest.json", NULL }, "header: a global PAX header");
	refuse_pax('g', (const char *const[]){ "size", "0", NULL }, "header: a global PAX header");
	refuse_pax('x', (const char *const[]){ "size", "0", NULL }, "size: ");
	refuse_pax('x', (const char *const[]){ "size", "-5", NULL }, "size: ");
	refuse_pax('x', (const char *const[]){ "size", "5x", NULL }, "size: ");
	refuse_pax('x', (const char *const[]){ "path", "", NULL }, "name: ");
	refuse_pax('x', (const char *const[]){ "path", "a", "path", "b", NULL },
		   "header: a PAX keyword twice");
	refuse_pax('x', (const char *const[]){ "GNU.sparse.major", "1", NULL }, "sparse: ");
	refuse_pax('x', (const char *const[]){ "GNU.sparse.map", "0,1", NULL }, "sparse: ");
}

static void
refuse_pax_text(const char *text, size_t len, const char *rule)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf pax = BUF_INIT(BUILD_MAX);

	buf_add(&pax, text, len);
	build_pax(&tar, 'x', &pax);
	build_text(&tar, "a", "");
	build_end(&tar);
	expect_refusal(&tar, rule);
}

static void
a_malformed_pax_record_is_refused(void **state)
{
	static const char *const texts[] = { "99999 path=x\n", "8 path=x\n",  "9 path=x ",   " path=x\n",
					     "9 =xxxxx\n",     "09 path=x\n", "9 pathxxx\n", "3 \n",
					     "4 =\n",	       "-9 path=x\n" };
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		refuse_pax_text(texts[i], strlen(texts[i]), "header: a malformed PAX record");
	refuse_pax_text("24 path=manifest\0.json\n\n", 24, "name: ");
}

static void
extended_headers_are_said_once(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf twice = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf alone = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf pax = BUF_INIT(BUILD_MAX);
	const struct build_header longlink = { .name = "././@LongLink", .type = 'L', .magic = GNU };
	(void)state;

	build_pax_record(&pax, "path", "a");
	build_pax(&tar, 'x', &pax);
	build_pax(&tar, 'x', &pax);
	build_text(&tar, "x", "");
	build_end(&tar);
	expect_refusal(&tar, "header: ");

	build_entry(&twice, &longlink, "a", 2);
	build_pax(&twice, 'x', &pax);
	build_text(&twice, "x", "");
	build_end(&twice);
	expect_refusal(&twice, "header: ");

	build_pax(&alone, 'x', &pax);
	build_end(&alone);
	expect_refusal(&alone, "header: ");
}

static void
an_extended_header_is_bounded(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_STRV struct strv read = { 0 };
	AUTO_BUF struct buf names = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf pax = BUF_INIT(BUILD_MAX);
	/* "1048576 comment=…\n" */
	const size_t fits = limits.pax - strlen("1048576 comment=\n");
	AUTO_FREE char *a = mem_alloc(2 * limits.pax + 1);
	(void)state;

	for (size_t more = 0; more <= 1; more++) {
		memset(a, 'a', 2 * limits.pax);
		a[fits + more] = '\0';
		buf_reset(&tar);
		buf_reset(&pax);
		build_pax_record(&pax, "comment", a);
		assert_int_equal(pax.len, limits.pax + more);
		build_pax(&tar, 'x', &pax);
		build_text(&tar, "x", "");
		build_end(&tar);
		if (more)
			expect_refusal(&tar, "header: ");
		else
			expect_names(&tar, "x:0");
		a[limits.name + more] = '\0';
		buf_reset(&pax);
		buf_reset(&names);
		build_pax_record(&pax, more ? "linkpath" : "path", a);
		build_pax(&names, 'x', &pax);
		build_text(&names, "x", "");
		build_end(&names);
		if (more)
			expect_refusal(&names, "name: ");
		else
			assert_int_equal(read_all(&names, &read, NULL), 0);
	}
}

static void
an_archive_that_is_cut_is_refused_wherever_it_is(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	(void)state;

	build_text(&tar, "a", "12345");
	build_text(&tar, "b", "12345");
	build_end(&tar);
	for (size_t len = 512; len < tar.len; len += 171) {
		struct buf part = tar;

		part.len = len;
		expect_refusal(&part, "cut: ");
	}
}

static void
what_lies_behind_the_end_is_refused(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf lone = BUF_INIT(BUILD_MAX);
	static const char zeros[512];
	(void)state;

	build_text(&tar, "a", "");
	build_end(&tar);
	build_end(&tar);
	expect_names(&tar, "a:0");
	build_text(&tar, "b", "");
	build_end(&tar);
	expect_refusal(&tar, "behind the end: ");

	build_text(&lone, "a", "");
	buf_add(&lone, zeros, sizeof(zeros));
	build_text(&lone, "b", "");
	build_end(&lone);
	expect_refusal(&lone, "header: a lone block of zeros");
}

static void
a_file_that_shrinks_while_it_is_read_is_refused(void **state)
{
	AUTO_FD int fd = build_fd("x", 1);
	AUTO(source) struct source *src = source_new_file(fd, 0, 1024);
	AUTO(tar) struct tar *t = tar_new(src, &limits);
	struct err e = ERR_INIT;
	struct tar_entry n;
	bool has = true;
	(void)state;

	assert_int_equal(tar_next(t, &has, &n, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_true(str_has_prefix(e.text, "changed: "));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_files_in_their_order),
		cmocka_unit_test(joins_the_prefix_of_posix),
		cmocka_unit_test(reads_long_names_of_gnu),
		cmocka_unit_test(reads_names_and_sizes_of_pax),
		cmocka_unit_test(reads_sizes_in_base_256_and_the_old_form),
		cmocka_unit_test(an_empty_tar_has_no_entries_whatever_follows),
		cmocka_unit_test(a_harmless_global_header_is_passed_over),
		cmocka_unit_test(a_header_that_readers_take_differently_is_refused),
		cmocka_unit_test(an_impossible_size_is_refused),
		cmocka_unit_test(a_pax_header_that_hides_something_is_refused),
		cmocka_unit_test(a_malformed_pax_record_is_refused),
		cmocka_unit_test(extended_headers_are_said_once),
		cmocka_unit_test(an_extended_header_is_bounded),
		cmocka_unit_test(an_archive_that_is_cut_is_refused_wherever_it_is),
		cmocka_unit_test(what_lies_behind_the_end_is_refused),
		cmocka_unit_test(a_file_that_shrinks_while_it_is_read_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
