#include "stages/early_result.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "stages/early_keeper.h"
#include "stages/pipeline.h"
#include "tests/unit/archive_builder.h"

#define PATIENCE_S 30 /* less than the kernel's own patience with a lease, lease-break-time */

struct world {
	char dir[64];
	int top_fd, work_fd;
	struct options opt;
	struct early_keeper *keeper;
};

static int
set_up(void **state)
{
	struct world *w = mem_alloc(sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), "%s", "/tmp/test-early-result-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->top_fd = fs_open_dir(AT_FDCWD, w->dir, NULL);
	assert_int_equal(mkdirat(w->top_fd, EARLY_DIR, 0700), 0);
	w->work_fd = fs_open_dir(w->top_fd, EARLY_DIR, NULL);
	w->opt.images = build_limits();
	w->opt.images.threads = 1;
	*state = w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	early_keeper_free(w->keeper);
	close(w->work_fd);
	close(w->top_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, w->dir, NULL), 0);
	free(w);
	return 0;
}

static void
read_archive(const struct world *w, const struct build_image *m, struct archive_images *ret)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_FD int fd = -1;
	struct archive_input in = { .work_fd = w->work_fd, .stem = "archive-4", .limits = &w->opt.images };
	bool is_image;

	build_docker_archive(&tar, m);
	build_end(&tar);
	in.fd = fd = build_fd(tar.data, tar.len);
	in.size = tar.len;
	assert_int_equal(archive_read(&in, ret, &is_image, NULL), 0);
}

static void
what_was_read_is_told_again_as_it_was(void **state)
{
	struct world *w = *state;
	struct archive_images first = { 0 }, again = { 0 };
	const struct archive_image *a, *b;
	AUTO_FREE char *layout = NULL;
	struct build_image m;

	build_image_init(&m, 3);
	read_archive(w, &m, &first);
	strv_add(&first.v[0].tags, "app:1");
	strv_add(&first.v[0].hidden, "a list behind a link");
	strv_add(&first.notes, "an attestation");
	assert_int_equal(early_result_write(w->work_fd, "archive-4", &first, NULL), 0);
	assert_int_equal(early_result_read(w->top_fd, 4, &w->opt.images, &again, NULL), 0);
	assert_int_equal(again.n, 1);
	a = &first.v[0];
	b = &again.v[0];
	layout = mem_printf(EARLY_DIR "/%s", a->layout_name);
	assert_string_equal(b->layout_name, layout);
	assert_int_equal(b->tags.n, a->tags.n);
	assert_string_equal(b->tags.v[b->tags.n - 1], "app:1");
	assert_string_equal(b->hidden.v[0], "a list behind a link");
	assert_string_equal(again.notes.v[0], "an attestation");
	assert_string_equal(b->platform, a->platform);
	assert_string_equal(b->config_digest, a->config_digest);
	assert_string_equal(b->scanned_digest, a->scanned_digest);
	assert_string_equal(b->manifest_digest, a->manifest_digest);
	assert_int_equal(b->config->diff_ids.n, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(b->config->diff_ids.v[i], a->config->diff_ids.v[i]);
		assert_string_equal(b->layers[i].scanned_digest, a->layers[i].scanned_digest);
		assert_int_equal(b->layers[i].size, a->layers[i].size);
	}
	archive_images_free(&first);
	archive_images_free(&again);
	build_image_free(&m);
}

static void
a_config_that_is_not_what_its_name_says_is_no_result(void **state)
{
	struct world *w = *state;
	struct archive_images first = { 0 }, again = { 0 };
	AUTO_FREE char *path = NULL;
	AUTO_FD int fd = -1;
	struct build_image m;

	build_image_init(&m, 1);
	read_archive(w, &m, &first);
	assert_int_equal(early_result_write(w->work_fd, "archive-4", &first, NULL), 0);
	path = mem_printf("%s/blobs/sha256/%s", first.v[0].layout_name,
			  first.v[0].scanned_digest + strlen("sha256:"));
	assert_int_equal(fchmodat(w->work_fd, path, 0600, 0), 0);
	fd = openat(w->work_fd, path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, " ", 1), 1);
	assert_int_equal(early_result_read(w->top_fd, 4, &w->opt.images, &again, NULL), -1);
	archive_images_free(&first);
	build_image_free(&m);
}

static void
there_is_no_result_without_a_whole_record(void **state)
{
	static const char *const records[] = {
		"", "{}", "{\"images\":[]}", "{\"images\":[{}]}", "[]", "{\"images\":[{\"layout\":1}]}"
	};
	struct world *w = *state;
	struct archive_images l = { 0 };

	assert_int_equal(early_result_read(w->top_fd, 4, &w->opt.images, &l, NULL), -1);
	for (size_t i = 0; i < MEM_COUNT(records); i++) {
		assert_int_equal(fs_publish(w->work_fd, "archive-4.json", records[i], strlen(records[i]),
					    0600, 0, NULL),
				 0);
		assert_int_equal(early_result_read(w->top_fd, 4, &w->opt.images, &l, NULL), -1);
	}
}

/* --- leases --- */

