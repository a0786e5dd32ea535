/* Reading an archive with a cache of layers beside it. */
#include <dirent.h>
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
#include "stages/archive_read.h"
#include "tests/unit/archive_builder.h"

#define LARGE (3 * 1024 * 1024) /* a layer that gets a file of its own out of a compressed archive */
#define TAR_CONTENT_AT 512

struct world {
	char dir[64];
	int top_fd, work_fd, cache_fd;
	struct options_images limits;
	struct layer_cache *cache;
	size_t n_ready; /* calls of on_ready */
	ino_t inode;	/* of the first layer's blob when it was ready */
	const struct build_image *image;
	unsigned n_read;
	void (*on_ready)(void *arg, const struct archive_image *m);
};

static void take_ready(void *arg, const struct archive_image *m);

static int
set_up(void **state)
{
	struct world *w = mem_alloc(sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), "%s", "/tmp/test-archive-cache-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->top_fd = fs_open_dir(AT_FDCWD, w->dir, NULL);
	assert_int_equal(mkdirat(w->top_fd, "work", 0700), 0);
	assert_int_equal(mkdirat(w->top_fd, "cache", 0700), 0);
	w->work_fd = fs_open_dir(w->top_fd, "work", NULL);
	w->cache_fd = fs_open_dir(w->top_fd, "cache", NULL);
	w->cache = layer_cache_open(w->cache_fd, INT64_C(1) << 40);
	assert_non_null(w->cache);
	w->limits = build_limits();
	w->on_ready = take_ready;
	*state = w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	layer_cache_free(w->cache);
	close(w->work_fd);
	close(w->cache_fd);
	close(w->top_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, w->dir, NULL), 0);
	free(w);
	return 0;
}

static void
take_ready(void *arg, const struct archive_image *m)
{
	struct world *w = arg;
	AUTO_FREE char *blob = mem_printf("%s/blobs/sha256/%s", m->layout_name, w->image->digests[0] + 7);
	AUTO_FREE char *index = mem_printf("%s/index.json", m->layout_name);
	struct stat st;

	w->n_ready++;
	assert_int_equal(faccessat(w->work_fd, index, F_OK, 0), 0);
	assert_int_equal(fstatat(w->work_fd, blob, &st, 0), 0);
	w->inode = st.st_ino;
	for (size_t i = 0; i < w->image->n; i++) {
		AUTO_FREE char *path =
			mem_printf("%s/blobs/sha256/%s", m->layout_name, w->image->digests[i] + 7);
		AUTO_FREE char *text = NULL;
		size_t len = 0;

		assert_int_equal(fs_read_max(w->work_fd, path, BUILD_MAX, &text, &len, NULL), 0);
		assert_int_equal(len, w->image->layers[i].len);
		assert_memory_equal(text, w->image->layers[i].data, len);
	}
}

static int
read_bytes(struct world *w, const struct buf *b, struct err *e)
{
	AUTO_FREE char *stem = mem_printf("archive-%u", w->n_read++);
	AUTO_FD int fd = build_fd(b->data, b->len);
	const struct archive_input in = { .fd = fd,
					  .size = b->len,
					  .work_fd = w->work_fd,
					  .stem = stem,
					  .limits = &w->limits,
					  .cache = w->cache,
					  .on_ready = w->on_ready,
					  .on_ready_arg = w };
	struct archive_images images = { 0 };
	bool is_image;
	int rc;

	w->n_ready = 0;
	rc = archive_read(&in, &images, &is_image, e);
	if (rc == 0)
		assert_int_equal(images.n, 1);
	archive_images_free(&images);
	return rc;
}

static void
make(struct buf *tar, const struct build_image *m, bool is_packed)
{
	AUTO_BUF struct buf plain = BUF_INIT(BUILD_MAX);

	build_docker_archive(&plain, m);
	build_end(&plain);
	if (is_packed)
		build_gzip(tar, plain.data, plain.len);
	else
		buf_add(tar, plain.data, plain.len);
}

static size_t
count_names(int dir_fd, const char *name)
{
	AUTO_DIR DIR *d = fdopendir(fs_open_dir(dir_fd, name, NULL));
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n - 2;
}

