#include "stages/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define FILE_BUFFER 8192
#define GZIP_BUFFER (256 * 1024)
#define SKIP_BUFFER (64 * 1024)
#define RATIO_FREE (16 * 1024 * 1024)

struct source_ops {
	int (*read)(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e);
	int (*skip)(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e);
	void (*free)(struct source *s);
};

struct source {
	const struct source_ops *ops;
	uint64_t offset;
};

/* --- a window of a file --- */

struct window {
	int fd;
	uint64_t at, end; /* in the file */
};

static int
window_pread(struct window *w, void *p, size_t n, size_t *ret_n, struct err *e)
{
	size_t done = 0;

	if (n > w->end - w->at)
		n = (size_t)(w->end - w->at);
	while (done < n) {
		ssize_t got = pread(w->fd, (char *)p + done, n - done, (off_t)w->at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		if (got == 0)
			return err_set(e, ERR_REFUSED, "changed: the file became shorter while it was read");
		done += (size_t)got;
		w->at += (uint64_t)got;
	}
	*ret_n = done;
	return 0;
}

struct file_source {
	struct source base;
	struct window w;
	size_t pos, len; /* of buffer */
	unsigned char buffer[FILE_BUFFER];
};

static int
file_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e)
{
	struct file_source *f = (struct file_source *)s;
	size_t done = f->len - f->pos, more = 0;

	if (done > n)
		done = n;
	memcpy(p, f->buffer + f->pos, done);
	f->pos += done;
	if (done < n && n - done >= FILE_BUFFER) {
		if (window_pread(&f->w, (char *)p + done, n - done, &more, e) < 0)
			return -1;
		done += more;
	} else if (done < n) {
		f->pos = f->len = 0;
		if (window_pread(&f->w, f->buffer, FILE_BUFFER, &f->len, e) < 0)
			return -1;
		more = n - done < f->len ? n - done : f->len;
		memcpy((char *)p + done, f->buffer, more);
		f->pos = more;
		done += more;
	}
	*ret_n = done;
	return 0;
}

static int
file_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e)
{
	struct file_source *f = (struct file_source *)s;
	uint64_t buffered = f->len - f->pos;

	(void)e;
	if (n <= buffered) {
		f->pos += (size_t)n;
		*ret_n = n;
		return 0;
	}
	f->pos = f->len = 0;
	if (n - buffered > f->w.end - f->w.at)
		n = buffered + (f->w.end - f->w.at);
	f->w.at += n - buffered;
	*ret_n = n;
	return 0;
}

static void
file_free(struct source *s)
{
	mem_free_at(&s);
}

static const struct source_ops file_ops = { file_read, file_skip, file_free };

struct source *
source_new_file(int fd, uint64_t offset, uint64_t size)
{
	struct file_source *f = mem_alloc(sizeof(*f));

	f->base.ops = &file_ops;
	f->w = (struct window){ .fd = fd, .at = offset, .end = offset + size };
	return &f->base;
}

/* --- gzip --- */

struct gzip_source {
	struct source base;
	struct window w;
	struct source_limits limits;
	struct hash *tap;
	z_stream z;
	uint64_t n_in, n_out;
	bool has_member; /* in the midst of one */
	bool is_done;
	unsigned char buffer[GZIP_BUFFER];
};

static int
gzip_fill(struct gzip_source *g, struct err *e)
{
	size_t got = 0;

	if (g->z.avail_in)
		return 0;
	if (window_pread(&g->w, g->buffer, sizeof(g->buffer), &got, e) < 0)
		return -1;
	if (g->tap)
		hash_update(g->tap, g->buffer, got);
	g->z.next_in = g->buffer;
	g->z.avail_in = (uInt)got;
	g->n_in += got;
	return 0;
}

static int
gzip_start_member(struct gzip_source *g, struct err *e)
{
	if (gzip_fill(g, e) < 0)
		return -1;
	if (!g->z.avail_in) {
		if (!g->n_in)
			return err_set(e, ERR_REFUSED, "cut: an empty gzip stream");
		g->is_done = true;
		return 0;
	}
	if (g->z.next_in[0] != 0x1f)
		return err_set(e, ERR_REFUSED, "behind the end: %s",
			       g->n_out ? "there are bytes behind the last gzip member" : "no gzip stream");
	if (inflateReset(&g->z) != Z_OK)
		return err_set(e, ERR_FAILED, "zlib: inflateReset failed");
	g->has_member = true;
	return 0;
}

