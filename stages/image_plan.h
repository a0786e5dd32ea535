/*
 * What an archive's JSON says of its images, before any layer is read: of each the config, parsed, and which entries
 * are its layers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"
#include "stages/archive_entries.h"
#include "stages/image_config.h"

struct plan_layer {
	const struct entry *from;
	char *what;		      /* "layer 3 of 7 (<name>)" */
	char *named_as;		      /* its name in manifest.json, a link perhaps, or the entry's */
	char digest[HASH_DIGEST_MAX]; /* of the bytes as stored, as its descriptor says; "" where there is none */
};

struct image_plan {
	char *config_text;
	size_t config_len;
	char image_id[HASH_DIGEST_MAX];	     /* SHA-256 of the config's bytes */
	char config_digest[HASH_DIGEST_MAX]; /* the same, by SHA-512 where its descriptor names it so */
	struct image_config *config;
	struct plan_layer *layers; /* as many as config->diff_ids */
	size_t n_layers;
	struct strv tags;
	char manifest_digest[HASH_DIGEST_MAX]; /* "" without */
	char *said_platform;		       /* of its descriptor, "" or NULL when it does not say */
	bool is_loaded; /* manifest.json names it: `docker load` takes it whatever its platform is */
};

struct image_plans {
	struct image_plan *v;
	size_t n;
};

void image_plans_free(struct image_plans *l); /* what it owns */
/* At the end, empty; pointers into the list end their life here. */
struct image_plan *image_plans_add(struct image_plans *l);

/*
 * Reads and parses the config; `expected` is what its descriptor says of it, NULL where there is none. Fills all of *p
 * that concerns it. ERR_REFUSED "forged config: …" and what image_config.h refuses.
 */
int image_plan_read_config(struct image_plan *p, const struct entry *from, const char *expected,
			   const struct image_limits *limits, struct err *e);
void image_plans_remove(struct image_plans *l, size_t at);
/* The first of the list with the same image id. */
size_t image_plans_first(const struct image_plans *l, size_t at);

/* What index.json says (`o`) of an image of manifest.json (`d`) that is the same: its digests; of its names those stay that manifest.json has not. */
void image_plan_join(struct image_plan *d, struct image_plan *o);
/* The same config, and layers from the same entries. */
bool image_plan_is_same(const struct image_plan *a, const struct image_plan *b);
