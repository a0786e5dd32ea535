#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/hash.h"
#include "stages/layer_cache.h"

#define LARGE (1LL << 40)

/* A cache and a directory beside it whose files go there. */
struct place {
	char dir[64];
	int top_fd, cache_fd, work_fd;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	snprintf(p->dir, sizeof(p->dir), "/tmp/test-layers-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->top_fd = fs_open_dir(AT_FDCWD, p->dir, NULL);
	assert_int_equal(mkdirat(p->top_fd, "cache", 0700), 0);
	assert_int_equal(mkdirat(p->top_fd, "work", 0700), 0);
	p->cache_fd = fs_open_dir(p->top_fd, "cache", NULL);
	p->work_fd = fs_open_dir(p->top_fd, "work", NULL);
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	close(p->cache_fd);
	close(p->work_fd);
	close(p->top_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	free(p);
	return 0;
}

/* A layer that was unpacked: its file is in the work directory under `name`. */
static void
put(const struct place *p, const struct layer_cache *c, const char *name, const char *content,
    char digest[HASH_DIGEST_MAX])
{
	hash_of(HASH_SHA256, content, strlen(content), digest);
	assert_int_equal(fs_publish(p->work_fd, name, content, strlen(content), 0600, 0, NULL), 0);
	layer_cache_put(c, digest, p->work_fd, name);
}

static bool
has(const struct place *p, const struct layer_cache *c, const char *digest, const char *content)
{
	AUTO_FREE char *text = NULL;
	uint64_t size = 0;
	size_t len = 0;

	unlinkat(p->work_fd, "taken", 0);
	if (!layer_cache_take(c, digest, p->work_fd, "taken", &size))
		return false;
	assert_int_equal(fs_read_max(p->work_fd, "taken", 1000, &text, &len, NULL), 0);
	assert_string_equal(text, content);
	assert_int_equal(size, len);
	return true;
}

static void
what_was_put_is_taken(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	char digest[HASH_DIGEST_MAX], other[HASH_DIGEST_MAX];
	struct stat st;

	put(p, c, "layer", "some bytes", digest);
	hash_of(HASH_SHA256, "others", 6, other);
	assert_true(has(p, c, digest, "some bytes"));
	assert_int_equal(fstatat(p->work_fd, "taken", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(st.st_nlink, 3);
	assert_false(has(p, c, other, ""));
}

static void
sha512_is_a_digest_too(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	char digest[HASH_DIGEST_MAX];

	hash_of(HASH_SHA512, "bytes", 5, digest);
	assert_int_equal(fs_publish(p->work_fd, "layer", "bytes", 5, 0600, 0, NULL), 0);
	layer_cache_put(c, digest, p->work_fd, "layer");
	assert_true(has(p, c, digest, "bytes"));
}

static void
what_is_no_digest_is_no_name_of_a_file(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	uint64_t size = 0;

	assert_int_equal(fs_publish(p->work_fd, "layer", "bytes", 5, 0600, 0, NULL), 0);
	layer_cache_put(c, "sha256:../../escaped", p->work_fd, "layer");
	assert_int_equal(faccessat(p->top_fd, "escaped", F_OK, 0), -1);
	assert_false(layer_cache_take(c, "sha256:../boot", p->work_fd, "taken", &size));
	assert_false(layer_cache_take(c, "", p->work_fd, "taken", &size));
}

static void
without_room_or_directory_there_is_none_and_it_is_harmless(void **state)
{
	const struct place *p = *state;
	char digest[HASH_DIGEST_MAX];

	assert_null(layer_cache_open(-1, LARGE));
	assert_null(layer_cache_open(p->cache_fd, 0));
	put(p, NULL, "layer", "some bytes", digest);
	assert_false(has(p, NULL, digest, ""));
	layer_cache_trim(NULL);
}

static void
a_file_that_was_made_writable_is_not_taken(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	char digest[HASH_DIGEST_MAX];

	put(p, c, "layer", "some bytes", digest);
	assert_int_equal(fchmodat(p->work_fd, "layer", 0600, 0), 0);
	assert_false(has(p, c, digest, ""));
}

static void
another_users_file_is_not_taken(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	char digest[HASH_DIGEST_MAX];

	if (geteuid() != 0)
		skip();
	put(p, c, "layer", "some bytes", digest);
	assert_int_equal(fchownat(p->work_fd, "layer", 65534, 65534, 0), 0);
	assert_false(has(p, c, digest, ""));
}

/* As after a boot: the id that was written is another. */
static struct layer_cache *
reboot(const struct place *p, struct layer_cache *c)
{
	layer_cache_free(c);
	assert_int_equal(fs_publish(p->cache_fd, "boot", "another\n", 8, 0600, 0, NULL), 0);
	return layer_cache_open(p->cache_fd, LARGE);
}

static void
a_layer_from_before_the_boot_is_hashed_and_taken(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	char digest[HASH_DIGEST_MAX];

	put(p, c, "layer", "some bytes", digest);
	c = reboot(p, c);
	assert_true(has(p, c, digest, "some bytes"));
	assert_true(has(p, c, digest, "some bytes"));
}

/* A power cut took what was never written to the disk. */
static void
a_layer_that_a_crash_shortened_is_dropped(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	char digest[HASH_DIGEST_MAX];
	int fd;

	put(p, c, "layer", "some bytes", digest);
	assert_int_equal(fchmodat(p->work_fd, "layer", 0600, 0), 0);
	fd = openat(p->work_fd, "layer", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4), 0);
	close(fd);
	assert_int_equal(fchmodat(p->work_fd, "layer", 0400, 0), 0);
	c = reboot(p, c);
	assert_false(has(p, c, digest, ""));
	put(p, c, "again", "some bytes", digest);
	assert_true(has(p, c, digest, "some bytes"));
}

static void
what_was_used_longest_ago_is_dropped_first(void **state)
{
	static const struct timespec old[] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	static const struct timespec older[] = { { .tv_sec = 900 }, { .tv_sec = 900 } };
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, 25);
	char a[HASH_DIGEST_MAX], b[HASH_DIGEST_MAX], d[HASH_DIGEST_MAX];

	put(p, c, "a", "aaaaaaaaaa", a);
	put(p, c, "b", "bbbbbbbbbb", b);
	put(p, c, "d", "dddddddddd", d);
	assert_int_equal(utimensat(p->work_fd, "a", older, 0), 0);
	assert_int_equal(utimensat(p->work_fd, "b", old, 0), 0);
	assert_int_equal(utimensat(p->work_fd, "d", older, 0), 0);
	assert_true(has(p, c, a, "aaaaaaaaaa")); /* used */
	layer_cache_trim(c);
	assert_true(has(p, c, a, "aaaaaaaaaa"));
	assert_true(has(p, c, b, "bbbbbbbbbb"));
	assert_false(has(p, c, d, ""));
	/* Where it is in use it stays. */
	assert_int_equal(faccessat(p->work_fd, "d", F_OK, 0), 0);
}

static void
what_is_kept_is_counted(void **state)
{
	const struct place *p = *state;
	AUTO(layer_cache) struct layer_cache *c = layer_cache_open(p->cache_fd, LARGE);
	struct layer_cache_use use;
	char digest[HASH_DIGEST_MAX];

	put(p, c, "a", "aaaa", digest);
	c = reboot(p, c);
	put(p, c, "b", "bbb", digest);
	layer_cache_look(p->cache_fd, &use);
	assert_int_equal(use.n, 2);
	assert_int_equal(use.size, 7);
	layer_cache_look(p->work_fd, &use);
	assert_int_equal(use.n, 0);
}

static void
many_processes_put_and_take_at_once(void **state)
{
	const struct place *p = *state;
	pid_t pids[8];
	int status;

	for (unsigned n = 0; n < 8; n++) {
		pids[n] = fork();
		assert_true(pids[n] >= 0);
		if (pids[n])
			continue;
		struct layer_cache *c = layer_cache_open(p->cache_fd, 200);

		for (unsigned k = 0; k < 200; k++) {
			char text[32], name[32], taken[32], digest[HASH_DIGEST_MAX], found[HASH_DIGEST_MAX];
			uint64_t size = 0;

			snprintf(text, sizeof(text), "layer %u", k % 40);
			snprintf(name, sizeof(name), "put-%u-%u", n, k);
			snprintf(taken, sizeof(taken), "taken-%u-%u", n, k);
			put(p, c, name, text, digest);
			if (layer_cache_take(c, digest, p->work_fd, taken, &size)) {
				int fd = openat(p->work_fd, taken, O_RDONLY | O_CLOEXEC);

				if (hash_of_fd(HASH_SHA256, fd, found, NULL) < 0 || strcmp(found, digest) != 0)
					_exit(1);
				close(fd);
			}
			layer_cache_trim(c);
		}
		_exit(0);
	}
	for (unsigned n = 0; n < 8; n++) {
		assert_int_equal(waitpid(pids[n], &status, 0), pids[n]);
		assert_int_equal(status, 0);
	}
}

int
main(void)
{
#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_PLACE(what_was_put_is_taken),
		WITH_PLACE(sha512_is_a_digest_too),
		WITH_PLACE(what_is_no_digest_is_no_name_of_a_file),
		WITH_PLACE(without_room_or_directory_there_is_none_and_it_is_harmless),
		WITH_PLACE(a_file_that_was_made_writable_is_not_taken),
		WITH_PLACE(another_users_file_is_not_taken),
		WITH_PLACE(a_layer_from_before_the_boot_is_hashed_and_taken),
		WITH_PLACE(a_layer_that_a_crash_shortened_is_dropped),
		WITH_PLACE(what_was_used_longest_ago_is_dropped_first),
		WITH_PLACE(what_is_kept_is_counted),
		WITH_PLACE(many_processes_put_and_take_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
