#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/codec.h"
#include "stages/source_private.h"

#define BUFFER (256 * 1024)
#define RATIO_FREE (16 * 1024 * 1024)
#define PADDING 4 /* bytes */

struct compressed {
	struct source base;
	struct source *raw;
	const struct codec_ops *codec;
	void *state;
	struct source_limits limits;
	struct source_tap tap;
	uint64_t n_in, n_out;
	bool is_begun;
	bool has_member; /* in the midst of one */
	bool is_raw_done;
	bool is_done;
	size_t pos, len; /* of buffer */
	unsigned char buffer[BUFFER];
};

/* At least `want` bytes in the buffer, fewer only where raw ends. */
static int
fill(struct compressed *c, size_t want, struct err *e)
{
	size_t left = c->len - c->pos, got = 0;

	if (left >= want || c->is_raw_done)
		return 0;
	memmove(c->buffer, c->buffer + c->pos, left);
	c->pos = 0;
	c->len = left;
	if (source_read(c->raw, c->buffer + left, BUFFER - left, &got, e) < 0)
		return -1;
	c->is_raw_done = got < BUFFER - left;
	if (c->tap.see)
		c->tap.see(c->tap.arg, c->buffer + left, got);
	c->len += got;
	c->n_in += got;
	return 0;
}

/* Zeros between streams; their number is told by where they end. */
static int
skip_padding(struct compressed *c, struct err *e)
{
	uint64_t n = 0;

	for (;;) {
		if (fill(c, 1, e) < 0)
			return -1;
		if (c->pos == c->len || c->buffer[c->pos])
			break;
		c->pos++;
		n++;
	}
	if (n % PADDING)
		return err_set(e, ERR_REFUSED, "%s: the padding behind a stream is no multiple of %d bytes",
			       c->codec->word, PADDING);
	return 0;
}

static int
start_member(struct compressed *c, struct err *e)
{
	const struct codec_ops *codec = c->codec;

	if (codec->is_padded && c->is_begun && skip_padding(c, e) < 0)
		return -1;
	if (fill(c, codec->magic_len, e) < 0)
		return -1;
	if (c->pos == c->len && !c->n_in)
		return err_set(e, ERR_REFUSED, "cut: an empty %s stream", codec->word);
	if (c->pos == c->len) {
		c->is_done = true;
		return 0;
	}
	if (c->len - c->pos < codec->magic_len || !codec->is_start(c->buffer + c->pos))
		return c->is_begun ? err_set(e, ERR_REFUSED,
					     "behind the end: there are bytes behind the last %s %s",
					     codec->word, codec->member)
				   : err_set(e, ERR_REFUSED, "%s: no %s stream", codec->word, codec->word);
	if (codec->start(c->state, e) < 0)
		return -1;
	c->is_begun = c->has_member = true;
	return 0;
}

static int
check_limits(const struct compressed *c, struct err *e)
{
	uint64_t taken = c->n_in - (c->len - c->pos);
	AUTO_FREE char *out = NULL, *in = NULL;

	if (c->n_out > c->limits.out_max) {
		out = str_format_size((int64_t)c->limits.out_max);
		return err_set(e, ERR_REFUSED, "size: more than %s when unpacked", out);
	}
	if (c->n_out <= RATIO_FREE || c->n_out / c->limits.ratio_max <= taken)
		return 0;
	out = str_human_size(c->n_out);
	in = str_human_size(taken);
	return err_set(e, ERR_REFUSED, "ratio: %s holds more than %llu times its size (%s from %s)",
		       c->codec->word, (unsigned long long)c->limits.ratio_max, out, in);
}

/* A piece of the member that has begun. */
static int
decode(struct compressed *c, unsigned char *p, size_t n, size_t *ret_n, struct err *e)
{
	struct codec_io io = { .out = p, .n_out = n };
	bool is_end = false;

	if (fill(c, 1, e) < 0)
		return -1;
	io.in = c->buffer + c->pos;
	io.n_in = c->len - c->pos;
	if (c->codec->step(c->state, &io, c->is_raw_done, &is_end, e) < 0)
		return -1;
	if (!is_end && io.n_out == n && io.n_in == c->len - c->pos)
		return io.n_in ? err_set(e, ERR_REFUSED, "%s: damaged %s", c->codec->word, c->codec->member)
			       : err_set(e, ERR_REFUSED,
					 "cut: the %s stream ends after %llu bytes, within a %s",
					 c->codec->word, (unsigned long long)c->n_in, c->codec->member);
	c->pos = c->len - io.n_in;
	c->n_out += n - io.n_out;
	c->has_member = !is_end;
	*ret_n = n - io.n_out;
	return check_limits(c, e);
}

static int
compressed_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e)
{
	struct compressed *c = (struct compressed *)s;
	size_t done = 0, got = 0;

	if (!c->state)
		return err_set(e, ERR_FAILED, "%s: the decoder cannot be started", c->codec->word);
	while (done < n && !c->is_done) {
		if (!c->has_member) {
			if (start_member(c, e) < 0)
				return -1;
			continue;
		}
		if (decode(c, (unsigned char *)p + done, n - done, &got, e) < 0)
			return -1;
		done += got;
	}
	*ret_n = done;
	return 0;
}

static void
compressed_free(struct source *s)
{
	struct compressed *c = (struct compressed *)s;

	if (c->state)
		c->codec->free(c->state);
	source_free(c->raw);
	mem_free_at(&c);
}

static const struct source_ops compressed_ops = { compressed_read, NULL, compressed_free };

static const struct codec_ops *
find_codec(enum archive_kind kind)
{
	switch (kind) {
	case ARCHIVE_GZIP:
#ifdef HAVE_ISAL
		return &codec_gzip_isal;
#else
		return &codec_gzip;
#endif
	case ARCHIVE_ZSTD:
		return &codec_zstd;
	case ARCHIVE_XZ:
		return &codec_xz;
	case ARCHIVE_BZIP2:
		return &codec_bzip2;
	case ARCHIVE_TAR:
	case ARCHIVE_OTHER:
		break;
	}
	return NULL;
}

struct source *
source_new_compressed(enum archive_kind kind, struct source *raw, const struct source_limits *limits,
		      const struct source_tap *tap)
{
	const struct codec_ops *codec = find_codec(kind);
	struct compressed *c;

	if (!codec) {
		source_free(raw);
		return NULL;
	}
	c = mem_alloc(sizeof(*c));
	c->base.ops = &compressed_ops;
	c->raw = raw;
	c->codec = codec;
	c->limits = *limits;
	if (!c->limits.ratio_max)
		c->limits.ratio_max = 1;
	if (!c->limits.window_max)
		c->limits.window_max = SOURCE_WINDOW_DEFAULT;
	if (tap)
		c->tap = *tap;
	c->state = codec->new (c->limits.window_max);
	return &c->base;
}

struct source *
source_new_gzip(int fd, uint64_t offset, uint64_t size, const struct source_limits *limits,
		const struct source_tap *tap)
{
	return source_new_compressed(ARCHIVE_GZIP, source_new_file(fd, offset, size), limits, tap);
}
