#include "stages/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "stages/source_private.h"

#define FILE_BUFFER 8192
#define SKIP_BUFFER (64 * 1024)

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
plain_free(struct source *s)
{
	mem_free_at(&s);
}

static const struct source_ops file_ops = { file_read, file_skip, plain_free };

struct source *
source_new_file(int fd, uint64_t offset, uint64_t size)
{
	struct file_source *f = mem_alloc(sizeof(*f));

	f->base.ops = &file_ops;
	f->w = (struct window){ .fd = fd, .at = offset, .end = offset + size };
	return &f->base;
}

/* --- a pipe or socket --- */

struct stream_source {
	struct source base;
	int fd;
	uint64_t left; /* bytes that may still come */
	bool is_done;
};

static int
stream_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e)
{
	struct stream_source *f = (struct stream_source *)s;
	size_t done = 0;

	while (done < n && !f->is_done) {
		ssize_t got = read(f->fd, (char *)p + done, n - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		if ((uint64_t)got > f->left)
			return err_set(e, ERR_REFUSED, "size: more bytes came than are allowed");
		f->is_done = got == 0;
		f->left -= (uint64_t)got;
		done += (size_t)got;
	}
	*ret_n = done;
	return 0;
}

static const struct source_ops stream_ops = { stream_read, NULL, plain_free };

struct source *
source_new_stream(int fd, uint64_t size_max)
{
	struct stream_source *f = mem_alloc(sizeof(*f));

	f->base.ops = &stream_ops;
	f->fd = fd;
	f->left = size_max;
	return &f->base;
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

static int
skip_by_reading(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e)
{
	AUTO_FREE unsigned char *scratch = mem_alloc(SKIP_BUFFER);
	uint64_t done = 0;

	while (done < n) {
		size_t want = n - done < SKIP_BUFFER ? (size_t)(n - done) : SKIP_BUFFER, got = 0;

		if (s->ops->read(s, scratch, want, &got, e) < 0)
			return -1;
		done += got;
		if (got < want)
			break;
	}
	*ret_n = done;
	return 0;
}

int
source_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e)
{
	if ((s->ops->skip ? s->ops->skip : skip_by_reading)(s, n, ret_n, e) < 0)
		return -1;
	s->offset += *ret_n;
	return 0;
}

uint64_t
source_offset(const struct source *s)
{
	return s->offset;
}
