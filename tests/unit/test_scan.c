#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "stages/scan.h"
#include "stages/shared.h"

#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct place {
	char dir[64];
	int fd;
	struct options opt;
	struct log log;
	struct inspection i;
};

/* A head that trivy_db.c takes for whole: page 0 and 1 as bbolt writes them. */
static void
put_le(unsigned char *p, uint64_t v, size_t n)
{
	for (size_t k = 0; k < n; k++)
		p[k] = (unsigned char)(v >> (8 * k));
}

static void
write_db(int fd)
{
	AUTO_FREE unsigned char *pages = mem_alloc(4 * 4096);
	struct err e = ERR_INIT;
	char when[32], text[256];

	for (unsigned k = 0; k < 2; k++) {
		unsigned char *meta = pages + 4096 * k + 16;
		uint64_t h = 0xcbf29ce484222325u;

		put_le(meta - 8, 4, 2);
		put_le(meta, 0xED0CDAEDu, 4);
		put_le(meta + 4, 2, 4);
		put_le(meta + 8, 4096, 4);
		put_le(meta + 16, 3, 8);
		put_le(meta + 32, 2, 8);
		put_le(meta + 40, 4, 8);
		put_le(meta + 48, k, 8);
		for (size_t n = 0; n < 56; n++)
			h = (h ^ meta[n]) * 0x100000001b3u;
		put_le(meta + 56, h, 8);
	}
	assert_int_equal(fs_publish(fd, "trivy.db", pages, 4 * 4096, 0644, 0, &e), 0);
	clock_format_rfc3339(clock_wall_s(), when);
	snprintf(text, sizeof(text), "{\"Version\":2,\"NextUpdate\":\"%s\",\"UpdatedAt\":\"%s\"}", when, when);
	assert_int_equal(fs_publish(fd, "metadata.json", text, strlen(text), 0644, 0, &e), 0);
}

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));
	AUTO_FD int db = -1;
	struct err e = ERR_INIT;

	snprintf(p->dir, sizeof(p->dir), "/tmp/tidewaiter-scan-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fs_mkdirs(p->fd, "db", 0755, &e), 0);
	db = fs_open_dir(p->fd, "db", &e);
	write_db(db);
	p->opt.trivy = (struct options_trivy){ .timeout = 60000,
					       .memory_max = INT64_C(1) << 32,
					       .parallel = 2,
					       .report_max = 1 << 16,
					       .db_max_age = 3600000 };
	p->opt.trivy.path = mem_printf("%s/program", p->dir);
	p->opt.trivy.sha256 = mem_strdup("");
	p->opt.trivy.db_dir = mem_printf("%s/db", p->dir);
	p->opt.trivy.java_db_dir = mem_strdup("");
	strv_add(&p->opt.trivy.scanners, "vuln");
	log_init(&p->log, stderr);
	p->i = (struct inspection){ .opt = &p->opt, .log = &p->log, .work_fd = p->fd, .work_dir = p->dir };
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	scan_free(p->i.scan);
	inspection_free(&p->i);
	close(p->fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	free(p->opt.trivy.path);
	free(p->opt.trivy.sha256);
	free(p->opt.trivy.db_dir);
	free(p->opt.trivy.java_db_dir);
	strv_free(&p->opt.trivy.scanners);
	free(p);
	return 0;
}

/* A Trivy whose report is about the image that its layout is named after; "started" appears below p->dir. */
static void
write_program(const struct place *p, const char *first)
{
	AUTO_FREE char *text =
		mem_printf("#!/bin/sh\n"
			   "for a in \"$@\"; do case $a in --input=*) l=${a##*/};; esac; done\n"
			   ": >%s/started-$l\n%s\n"
			   "echo '{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"},\"Metadata\":{\"ImageID\":\"sha256:'$l'\"},\"Results\":[]}'\n",
			   p->dir, first);
	struct err e = ERR_INIT;

	assert_int_equal(fs_publish(p->fd, "program", text, strlen(text), 0755, 0, &e), 0);
}

static char *
layout_of(const struct place *p, const char *digest)
{
	return mem_printf("%s/%s", p->dir, digest + strlen("sha256:"));
}

static void
add_image(struct place *p, size_t archive, const char *digest)
{
	struct image *m = inspection_add_image(&p->i);

	m->archive = archive;
	m->layout = layout_of(p, digest);
	m->label = mem_strdup("app");
	snprintf(m->config_digest, sizeof(m->config_digest), "%s", digest);
	snprintf(m->scanned_digest, sizeof(m->scanned_digest), "%s", digest);
}

