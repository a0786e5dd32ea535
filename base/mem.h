/*
 * Memory and ownership. Out of memory aborts with one line on standard error:
 * nothing here returns NULL. Sizes that come from outside are capped by the
 * caller before they are allocated.
 */
#pragma once

#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

void *mem_alloc(size_t size);			  /* zeroed */
void *mem_array(size_t n, size_t size);		  /* zeroed; overflow of the product aborts */
void *mem_resize(void *p, size_t n, size_t size); /* realloc; new bytes are not zeroed */
char *mem_strdup(const char *s);		  /* NULL gives NULL */
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *mem_vprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

/*
 * Cleanup attributes: declare with one of these and initialise at once. Called by hand the first two leave NULL and -1
 * behind, so that a second call does nothing.
 */
void mem_free_at(void *pp);
void mem_close_at(int *fd);
void mem_fclose_at(FILE **f);
void mem_closedir_at(DIR **d);

#define AUTO_FREE __attribute__((cleanup(mem_free_at)))
#define AUTO_FD __attribute__((cleanup(mem_close_at)))
#define AUTO_FILE __attribute__((cleanup(mem_fclose_at)))
#define AUTO_DIR __attribute__((cleanup(mem_closedir_at)))

/*
 * AUTO(x) calls x_free_at(struct x **) at the end of the scope. A module that
 * owns `struct x` declares MEM_AUTO_DECLARE(x) beside `void x_free(struct x *)`.
 */
#define AUTO(x) __attribute__((cleanup(x##_free_at)))
#define MEM_AUTO_DECLARE(x)                          \
	static inline void x##_free_at(struct x **p) \
	{                                            \
		if (*p)                              \
			x##_free(*p);                \
	}

/* Hands ownership over: gives the value and leaves NULL or -1 behind. */
#define take_ptr(p)                         \
	__extension__({                     \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})
#define take_fd(fd)                \
	__extension__({            \
		int taken_ = (fd); \
		(fd) = -1;         \
		taken_;            \
	})

#define MEM_COUNT(a) (sizeof(a) / sizeof((a)[0]))
