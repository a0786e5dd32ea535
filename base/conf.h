/*
 * Settings: one constant table per struct says key, type, place, default,
 * range and help; YAML reading, JSON in both directions, `config show` and the
 * example file all follow from it. A setting is added in one line.
 *
 * YAML is read with libyaml's document loader, for the line of every key and
 * value: unknown keys, keys twice, wrong types, anchors and values out of
 * range are refused with file, line, key, what was found and what is allowed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

enum conf_type {
	CONF_BOOL,     /* bool */
	CONF_INT,      /* int64_t */
	CONF_SIZE,     /* int64_t, bytes; "4GiB" */
	CONF_DURATION, /* int64_t, milliseconds; "15m" */
	CONF_STRING,   /* char * */
	CONF_PATH,     /* char *, absolute, or empty where the default is empty */
	CONF_ENUM,     /* int, an index into choices */
	CONF_LIST,     /* struct strv */
};

/* What a text must be beyond its type: of CONF_STRING, of CONF_PATH, of each text in a CONF_LIST. */
struct conf_rule {
	bool (*holds)(const char *text);
	const char *allowed; /* "a user's name": completes "allowed is", for a list "allowed is a list of" */
	/* How a text that was refused is shown where it may hold a secret, owned by the caller. NULL: as it is. */
	char *(*shown)(const char *text);
};

/* Rules for any struct: a text that is not empty and holds no control characters, and a glob. */
extern const struct conf_rule conf_rule_text, conf_rule_glob;
bool conf_is_plain_text(const char *text); /* no control characters; "" is one */

struct conf_field {
	const char *key;
	enum conf_type type;
	size_t offset; /* in the section's struct */
	const char *fallback; /* default as it would be written in YAML, lists in flow style; for CONF_ENUM a choice */
	const char *const *choices; /* CONF_ENUM, or CONF_LIST of fixed words; NULL at the end */
	int64_t min, max;	    /* INT, SIZE (bytes), DURATION (ms); both 0: any that is not negative */
	const char *help;	    /* one line, unit and document included */
	unsigned flags;
	const struct conf_rule *rule; /* NULL: any. "" is never asked about where the default is "" */
	const char *needs; /* CONF_LIST: what has to be in one that stands there, "": anything; NULL: it may be empty */
};

enum conf_flags {
	CONF_SECRET_FILE = 1 << 0, /* names a file with a secret: shown, never read by `config show` */
	CONF_NO_OVERRIDE = 1 << 1, /* cannot stand below projects[] */
};

struct conf_section {
	const char *key; /* NULL: the fields stand at the top */
	size_t offset;	 /* of the section's struct in the whole */
	const struct conf_field *fields;
	size_t n_fields;
	const char *help;
	bool is_overridable; /* may stand below projects[] */
};

/* A group of values for some fields: what one entry of projects[] overrides. */
struct conf_patch;
void conf_patch_free(struct conf_patch *p);

struct conf_schema {
	const struct conf_section *sections;
	size_t n_sections;
};

/* One entry of the list `projects`. */
struct conf_override {
	char *match; /* project path glob */
	struct conf_patch *patch;
};
struct conf_overrides {
	struct conf_override *v;
	size_t n;
};
void conf_overrides_free(struct conf_overrides *o);

/* The lines of what stands in a file, for faults that show only when all of it is read. */
struct conf_place {
	char *path; /* "state_dir", "job.slots", "projects[2].gate.mode" */
	size_t line;
};
struct conf_places {
	struct conf_place *v;
	size_t n;
};
void conf_places_free(struct conf_places *p);			    /* what it owns */
size_t conf_line_of(const struct conf_places *p, const char *path); /* 0: it does not stand in the file */

void conf_set_defaults(const struct conf_schema *schema, void *whole);
void conf_copy(const struct conf_schema *schema, void *to, const void *from); /* what `to` held is freed */
void conf_free(const struct conf_schema *schema, void *whole); /* what the fields own, not `whole` itself */

/*
 * `whole` holds defaults. `name` is for messages ("/etc/tidewaiter/tidewaiter.yml"). At most 1 MiB of text. ret_places
 * may be NULL.
 */
int conf_read_yaml(const struct conf_schema *schema, const char *name, const char *text, size_t len,
		   void *whole, struct conf_overrides *ret_overrides, struct conf_places *ret_places,
		   struct err *e);
/* First match wins. Returns the entry applied, or NULL. */
const struct conf_override *conf_apply_overrides(const struct conf_schema *schema,
						 const struct conf_overrides *o, const char *project,
						 void *whole);

/* {section: {key: value}}; sizes and durations as numbers of bytes and ms. Reading is strict: everything must be there. */
cJSON *conf_to_json(const struct conf_schema *schema, const void *whole);
int conf_from_json(const struct conf_schema *schema, const cJSON *j, void *whole, struct err *e);

/* YAML with a comment per setting. With `whole` NULL: the example file with all defaults. */
void conf_print(const struct conf_schema *schema, const void *whole, bool with_help, struct buf *out);
/* The value of one field as YAML text, owned by the caller. */
char *conf_value_text(const struct conf_field *f, const void *section);