static int
gzip_fault(const struct gzip_source *g, int rc, struct err *e)
{
	const char *why = g->z.msg ? g->z.msg : "unknown";

	if (rc == Z_MEM_ERROR)
		return err_set(e, ERR_FAILED, "zlib: out of memory");
	if (!strcmp(why, "incorrect data check") || !strcmp(why, "incorrect length check"))
		return err_set(e, ERR_REFUSED, "checksum: the gzip stream's checksum is wrong (%s)", why);
	return err_set(e, ERR_REFUSED, "gzip: damaged stream (%s)", why);
}

static int
gzip_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e)
{
	struct gzip_source *g = (struct gzip_source *)s;
	size_t done = 0;

	while (done < n && !g->is_done) {
		size_t room = n - done < UINT32_MAX ? n - done : UINT32_MAX;
		int rc;

		if (!g->has_member) {
			if (gzip_start_member(g, e) < 0)
				return -1;
			continue;
		}
		if (gzip_fill(g, e) < 0)
			return -1;
		if (!g->z.avail_in)
			return err_set(e, ERR_REFUSED,
				       "cut: the gzip stream ends after %llu bytes, within a member",
				       (unsigned long long)g->n_in);
		g->z.next_out = (Bytef *)p + done;
		g->z.avail_out = (uInt)room;
		rc = inflate(&g->z, Z_NO_FLUSH);
		room -= g->z.avail_out;
		done += room;
		g->n_out += room;
		if (rc == Z_STREAM_END)
			g->has_member = false;
		else if (rc != Z_OK && rc != Z_BUF_ERROR)
			return gzip_fault(g, rc, e);
		if (g->n_out > g->limits.out_max)
			return err_set(e, ERR_REFUSED, "size: more than %llu bytes when inflated",
				       (unsigned long long)g->limits.out_max);
		if (g->n_out > RATIO_FREE && g->n_out / g->limits.ratio_max > g->n_in - g->z.avail_in)
			return err_set(e, ERR_REFUSED,
				       "ratio: gzip holds more than %llu times its size (%llu bytes from %llu)",
				       (unsigned long long)g->limits.ratio_max, (unsigned long long)g->n_out,
				       (unsigned long long)(g->n_in - g->z.avail_in));
	}
	*ret_n = done;
	return 0;
}

static int
gzip_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e)
{
	AUTO_FREE unsigned char *scratch = mem_alloc(SKIP_BUFFER);
	uint64_t done = 0;

	while (done < n) {
		size_t want = n - done < SKIP_BUFFER ? (size_t)(n - done) : SKIP_BUFFER, got = 0;

		if (gzip_read(s, scratch, want, &got, e) < 0)
			return -1;
		done += got;
		if (got < want)
			break;
	}
	*ret_n = done;
	return 0;
}

static void
gzip_free(struct source *s)
{
	struct gzip_source *g = (struct gzip_source *)s;

	inflateEnd(&g->z);
	mem_free_at(&g);
}

static const struct source_ops gzip_ops = { gzip_read, gzip_skip, gzip_free };

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

struct source *
source_new_gzip(int fd, uint64_t offset, uint64_t size, const struct source_limits *limits, struct hash *tap)
{
	struct gzip_source *g = mem_alloc(sizeof(*g));

	g->base.ops = &gzip_ops;
	g->w = (struct window){ .fd = fd, .at = offset, .end = offset + size };
	g->limits = *limits;
	if (!g->limits.ratio_max)
		g->limits.ratio_max = 1;
	g->tap = tap;
	g->z.zalloc = zlib_alloc;
	g->z.zfree = zlib_free;
	/* 16: a gzip header and trailer, which zlib checks. It can fail for want of memory only, and that aborts. */
	if (inflateInit2(&g->z, 15 + 16) != Z_OK)
		g->is_done = true;
	return &g->base;
}

/* --- all kinds --- */

void
source_free(struct source *s)
{
	if (s)
		s->ops->free(s);
}

int
source_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e)
{
	if (s->ops->read(s, p, n, ret_n, e) < 0)
		return -1;
	s->offset += *ret_n;
	return 0;
}

int
source_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e)
{
	if (s->ops->skip(s, n, ret_n, e) < 0)
		return -1;
	s->offset += *ret_n;
	return 0;
}

uint64_t
source_offset(const struct source *s)
{
	return s->offset;
}
