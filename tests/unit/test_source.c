#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/proc.h"
#include "base/str.h"
#include "stages/source.h"
#include "tests/unit/memfd.h"

#define MIB (1024 * 1024)
#define BIG (3 * MIB + 12345)
#define TOOL_WAIT_MS 60000
#define TOOL_WORDS 6
#define MAGIC_MAX 6 /* bytes that tell what a stream is */

static const struct source_limits usual = { .out_max = 64 * MIB, .ratio_max = 1000 };

/* A real program's way of compressing its input. */
struct tool {
	enum archive_kind kind;
	const char *argv[TOOL_WORDS];
};

static const struct tool gzip_tool = { ARCHIVE_GZIP, { "gzip", "-c" } };
static const struct tool zstd_tool = { ARCHIVE_ZSTD, { "zstd", "-q", "-c" } };
static const struct tool xz_tool = { ARCHIVE_XZ, { "xz", "-c", "-1" } };
static const struct tool bzip2_tool = { ARCHIVE_BZIP2, { "bzip2", "-c" } };
static const struct tool *const one_of_each[] = { &gzip_tool, &zstd_tool, &xz_tool, &bzip2_tool };

static const struct tool tools[] = {
	{ ARCHIVE_GZIP, { "gzip", "-1", "-c" } },
	{ ARCHIVE_GZIP, { "gzip", "-9", "-c" } },
	{ ARCHIVE_GZIP, { "pigz", "-c", "-p", "3" } },
	{ ARCHIVE_GZIP, { "pigz", "-c", "-i", "-p", "3" } },
	{ ARCHIVE_ZSTD, { "zstd", "-q", "-c", "-1" } },
	{ ARCHIVE_ZSTD, { "zstd", "-q", "-c", "-T2", "-19" } },
	{ ARCHIVE_ZSTD, { "zstd", "-q", "-c", "--no-check" } },
	{ ARCHIVE_ZSTD, { "zstd", "-q", "-c", "--long=27" } },
	{ ARCHIVE_ZSTD, { "pzstd", "-q", "-c", "-p", "4" } }, /* a skippable frame before each frame */
	{ ARCHIVE_XZ, { "xz", "-c", "-1" } },
	{ ARCHIVE_XZ, { "xz", "-c", "-1", "--check=sha256" } },
	{ ARCHIVE_XZ, { "xz", "-c", "-T2", "-1", "--block-size=1MiB" } },
	{ ARCHIVE_BZIP2, { "bzip2", "-c", "-1" } },
	{ ARCHIVE_BZIP2, { "bzip2", "-c", "-9" } },
};

/* Text that is neither random nor all alike. */
static void
fill_text(struct buf *b, size_t n)
{
	for (unsigned i = 0; b->len < n; i++)
		buf_printf(b, "line %u of %u, %x\n", i, i * 2654435761U, i * i);
	b->len = n;
}

static void
pack(struct buf *out, const void *p, size_t n, const struct tool *tool)
{
	AUTO_FREE char *path = proc_find(tool->argv[0], "/usr/bin:/bin");
	AUTO_FD int in = memfd_of("in", p, n);
	AUTO_BUF struct buf packed = BUF_INIT(64 * MIB), said = BUF_INIT(4096);
	const struct proc_spec spec = { .path = path,
					.argv = (char *const *)(uintptr_t)tool->argv,
					.envp = (char *[]){ NULL },
					.fd_in = in,
					.fd_out = -1,
					.fd_err = -1,
					.cwd_fd = -1,
					.cgroup_fd = -1 };
	struct proc_result result;
	struct err e = ERR_INIT;

	if (!path)
		fail_msg("%s is not there", tool->argv[0]);
	if (proc_run(&spec, clock_deadline(TOOL_WAIT_MS), &packed, &said, &result, &e) < 0)
		fail_msg("%s: %s", tool->argv[0], e.text);
	if (result.end != PROC_EXITED || result.code)
		fail_msg("%s: %s", tool->argv[0], buf_str(&said));
	assert_false(packed.is_full);
	buf_add(out, packed.data, packed.len);
}

