/* RFC 8878 by libzstd. Skippable frames are frames like others, old formats than this are refused. */
#include <zstd.h>
#include <zstd_errors.h>

#include "stages/codec.h"

static bool
is_start(const unsigned char *b)
{
	return (b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd) ||
	       ((b[0] & 0xf0) == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18);
}

static void *new (uint64_t window_max)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	int log = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).lowerBound;

	while (log < ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound && (2ULL << log) <= window_max)
		log++;
	if (d && ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, log))) {
		ZSTD_freeDCtx(d);
		d = NULL;
	}
	return d;
}

static void
free_state(void *state)
{
	ZSTD_freeDCtx(state);
}

static int
start(void *state, struct err *e)
{
	size_t rc = ZSTD_DCtx_reset(state, ZSTD_reset_session_only);

	return ZSTD_isError(rc) ? err_set(e, ERR_FAILED, "zstd: %s", ZSTD_getErrorName(rc)) : 0;
}

static int
step(void *state, struct codec_io *io, bool is_last, bool *ret_is_end, struct err *e)
{
	ZSTD_inBuffer in = { io->in, io->n_in, 0 };
	ZSTD_outBuffer out = { io->out, io->n_out, 0 };
	size_t rc = ZSTD_decompressStream(state, &out, &in);

	(void)is_last;
	if (ZSTD_isError(rc)) {
		ZSTD_ErrorCode code = ZSTD_getErrorCode(rc);

		if (code == ZSTD_error_memory_allocation)
			return err_set(e, ERR_FAILED, "zstd: out of memory");
		if (code == ZSTD_error_frameParameter_windowTooLarge)
			return err_set(e, ERR_REFUSED,
				       "window: the zstd frame wants a larger one than is allowed");
		if (code == ZSTD_error_checksum_wrong)
			return err_set(e, ERR_REFUSED, "checksum: the zstd frame's checksum is wrong");
		return err_set(e, ERR_REFUSED, "zstd: damaged frame (%s)", ZSTD_getErrorName(rc));
	}
	io->in += in.pos;
	io->n_in -= in.pos;
	io->out += out.pos;
	io->n_out -= out.pos;
	*ret_is_end = rc == 0;
	return 0;
}

const struct codec_ops codec_zstd = { "zstd", "frame", 4, false, is_start, new, free_state, start, step };
