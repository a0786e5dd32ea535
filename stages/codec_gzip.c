/* RFC 1952 by zlib. */
#include <limits.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "stages/codec.h"

#define GZIP_WRAPPER 16 /* added to the window's bits: gzip's header and trailer, checked */

static bool
is_start(const unsigned char *b)
{
	return b[0] == 0x1f && b[1] == 0x8b;
}

static voidpf
zlib_alloc(voidpf opaque, uInt n, uInt size)
{
	(void)opaque;
	return mem_array(n, size);
}

static void
zlib_free(voidpf opaque, voidpf p)
{
	(void)opaque;
	mem_free_at(&p);
}

static void *new (uint64_t window_max)
{
	z_stream *z = mem_alloc(sizeof(*z));

	(void)window_max; /* 32 KiB at most */
	z->zalloc = zlib_alloc;
	z->zfree = zlib_free;
	if (inflateInit2(z, MAX_WBITS + GZIP_WRAPPER) != Z_OK)
		mem_free_at(&z);
	return z;
}

static void
free_state(void *state)
{
	z_stream *z = state;

	inflateEnd(z);
	mem_free_at(&z);
}

static int
start(void *state, struct err *e)
{
	if (inflateReset(state) != Z_OK)
		return err_set(e, ERR_FAILED, "zlib: inflateReset failed");
	return 0;
}

static int
fault(const z_stream *z, int rc, struct err *e)
{
	const char *why = z->msg ? z->msg : "unknown";

	if (rc == Z_MEM_ERROR)
		return err_set(e, ERR_FAILED, "zlib: out of memory");
	if (!strcmp(why, "incorrect data check") || !strcmp(why, "incorrect length check"))
		return err_set(e, ERR_REFUSED, "checksum: the gzip stream's checksum is wrong (%s)", why);
	return err_set(e, ERR_REFUSED, "gzip: damaged stream (%s)", why);
}

static int
step(void *state, struct codec_io *io, bool is_last, bool *ret_is_end, struct err *e)
{
	z_stream *z = state;
	uInt n_in = io->n_in < UINT_MAX ? (uInt)io->n_in : UINT_MAX;
	uInt n_out = io->n_out < UINT_MAX ? (uInt)io->n_out : UINT_MAX;
	int rc;

	(void)is_last;
	z->next_in = (z_const Bytef *)(uintptr_t)io->in;
	z->avail_in = n_in;
	z->next_out = io->out;
	z->avail_out = n_out;
	rc = inflate(z, Z_NO_FLUSH);
	io->in += n_in - z->avail_in;
	io->n_in -= n_in - z->avail_in;
	io->out += n_out - z->avail_out;
	io->n_out -= n_out - z->avail_out;
	*ret_is_end = rc == Z_STREAM_END;
	return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? 0 : fault(z, rc, e);
}

const struct codec_ops codec_gzip = { "gzip", "member", 2, false, is_start, new, free_state, start, step };