/* All that the stream gives, read in pieces of that size. */
static int
unpack_by(enum archive_kind kind, const struct buf *packed, const struct source_limits *limits, size_t piece,
	  struct buf *out, struct err *e)
{
	AUTO_FD int fd = memfd_of("packed", buf_str(packed), packed->len);
	AUTO(source)
	struct source *src = source_new_compressed(kind, source_new_file(fd, 0, packed->len), limits, NULL);
	AUTO_FREE char *p = mem_alloc(piece);
	size_t got = 0;

	do {
		if (source_read(src, p, piece, &got, e) < 0)
			return -1;
		buf_add(out, p, got);
	} while (got == piece);
	assert_int_equal(source_offset(src), out->len);
	return 0;
}

static void
assert_gives(enum archive_kind kind, const struct buf *packed, const struct buf *expected)
{
	static const size_t pieces[] = { 1000003, 64 * 1024, 511 };

	for (size_t i = 0; i < MEM_COUNT(pieces); i++) {
		AUTO_BUF struct buf out = BUF_INIT(64 * MIB);
		struct err e = ERR_INIT;

		if (unpack_by(kind, packed, &usual, pieces[i], &out, &e) < 0)
			fail_msg("%s: %s", archive_kind_word(kind), e.text);
		assert_int_equal(out.len, expected->len);
		assert_int_equal(memcmp(buf_str(&out), buf_str(expected), out.len), 0);
	}
}

static void
assert_refused(enum archive_kind kind, const struct buf *packed, const struct source_limits *limits,
	       const char *rule)
{
	AUTO_BUF struct buf out = BUF_INIT(256 * MIB);
	struct err e = ERR_INIT;

	if (unpack_by(kind, packed, limits, 64 * 1024, &out, &e) == 0)
		fail_msg("%s: not refused, expected %s", archive_kind_word(kind), rule);
	if (e.kind != ERR_REFUSED || !str_has_prefix(e.text, rule))
		fail_msg("%s: %s, expected %s", archive_kind_word(kind), e.text, rule);
}

static void
what_real_tools_pack_comes_out_again(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB);

	(void)state;
	fill_text(&text, BIG);
	for (size_t i = 0; i < MEM_COUNT(tools); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(64 * MIB);

		pack(&packed, text.data, text.len, &tools[i]);
		assert_int_equal(archive_kind_of(packed.data, packed.len), tools[i].kind);
		assert_gives(tools[i].kind, &packed, &text);
	}
}

static void
an_empty_content_is_content(void **state)
{
	AUTO_BUF struct buf nothing = BUF_INIT(1);

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(MIB);

		pack(&packed, "", 0, one_of_each[i]);
		assert_gives(one_of_each[i]->kind, &packed, &nothing);
	}
}

static void
one_stream_behind_the_other_is_one_content(void **state)
{
	(void)state;
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(64 * MIB), text = BUF_INIT(64 * MIB);

		for (unsigned k = 0; k < 4; k++) {
			AUTO_BUF struct buf part = BUF_INIT(MIB);

			fill_text(&part, k == 2 ? 0 : 70000 * (k + 1));
			pack(&packed, buf_str(&part), part.len, one_of_each[i]);
			buf_add(&text, buf_str(&part), part.len);
		}
		assert_gives(one_of_each[i]->kind, &packed, &text);
	}
}

/* eStargz: a member for each file and chunk. */
static void
a_thousand_small_gzip_members_are_one_content(void **state)
{
	AUTO_BUF struct buf packed = BUF_INIT(64 * MIB), text = BUF_INIT(64 * MIB), member = BUF_INIT(MIB);

	(void)state;
	pack(&member, "some content\n", 13, &gzip_tool);
	for (int i = 0; i < 20000; i++) {
		buf_add(&packed, member.data, member.len);
		buf_add(&text, "some content\n", 13);
	}
	assert_gives(ARCHIVE_GZIP, &packed, &text);
}

