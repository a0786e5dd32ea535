/*
 * Compressed streams of all kinds, and two readers of gzip against each other: what one gives the other gives, and what one
 * refuses the other refuses. The first byte chooses the kind, the second the sizes of pieces. Input and output of the decoders
 * lie at the end of a page behind which nothing is: they are partly assembly, which the sanitizers do not see.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "stages/codec.h"
#include "stages/source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/memfd.h"

#define OUT_MAX (1 << 20)
#define IN_MAX (64 * 1024)

static const enum archive_kind kinds[] = { ARCHIVE_GZIP, ARCHIVE_ZSTD, ARCHIVE_XZ, ARCHIVE_BZIP2 };

static void
read_all(enum archive_kind kind, const uint8_t *data, size_t size, size_t piece)
{
	static const struct source_limits limits = { .out_max = OUT_MAX,
						     .ratio_max = 1000,
						     .window_max = 1 << 23 };
	AUTO_FD int fd = memfd_of("packed", data, size);
	AUTO(source)
	struct source *src = source_new_compressed(kind, source_new_file(fd, 0, size), &limits, NULL);
	AUTO_FREE char *p = mem_alloc(piece);
	struct err e = ERR_INIT;
	size_t got = 0;
	int rc;

	do
		rc = source_read(src, p, piece, &got, &e);
	while (rc == 0 && got == piece);
	if (rc < 0 && (e.kind != ERR_REFUSED || !strchr(e.text, ':')))
		abort();
}

#ifdef HAVE_ISAL
/* n bytes that end where a page ends that is followed by none. */
static unsigned char *
guarded(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (n + page - 1) / page * page;
	unsigned char *p =
		mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + whole, page, PROT_NONE) < 0)
		abort();
	return p + whole - n;
}

enum end { GIVEN, CUT, DAMAGED };

/* One member. Pieces of the input are moved to the guarded end, as is the output. */
static enum end
inflate_by(const struct codec_ops *codec, const uint8_t *data, size_t size, size_t piece, unsigned char *out,
	   size_t *ret_n, size_t *ret_used)
{
	static unsigned char *in_end, *out_end;
	void *state = codec->new (0);
	size_t used = 0, n = 0;
	bool is_end = false;
	enum end end = GIVEN;

	if (!in_end) {
		in_end = guarded(IN_MAX);
		out_end = guarded(IN_MAX);
	}
	if (!state || codec->start(state, NULL) < 0)
		abort();
	while (!is_end && end == GIVEN && n < OUT_MAX) {
		size_t n_in = size - used < piece ? size - used : piece;
		struct codec_io io = { in_end + IN_MAX - n_in, n_in, out_end + IN_MAX - piece, piece };

		memcpy(in_end + IN_MAX - n_in, data + used, n_in);
		if (codec->step(state, &io, used + n_in == size, &is_end, NULL) < 0)
			end = DAMAGED;
		if (n + piece - io.n_out <= OUT_MAX)
			memcpy(out + n, out_end + IN_MAX - piece, piece - io.n_out);
		used += n_in - io.n_in;
		n += piece - io.n_out;
		if (!is_end && end == GIVEN && io.n_in == n_in && io.n_out == piece)
			end = CUT;
	}
	codec->free(state);
	*ret_n = n;
	*ret_used = used;
	return end;
}

static void
compare_inflaters(const uint8_t *data, size_t size, size_t piece)
{
	static unsigned char a[OUT_MAX], b[OUT_MAX];
	size_t n_a, n_b, used_a, used_b;
	enum end end_a, end_b;

	if (size < 2 || !codec_gzip.is_start(data) || size > IN_MAX)
		return;
	end_a = inflate_by(&codec_gzip, data, size, piece, a, &n_a, &used_a);
	end_b = inflate_by(&codec_gzip_isal, data, size, piece, b, &n_b, &used_b);
	if ((end_a == GIVEN) != (end_b == GIVEN))
		abort();
	if (end_a != GIVEN)
		return;
	/* Both stop a little behind the bound. */
	if (n_a >= OUT_MAX || n_b >= OUT_MAX) {
		if ((n_a >= OUT_MAX) != (n_b >= OUT_MAX))
			abort();
		return;
	}
	if (n_a != n_b || used_a != used_b || memcmp(a, b, n_a) != 0)
		abort();
}
#endif

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece;

	if (size < 2)
		return 0;
	piece = (size_t)data[1] * 8 + 1;
	read_all(kinds[data[0] % MEM_COUNT(kinds)], data + 2, size - 2, piece);
#ifdef HAVE_ISAL
	compare_inflaters(data + 2, size - 2, piece);
#endif
	return 0;
}
