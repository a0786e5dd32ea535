#include "base/mem.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *
checked(void *p)
{
	if (!p) {
		static const char words[] = "tidewaiter: out of memory\n";

		if (write(STDERR_FILENO, words, sizeof(words) - 1) < 0)
			abort();
		abort();
	}
	return p;
}

void *
mem_alloc(size_t size)
{
	return checked(calloc(1, size ? size : 1));
}

void *
mem_array(size_t n, size_t size)
{
	return checked(calloc(n ? n : 1, size ? size : 1));
}

void *
mem_resize(void *p, size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		return checked(NULL);
	return checked(realloc(p, total ? total : 1));
}

char *
mem_strdup(const char *s)
{
	return s ? checked(strdup(s)) : NULL;
}

char *
mem_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = mem_alloc(len + 1);

	/* not strndup(): what is not ended by a NUL counts as a fault with the sanitizers' strict strings */
	memcpy(copy, s, len);
	return copy;
}

char *
mem_vprintf(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	return checked(s);
}

char *
mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = mem_vprintf(fmt, ap);
	va_end(ap);
	return s;
}

void
mem_free_at(void *pp)
{
	int no = errno;
	void *p;

	/* Copied as bytes: what pp points to is a pointer to anything. */
	memcpy(&p, pp, sizeof(p));
	free(p);
	memset(pp, 0, sizeof(p));
	errno = no;
}

void
mem_close_at(int *fd)
{
	int no = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = no;
}

void
mem_fclose_at(FILE **f)
{
	int no = errno;

	if (*f)
		fclose(*f);
	errno = no;
}

void
mem_closedir_at(DIR **d)
{
	int no = errno;

	if (*d)
		closedir(*d);
	errno = no;
}
