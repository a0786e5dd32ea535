#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/inspect_record.h"
#include "stages/snapshot.h"
#include "tests/unit/scratch.h"

#define CONTENT "an image archive"

/* A directory with one archive in it, and the inspection that found it. */
struct place {
	struct scratch at;
	struct inspection i;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));
	struct archive *a;
	struct stat st;
	int fd;

	p->at = scratch_new();
	assert_int_equal(fs_publish(p->at.fd, "app.tar", CONTENT, strlen(CONTENT), 0644, 0, NULL), 0);
	fd = openat(p->at.fd, "app.tar", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	p->i.mode = GATE_WARN;
	a = inspection_add_archive(&p->i);
	a->name = mem_strdup("tar_images/app.tar");
	a->fd = fd;
	fs_identity_of(&st, &a->id);
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	inspection_free(&p->i);
	scratch_remove(&p->at);
	free(p);
	return 0;
}

/* Written and read again, as run and verify do. */
static struct inspect_record *
recorded(struct place *p)
{
	AUTO(inspect_record) struct inspect_record *made = inspect_record_make(&p->i);
	struct inspect_record *back = NULL;

	assert_int_equal(inspect_record_write(p->at.fd, made, NULL), 0);
	assert_int_equal(inspect_record_read(p->at.fd, &back, NULL), 0);
	return back;
}

static const char *
difference(struct place *p, const struct inspect_record *r)
{
	const struct inspect_record_file *f = inspect_record_find(r, "tar_images/app.tar");
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDONLY | O_CLOEXEC);
	const struct archive now = { .fd = fd };

	assert_non_null(f);
	assert_true(fd >= 0);
	return inspect_record_compare(f, &now);
}

/* A layout that is a directory with two files, opened as it is now. */
static void
open_layout(struct place *p, struct archive *a)
{
	*a = (struct archive){ .fd = fs_open_dir(p->at.fd, "oci", NULL), .is_dir = true };
	assert_true(a->fd >= 0);
	assert_int_equal(layout_dir_open(a->fd, 100, &a->files, NULL), 0);
}

