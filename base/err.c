#define ERR_IMPLEMENTATION
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void
put(struct err *e, enum err_kind kind, int no, const char *fmt, va_list ap)
{
	if (!e)
		return;
	e->kind = kind;
	e->no = no;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
}

int
err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(e, kind, 0, fmt, ap);
	va_end(ap);
	return -1;
}

int
err_errno(struct err *e, const char *fmt, ...)
{
	int no = errno;
	bool is_full = no == ENOSPC || no == EDQUOT;
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	put(e, is_full ? ERR_NO_SPACE : ERR_FAILED, no, fmt, ap);
	va_end(ap);
	if (e) {
		char words[128];

		len = strlen(e->text);
		snprintf(e->text + len, sizeof(e->text) - len, ": %s", strerror_r(no, words, sizeof(words)));
	}
	errno = no;
	return -1;
}

int
err_wrap(struct err *e, const char *fmt, ...)
{
	char inner[ERR_TEXT_MAX];
	int no = errno;
	size_t len;
	va_list ap;

	if (!e)
		return -1;
	memcpy(inner, e->text, sizeof(inner));
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	len = strlen(e->text);
	snprintf(e->text + len, sizeof(e->text) - len, ": %s", inner);
	errno = no;
	return -1;
}

void
err_clear(struct err *e)
{
	e->kind = ERR_NONE;
	e->no = 0;
	e->text[0] = '\0';
}