static int
open_file(const struct world *w, int flags)
{
	int fd = openat(w->top_fd, "file", flags | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void
a_file_that_can_be_written_to_gets_no_lease(void **state)
{
	struct world *w = *state;
	AUTO_FD int writer = open_file(w, O_RDWR);
	AUTO_FD int fd = open_file(w, O_RDONLY);
	void *p;

	assert_int_equal(ftruncate(writer, 4096), 0);
	assert_false(early_lease_take(fd));
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
	assert_true(p != MAP_FAILED);
	close(take_fd(writer));
	assert_false(early_lease_take(fd));
	munmap(p, 4096);
	assert_true(early_lease_take(fd));
	assert_true(early_lease_holds(fd));
}

static void
a_lease_is_handed_on_with_its_descriptor_and_ends_when_somebody_writes(void **state)
{
	struct world *w = *state;
	struct early_known k = { .number = 7, .lease_fd = open_file(w, O_RDONLY) }, got[2];
	int ends[2];

	signal(SIGIO, SIG_IGN);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	k.id.ino = 5;
	assert_true(early_lease_take(k.lease_fd));
	assert_true(early_known_send(ends[0], &k));
	close(k.lease_fd);
	close(ends[0]);
	assert_int_equal(early_known_receive(ends[1], got, 2), 1);
	assert_int_equal(got[0].number, 7);
	assert_int_equal(got[0].id.ino, 5);
	assert_true(early_lease_holds(got[0].lease_fd));
	assert_int_equal(openat(w->top_fd, "file", O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	assert_false(early_lease_holds(got[0].lease_fd));
	early_known_close(got, 1);
	close(ends[1]);
	signal(SIGIO, SIG_DFL);
}

/* In a child, so that it is no matter what the test's own threads do. */
static int
write_as_another(const struct world *w)
{
	pid_t pid = fork();
	int status = -1;

	assert_true(pid >= 0);
	if (pid == 0) {
		sigset_t none;
		int fd;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		alarm(PATIENCE_S);
		fd = openat(w->top_fd, "file", O_WRONLY | O_TRUNC | O_CLOEXEC);
		_exit(fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
who_wants_to_write_need_not_wait_for_the_keeper(void **state)
{
	struct world *w = *state;
	AUTO_FD int fd = open_file(w, O_RDONLY);
	AUTO_FD int second = open_file(w, O_RDONLY);

	assert_int_equal(early_keeper_start(&w->keeper, NULL), 0);
	assert_true(early_keeper_take(w->keeper, fd));
	assert_true(early_keeper_take(w->keeper, second));
	assert_true(early_lease_holds(fd) && early_lease_holds(second));
	assert_int_equal(write_as_another(w), 0);
	assert_false(early_lease_holds(fd) || early_lease_holds(second));
	/* and once more, of one that was taken anew */
	assert_true(early_keeper_take(w->keeper, fd));
	assert_int_equal(write_as_another(w), 0);
	assert_false(early_lease_holds(fd));
}

static void
what_is_dropped_is_held_no_more(void **state)
{
	struct world *w = *state;
	AUTO_FD int fd = open_file(w, O_RDONLY);

	assert_int_equal(early_keeper_start(&w->keeper, NULL), 0);
	assert_true(early_keeper_take(w->keeper, fd));
	early_keeper_drop(w->keeper, fd);
	early_keeper_drop(w->keeper, fd);
	assert_false(early_lease_holds(fd));
}

/* --- the stage --- */

static uint64_t
recalled(const struct world *w, const struct fs_identity *id, bool has_snapshot, bool is_broken)
{
	struct inspection i = { .opt = &w->opt };
	struct early_known known = { .id = *id, .number = 2, .lease_fd = open_file(w, O_RDONLY) };
	struct archive *a = inspection_add_archive(&i);
	struct stat st;
	uint64_t early;

	a->name = mem_strdup("file");
	a->fd = open_file(w, O_RDONLY);
	assert_int_equal(fstat(a->fd, &st), 0);
	fs_identity_of(&st, &a->id);
	assert_true(early_lease_take(known.lease_fd));
	if (is_broken)
		assert_int_equal(fcntl(known.lease_fd, F_SETLEASE, F_UNLCK), 0);
	if (has_snapshot) {
		snprintf(a->snapshot.digest, sizeof(a->snapshot.digest), "sha256:");
		a->snapshot.fd = open_file(w, O_RDONLY);
	}
	i.early = &known;
	i.n_early = 1;
	assert_int_equal(stage_recall.run(&i, NULL), 0);
	assert_int_equal(known.lease_fd, -1);
	early = a->early;
	inspection_free(&i);
	return early;
}

static void
only_what_is_certain_is_recalled(void **state)
{
	struct world *w = *state;
	struct fs_identity id;
	struct stat st;

	close(open_file(w, O_RDONLY));
	assert_int_equal(fstatat(w->top_fd, "file", &st, 0), 0);
	fs_identity_of(&st, &id);
	assert_int_equal(recalled(w, &id, false, false), 3);
	assert_int_equal(recalled(w, &id, true, false), 0);
	assert_int_equal(recalled(w, &id, false, true), 0);
	id.ctime_ns++;
	assert_int_equal(recalled(w, &id, false, false), 0);
}

#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(what_was_read_is_told_again_as_it_was),
		WITH_WORLD(a_config_that_is_not_what_its_name_says_is_no_result),
		WITH_WORLD(there_is_no_result_without_a_whole_record),
		WITH_WORLD(a_file_that_can_be_written_to_gets_no_lease),
		WITH_WORLD(a_lease_is_handed_on_with_its_descriptor_and_ends_when_somebody_writes),
		WITH_WORLD(who_wants_to_write_need_not_wait_for_the_keeper),
		WITH_WORLD(what_is_dropped_is_held_no_more),
		WITH_WORLD(only_what_is_certain_is_recalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