static void
write_text(struct place *p, const char *path, const char *text)
{
	AUTO_FD int fd = openat(p->at.fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(fs_write_all(fd, text, strlen(text), NULL), 0);
}

static const char *
layout_difference(struct place *p, const struct inspect_record *r)
{
	struct archive now;
	const char *what;

	open_layout(p, &now);
	what = inspect_record_compare(inspect_record_find(r, "tar_images/oci"), &now);
	close(now.fd);
	layout_files_free(&now.files);
	return what;
}

static void
a_layout_is_compared_with_all_that_is_in_it(void **state)
{
	struct place *p = *state;
	AUTO(inspect_record) struct inspect_record *r = NULL;
	struct archive *a;

	assert_int_equal(mkdirat(p->at.fd, "oci", 0755), 0);
	write_text(p, "oci/index.json", "{}");
	write_text(p, "oci/oci-layout", "{}");
	a = inspection_add_archive(&p->i);
	open_layout(p, a);
	a->name = mem_strdup("tar_images/oci");
	r = recorded(p);
	assert_null(layout_difference(p, r));
	write_text(p, "oci/more", "x");
	assert_string_equal(layout_difference(p, r), "has more files in it");
	assert_int_equal(unlinkat(p->at.fd, "oci/more", 0), 0);
	assert_null(layout_difference(p, r));
	assert_int_equal(renameat(p->at.fd, "oci/oci-layout", p->at.fd, "oci/other"), 0);
	assert_string_equal(layout_difference(p, r), "has other files in it");
	assert_int_equal(renameat(p->at.fd, "oci/other", p->at.fd, "oci/oci-layout"), 0);
	assert_non_null(layout_difference(p, r));
	write_text(p, "oci/index.json", "{\"a\":1}");
	assert_string_equal(layout_difference(p, r), "has another size");
	assert_int_equal(unlinkat(p->at.fd, "oci/oci-layout", 0), 0);
	assert_string_equal(layout_difference(p, r), "has fewer files in it");
}

static void
what_is_written_is_read_back(void **state)
{
	struct place *p = *state;
	AUTO(inspect_record) struct inspect_record *r = NULL;

	p->i.verdict = VERDICT_BLOCK;
	p->i.archives[0].is_unfit = true;
	r = recorded(p);
	assert_int_equal(r->verdict, VERDICT_BLOCK);
	assert_int_equal(r->mode, GATE_WARN);
	assert_int_equal(r->n_files, 1);
	assert_true(r->files[0].is_unfit);
	assert_true(fs_identity_equal(&r->files[0].id, &p->i.archives[0].id));
	assert_null(inspect_record_find(r, "tar_images/other.tar"));
}

static void
no_inspection_is_no_record(void **state)
{
	struct place *p = *state;
	struct inspect_record *r = (void *)p;
	struct err e = ERR_INIT;

	assert_int_equal(inspect_record_read(p->at.fd, &r, &e), 0);
	assert_null(r);
}

static void
a_file_that_stayed_is_the_same(void **state)
{
	AUTO(inspect_record) struct inspect_record *r = recorded(*state);

	assert_string_equal(r->files[0].digest, "");
	assert_null(difference(*state, r));
}

static void
a_replaced_file_is_another_even_with_the_same_bytes_and_times(void **state)
{
	struct place *p = *state;
	AUTO(inspect_record) struct inspect_record *r = recorded(p);
	struct stat st;
	struct timespec times[2];

	assert_int_equal(fstat(p->i.archives[0].fd, &st), 0);
	assert_int_equal(fs_publish(p->at.fd, "app.tar", CONTENT, strlen(CONTENT), 0644, 0, NULL), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	assert_int_equal(utimensat(p->at.fd, "app.tar", times, 0), 0);
	assert_non_null(difference(p, r));
}

static void
a_file_written_to_is_another_even_with_its_times_put_back(void **state)
{
	struct place *p = *state;
	AUTO(inspect_record) struct inspect_record *r = recorded(p);
	struct stat st;
	struct timespec times[2];
	int fd = openat(p->at.fd, "app.tar", O_WRONLY | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pwrite(fd, "AN", 2, 0), 2);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	assert_non_null(difference(p, r));
}

/* The page is dirty already when the times are recorded: nothing tells of the next store but the content. */
static void
a_store_through_a_mapping_that_was_there_before_is_seen(void **state)
{
	struct place *p = *state;
	AUTO(inspect_record) struct inspect_record *r = NULL;
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDWR | O_CLOEXEC);
	char *map = mmap(NULL, strlen(CONTENT), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct stat st;

	assert_ptr_not_equal(map, MAP_FAILED);
	map[0] = 'A';
	assert_int_equal(fstat(fd, &st), 0);
	fs_identity_of(&st, &p->i.archives[0].id);
	assert_int_equal(snapshot_take(&p->i.archives[0].snapshot, p->i.archives[0].fd, &p->i.archives[0].id,
				       p->at.fd, NULL),
			 0);
	r = recorded(p);
	assert_string_not_equal(r->files[0].digest, "");
	assert_null(difference(p, r));
	map[1] = 'N';
	assert_non_null(difference(p, r));
	munmap(map, strlen(CONTENT));
}

static void
a_writer_that_came_later_is_a_difference(void **state)
{
	struct place *p = *state;
	AUTO(inspect_record) struct inspect_record *r = recorded(p);
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_non_null(difference(p, r));
}

static void
a_record_that_is_not_understood_is_an_error(void **state)
{
	static const char *const texts[] = { "", "{", "{\"archives\":[{}]}",
					     "{\"archives\":[{\"name\":\"x\",\"digest\":\"\",\"dev\":1}]}" };
	struct place *p = *state;
	struct inspect_record *r = NULL;
	struct err e = ERR_INIT;

	for (size_t k = 0; k < MEM_COUNT(texts); k++) {
		assert_int_equal(fs_publish(p->at.fd, "tidewaiter-inspection.json", texts[k],
					    strlen(texts[k]), 0600, 0, NULL),
				 0);
		assert_int_equal(inspect_record_read(p->at.fd, &r, &e), -1);
		assert_null(r);
	}
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(a_layout_is_compared_with_all_that_is_in_it),
		WITH_PLACE(what_is_written_is_read_back),
		WITH_PLACE(no_inspection_is_no_record),
		WITH_PLACE(a_file_that_stayed_is_the_same),
		WITH_PLACE(a_replaced_file_is_another_even_with_the_same_bytes_and_times),
		WITH_PLACE(a_file_written_to_is_another_even_with_its_times_put_back),
		WITH_PLACE(a_store_through_a_mapping_that_was_there_before_is_seen),
		WITH_PLACE(a_writer_that_came_later_is_a_difference),
		WITH_PLACE(a_record_that_is_not_understood_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
