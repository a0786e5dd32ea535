/*
 * From an image archive's descriptor to OCI layouts: what kind of file it is
 * (plain or compressed), what is in it (a table of entries), what kind of image
 * archive that makes, and the images of it, verified.
 *
 * A plain tar: its headers are walked, then the layers are read once, in
 * parallel. A compressed one: inflated once from start to end, contents kept as they pass. A directory: its files
 * are the entries.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/image_config.h"
#include "stages/layer_cache.h"
#include "stages/layout_dir.h"
#include "stages/options.h"

struct archive_image;

struct archive_input {
	int fd;		/* regular file, readable; pread only */
	bool is_stream; /* fd is a pipe instead, read once from start to end; size does not count */
	uint64_t size;	/* bytes */
	const struct layout_file *files; /* instead, for a directory: what is in it; NULL for a file */
	size_t n_files;
	int work_fd; /* where layouts and kept contents are made */
	const char *stem; /* of the names that are made there: "archive-3" gives archive-3-1, …, archive-3-kept */
	const struct options_images *limits;
	const int *claims_fd; /* where inspections announce what they will write (room.h); NULL: nowhere */
	const struct layer_cache *cache; /* of verified layers; NULL: none */
	/*
	 * Is told of an image as soon as its layout is whole, which may be before the archive's bytes have been verified: when the
	 * cache has all its layers. On an error afterwards the layout is removed. From the caller's thread; NULL: nobody.
	 */
	void (*on_ready)(void *arg, const struct archive_image *m);
	void *on_ready_arg;
};

struct archive_layer {
	uint64_t size;			      /* bytes, plain */
	char scanned_digest[HASH_DIGEST_MAX]; /* by SHA-256: what Trivy calls it */
};

/* One image, verified, in its layout. */
struct archive_image {
	char *layout_name;		       /* below work_fd */
	struct strv tags;		       /* all names of it, as the archive has them */
	char *platform;			       /* "linux/arm64/v8", "" when the config does not say */
	char manifest_digest[HASH_DIGEST_MAX]; /* of its OCI manifest, "" where there is none */
	char config_digest[HASH_DIGEST_MAX];   /* as the archive says it: by SHA-256 or SHA-512 */
	char scanned_digest[HASH_DIGEST_MAX]; /* of the config in the layout, by SHA-256: what Trivy calls the image */
	struct image_config *config;
	struct strv hidden; /* package lists that engines load and Trivy does not see (layer_hidden.h) */
	struct archive_layer *layers; /* in the order of config->diff_ids */
};

/* All images of one archive, in its order: a config digest once, under all its names. */
struct archive_images {
	struct archive_image *v;
	size_t n;
	struct strv notes; /* what it also holds and is no image to be looked at, a text each: "an attestation (…)" */
};

void archive_images_free(struct archive_images *l); /* what it owns */
/* The notes as one text, each once with how often; NULL for none. Owned by the caller. */
char *archive_join_notes(const struct strv *notes);

/*
 * -1 with a fault whose text does not name the archive: ERR_REFUSED, "<rule>: …"; ERR_UNSUPPORTED,
 * "platform: …"; ERR_NO_SPACE; ERR_FAILED. *ret_is_image is false when it was "no image: …", which outside tar_images/ is
 * no fault. Nothing stays in work_fd then.
 */
int archive_read(const struct archive_input *in, struct archive_images *ret, bool *ret_is_image,
		 struct err *e);
