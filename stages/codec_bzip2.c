/* bzip2 by libbz2. */
#include <bzlib.h>
#include <limits.h>

#include "base/mem.h"
#include "stages/codec.h"

struct state {
	bz_stream z;
	bool is_open;
};

static bool
is_start(const unsigned char *b)
{
	return b[0] == 'B' && b[1] == 'Z' && b[2] == 'h';
}

static void *new (uint64_t window_max)
{
	(void)window_max; /* 900 kB and its tables at most */
	return mem_alloc(sizeof(struct state));
}

static void
close_stream(struct state *s)
{
	if (s->is_open)
		BZ2_bzDecompressEnd(&s->z);
	s->is_open = false;
}

static void
free_state(void *state)
{
	struct state *s = state;

	close_stream(s);
	mem_free_at(&s);
}

static int
start(void *state, struct err *e)
{
	struct state *s = state;

	close_stream(s);
	s->z = (bz_stream){ 0 };
	if (BZ2_bzDecompressInit(&s->z, 0, 0) != BZ_OK)
		return err_set(e, ERR_FAILED, "bzip2: libbz2 cannot be started");
	s->is_open = true;
	return 0;
}

static int
step(void *state, struct codec_io *io, bool is_last, bool *ret_is_end, struct err *e)
{
	struct state *s = state;
	unsigned int n_in = io->n_in < UINT_MAX ? (unsigned int)io->n_in : UINT_MAX;
	unsigned int n_out = io->n_out < UINT_MAX ? (unsigned int)io->n_out : UINT_MAX;
	int rc;

	(void)is_last;
	s->z.next_in = (char *)(uintptr_t)io->in; /* libbz2 only reads there */
	s->z.avail_in = n_in;
	s->z.next_out = (char *)io->out;
	s->z.avail_out = n_out;
	rc = BZ2_bzDecompress(&s->z);
	io->in += n_in - s->z.avail_in;
	io->n_in -= n_in - s->z.avail_in;
	io->out += n_out - s->z.avail_out;
	io->n_out -= n_out - s->z.avail_out;
	*ret_is_end = rc == BZ_STREAM_END;
	if (rc == BZ_OK || rc == BZ_STREAM_END)
		return 0;
	if (rc == BZ_MEM_ERROR)
		return err_set(e, ERR_FAILED, "bzip2: out of memory");
	return err_set(e, ERR_REFUSED, "bzip2: damaged stream or wrong checksum");
}

const struct codec_ops codec_bzip2 = { "bzip2", "stream", 3, false, is_start, new, free_state, start, step };
