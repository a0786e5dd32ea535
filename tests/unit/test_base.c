/* err, mem, buf, log and hash: small ones in one place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/unit/memfd.h"

static void
an_error_is_wrapped_on_its_way_up_and_keeps_its_kind(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_errno(&e, "%s", "x.tar"), -1);
	assert_int_equal(e.no, ENOENT);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(err_wrap(&e, "archive %d", 3), -1);
	assert_string_equal(e.text, "archive 3: x.tar: No such file or directory");
	assert_int_equal(e.kind, ERR_FAILED);
	assert_int_equal(err_set(NULL, ERR_USAGE, "nobody listens"), -1);
	err_clear(&e);
	assert_int_equal(e.kind, ERR_NONE);
	assert_string_equal(e.text, "");
}

static void
a_full_disk_has_a_kind_of_its_own(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	errno = ENOSPC;
	err_errno(&e, "write");
	assert_int_equal(e.kind, ERR_NO_SPACE);
	errno = EDQUOT;
	err_errno(&e, "write");
	assert_int_equal(e.kind, ERR_NO_SPACE);
}

static void
a_text_over_its_room_is_cut_and_ends(void **state)
{
	struct err e = ERR_INIT;
	char *text = mem_alloc(3 * ERR_TEXT_MAX + 1);

	(void)state;
	memset(text, 'x', 3 * ERR_TEXT_MAX);
	err_set(&e, ERR_FAILED, "%s", text);
	err_wrap(&e, "%s", text);
	errno = EIO;
	err_errno(&e, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	free(text);
}

static void
a_buffer_keeps_to_its_limit_and_says_so(void **state)
{
	AUTO_BUF struct buf b = BUF_INIT(8);
	AUTO_FREE char *taken = NULL;

	(void)state;
	assert_string_equal(buf_str(&b), "");
	buf_add_str(&b, "12345678");
	assert_false(b.is_full);
	buf_add_char(&b, '9');
	assert_true(b.is_full);
	assert_string_equal(buf_str(&b), "12345678");
	taken = buf_take(&b);
	assert_string_equal(taken, "12345678");
	buf_printf(&b, "%d", 42);
	assert_string_equal(buf_str(&b), "42");
	buf_add(&b, "", 0);
	assert_int_equal(b.len, 2);
	buf_reset(&b);
	assert_string_equal(buf_str(&b), "");
}

static void
taking_leaves_nothing_behind(void **state)
{
	char *p = mem_strdup("x"), *q;
	int fd = 7, other;

	(void)state;
	q = take_ptr(p);
	assert_null(p);
	assert_string_equal(q, "x");
	free(q);
	other = take_fd(fd);
	assert_int_equal(other, 7);
	assert_int_equal(fd, -1);
	assert_null(mem_strdup(NULL));
}

static void
digests_are_those_of_the_standard(void **state)
{
	char digest[HASH_DIGEST_MAX];
	struct hash *h = hash_new(HASH_SHA256);

	(void)state;
	hash_of(HASH_SHA256, "abc", 3, digest);
	assert_string_equal(digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	hash_update(h, "a", 1);
	hash_update(h, "bc", 2);
	hash_digest(h, digest);
	assert_string_equal(digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	hash_digest(h, digest);
	assert_string_equal(digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	hash_free(h);
	hash_of(HASH_SHA512, "abc", 3, digest);
	assert_memory_equal(digest, "sha512:ddaf35a193617aba", 23);
	assert_int_equal(strlen(digest), 7 + 128);
}

static void
a_file_is_hashed_from_its_start_wherever_its_position_is(void **state)
{
	char of_file[HASH_DIGEST_MAX], of_text[HASH_DIGEST_MAX], text[300000];
	AUTO_FD int fd = -1;

	(void)state;
	memset(text, 'q', sizeof(text));
	fd = memfd_of("test", text, sizeof(text));
	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 1000, SEEK_SET), 1000);
	assert_int_equal(hash_of_fd(HASH_SHA256, fd, of_file, NULL), 0);
	hash_of(HASH_SHA256, text, sizeof(text), of_text);
	assert_string_equal(of_file, of_text);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 1000);
}

static void
only_well_formed_digests_are_digests(void **state)
{
	static const char good[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	AUTO_FREE char *long_ = mem_printf("%s0", good);
	AUTO_FREE char *upper = mem_strdup(good);
	enum hash_algo algo = HASH_SHA512;
	const char *hex = NULL;

	(void)state;
	upper[10] = 'A';
	assert_int_equal(hash_parse_digest(good, &algo, &hex), 0);
	assert_int_equal(algo, HASH_SHA256);
	assert_string_equal(hex, good + 7);
	assert_int_equal(hash_parse_digest(long_, &algo, &hex), -1);
	assert_int_equal(hash_parse_digest(upper, &algo, &hex), -1);
	assert_int_equal(hash_parse_digest("md5:00", &algo, &hex), -1);
	assert_int_equal(hash_parse_digest("sha256:../../etc", &algo, &hex), -1);
	assert_int_equal(hash_parse_digest("", &algo, &hex), -1);
}

static void
a_log_line_is_whole_and_coloured_only_where_asked_for(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	struct log l = { .to = f, .level = LOG_WARN };

	(void)state;
	log_line(&l, LOG_NOTE, "not shown");
	log_line(&l, LOG_WARN, "shown %d", 1);
	assert_string_equal(text, "tidewaiter: warning: shown 1\n");
	l.has_colour = true;
	log_line(&l, LOG_ERROR, "red");
	assert_non_null(strstr(text, LOG_RED));
	log_section_start(&l, "name", "Title", true);
	assert_non_null(strstr(text, "\033[0Ksection_start:"));
	assert_non_null(strstr(text, ":name[collapsed=true]\r\033[0K"));
	fclose(f);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_is_wrapped_on_its_way_up_and_keeps_its_kind),
		cmocka_unit_test(a_full_disk_has_a_kind_of_its_own),
		cmocka_unit_test(a_text_over_its_room_is_cut_and_ends),
		cmocka_unit_test(a_buffer_keeps_to_its_limit_and_says_so),
		cmocka_unit_test(taking_leaves_nothing_behind),
		cmocka_unit_test(digests_are_those_of_the_standard),
		cmocka_unit_test(a_file_is_hashed_from_its_start_wherever_its_position_is),
		cmocka_unit_test(only_well_formed_digests_are_digests),
		cmocka_unit_test(a_log_line_is_whole_and_coloured_only_where_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
