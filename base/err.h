/*
 * Errors as objects.
 *
 * A fallible function returns 0 or -1 and takes `struct err *e` last. On -1
 * the object says what went wrong in one line for a person; callers put
 * context in front of it on its way up. Only main() prints it.
 */
#pragma once

#include <stddef.h>

#define ERR_TEXT_MAX 2048 /* bytes with the NUL; longer texts are cut */

enum err_kind {
	ERR_NONE = 0,
	ERR_FAILED,	 /* something on our side or of the system: undecided */
	ERR_USAGE,	 /* the caller of a program called it wrongly */
	ERR_SETTINGS,	 /* settings were not understood */
	ERR_REFUSED,	 /* hostile or malformed input, refused by name */
	ERR_UNSUPPORTED, /* honest input of a kind that is not supported */
	ERR_TIMEOUT,	 /* a deadline passed */
	ERR_NO_SPACE,	 /* disk, quota or a configured bound is exhausted */
};

struct err {
	enum err_kind kind;
	int no; /* errno where there was one, else 0 */
	char text[ERR_TEXT_MAX];
};

#define ERR_INIT                 \
	{                        \
		.kind = ERR_NONE \
	}

/* All of these return -1, so that `return err_set(…)` reads well. `e` may be NULL. */
int err_set(struct err *e, enum err_kind kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "text: strerror(errno)". ENOSPC and EDQUOT become ERR_NO_SPACE, the rest ERR_FAILED. Keeps errno. */
int err_errno(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " in front of what is there. Keeps kind and errno. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets what is there, for an error that was dealt with. */
void err_clear(struct err *e);

/* An analyser sees one file at a time and cannot know that they return -1. Not in err.c itself. */
#if (defined(__clang_analyzer__) || defined(ANALYSER)) && !defined(ERR_IMPLEMENTATION)
#define err_set(...) (err_set(__VA_ARGS__), -1)
#define err_errno(...) (err_errno(__VA_ARGS__), -1)
#define err_wrap(...) (err_wrap(__VA_ARGS__), -1)
#endif