static void
a_layer_is_written_once_and_linked_afterwards(void **state)
{
	struct world *w = *state;

	for (int is_packed = 0; is_packed < 2; is_packed++) {
		AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
		struct build_image m;
		struct err e = ERR_INIT;
		ino_t first;

		build_image_init_sized(&m, 3, is_packed ? LARGE : 0);
		w->image = &m;
		make(&tar, &m, is_packed);
		if (read_bytes(w, &tar, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(w->n_ready, 1);
		first = w->inode;
		assert_int_equal(count_names(w->cache_fd, "now"), 3 + is_packed * 3);
		if (read_bytes(w, &tar, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(w->n_ready, 1);
		assert_int_equal(w->inode, first);
		build_image_free(&m);
	}
}

/* The first layer's content has another byte. */
static void
forge(struct build_image *m)
{
	m->layers[0].data[TAR_CONTENT_AT] ^= 1;
}

static void
a_known_layer_does_not_vouch_for_the_archives_bytes(void **state)
{
	struct world *w = *state;

	for (int is_packed = 0; is_packed < 2; is_packed++) {
		AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX), forged = BUF_INIT(BUILD_MAX);
		struct build_image m;
		struct err e = ERR_INIT;
		size_t n_before;

		build_image_init_sized(&m, 2, is_packed ? LARGE : 0);
		w->image = &m;
		make(&tar, &m, is_packed);
		if (read_bytes(w, &tar, &e) < 0)
			fail_msg("%s", e.text);
		n_before = count_names(w->top_fd, "work");
		forge(&m);
		make(&forged, &m, is_packed);
		forge(&m);
		assert_int_equal(read_bytes(w, &forged, &e), -1);
		assert_int_equal(e.kind, ERR_REFUSED);
		assert_memory_equal(e.text, "forged layer: ", 14);
		assert_int_equal(count_names(w->top_fd, "work"), n_before);
		if (read_bytes(w, &tar, &e) < 0)
			fail_msg("%s", e.text);
		build_image_free(&m);
	}
}

static void
an_image_with_known_layers_is_ready_although_its_archive_is_forged(void **state)
{
	struct world *w = *state;
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX), forged = BUF_INIT(BUILD_MAX);
	struct build_image m;
	struct err e = ERR_INIT;

	build_image_init(&m, 2);
	w->image = &m;
	make(&tar, &m, false);
	assert_int_equal(read_bytes(w, &tar, &e), 0);
	forge(&m);
	make(&forged, &m, false);
	forge(&m);
	assert_int_equal(read_bytes(w, &forged, &e), -1);
	assert_int_equal(w->n_ready, 1); /* begun with what the cache has, and thrown away by the caller */
	build_image_free(&m);
}

static void
a_forged_layer_does_not_get_into_the_cache(void **state)
{
	struct world *w = *state;

	for (int is_packed = 0; is_packed < 2; is_packed++) {
		AUTO_BUF struct buf forged = BUF_INIT(BUILD_MAX);
		struct build_image m;
		struct err e = ERR_INIT;

		build_image_init_sized(&m, 1, is_packed ? LARGE : 0);
		w->image = &m;
		forge(&m);
		make(&forged, &m, is_packed);
		assert_int_equal(read_bytes(w, &forged, &e), -1);
		assert_int_equal(w->n_ready, 0);
		assert_int_equal(count_names(w->cache_fd, "now"), 0);
		build_image_free(&m);
	}
}

static void
an_image_with_one_new_layer_is_ready_at_the_end(void **state)
{
	struct world *w = *state;
	AUTO_BUF struct buf one = BUF_INIT(BUILD_MAX), two = BUF_INIT(BUILD_MAX), forged = BUF_INIT(BUILD_MAX);
	struct build_image m, more;
	struct err e = ERR_INIT;

	build_image_init(&m, 1);
	build_image_init(&more, 2);
	w->image = &m;
	make(&one, &m, false);
	assert_int_equal(read_bytes(w, &one, &e), 0);
	w->image = &more;
	forge(&more);
	make(&forged, &more, false);
	forge(&more);
	assert_int_equal(read_bytes(w, &forged, &e), -1);
	assert_int_equal(w->n_ready, 0);
	make(&two, &more, false);
	assert_int_equal(read_bytes(w, &two, &e), 0);
	assert_int_equal(w->n_ready, 1);
	build_image_free(&m);
	build_image_free(&more);
}

static void
not_asked(void *arg, const struct archive_image *m)
{
	(void)arg;
	(void)m;
}

/* Of the scanner's own user, as one that was taken over could leave it. */
static void
an_empty_file_in_the_place_of_a_layer_is_noticed_and_dropped(void **state)
{
	struct world *w = *state;

	for (int is_packed = 0; is_packed < 2; is_packed++) {
		AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
		AUTO_FREE char *name = NULL;
		struct build_image m;
		struct err e = ERR_INIT;

		build_image_init_sized(&m, 1, is_packed ? LARGE : 0);
		w->image = &m;
		name = mem_printf("now/sha256-%s", m.digests[0] + strlen("sha256:"));
		close(openat(w->cache_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400));
		make(&tar, &m, is_packed);
		w->on_ready = not_asked;
		assert_int_equal(read_bytes(w, &tar, &e), -1);
		assert_int_equal(e.kind, ERR_FAILED);
		assert_non_null(strstr(e.text, "what this host kept"));
		w->on_ready = take_ready;
		assert_int_equal(read_bytes(w, &tar, &e), 0);
		assert_int_equal(unlinkat(w->cache_fd, name, 0), 0);
		build_image_free(&m);
	}
}

int
main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		IN_WORLD(a_layer_is_written_once_and_linked_afterwards),
		IN_WORLD(a_known_layer_does_not_vouch_for_the_archives_bytes),
		IN_WORLD(an_image_with_known_layers_is_ready_although_its_archive_is_forged),
		IN_WORLD(a_forged_layer_does_not_get_into_the_cache),
		IN_WORLD(an_image_with_one_new_layer_is_ready_at_the_end),
		IN_WORLD(an_empty_file_in_the_place_of_a_layer_is_noticed_and_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