static bool
has_started(const struct place *p, const char *digest)
{
	AUTO_FREE char *name = mem_printf("started-%s", digest + strlen("sha256:"));

	return faccessat(p->fd, name, F_OK, 0) == 0;
}

static void
wait_until_started(const struct place *p, const char *digest)
{
	int64_t deadline = clock_deadline(20000);

	while (!has_started(p, digest)) {
		assert_true(clock_left_ms(deadline) > 0);
		usleep(10000);
	}
}

static void
start(struct place *p, size_t archive, const char *digest)
{
	AUTO_FREE char *layout = layout_of(p, digest);

	scan_start(&p->i, archive, layout, digest);
}

static void
a_scan_begins_before_the_stage_and_its_image(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;

	write_program(p, "");
	scan_open(&p->i);
	start(p, 0, DIGEST_A);
	wait_until_started(p, DIGEST_A);
	add_image(p, 0, DIGEST_A);
	add_image(p, 1, DIGEST_B);
	assert_int_equal(stage_scan.run(&p->i, &e), 0);
	for (size_t k = 0; k < 2; k++) {
		assert_int_equal(p->i.images[k].fault.kind, ERR_NONE);
		assert_non_null(p->i.images[k].report);
	}
	assert_string_equal(p->i.images[0].report->image_id, DIGEST_A);
	assert_string_equal(p->i.images[1].report->image_id, DIGEST_B);
	assert_string_equal(p->i.trivy_version, "0.74.0");
	assert_null(p->i.scan);
}

static void
the_scan_of_a_refused_archive_is_ended_at_once(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	int64_t deadline = clock_deadline(30000);

	write_program(p, "case $l in a*) /bin/sleep 59;; esac");
	scan_open(&p->i);
	start(p, 0, DIGEST_A);
	wait_until_started(p, DIGEST_A);
	scan_withdraw(&p->i, 0);
	assert_true(clock_left_ms(deadline) > 0);
	add_image(p, 1, DIGEST_B);
	assert_int_equal(stage_scan.run(&p->i, &e), 0);
	assert_non_null(p->i.images[0].report);
}

static void
a_scan_that_nobody_claims_is_ended(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	int64_t deadline = clock_deadline(30000);

	write_program(p, "/bin/sleep 59");
	scan_open(&p->i);
	start(p, 0, DIGEST_A);
	wait_until_started(p, DIGEST_A);
	assert_int_equal(stage_scan.run(&p->i, &e), 0);
	assert_true(clock_left_ms(deadline) > 0);
}

static void
a_withdrawn_scan_is_not_taken_for_a_later_image_of_the_same_layout(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	AUTO_FREE char *name = mem_printf("started-%s", strchr(DIGEST_A, ':') + 1);

	write_program(p, "");
	scan_open(&p->i);
	start(p, 0, DIGEST_A);
	wait_until_started(p, DIGEST_A);
	scan_withdraw(&p->i, 0);
	assert_int_equal(unlinkat(p->fd, name, 0), 0);
	add_image(p, 1, DIGEST_A);
	assert_int_equal(stage_scan.run(&p->i, &e), 0);
	assert_true(has_started(p, DIGEST_A));
	assert_non_null(p->i.images[0].report);
}

static void
where_archives_are_only_told_from_other_files_no_scan_begins(void **state)
{
	struct place *p = *state;

	write_program(p, "");
	start(p, 0, DIGEST_A);
	scan_withdraw(&p->i, 0);
	assert_null(p->i.scan);
	assert_false(has_started(p, DIGEST_A));
}

static void
what_is_wrong_for_all_is_said_of_each(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;

	scan_open(&p->i);
	start(p, 0, DIGEST_A);
	add_image(p, 0, DIGEST_A);
	add_image(p, 1, DIGEST_B);
	assert_int_equal(stage_scan.run(&p->i, &e), 0);
	for (size_t k = 0; k < 2; k++) {
		assert_null(p->i.images[k].report);
		assert_int_equal(p->i.images[k].fault.kind, ERR_FAILED);
		assert_non_null(strstr(p->i.images[k].fault.text, "trivy.path"));
	}
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_scan_begins_before_the_stage_and_its_image),
		TEST(the_scan_of_a_refused_archive_is_ended_at_once),
		TEST(a_scan_that_nobody_claims_is_ended),
		TEST(a_withdrawn_scan_is_not_taken_for_a_later_image_of_the_same_layout),
		TEST(where_archives_are_only_told_from_other_files_no_scan_begins),
		TEST(what_is_wrong_for_all_is_said_of_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
