/*
 * JSON (RFC 8259) by cJSON, made strict: cJSON itself accepts trailing text,
 * \u0000, lone surrogates, numbers such as 01, and compares names without case.
 * Every parse goes through json_parse(), every look-up through here.
 */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define JSON_DEPTH_MAX 64

enum json_flags {
	JSON_UNIQUE = 1 << 0, /* a name twice in one object is an error */
};

static inline void
json_free_at(cJSON **j)
{
	cJSON_Delete(*j);
}
#define AUTO_JSON __attribute__((cleanup(json_free_at)))

/* One value, nothing behind it but white space; valid UTF-8; at most max bytes and JSON_DEPTH_MAX deep. Errors say the byte offset. */
int json_parse(const char *text, size_t len, size_t max, unsigned flags, cJSON **ret, struct err *e);
/* The same with a depth of one's own; it is at most 1000, which is where cJSON ends. */
int json_parse_deep(const char *text, size_t len, size_t max, unsigned depth_max, unsigned flags, cJSON **ret,
		    struct err *e);
int json_load(int dirfd, const char *path, size_t max, unsigned flags, cJSON **ret, struct err *e);

/* Look-ups with exact names. NULL / fallback when absent, null or of another type; `o` may be NULL. Where a name occurs twice: the first. */
const cJSON *json_get(const cJSON *o, const char *name); /* NULL for JSON null too */
const char *json_str(const cJSON *o, const char *name);
const cJSON *json_array(const cJSON *o, const char *name);
const cJSON *json_object(const cJSON *o, const char *name);
bool json_bool(const cJSON *o, const char *name, bool fallback);
/* Exact integers below 2^53; anything else is the fallback. */
int64_t json_int(const cJSON *o, const char *name, int64_t fallback);
void json_strv(const cJSON *o, const char *name, struct strv *ret); /* strings of an array */

/* The same, but absence or a wrong type is an error that names it. */
int json_need_str(const cJSON *o, const char *name, const char **ret, struct err *e);
int json_need_int(const cJSON *o, const char *name, int64_t *ret, struct err *e);

/* Building. The object owns what was added. */
void json_add_str(cJSON *o, const char *name, const char *s); /* NULL adds null */
/* Beyond 32 bits it becomes a raw node: such a tree is for printing, not for look-ups. */
void json_add_int(cJSON *o, const char *name, int64_t n);
void json_add_bool(cJSON *o, const char *name, bool b);
void json_add_strv(cJSON *o, const char *name, const struct strv *l);
/* Names in archives and texts of others may be no UTF-8, which JSON must be: str_safe(). */
void json_add_safe_str(cJSON *o, const char *name, const char *s);
void json_add_safe_strv(cJSON *o, const char *name, const struct strv *l);
void json_add_time(cJSON *o, const char *name, int64_t s); /* RFC 3339; 0 or less adds null */
cJSON *json_add_object(cJSON *o, const char *name);
cJSON *json_add_array(cJSON *o, const char *name);

char *json_print(const cJSON *j);	 /* one line; owned by the caller */
char *json_print_pretty(const cJSON *j); /* two-space indent and a newline at the end */
