/* The .xz format 1.2.1 (https://tukaani.org/xz/xz-file-format.txt) by liblzma; not the older .lzma. */
#include <lzma.h>
#include <string.h>

#include "base/mem.h"
#include "stages/codec.h"

#define DECODER_OVERHEAD (1024 * 1024) /* bytes beside the dictionary, generously */

struct state {
	lzma_stream z;
	uint64_t memory_max;
};

static bool
is_start(const unsigned char *b)
{
	return !memcmp(b,
		       "\375"
		       "7zXZ",
		       6);
}

static void *new (uint64_t window_max)
{
	struct state *s = mem_alloc(sizeof(*s));

	s->z = (lzma_stream)LZMA_STREAM_INIT;
	s->memory_max = window_max + DECODER_OVERHEAD;
	return s;
}

static void
free_state(void *state)
{
	struct state *s = state;

	lzma_end(&s->z);
	mem_free_at(&s);
}

static int
start(void *state, struct err *e)
{
	struct state *s = state;

	if (lzma_stream_decoder(&s->z, s->memory_max, LZMA_TELL_UNSUPPORTED_CHECK) != LZMA_OK)
		return err_set(e, ERR_FAILED, "xz: liblzma cannot be started");
	return 0;
}

static int
step(void *state, struct codec_io *io, bool is_last, bool *ret_is_end, struct err *e)
{
	struct state *s = state;
	lzma_ret rc;

	s->z.next_in = io->in;
	s->z.avail_in = io->n_in;
	s->z.next_out = io->out;
	s->z.avail_out = io->n_out;
	rc = lzma_code(&s->z, is_last ? LZMA_FINISH : LZMA_RUN);
	io->in = s->z.next_in;
	io->n_in = s->z.avail_in;
	io->out = s->z.next_out;
	io->n_out = s->z.avail_out;
	*ret_is_end = rc == LZMA_STREAM_END;
	/* liblzma checks what belongs together, and says only that something does not. */
	if (rc == LZMA_OK || rc == LZMA_STREAM_END || rc == LZMA_BUF_ERROR)
		return 0;
	if (rc == LZMA_MEM_ERROR)
		return err_set(e, ERR_FAILED, "xz: out of memory");
	if (rc == LZMA_MEMLIMIT_ERROR)
		return err_set(e, ERR_REFUSED,
			       "window: the xz stream wants a larger dictionary than is allowed");
	if (rc == LZMA_UNSUPPORTED_CHECK)
		return err_set(e, ERR_REFUSED, "checksum: the xz stream has a kind that cannot be checked");
	if (rc == LZMA_OPTIONS_ERROR)
		return err_set(e, ERR_REFUSED, "xz: the stream has unknown filters or flags");
	return err_set(e, ERR_REFUSED, "xz: damaged stream or wrong checksum");
}

const struct codec_ops codec_xz = { "xz", "stream", 6, true, is_start, new, free_state, start, step };
