#include "stages/early_watch.h"

#include <fcntl.h>
#include <poll.h>
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

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "tests/unit/scratch.h"

#define PATIENCE_MS 30000

struct place {
	struct scratch at;
	struct glob_set *globs;
	struct early_watch *w;
};

static void
place_init(struct place *p, const char *glob)
{
	*p = (struct place){ .at = scratch_new() };
	p->globs = glob_set_new();
	assert_true(glob_set_add(p->globs, glob, str_has_suffix(glob, "/")));
}

static void
start(struct place *p)
{
	assert_int_equal(early_watch_open(p->at.fd, p->globs, &p->w, NULL), 0);
}

static void
place_free(struct place *p)
{
	early_watch_free(p->w);
	glob_set_free(p->globs);
	scratch_remove(&p->at);
}

static void
put(const struct place *p, const char *path)
{
	AUTO_FD int fd = openat(p->at.fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
}

static void
make_dir(const struct place *p, const char *path)
{
	assert_int_equal(mkdirat(p->at.fd, path, 0755), 0);
}

/* The next finished file; NULL when all events are read and nothing waits to be finished. */
static char *
next(struct place *p)
{
	int64_t deadline = clock_deadline(PATIENCE_MS);

	for (;;) {
		struct pollfd pfd = { .fd = early_watch_fd(p->w), .events = POLLIN };
		char *path;

		assert_true(clock_left_ms(deadline) > 0);
		if (poll(&pfd, 1, 0) > 0) {
			assert_int_equal(early_watch_read(p->w, NULL), 0);
			continue;
		}
		path = early_watch_take(p->w);
		if (path || early_watch_timeout(p->w) < 0)
			return path;
		(void)poll(&pfd, 1, early_watch_timeout(p->w));
	}
}

static void
expect(struct place *p, const char *expected)
{
	AUTO_FREE char *path = next(p);

	if (expected)
		assert_string_equal(path, expected);
	else
		assert_null(path);
}

/* In an order that the file system chooses. */
static void
expect_both(struct place *p, const char *one, const char *other)
{
	AUTO_FREE char *first = next(p);
	AUTO_FREE char *second = next(p);

	assert_true((str_eq(first, one) && str_eq(second, other)) ||
		    (str_eq(first, other) && str_eq(second, one)));
}

static void
files_that_were_there_are_told(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "*/*.tar");
	make_dir(&p, "a");
	put(&p, "a/x.tar");
	put(&p, "a/y.txt");
	start(&p);
	expect(&p, "a/x.tar");
	expect(&p, NULL);
	place_free(&p);
}

static void
a_file_is_told_when_it_is_closed_and_once_per_writing(void **state)
{
	struct place p;
	int fd;

	(void)state;
	place_init(&p, "*.tar");
	start(&p);
	fd = openat(p.at.fd, "x.tar", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "x", 1), 1);
	expect(&p, NULL);
	close(fd);
	put(&p, "x.tar");
	expect(&p, "x.tar");
	expect(&p, NULL);
	put(&p, "x.tar");
	expect(&p, "x.tar");
	place_free(&p);
}

static void
a_file_that_is_moved_into_place_is_told(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "out/*.tar");
	make_dir(&p, "out");
	start(&p);
	put(&p, "part");
	assert_int_equal(renameat(p.at.fd, "part", p.at.fd, "out/x.tar"), 0);
	expect(&p, "out/x.tar");
	expect(&p, NULL);
	place_free(&p);
}

static void
directories_made_later_are_watched(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "a/b/*.tar");
	start(&p);
	make_dir(&p, "a");
	make_dir(&p, "a/b");
	put(&p, "a/b/x.tar");
	expect(&p, "a/b/x.tar");
	put(&p, "a/b/y.tar");
	expect(&p, "a/b/y.tar");
	place_free(&p);
}

static void
a_directory_that_was_moved_is_known_under_its_new_name(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "*/*.tar");
	make_dir(&p, "old");
	start(&p);
	expect(&p, NULL);
	assert_int_equal(renameat(p.at.fd, "old", p.at.fd, "new"), 0);
	expect(&p, NULL);
	put(&p, "new/x.tar");
	expect(&p, "new/x.tar");
	place_free(&p);
}