/* zstd:chunked: a table of contents in a skippable frame at the end. */
static void
skippable_frames_give_nothing_wherever_they_are(void **state)
{
	static const char skippable[] = "\x5f\x2a\x4d\x18\x05\x00\x00\x00"
					"12345";
	static const char empty[] = "\x50\x2a\x4d\x18\x00\x00\x00\x00";
	AUTO_BUF struct buf packed = BUF_INIT(MIB), text = BUF_INIT(MIB), part = BUF_INIT(MIB);

	(void)state;
	fill_text(&part, 10000);
	buf_add(&packed, empty, 8);
	buf_add(&packed, skippable, 13);
	for (int i = 0; i < 2; i++) {
		pack(&packed, part.data, part.len, &zstd_tool);
		buf_add(&packed, skippable, 13);
		buf_add(&text, part.data, part.len);
	}
	assert_int_equal(archive_kind_of(packed.data, packed.len), ARCHIVE_ZSTD);
	assert_gives(ARCHIVE_ZSTD, &packed, &text);
	packed.len -= 3;
	assert_refused(ARCHIVE_ZSTD, &packed, &usual, "cut: ");
}

static void
a_stream_that_is_cut_anywhere_is_refused(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(MIB);

	(void)state;
	fill_text(&text, 600);
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		const enum archive_kind kind = one_of_each[i]->kind;
		AUTO_BUF struct buf packed = BUF_INIT(MIB);
		size_t len;

		pack(&packed, text.data, text.len, one_of_each[i]);
		for (len = packed.len; packed.len--;)
			assert_refused(kind, &packed, &usual,
				       packed.len >= MAGIC_MAX || !packed.len ? "cut: " : "");
		packed.len = len;
		assert_gives(kind, &packed, &text);
	}
}

static void
a_flipped_bit_never_gives_other_content(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(MIB);

	(void)state;
	fill_text(&text, 600);
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(MIB);
		size_t n_refused = 0;

		pack(&packed, text.data, text.len, one_of_each[i]);
		for (size_t bit = 0; bit < packed.len * 8; bit++) {
			AUTO_BUF struct buf out = BUF_INIT(64 * MIB);
			struct err e = ERR_INIT;

			packed.data[bit / 8] ^= (char)(1 << bit % 8);
			if (unpack_by(one_of_each[i]->kind, &packed, &usual, 4096, &out, &e) < 0) {
				assert_int_equal(e.kind, ERR_REFUSED);
				n_refused++;
			} else if (out.len != text.len || memcmp(out.data, text.data, out.len) != 0) {
				fail_msg("%s: bit %zu", archive_kind_word(one_of_each[i]->kind), bit);
			}
			packed.data[bit / 8] ^= (char)(1 << bit % 8);
		}
		/* Times and the like in the header may differ. */
		assert_true(n_refused > packed.len * 7);
	}
}

static void
a_wrong_checksum_is_named(void **state)
{
	AUTO_BUF struct buf gzip = BUF_INIT(MIB), zstd = BUF_INIT(MIB), text = BUF_INIT(MIB);

	(void)state;
	fill_text(&text, 5000);
	pack(&gzip, text.data, text.len, &gzip_tool);
	gzip.data[gzip.len - 7] ^= 1; /* CRC */
	assert_refused(ARCHIVE_GZIP, &gzip, &usual, "checksum: ");
	gzip.data[gzip.len - 7] ^= 1;
	gzip.data[gzip.len - 1] ^= 1; /* length */
	assert_refused(ARCHIVE_GZIP, &gzip, &usual, "checksum: ");
	pack(&zstd, text.data, text.len, &zstd_tool);
	zstd.data[zstd.len - 1] ^= 1;
	assert_refused(ARCHIVE_ZSTD, &zstd, &usual, "checksum: ");
}

static void
bytes_behind_the_end_are_refused(void **state)
{
	static const char *const tails[] = { "x", "some bytes that are nothing", "\0\0\0\0\0\0\0" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		for (size_t k = 0; k < MEM_COUNT(tails); k++) {
			AUTO_BUF struct buf packed = BUF_INIT(MIB);

			pack(&packed, "content", 7, one_of_each[i]);
			buf_add(&packed, tails[k], *tails[k] ? strlen(tails[k]) : 7);
			assert_refused(one_of_each[i]->kind, &packed, &usual,
				       one_of_each[i] == &xz_tool && !*tails[k] ? "xz: the padding"
										: "behind the end: ");
		}
	}
}

