/*
 * A growable byte buffer that declares its limit at birth. Appending past the
 * limit sets `is_full` and drops the bytes: check it once at the end. The data
 * always has a NUL behind it that does not count in `len`.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* never NULL after the first append */
	size_t len;
	size_t cap;
	size_t max; /* bytes */
	bool is_full;
};

#define BUF_INIT(max_)        \
	{                     \
		.max = (max_) \
	}
#define AUTO_BUF __attribute__((cleanup(buf_free)))

void buf_free(struct buf *b);
void buf_reset(struct buf *b); /* empty again, memory kept */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
const char *buf_str(const struct buf *b); /* "" when empty; owned by the buffer */
char *buf_take(struct buf *b);		  /* the caller owns it; the buffer is empty again */