static void
links_are_not_followed(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "*/*.tar");
	make_dir(&p, "real");
	start(&p);
	assert_int_equal(symlinkat("real", p.at.fd, "link"), 0);
	assert_int_equal(symlinkat("/etc/passwd", p.at.fd, "real/passwd.tar"), 0);
	put(&p, "real/x.tar");
	expect(&p, "real/x.tar");
	expect(&p, NULL);
	place_free(&p);
}

static void
what_no_glob_names_is_not_told(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "dist/");
	make_dir(&p, "src");
	make_dir(&p, "dist");
	make_dir(&p, "dist/deep");
	start(&p);
	put(&p, "src/x.tar");
	put(&p, "dist/deep/y");
	expect(&p, "dist/deep/y");
	expect(&p, NULL);
	place_free(&p);
}

static long
queue_length(void)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	assert_int_equal(fs_read_max(AT_FDCWD, "/proc/sys/fs/inotify/max_queued_events", 32, &text, &len, NULL),
			 0);
	return strtol(text, NULL, 10);
}

/* Enough that events are lost: names come and go, and each is another one than the last. */
static void
flood(const struct place *p)
{
	long n = queue_length() / 2 + 100;

	for (long k = 0; k < n; k++) {
		char name[32];

		snprintf(name, sizeof(name), "f%ld.txt", k);
		put(p, name);
		assert_int_equal(unlinkat(p->at.fd, name, 0), 0);
	}
}

static void
a_file_whose_event_was_lost_is_found_by_looking(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "**/*.tar");
	start(&p);
	flood(&p);
	put(&p, "x.tar");
	make_dir(&p, "a");
	put(&p, "a/y.tar");
	expect_both(&p, "x.tar", "a/y.tar");
	expect(&p, NULL);
	place_free(&p);
}

static void
who_loses_events_again_and_again_gives_up(void **state)
{
	struct err e = ERR_INIT;
	struct place p;
	unsigned n = 0;

	(void)state;
	place_init(&p, "*.tar");
	start(&p);
	do
		flood(&p);
	while (early_watch_read(p.w, &e) == 0 && ++n < 2 * EARLY_WALKS_MAX);
	assert_int_equal(n, EARLY_WALKS_MAX - 1);
	place_free(&p);
}

static void
more_directories_than_can_be_watched_are_passed_over(void **state)
{
	struct place p;

	(void)state;
	place_init(&p, "*/*.tar");
	for (unsigned k = 0; k < EARLY_DIRS_MAX + 10; k++) {
		char name[32];

		snprintf(name, sizeof(name), "d%u", k);
		make_dir(&p, name);
	}
	start(&p);
	expect(&p, NULL);
	place_free(&p);
}

static void
more_files_than_can_wait_are_passed_over(void **state)
{
	struct place p;
	unsigned n = 0;
	char *path;

	(void)state;
	place_init(&p, "*.tar");
	start(&p);
	for (unsigned k = 0; k < EARLY_PATHS_MAX + 10; k++) {
		char name[32];

		snprintf(name, sizeof(name), "%u.tar", k);
		put(&p, name);
	}
	for (; (path = next(&p)); n++)
		mem_free_at(&path);
	assert_int_equal(n, EARLY_PATHS_MAX);
	place_free(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_that_were_there_are_told),
		cmocka_unit_test(a_file_is_told_when_it_is_closed_and_once_per_writing),
		cmocka_unit_test(a_file_that_is_moved_into_place_is_told),
		cmocka_unit_test(directories_made_later_are_watched),
		cmocka_unit_test(a_directory_that_was_moved_is_known_under_its_new_name),
		cmocka_unit_test(links_are_not_followed),
		cmocka_unit_test(what_no_glob_names_is_not_told),
		cmocka_unit_test(a_file_whose_event_was_lost_is_found_by_looking),
		cmocka_unit_test(who_loses_events_again_and_again_gives_up),
		cmocka_unit_test(more_directories_than_can_be_watched_are_passed_over),
		cmocka_unit_test(more_files_than_can_wait_are_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
