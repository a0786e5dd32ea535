/*
 * RFC 1952 by ISA-L, more than twice as fast as zlib and built where it can be had. The header is read here: ISA-L 2.30
 * refuses an honest one with all its optional fields when it comes in small pieces.
 */
#include <isa-l/igzip_lib.h>
#include <limits.h>
#include <zlib.h>

#include "base/mem.h"
#include "stages/codec.h"

enum flags { FHCRC = 1 << 1, FEXTRA = 1 << 2, FNAME = 1 << 3, FCOMMENT = 1 << 4, RESERVED = 0xe0 };
enum part { FIXED, EXTRA_LEN, EXTRA, NAME, COMMENT, HEADER_CRC, DATA };
#define FIXED_LEN 10

struct state {
	struct inflate_state s;
	enum part part; /* of the member, which comes next */
	unsigned flags;
	unsigned n;	/* bytes of the part seen */
	unsigned value; /* number read so far, little end first */
	uint32_t crc;	/* of the header */
};

static bool
is_start(const unsigned char *b)
{
	return b[0] == 0x1f && b[1] == 0x8b;
}

static void *new (uint64_t window_max)
{
	struct state *g = mem_alloc(sizeof(*g));

	(void)window_max; /* 32 KiB at most */
	isal_inflate_init(&g->s);
	return g;
}

static void
free_state(void *state)
{
	mem_free_at(&state);
}

static int
start(void *state, struct err *e)
{
	struct state *g = state;

	(void)e;
	isal_inflate_reset(&g->s);
	g->s.crc_flag = ISAL_GZIP_NO_HDR_VER;
	g->part = FIXED;
	g->flags = g->n = g->value = 0;
	g->crc = 0;
	return 0;
}

/* --- the header --- */

/* A byte of the ten at the start: magic, method, flags, time, extra flags, system. */
static bool
take_fixed(struct state *g, unsigned char b)
{
	static const unsigned char start[] = { 0x1f, 0x8b, Z_DEFLATED };
	unsigned at = g->n++;

	if (at == sizeof(start))
		g->flags = b;
	return at < sizeof(start) ? b == start[at] : at > sizeof(start) || !(b & RESERVED);
}

static bool
is_part_over(const struct state *g, unsigned char b)
{
	switch (g->part) {
	case FIXED:
		return g->n == FIXED_LEN;
	case EXTRA_LEN:
	case HEADER_CRC:
		return g->n == 2;
	case EXTRA:
		return g->n == g->value;
	case NAME:
	case COMMENT:
		return !b;
	case DATA:
		break;
	}
	return true;
}

static bool
has_part(const struct state *g, enum part part)
{
	switch (part) {
	case EXTRA_LEN:
		return g->flags & FEXTRA;
	case EXTRA:
		return (g->flags & FEXTRA) && g->value;
	case NAME:
		return g->flags & FNAME;
	case COMMENT:
		return g->flags & FCOMMENT;
	case HEADER_CRC:
		return g->flags & FHCRC;
	case FIXED:
	case DATA:
		break;
	}
	return true;
}

static bool
take_byte(struct state *g, unsigned char b)
{
	bool is_right = true;

	if (g->part == FIXED) {
		is_right = take_fixed(g, b);
	} else {
		if (g->part == EXTRA_LEN || g->part == HEADER_CRC)
			g->value |= (unsigned)b << (8 * g->n);
		g->n++;
	}
	if (g->part != HEADER_CRC)
		g->crc = (uint32_t)crc32(g->crc, &b, 1);
	if (!is_right || !is_part_over(g, b))
		return is_right;
	if (g->part == HEADER_CRC && g->value != (g->crc & 0xffff))
		return false;
	do
		g->part++;
	while (!has_part(g, g->part));
	g->n = 0;
	if (g->part != EXTRA)
		g->value = 0;
	return true;
}

static int
read_header(struct state *g, struct codec_io *io, struct err *e)
{
	for (; g->part != DATA && io->n_in; io->in++, io->n_in--)
		if (!take_byte(g, *io->in))
			return err_set(e, ERR_REFUSED, "gzip: damaged stream (its header)");
	return 0;
}

/* --- the data --- */

static int
fault(int rc, struct err *e)
{
	switch (rc) {
	case ISAL_INCORRECT_CHECKSUM:
		return err_set(e, ERR_REFUSED, "checksum: the gzip stream's checksum is wrong");
	case ISAL_INVALID_BLOCK:
	case ISAL_INVALID_SYMBOL:
	case ISAL_INVALID_LOOKBACK:
		return err_set(e, ERR_REFUSED, "gzip: damaged stream (its data)");
	default:
		return err_set(e, ERR_REFUSED, "gzip: damaged stream (%d)", rc);
	}
}

static int
step(void *state, struct codec_io *io, bool is_last, bool *ret_is_end, struct err *e)
{
	struct state *g = state;
	struct inflate_state *s = &g->s;
	uint32_t n_in, n_out;
	int rc;

	(void)is_last;
	if (read_header(g, io, e) < 0)
		return -1;
	*ret_is_end = false;
	if (g->part != DATA)
		return 0;
	n_in = io->n_in < UINT32_MAX ? (uint32_t)io->n_in : UINT32_MAX;
	n_out = io->n_out < UINT32_MAX ? (uint32_t)io->n_out : UINT32_MAX;
	s->next_in = (uint8_t *)(uintptr_t)io->in; /* only read */
	s->avail_in = n_in;
	s->next_out = io->out;
	s->avail_out = n_out;
	rc = isal_inflate(s);
	io->in += n_in - s->avail_in;
	io->n_in -= n_in - s->avail_in;
	io->out += n_out - s->avail_out;
	io->n_out -= n_out - s->avail_out;
	*ret_is_end = s->block_state == ISAL_BLOCK_FINISH;
	return rc < 0 || rc == ISAL_NEED_DICT ? fault(rc, e) : 0;
}

const struct codec_ops codec_gzip_isal = { "gzip", "member", 2, false, is_start, new, free_state, start, step };
