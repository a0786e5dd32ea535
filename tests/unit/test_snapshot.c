#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "stages/pipeline.h"
#include "stages/snapshot.h"
#include "tests/unit/scratch.h"

#define CONTENT "an image archive"

/* A project directory with one archive, and the inspection that found it. */
struct place {
	struct scratch at;
	struct options opt;
	struct inspection i;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));
	struct archive *a;
	struct stat st;

	p->at = scratch_new();
	assert_int_equal(fs_publish(p->at.fd, "app.tar", CONTENT, strlen(CONTENT), 0644, 0, NULL), 0);
	a = inspection_add_archive(&p->i);
	a->name = mem_strdup("app.tar");
	a->fd = openat(p->at.fd, "app.tar", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(a->fd, &st), 0);
	fs_identity_of(&st, &a->id);
	p->opt.images.max_size = 1000;
	p->i.opt = &p->opt;
	p->i.project_fd = p->i.work_fd = p->at.fd;
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

static const struct archive *
run_stage(struct place *p)
{
	assert_int_equal(stage_snapshot.run(&p->i, NULL), 0);
	return &p->i.archives[0];
}

static void
a_file_that_nobody_writes_to_is_not_copied(void **state)
{
	const struct archive *a = run_stage(*state);

	assert_string_equal(a->snapshot.digest, "");
	assert_int_equal(snapshot_fd(&a->snapshot, a->fd), a->fd);
	assert_int_equal(a->fault.kind, ERR_NONE);
}

static void
what_a_writer_stores_after_the_copy_is_not_inspected(void **state)
{
	struct place *p = *state;
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDWR | O_CLOEXEC);
	char *map = mmap(NULL, strlen(CONTENT), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	const struct archive *a;
	char text[sizeof(CONTENT)] = "", digest[HASH_DIGEST_MAX];

	assert_ptr_not_equal(map, MAP_FAILED);
	mem_close_at(&fd); /* the mapping alone */
	a = run_stage(p);
	map[0] = 'A';
	assert_int_equal(pread(snapshot_fd(&a->snapshot, a->fd), text, strlen(CONTENT), 0), strlen(CONTENT));
	assert_string_equal(text, CONTENT);
	hash_of(HASH_SHA256, CONTENT, strlen(CONTENT), digest);
	assert_string_equal(a->snapshot.digest, digest);
	assert_int_equal(faccessat(p->at.fd, "snapshot", F_OK, 0), -1);
	munmap(map, strlen(CONTENT));
}

static void
a_file_of_a_layout_is_copied_too(void **state)
{
	struct place *p = *state;
	AUTO_FD int fd = -1;
	struct archive *a;

	assert_int_equal(mkdirat(p->at.fd, "oci", 0755), 0);
	fd = openat(p->at.fd, "oci/index.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	a = inspection_add_archive(&p->i);
	*a = (struct archive){ .fd = fs_open_dir(p->at.fd, "oci", NULL), .is_dir = true };
	assert_int_equal(layout_dir_open(a->fd, 10, &a->files, NULL), 0);
	run_stage(p);
	a = &p->i.archives[1];
	assert_int_equal(a->files.n, 1);
	assert_string_not_equal(a->files.v[0].snapshot.digest, "");
}

static void
a_file_that_is_shorter_than_it_was_is_refused(void **state)
{
	struct place *p = *state;
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDWR | O_CLOEXEC);
	const struct archive *a;

	assert_int_equal(ftruncate(fd, 3), 0);
	a = run_stage(p);
	assert_int_equal(a->fault.kind, ERR_REFUSED);
	assert_true(str_has_prefix(a->fault.text, "changed: "));
	assert_string_equal(a->snapshot.digest, "");
}

static void
what_is_too_large_anyway_is_not_copied(void **state)
{
	struct place *p = *state;
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	p->opt.images.max_size = 3;
	assert_string_equal(run_stage(p)->snapshot.digest, "");
	assert_int_equal(p->i.archives[0].fault.kind, ERR_NONE);
}

static void
files_given_by_name_are_not_copied(void **state)
{
	struct place *p = *state;
	AUTO_FD int fd = openat(p->at.fd, "app.tar", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	p->i.project_fd = -1;
	assert_string_equal(run_stage(p)->snapshot.digest, "");
}

int
main(void)
{
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_PLACE(a_file_that_nobody_writes_to_is_not_copied),
		WITH_PLACE(what_a_writer_stores_after_the_copy_is_not_inspected),
		WITH_PLACE(a_file_of_a_layout_is_copied_too),
		WITH_PLACE(a_file_that_is_shorter_than_it_was_is_refused),
		WITH_PLACE(what_is_too_large_anyway_is_not_copied),
		WITH_PLACE(files_given_by_name_are_not_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