static void
xz_streams_are_padded_by_four_bytes(void **state)
{
	AUTO_BUF struct buf packed = BUF_INIT(MIB), text = BUF_INIT(MIB);

	(void)state;
	pack(&packed, "content", 7, &xz_tool);
	buf_add(&packed, "\0\0\0\0\0\0\0\0", 8);
	pack(&packed, "content", 7, &xz_tool);
	buf_add(&packed, "\0\0\0\0", 4);
	buf_add_str(&text, "contentcontent");
	assert_gives(ARCHIVE_XZ, &packed, &text);
}

static void
old_and_foreign_formats_are_refused(void **state)
{
	static const struct {
		enum archive_kind kind;
		const char *bytes;
	} cases[] = {
		{ ARCHIVE_ZSTD, "\x27\xb5\x2f\xfd behind zstd 0.7's magic" },
		{ ARCHIVE_GZIP, "\x1f\x9d of compress(1)" },
		{ ARCHIVE_BZIP2, "BZ0 of bzip" },
		{ ARCHIVE_XZ, "\x5d\x01\x01\x01 of lzma" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(MIB);
		AUTO_FREE char *rule = mem_printf("%s: ", archive_kind_word(cases[i].kind));

		buf_add_str(&packed, cases[i].bytes);
		assert_refused(cases[i].kind, &packed, &usual, rule);
	}
}

static void
what_swells_too_much_is_refused(void **state)
{
	static const struct source_limits ten = { .out_max = 64 * MIB, .ratio_max = 10 };
	static const struct source_limits small = { .out_max = MIB, .ratio_max = 100000 };
	AUTO_FREE char *zeros = mem_alloc(40 * MIB);

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(MIB);

		pack(&packed, zeros, 40 * MIB, one_of_each[i]);
		assert_refused(one_of_each[i]->kind, &packed, &ten, "ratio: ");
		assert_refused(one_of_each[i]->kind, &packed, &small, "size: ");
	}
}

static void
a_large_window_is_refused(void **state)
{
	static const struct source_limits limits = { .out_max = 64 * MIB,
						     .ratio_max = 1000,
						     .window_max = 8 * MIB };
	static const struct tool fits = { ARCHIVE_ZSTD, { "zstd", "-q", "-c", "--long=23" } };
	static const struct tool large = { ARCHIVE_ZSTD, { "zstd", "-q", "-c", "--long=24" } };
	static const struct tool xz_fits = { ARCHIVE_XZ, { "xz", "-c", "--lzma2=dict=8MiB" } };
	static const struct tool xz_large = { ARCHIVE_XZ, { "xz", "-c", "--lzma2=dict=16MiB" } };
	const struct tool *const pairs[][2] = { { &fits, &large }, { &xz_fits, &xz_large } };
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB);

	(void)state;
	fill_text(&text, 1000);
	/* From a pipe, so that the tool cannot know how small it is. */
	for (size_t i = 0; i < MEM_COUNT(pairs); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(MIB), too_large = BUF_INIT(MIB), out = BUF_INIT(MIB);
		struct err e = ERR_INIT;

		pack(&packed, text.data, text.len, pairs[i][0]);
		assert_int_equal(unpack_by(pairs[i][0]->kind, &packed, &limits, 4096, &out, &e), 0);
		pack(&too_large, text.data, text.len, pairs[i][1]);
		assert_refused(pairs[i][1]->kind, &too_large, &limits, "window: ");
	}
}

static void
feed_hash(void *arg, const void *p, size_t n)
{
	hash_update(arg, p, n);
}

static void
the_tap_sees_all_packed_bytes(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB);

	(void)state;
	fill_text(&text, BIG);
	for (size_t i = 0; i < MEM_COUNT(one_of_each); i++) {
		AUTO_BUF struct buf packed = BUF_INIT(64 * MIB);
		AUTO(hash) struct hash *h = hash_new(HASH_SHA256);
		const struct source_tap tap = { feed_hash, h };
		AUTO(source) struct source *src = NULL;
		AUTO_FD int fd = -1;
		char seen[HASH_DIGEST_MAX], expected[HASH_DIGEST_MAX];
		uint64_t passed = 0;
		struct err e = ERR_INIT;

		buf_add_str(&packed, "before ");
		pack(&packed, text.data, text.len, one_of_each[i]);
		fd = memfd_of("packed", packed.data, packed.len);
		src = source_new_compressed(one_of_each[i]->kind, source_new_file(fd, 7, packed.len - 7),
					    &usual, &tap);
		assert_int_equal(source_skip(src, 64 * MIB, &passed, &e), 0);
		assert_int_equal(passed, text.len);
		hash_digest(h, seen);
		hash_of(HASH_SHA256, packed.data + 7, packed.len - 7, expected);
		assert_string_equal(seen, expected);
	}
}

