/*
 * Strings, lists of strings, globs, and values with units.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* A list of owned strings. `v` always ends with a NULL when it is not empty, so it serves as argv. */
struct strv {
	char **v;
	size_t n;
};

#define AUTO_STRV __attribute__((cleanup(strv_free)))

void strv_free(struct strv *l);
void strv_add(struct strv *l, const char *s);
void strv_take(struct strv *l, char *s); /* takes ownership of s */
void strv_addf(struct strv *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strv_copy(struct strv *to, const struct strv *from); /* replaces what `to` held */
bool strv_has(const struct strv *l, const char *s);
void strv_sort(struct strv *l);
char *strv_join(const struct strv *l, const char *sep); /* owned by the caller */

bool str_eq(const char *a, const char *b); /* NULL equals NULL only */
bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);
bool str_is_empty(const char *s); /* NULL or "" */

/*
 * Globs as in .gitlab-ci.yml paths: `?` one character (of UTF-8) but '/', `*` any run
 * without '/', `**` any run with '/' (`a/` + `**` + `/b` also matches a/b),
 * `[a-z]`, `[!a]`, `\` quotes. Bounded: no exponential backtracking.
 */
bool str_glob(const char *pattern, const char *s);
/* Nothing in it is taken for anything else: no `[` without its `]` (which would be the letter), and not over the bound (it would match nothing). */
bool str_is_glob(const char *pattern);
bool str_glob_any(const struct strv *patterns, const char *s);
/* What b matches, a matches, as far as that is seen by their beginnings. */
bool str_glob_covers(const char *a, const char *b);

/*
 * A path without "." and empty parts, each ".." taken together with the part before it, no slash at its ends: "a/b" of "/a//x/../b/.",
 * "" for the top. *ret_climbs (NULL: not asked): a ".." had no part before it, and was passed over. By the letters alone. Owned by the
 * caller.
 */
char *str_clean_path(const char *path, bool *ret_climbs);

/* "90s", "15m", "48h", "7d", "1500ms", "0"; a bare number other than 0 is refused. Milliseconds. */
int str_parse_duration(const char *s, int64_t *ret_ms, struct err *e);
/* "4GiB", "64MiB", "10KiB", "512B", decimal "1GB" too, "0"; a bare number other than 0 is refused. Bytes. */
int str_parse_size(const char *s, int64_t *ret_bytes, struct err *e);
/* Decimal digits with an optional '-', the whole string, within [min, max]. */
int str_parse_int(const char *s, int64_t min, int64_t max, int64_t *ret, struct err *e);

/* "824 MB" style for people: three significant digits, decimal units. Owned by the caller. */
char *str_human_size(uint64_t bytes);
char *str_human_duration(int64_t ms);  /* "350 ms", "2.4 s", "3 min 5 s", "2 days" */
char *str_format_duration(int64_t ms); /* exact, readable by str_parse_duration: "90s", "48h" */
char *str_format_size(int64_t bytes);  /* exact, readable by str_parse_size */

/*
 * Makes text of strangers fit for a terminal or a job log: control characters
 * (C0, DEL, C1), bidi controls and invalid UTF-8 become '?', the result has at
 * most `max` columns' worth of code points (then ends in "…"). Appends to out.
 */
void str_add_safe(struct buf *out, const char *s, size_t max);
char *str_safe(const char *s, size_t max); /* owned by the caller */

/*
 * The code point at s, of which at most `left` (> 0) bytes are looked at; returns its length in bytes. A byte that is no
 * UTF-8 is one of its own, STR_NO_UTF8 + its value, so that texts with such bytes can still be compared.
 */
#define STR_NO_UTF8 0x110000U
size_t str_code_point(const char *s, size_t left, uint32_t *ret);
bool str_is_utf8(const char *s, size_t len); /* strict: no surrogates, no overlong forms */
bool str_is_hex(const char *s, size_t len);  /* exactly len lower-case hex digits, then NUL not required */

/* "{name}" placeholders; value(name) gives NULL for an unknown one, which is an error naming it. "{{" is "{". */
int str_expand(const char *tmpl, const char *(*value)(const char *name, void *arg), void *arg, char **ret,
	       struct err *e);
