/* Shared by conf.c and conf_yaml.c only. */
#pragma once

#include "base/conf.h"

/* One value of a patch: room for the largest type. */
struct conf_patch_value {
	size_t section; /* index in the schema */
	const struct conf_field *field;
	union {
		bool b;
		int i;
		int64_t n;
		char *s;
		struct strv l;
	} value;
};

struct conf_patch {
	struct conf_patch_value *v;
	size_t n;
};

void conf_value_free(enum conf_type type, void *value);
/* 0, or -1 when the text is not what conf_allowed() says. */
int conf_parse_scalar(const struct conf_field *f, const char *text, void *value);
int conf_parse_item(const struct conf_field *f, const char *text, struct strv *value);
char *conf_shown(const struct conf_field *f,
		 const char *text);		/* what was found, in quotes; owned by the caller */
char *conf_allowed(const struct conf_field *f); /* "a size from 1MiB to 1GiB …", owned by the caller */