static void
reading_ahead_gives_the_same_bytes(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB), packed = BUF_INIT(64 * MIB), out = BUF_INIT(64 * MIB);
	AUTO(source) struct source *src = NULL;
	AUTO_FREE char *p = mem_alloc(MIB);
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;
	uint64_t passed = 0;
	size_t got = 0;

	(void)state;
	fill_text(&text, 4 * BIG);
	pack(&packed, text.data, text.len, &gzip_tool);
	fd = memfd_of("packed", packed.data, packed.len);
	src = source_new_ahead(
		source_new_compressed(ARCHIVE_GZIP, source_new_file(fd, 0, packed.len), &usual, NULL));
	for (size_t piece = 1; piece < MIB; piece = piece * 3 + 1) {
		assert_int_equal(source_read(src, p, piece, &got, &e), 0);
		assert_int_equal(got, piece);
		buf_add(&out, p, got);
	}
	assert_int_equal(source_skip(src, 2 * MIB, &passed, &e), 0);
	assert_int_equal(passed, 2 * MIB);
	buf_add(&out, text.data + out.len, 2 * MIB);
	do {
		assert_int_equal(source_read(src, p, MIB, &got, &e), 0);
		buf_add(&out, p, got);
	} while (got == MIB);
	assert_int_equal(source_offset(src), text.len);
	assert_int_equal(out.len, text.len);
	assert_int_equal(memcmp(out.data, text.data, out.len), 0);
	assert_int_equal(source_read(src, p, 1, &got, &e), 0);
	assert_int_equal(got, 0);
}

static void
reading_ahead_tells_of_a_fault_where_it_is(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB), packed = BUF_INIT(64 * MIB);
	AUTO(source) struct source *src = NULL;
	AUTO_FREE char *p = mem_alloc(BIG);
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;
	size_t got = 0;

	(void)state;
	fill_text(&text, BIG);
	pack(&packed, text.data, text.len, &gzip_tool);
	packed.data[packed.len - 7] ^= 1;
	fd = memfd_of("packed", packed.data, packed.len);
	src = source_new_ahead(
		source_new_compressed(ARCHIVE_GZIP, source_new_file(fd, 0, packed.len), &usual, NULL));
	assert_int_equal(source_read(src, p, 2 * MIB, &got, &e), 0);
	assert_int_equal(got, 2 * MIB);
	assert_int_equal(source_read(src, p, BIG, &got, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_true(str_has_prefix(e.text, "checksum: "));
}

static void
what_is_read_ahead_need_not_be_wanted(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB);
	AUTO_FD int fd = -1;

	(void)state;
	fill_text(&text, 4 * BIG);
	fd = memfd_of("text", text.data, text.len);
	for (int i = 0; i < 200; i++) {
		AUTO(source) struct source *src = source_new_ahead(source_new_file(fd, 0, text.len));
		struct err e = ERR_INIT;
		char p[3];
		size_t got = 0;

		if (i % 2)
			assert_int_equal(source_read(src, p, 3, &got, &e), 0);
	}
}

static void
what_is_not_compressed_has_no_compressed_source(void **state)
{
	(void)state;
	assert_null(source_new_compressed(ARCHIVE_TAR, source_new_file(0, 0, 0), &usual, NULL));
	assert_null(source_new_compressed(ARCHIVE_OTHER, source_new_file(0, 0, 0), &usual, NULL));
}

/* Writes into a pipe from a process of its own, in small pieces. */
static pid_t
start_writer(const char *p, size_t n, int *ret_fd)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(ends[0]);
		for (size_t at = 0; at < n; at += 997)
			if (write(ends[1], p + at, n - at < 997 ? n - at : 997) < 0)
				_exit(0);
		_exit(0);
	}
	close(ends[1]);
	*ret_fd = ends[0];
	return pid;
}

static void
a_pipe_is_read_to_its_end(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(MIB);
	AUTO_FREE char *p = mem_alloc(MIB);
	AUTO(source) struct source *src = NULL;
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;
	uint64_t passed = 0;
	size_t got = 0;
	pid_t pid;

	(void)state;
	fill_text(&text, 300000);
	pid = start_writer(text.data, text.len, &fd);
	src = source_new_stream(fd, text.len);
	assert_int_equal(source_read(src, p, 100, &got, &e), 0);
	assert_int_equal(got, 100);
	assert_int_equal(source_skip(src, 100000, &passed, &e), 0);
	assert_int_equal(passed, 100000);
	assert_int_equal(source_read(src, p, MIB, &got, &e), 0);
	assert_int_equal(got, text.len - 100100);
	assert_int_equal(memcmp(p, text.data + 100100, got), 0);
	assert_int_equal(source_read(src, p, MIB, &got, &e), 0);
	assert_int_equal(got, 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
a_pipe_that_gives_too_much_is_refused(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(MIB);
	AUTO(source) struct source *src = NULL;
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;
	uint64_t passed = 0;
	pid_t pid;

	(void)state;
	fill_text(&text, 5000);
	pid = start_writer(text.data, text.len, &fd);
	src = source_new_stream(fd, 4999);
	assert_int_equal(source_skip(src, MIB, &passed, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_true(str_has_prefix(e.text, "size: "));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
a_compressed_pipe_is_unpacked_as_it_comes(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(64 * MIB), packed = BUF_INIT(64 * MIB);
	AUTO_FREE char *p = mem_alloc(BIG + 1);
	AUTO(source) struct source *src = NULL;
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;
	size_t got = 0;
	pid_t pid;

	(void)state;
	fill_text(&text, BIG);
	pack(&packed, text.data, text.len, &gzip_tool);
	pid = start_writer(packed.data, packed.len, &fd);
	src = source_new_compressed(ARCHIVE_GZIP, source_new_stream(fd, packed.len), &usual, NULL);
	assert_int_equal(source_read(src, p, BIG + 1, &got, &e), 0);
	assert_int_equal(got, BIG);
	assert_int_equal(memcmp(p, text.data, got), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
a_file_that_became_shorter_is_refused(void **state)
{
	AUTO_FD int fd = memfd_of("short", "content", 7);
	AUTO(source) struct source *src = source_new_file(fd, 0, 8);
	struct err e = ERR_INIT;
	char p[16];
	size_t got = 0;

	(void)state;
	assert_int_equal(source_read(src, p, 8, &got, &e), -1);
	assert_int_equal(e.kind, ERR_REFUSED);
	assert_true(str_has_prefix(e.text, "changed: "));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_real_tools_pack_comes_out_again),
		cmocka_unit_test(an_empty_content_is_content),
		cmocka_unit_test(one_stream_behind_the_other_is_one_content),
		cmocka_unit_test(a_thousand_small_gzip_members_are_one_content),
		cmocka_unit_test(skippable_frames_give_nothing_wherever_they_are),
		cmocka_unit_test(a_stream_that_is_cut_anywhere_is_refused),
		cmocka_unit_test(a_flipped_bit_never_gives_other_content),
		cmocka_unit_test(a_wrong_checksum_is_named),
		cmocka_unit_test(bytes_behind_the_end_are_refused),
		cmocka_unit_test(xz_streams_are_padded_by_four_bytes),
		cmocka_unit_test(old_and_foreign_formats_are_refused),
		cmocka_unit_test(what_swells_too_much_is_refused),
		cmocka_unit_test(a_large_window_is_refused),
		cmocka_unit_test(the_tap_sees_all_packed_bytes),
		cmocka_unit_test(reading_ahead_gives_the_same_bytes),
		cmocka_unit_test(reading_ahead_tells_of_a_fault_where_it_is),
		cmocka_unit_test(what_is_read_ahead_need_not_be_wanted),
		cmocka_unit_test(what_is_not_compressed_has_no_compressed_source),
		cmocka_unit_test(a_pipe_is_read_to_its_end),
		cmocka_unit_test(a_pipe_that_gives_too_much_is_refused),
		cmocka_unit_test(a_compressed_pipe_is_unpacked_as_it_comes),
		cmocka_unit_test(a_file_that_became_shorter_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
