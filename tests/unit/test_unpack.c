#include "stages/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "stages/image_label.h"
#include "stages/pipeline.h"
#include "tests/unit/archive_builder.h"

struct world {
	char dir[32];
	int work_fd;
	struct options opt;
	struct log log;
	struct inspection i;
};

static void
world_init(struct world *w)
{
	*w = (struct world){ .dir = "/tmp/test-unpack-XXXXXX" };
	assert_non_null(mkdtemp(w->dir));
	w->work_fd = fs_open_dir(AT_FDCWD, w->dir, NULL);
	assert_true(w->work_fd >= 0);
	w->opt.images = build_limits();
	w->opt.images.max_ratio = 100;
	w->opt.images.max_window = 0;
	w->log.level = LOG_ERROR;
	w->log.to = stderr;
	w->i = (struct inspection){
		.opt = &w->opt, .log = &w->log, .project_fd = -1, .work_fd = w->work_fd, .work_dir = w->dir
	};
}

static void
world_free(struct world *w)
{
	close(w->work_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, w->dir, NULL), 0);
	inspection_free(&w->i);
}

static struct archive *
unpack_bytes(struct world *w, const char *name, const void *p, size_t n)
{
	struct archive *a = inspection_add_archive(&w->i);
	struct stat st;

	a->name = mem_strdup(name);
	a->fd = build_fd(p, n);
	assert_int_equal(fstat(a->fd, &st), 0);
	fs_identity_of(&st, &a->id);
	unpack_archive(&w->i, w->i.n_archives - 1);
	return &w->i.archives[w->i.n_archives - 1];
}

static struct archive *
unpack_buf(struct world *w, const char *name, const struct buf *b)
{
	return unpack_bytes(w, name, b->data, b->len);
}

static size_t
count_names(const char *dir)
{
	AUTO_DIR DIR *d = opendir(dir);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n - 2;
}

/* As tar_images/app.tar and, compressed, as app.tar.gz: refused with this text in front, and nothing stays behind. */
static void
expect_refusal(const struct buf *tar, enum err_kind kind, const char *text)
{
	AUTO_BUF struct buf packed = BUF_INIT(BUILD_MAX);

	build_gzip(&packed, tar->data, tar->len);
	for (int is_packed = 0; is_packed < 2; is_packed++) {
		struct world w;
		const struct archive *a;

		world_init(&w);
		w.i.project_fd = 0;
		a = unpack_buf(&w, is_packed ? "app.tar.gz" : "app.tar", is_packed ? &packed : tar);
		if (a->fault.kind != kind || !str_has_prefix(a->fault.text, text) || a->is_ignored)
			fail_msg("expected \"%s…\", got \"%s\" (kind %d, ignored %d, packed %d)", text,
				 a->fault.text, (int)a->fault.kind, a->is_ignored, is_packed);
		assert_int_equal(w.i.n_images, 0);
		assert_int_equal(count_names(w.dir), 0);
		world_free(&w);
	}
}

static const struct image *
expect_image(struct world *w, const char *name, const struct buf *b)
{
	const struct archive *a = unpack_buf(w, name, b);

	if (a->fault.kind != ERR_NONE || a->is_ignored)
		fail_msg("%s: %s", name, a->fault.text);
	return &w->i.images[w->i.n_images - 1];
}

/* --- what is read --- */

static void
check_blob(const char *layout, const char *digest, const struct buf *expected)
{
	AUTO_FREE char *path = mem_printf("%s/blobs/sha256/%s", layout, digest + 7);
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	assert_int_equal(fs_read_max(AT_FDCWD, path, BUILD_MAX, &text, &len, NULL), 0);
	assert_int_equal(len, expected->len);
	assert_memory_equal(text, expected->data, len);
}

static void
check_layout(const struct image *m, const struct build_image *from)
{
	AUTO_FREE char *index_path = mem_printf("%s/index.json", m->layout);
	AUTO_FREE char *manifest_path = NULL;
	AUTO_FREE char *oci_path = mem_printf("%s/oci-layout", m->layout);
	AUTO_JSON cJSON *index = NULL;
	AUTO_JSON cJSON *manifest = NULL;
	AUTO_JSON cJSON *version = NULL;
	const cJSON *layers;

	assert_int_equal(json_load(AT_FDCWD, oci_path, 1000, 0, &version, NULL), 0);
	assert_string_equal(json_str(version, "imageLayoutVersion"), "1.0.0");
	assert_int_equal(json_load(AT_FDCWD, index_path, 10000, 0, &index, NULL), 0);
	manifest_path = mem_printf("%s/blobs/sha256/%s", m->layout,
				   json_str(json_array(index, "manifests")->child, "digest") + 7);
	assert_int_equal(json_load(AT_FDCWD, manifest_path, 10000, 0, &manifest, NULL), 0);
	assert_string_equal(json_str(json_object(manifest, "config"), "digest"), from->config_digest);
	layers = json_array(manifest, "layers");
	assert_int_equal(cJSON_GetArraySize(layers), from->n);
	for (size_t i = 0; i < from->n; i++) {
		const cJSON *layer = cJSON_GetArrayItem(layers, (int)i);

		assert_string_equal(json_str(layer, "digest"), from->digests[i]);
		assert_string_equal(json_str(layer, "mediaType"), "application/vnd.oci.image.layer.v1.tar");
		assert_int_equal(json_int(layer, "size", -1), from->layers[i].len);
		check_blob(m->layout, from->digests[i], &from->layers[i]);
	}
	check_blob(m->layout, from->config_digest, &from->config);
}

static void
a_docker_archive_becomes_a_layout_of_the_same_bytes(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf packed = BUF_INIT(BUILD_MAX);
	struct build_image from;
	const struct image *m;
	struct world w;
	(void)state;

	world_init(&w);
	build_image_init(&from, 3);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	m = expect_image(&w, "tar_images/app.tar", &tar);
	check_layout(m, &from);
	assert_string_equal(m->config_digest, from.config_digest);
	assert_string_equal(m->os, "linux");
	assert_string_equal(m->architecture, "amd64");
	assert_int_equal(m->n_layers, 3);
	assert_string_equal(m->layers[2].diff_id, from.digests[2]);
	assert_int_equal(m->layers[2].size, from.layers[2].len);
	assert_string_equal(m->layers[2].created_by, "step 2");
	assert_string_equal(m->label, "registry.example.org/group/app:1");
	assert_string_equal(m->repository, "group/app");
	assert_string_equal(m->report_name, "app");

	build_gzip(&packed, tar.data, tar.len);
	m = expect_image(&w, "tar_images/app.tar.gz", &packed);
	check_layout(m, &from);
	assert_string_equal(m->report_name, "app-2");
	assert_int_equal(count_names(w.dir), 2);
	build_image_free(&from);
	world_free(&w);
}

/* Everything of the image but manifest.json, whose layers the caller names. */
static void
build_parts(struct buf *tar, const struct build_image *m)
{
	AUTO_BUF struct buf whole = BUF_INIT(BUILD_MAX);
	size_t len;

	build_docker_archive(&whole, m);
	for (len = whole.len - 512; memcmp(whole.data + len, "manifest.json", 14) != 0; len -= 512)
		;
	buf_add(tar, whole.data, len);
}

static void
build_manifest(struct buf *tar, const struct build_image *m, const char *const *layers, size_t n)
{
	AUTO_BUF struct buf text = BUF_INIT(BUILD_MAX);

	buf_printf(&text, "[{\"Config\":\"%s.json\",\"RepoTags\":null,\"Layers\":[", m->config_digest + 7);
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s\"%s\"", i ? "," : "", layers[i]);
	buf_add_str(&text, "]}]");
	build_file(tar, "manifest.json", text.data, text.len);
}

static void
layers_behind_links_are_followed_within_the_archive(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	struct world w;
	char target[128];
	(void)state;

	world_init(&w);
	build_image_init(&from, 2);
	build_parts(&tar, &from);
	snprintf(target, sizeof(target), "../%.64s.tar", from.digests[0] + 7);
	build_link(&tar, '2', "id/layer.tar", target);
	build_link(&tar, '1', "hard/layer.tar", target + 3);
	build_link(&tar, '2', "id/again.tar", "./layer.tar");
	snprintf(target, sizeof(target), "%.64s.tar", from.digests[1] + 7);
	build_manifest(&tar, &from, (const char *const[]){ "id/again.tar", target }, 2);
	build_end(&tar);
	check_layout(expect_image(&w, "a.tar", &tar), &from);
	build_image_free(&from);
	world_free(&w);
}

static void
an_image_without_layers_is_read(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	struct world w;
	(void)state;

	world_init(&w);
	build_image_init(&from, 0);
	build_parts(&tar, &from);
	build_manifest(&tar, &from, NULL, 0);
	build_end(&tar);
	check_layout(expect_image(&w, "a.tar", &tar), &from);
	build_image_free(&from);
	world_free(&w);
}

/* --- what is refused --- */

static void
a_forged_layer_is_named_with_both_digests(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_FREE char *expected = NULL;
	struct build_image from;
	char real[HASH_DIGEST_MAX];
	(void)state;

	build_image_init(&from, 3);
	from.layers[1].data[512] ^= 1;
	hash_of(HASH_SHA256, from.layers[1].data, from.layers[1].len, real);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	expected =
		mem_printf("forged layer: layer 2 of 3 (%s.tar) is not what the image's config says it is (%s, expected %s)",
			   from.digests[1] + 7, real, from.digests[1]);
	expect_refusal(&tar, ERR_REFUSED, expected);
	build_image_free(&from);
}

static void
a_config_that_is_not_what_its_name_says_is_refused(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	(void)state;

	build_image_init(&from, 1);
	memcpy(strstr(from.config.data, "amd64"), "arm64", 5);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	expect_refusal(&tar, ERR_REFUSED, "forged config: ");
	build_image_free(&from);
}

static void
a_file_cannot_be_two_different_layers(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	char name[128];
	(void)state;

	build_image_init(&from, 2);
	build_parts(&tar, &from);
	snprintf(name, sizeof(name), "%.64s.tar", from.digests[0] + 7);
	build_manifest(&tar, &from, (const char *const[]){ name, name }, 2);
	build_end(&tar);
	expect_refusal(&tar, ERR_REFUSED, "forged layer: layer 2 of 2");
	build_image_free(&from);
}

static void
a_name_that_is_a_digest_must_be_true(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	char name[128];
	(void)state;

	build_image_init(&from, 1);
	build_parts(&tar, &from);
	snprintf(name, sizeof(name), "blobs/sha256/%064d", 0);
	build_file(&tar, name, from.layers[0].data, from.layers[0].len);
	build_manifest(&tar, &from, (const char *const[]){ name }, 1);
	build_end(&tar);
	expect_refusal(&tar, ERR_REFUSED, "forged layer: layer 1 of 1 (blobs/sha256/0000");
	build_image_free(&from);
}

/* An honest archive of two layers with something added before its manifest.json, or in place of a layer's name. */
struct spoiled {
	const char *rule;
	void (*add)(struct buf *tar);
	const char *layer;
};

static void
add_twice(struct buf *tar)
{
	build_text(tar, "x/y", "1");
	build_text(tar, "./x//y", "2");
}

static void
add_case(struct buf *tar)
{
	build_text(tar, "name", "1");
	build_text(tar, "Name", "2");
}

static void
add_below_link(struct buf *tar)
{
	build_link(tar, '2', "a", ".");
	build_text(tar, "a/x", "2");
}

static void
add_absolute(struct buf *tar)
{
	build_text(tar, "/etc/passwd", "1");
}

static void
add_climbing(struct buf *tar)
{
	build_text(tar, "x/../../y", "1");
}

static void
add_control(struct buf *tar)
{
	build_text(tar, "x\033[2J", "1");
}

static void
add_fifo(struct buf *tar)
{
	build_header(tar, &(struct build_header){ .name = "fifo", .type = '6' });
}

static void
add_loop(struct buf *tar)
{
	build_link(tar, '2', "one", "two");
	build_link(tar, '2', "two", "one");
}

static void
add_chain(struct buf *tar)
{
	char from[16], to[16];

	for (int i = 0; i < 12; i++) {
		snprintf(from, sizeof(from), "link%d", i);
		snprintf(to, sizeof(to), "link%d", i + 1);
		build_link(tar, '2', from, to);
	}
	build_text(tar, "link12", "x");
}

static void
add_outside(struct buf *tar)
{
	build_link(tar, '2', "id/out", "../../layer.tar");
	build_link(tar, '1', "hard", "/layer.tar");
	build_header(tar, &(struct build_header){ .name = "folder/", .type = '5' });
	build_text(tar, "text", "no tar");
}

static void
add_many(struct buf *tar)
{
	char name[16];

	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "%d", i);
		build_text(tar, name, "");
	}
}

static void
every_rule_for_entries_has_its_refusal(void **state)
{
	static const struct spoiled cases[] = {
		{ "twice: two entries of one name: entry x/y", add_twice, NULL },
		{ "name: it differs from another by case only", add_case, NULL },
		{ "name: it lies below one that is no directory: entry a/x", add_below_link, NULL },
		{ "name: it is absolute: entry /etc/passwd", add_absolute, NULL },
		{ "name: it climbs with \"..\": entry x/../../y", add_climbing, NULL },
		{ "name: it has a control character: entry x?[2J", add_control, NULL },
		{ "type: neither file nor directory nor link: entry fifo", add_fifo, NULL },
		{ "link: layer 2 of 2 (one) is behind more than 8 links", add_loop, "one" },
		{ "link: layer 2 of 2 (link0) is behind more than 8 links", add_chain, "link0" },
		{ "link: it points out of the archive: layer 2 of 2 (id/out)", add_outside, "id/out" },
		{ "link: it points out of the archive: layer 2 of 2 (hard)", add_outside, "hard" },
		{ "type: layer 2 of 2 (folder) is a directory, not a file", add_outside, "folder" },
		{ "type: layer 2 of 2 (text) is neither a tar nor compressed", add_outside, "text" },
		{ "missing layer: layer 2 of 2 (nothing) is not in the archive", add_outside, "nothing" },
		{ "name: it climbs with \"..\": layer 2 of 2 (../x)", add_outside, "../x" },
		{ "entries: more than the 40 that are allowed", add_many, NULL },
	};
	struct build_image from;
	(void)state;

	build_image_init(&from, 2);
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
		char first[128], second[128];

		build_parts(&tar, &from);
		cases[i].add(&tar);
		snprintf(first, sizeof(first), "%.64s.tar", from.digests[0] + 7);
		snprintf(second, sizeof(second), "%.64s.tar", from.digests[1] + 7);
		build_manifest(&tar, &from,
			       (const char *const[]){ first, cases[i].layer ? cases[i].layer : second }, 2);
		build_end(&tar);
		expect_refusal(&tar, ERR_REFUSED, cases[i].rule);
	}
	build_image_free(&from);
}

static void
refuse_manifest(const char *text, enum err_kind kind, const char *rule)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

	build_text(&tar, "manifest.json", text);
	build_end(&tar);
	expect_refusal(&tar, kind, rule);
}

static void
a_manifest_that_readers_take_differently_is_refused(void **state)
{
	(void)state;
	refuse_manifest("[{\"Config\":\"c\",\"layers\":[]}]", ERR_REFUSED, "manifest.json: \"layers\"");
	refuse_manifest("[{\"Config\":\"c\",\"Layer\xc5\xbf\":[]}]", ERR_REFUSED,
			"manifest.json: \"Layer\xc5\xbf\"");
	refuse_manifest("[{\"Config\":\"c\",\"Layers\":[],\"Layers\":[]}]", ERR_REFUSED, "manifest.json: ");
	refuse_manifest("[{\"Config\":\"c\",\"Layers\":\"x\"}]", ERR_REFUSED,
			"manifest.json: Layers is no list");
	refuse_manifest("[{\"Config\":\"c\",\"Layers\":[1]}]", ERR_REFUSED,
			"manifest.json: Layers[0] is no text");
	refuse_manifest("[{\"Config\":\"c\",\"RepoTags\":[\"a b\"]}]", ERR_REFUSED,
			"manifest.json: RepoTags[0]");
	refuse_manifest("[{\"Layers\":[]}]", ERR_REFUSED, "manifest.json: Config");
	refuse_manifest("[]", ERR_REFUSED, "manifest.json: it names no image");
	refuse_manifest("[1]", ERR_REFUSED, "manifest.json: ");
	refuse_manifest("[{\"Config\":\"c\"}] x", ERR_REFUSED, "manifest.json: ");
	refuse_manifest("[{\"Config\":\"c\"}]", ERR_REFUSED,
			"missing config: the config (c) is not in the archive");
	refuse_manifest("[{\"Config\":\"c\",\"Layers\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}]", ERR_REFUSED,
			"manifest.json: Layers has more than the 5 layers");
	refuse_manifest("[{\"Config\":\"c\"},{\"Config\":7}]", ERR_REFUSED, "manifest.json[1]: Config");
	refuse_manifest("[{\"Config\":\"c\"},{\"Config\":\"d\"}]", ERR_REFUSED,
			"missing config: the config (c) is not in the archive: in image c");
}

static void
a_name_that_an_engine_would_clean_counts_as_an_image(void **state)
{
	static const char *const names[] = { "/manifest.json", "x/../manifest.json", "a/manifest.json" };
	(void)state;

	for (size_t i = 0; i < MEM_COUNT(names); i++) {
		AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

		build_link(&tar, '2', "a", ".");
		build_text(&tar, names[i], "[]");
		build_end(&tar);
		expect_refusal(&tar, ERR_REFUSED, "name: ");
	}
}

static void
a_layout_that_names_no_image_is_none(void **state)
{
	AUTO_BUF struct buf oci = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf folder = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf old = BUF_INIT(BUILD_MAX);
	struct world w;
	(void)state;

	build_text(&oci, "index.json", "{\"manifests\":[]}");
	build_end(&oci);
	world_init(&w);
	w.i.project_fd = 0;
	assert_true(unpack_buf(&w, "app.tar", &oci)->is_ignored);
	assert_string_equal(unpack_buf(&w, "tar_images/app.tar", &oci)->fault.text,
			    "no image: the index names none");
	world_free(&w);
	build_text(&folder, "image/oci-layout", "{}");
	build_end(&folder);
	expect_refusal(&folder, ERR_REFUSED, "missing index: ");
	build_text(&old, "repositories", "{}");
	build_text(&old, "0123/layer.tar", "");
	build_end(&old);
	expect_refusal(&old, ERR_REFUSED, "missing manifest: a docker-archive without manifest.json");
}

static void
a_compressed_archive_that_is_cut_is_no_image(void **state)
{
	static const char *const heads[] = { "\x28\xb5\x2f\xfd....",
					     ("\xfd"
					      "7zXZ\0..."),
					     "BZh91AY&" };
	static const char *const words[] = { "zstd", "xz", "bzip2" };
	struct world w;
	(void)state;

	world_init(&w);
	for (size_t i = 0; i < MEM_COUNT(heads); i++) {
		AUTO_FREE char *text = mem_printf("no image: the %s holds no tar", words[i]);
		const struct archive *a = unpack_bytes(&w, "x.tar", heads[i], 8);

		assert_int_equal(a->fault.kind, ERR_REFUSED);
		assert_string_equal(a->fault.text, text);
	}
	world_free(&w);
}

/* --- what is no image --- */

static void
a_tar_without_image_is_ignored_but_in_tar_images(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf web = BUF_INIT(BUILD_MAX);
	const struct archive *a;
	struct world w;
	(void)state;

	world_init(&w);
	w.i.project_fd = 0;
	build_text(&tar, "src/main.c", "int main(void) { return 0; }");
	build_header(&tar, &(struct build_header){ .name = "dev/null", .type = '3' });
	build_text(&tar, "/absolute", "");
	build_end(&tar);
	build_text(&web, "manifest.json", "{\"name\": \"a browser's extension\"}");
	build_text(&web, "index.json", "{\"pages\": []}");
	build_end(&web);
	a = unpack_buf(&w, "sources.tar", &tar);
	assert_true(a->is_ignored);
	assert_int_equal(a->fault.kind, ERR_NONE);
	assert_true(unpack_buf(&w, "extension.tar", &web)->is_ignored);
	assert_true(unpack_bytes(&w, "x/page.html.gz", "\x1f\x8b not really", 14)->is_ignored);
	a = unpack_buf(&w, "tar_images/sources.tar", &tar);
	assert_false(a->is_ignored);
	assert_int_equal(a->fault.kind, ERR_REFUSED);
	assert_string_equal(a->fault.text, "no image: the tar has neither manifest.json nor index.json");
	a = unpack_buf(&w, "sub/tar_images/sources.tar", &tar);
	assert_int_equal(a->fault.kind, ERR_REFUSED);
	world_free(&w);
}

/* --- limits --- */

static void
what_is_larger_than_allowed_is_refused(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf packed = BUF_INIT(BUILD_MAX);
	struct build_image from;
	struct world w;
	(void)state;

	world_init(&w);
	build_image_init(&from, 3);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	w.opt.images.max_size = (int64_t)tar.len - 1;
	assert_true(str_has_prefix(unpack_buf(&w, "a.tar", &tar)->fault.text, "size: the archive has"));
	w.opt.images.max_size = 3 * 2048 - 1;
	build_gzip(&packed, tar.data, tar.len);
	assert_true(str_has_prefix(unpack_buf(&w, "a.tar.gz", &packed)->fault.text, "size: "));
	assert_int_equal(count_names(w.dir), 0);
	build_image_free(&from);
	world_free(&w);
}

static void
a_bomb_is_refused_by_its_ratio(void **state)
{
	AUTO_FREE char *zeros = mem_alloc(40 << 20);
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf packed = BUF_INIT(BUILD_MAX);
	struct build_image from;
	struct world w;
	(void)state;

	world_init(&w);
	build_image_init(&from, 1);
	build_gzip(&packed, zeros, 40 << 20);
	build_parts(&tar, &from);
	build_file(&tar, "bomb", packed.data, packed.len);
	build_manifest(&tar, &from, (const char *const[]){ "bomb" }, 1);
	build_end(&tar);
	assert_true(str_has_prefix(unpack_buf(&w, "a.tar", &tar)->fault.text,
				   "ratio: gzip holds more than 100 times its size"));
	assert_int_equal(count_names(w.dir), 0);
	build_image_free(&from);
	world_free(&w);
}

static void
an_outer_gzip_is_content_to_its_last_byte(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf packed = BUF_INIT(BUILD_MAX);
	struct build_image from;
	struct world w;
	size_t len;
	(void)state;

	world_init(&w);
	build_image_init(&from, 2);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	build_gzip(&packed, tar.data, 1000);
	build_gzip(&packed, tar.data + 1000, tar.len - 1000);
	check_layout(expect_image(&w, "two-members.tar.gz", &packed), &from);
	len = packed.len;
	assert_true(str_has_prefix(unpack_bytes(&w, "cut.tar.gz", packed.data, len - 9)->fault.text, "cut: "));
	packed.data[len - 8] ^= 1;
	assert_true(str_has_prefix(unpack_buf(&w, "crc.tar.gz", &packed)->fault.text, "checksum: "));
	packed.data[len - 8] ^= 1;
	buf_add_str(&packed, "more");
	assert_true(str_has_prefix(unpack_buf(&w, "more.tar.gz", &packed)->fault.text, "behind the end: "));
	assert_int_equal(count_names(w.dir), 1);
	build_image_free(&from);
	world_free(&w);
}

static void
more_archives_than_allowed_are_not_inspected(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	const struct archive *a;
	struct world w;
	(void)state;

	world_init(&w);
	w.opt.images.max_images = 1;
	build_image_init(&from, 1);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	expect_image(&w, "a.tar", &tar);
	a = unpack_buf(&w, "b.tar", &tar);
	assert_int_equal(a->fault.kind, ERR_NO_SPACE);
	assert_string_equal(a->fault.text, "not inspected: the job left more than 1 image archives");
	build_image_free(&from);
	world_free(&w);
}

static void
a_file_that_changed_since_it_was_opened_is_refused(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct build_image from;
	struct archive *a;
	struct world w;
	(void)state;

	world_init(&w);
	build_image_init(&from, 1);
	build_docker_archive(&tar, &from);
	build_end(&tar);
	expect_image(&w, "a.tar", &tar);
	a = &w.i.archives[0];
	a->id.ctime_ns--;
	unpack_archive(&w.i, 0);
	assert_int_equal(a->fault.kind, ERR_REFUSED);
	assert_true(str_has_prefix(a->fault.text, "changed: "));
	build_image_free(&from);
	world_free(&w);
}

/* --- both layouts in one --- */

struct both {
	struct build_image from;
	struct buf tar;
	char layer_name[96];
};

static void
both_init(struct both *b, const char *config_in_index, const char *layer_in_index, const char *media)
{
	AUTO_BUF struct buf manifest = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf index = BUF_INIT(BUILD_MAX);
	char digest[HASH_DIGEST_MAX], name[96];

	*b = (struct both){ .tar = BUF_INIT(BUILD_MAX) };
	build_image_init(&b->from, 1);
	build_parts(&b->tar, &b->from);
	snprintf(b->layer_name, sizeof(b->layer_name), "blobs/sha256/%.64s", b->from.digests[0] + 7);
	build_file(&b->tar, b->layer_name, b->from.layers[0].data, b->from.layers[0].len);
	snprintf(name, sizeof(name), "blobs/sha256/%.64s", b->from.config_digest + 7);
	build_file(&b->tar, name, b->from.config.data, b->from.config.len);
	buf_printf(&manifest,
		   "{\"config\":{\"digest\":\"%s\",\"size\":%zu},"
		   "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}]}",
		   config_in_index ? config_in_index : b->from.config_digest, b->from.config.len, media,
		   layer_in_index ? layer_in_index : b->from.digests[0], b->from.layers[0].len);
	hash_of(HASH_SHA256, manifest.data, manifest.len, digest);
	snprintf(name, sizeof(name), "blobs/sha256/%.64s", digest + 7);
	build_file(&b->tar, name, manifest.data, manifest.len);
	buf_printf(&index,
		   "{\"manifests\":[{\"digest\":\"%s\",\"size\":%zu},{\"digest\":\"sha256:%064d\",\"size\":5}]}",
		   digest, manifest.len, 0);
	build_file(&b->tar, "index.json", index.data, index.len);
	build_manifest(&b->tar, &b->from, (const char *const[]){ b->layer_name }, 1);
	build_end(&b->tar);
}

static void
both_free(struct both *b)
{
	build_image_free(&b->from);
	buf_free(&b->tar);
}

#define ZERO_DIGEST "sha256:0000000000000000000000000000000000000000000000000000000000000000"

static void
both_layouts_in_one_archive_must_agree(void **state)
{
	struct world w;
	struct both b;
	(void)state;

	world_init(&w);
	both_init(&b, NULL, NULL, "application/vnd.oci.image.layer.v1.tar");
	check_layout(expect_image(&w, "a.tar", &b.tar), &b.from);
	both_free(&b);
	both_init(&b, ZERO_DIGEST, NULL, "application/vnd.oci.image.layer.v1.tar");
	expect_refusal(&b.tar, ERR_REFUSED, "index.json: it does not name the image of manifest.json");
	both_free(&b);
	both_init(&b, NULL, ZERO_DIGEST, "application/vnd.oci.image.layer.v1.tar");
	expect_refusal(&b.tar, ERR_REFUSED, "missing layer: layer 1 of 1 (sha256:0000");
	both_free(&b);
	/* What is called an attestation and holds a layer is an image all the same. */
	both_init(&b, NULL, NULL, "application/vnd.in-toto+json");
	check_layout(expect_image(&w, "b.tar", &b.tar), &b.from);
	both_free(&b);
	world_free(&w);
}

/* --- names --- */

static void
images_are_named_after_tag_archive_and_platform(void **state)
{
	static const struct {
		const char *stem, *tag, *platform, *name, *report;
	} cases[] = {
		{ "all", "", "", "all", "all" },
		{ "all", "registry.example.com:5000/group/app:1.0", "",
		  "registry.example.com:5000/group/app:1.0", "all-app-1.0" },
		{ "oci", "1.0", "", "oci:1.0", "oci-1.0" },
		{ "oci", "", "linux/arm64/v8", "oci", "oci-linux-arm64-v8" },
		{ "oci", "app@sha256:00", "linux/amd64", "app@sha256:00", "oci-app-sha256-00-linux-amd64" },
	};
	(void)state;

	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *name = image_full_name(cases[i].stem, cases[i].tag);
		AUTO_FREE char *report = image_report_stem(cases[i].stem, cases[i].tag, cases[i].platform);

		assert_string_equal(name, cases[i].name);
		assert_string_equal(report, cases[i].report);
	}
	assert_true(image_is_same_name("docker.io/library/app:1", "app:1"));
	assert_true(image_is_same_name("docker.io/group/app:1", "group/app:1"));
	assert_false(image_is_same_name("app:1", "app:2"));
}

static void
a_report_of_long_names_is_a_file_name_still(void **state)
{
	char stem[201], tag[513];
	AUTO_FREE char *report = NULL;
	(void)state;

	memset(stem, 's', sizeof(stem) - 1);
	memset(tag, 't', sizeof(tag) - 1);
	stem[200] = tag[512] = '\0';
	report = image_report_stem(stem, tag, "linux/amd64");
	assert_in_range(strlen(report), 100, 200);
	assert_true(str_has_suffix(report, "-linux-amd64"));
}

static void
platforms_are_matched_part_by_part(void **state)
{
	static const struct {
		const char *asked, *platform;
		bool is_match;
	} cases[] = {
		{ "all", "windows/amd64", true },	{ "linux", "linux/arm64/v8", true },
		{ "linux/arm", "linux/arm64", false },	{ "linux/arm64", "linux/arm64/v8", true },
		{ "linux/amd64", "linux/amd64", true }, { "linux/amd64/v2", "linux/amd64", false },
		{ "linux", "windows/amd64", false },	{ "windows", "", true },
	};
	(void)state;

	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_STRV struct strv asked = { 0 };

		strv_add(&asked, cases[i].asked);
		assert_int_equal(image_is_platform(&asked, cases[i].platform), cases[i].is_match);
	}
}

static void
repositories_are_told_from_registries(void **state)
{
	static const char *const cases[][2] = {
		{ "registry.example.com:5000/group/app:1", "group/app" },
		{ "registry.example.com/group/app@sha256:00", "group/app" },
		{ "localhost/app:1", "app" },
		{ "group/app:1", "group/app" },
		{ "app:1", "app" },
		{ "app", "app" },
		{ "host:5000/app", "app" },
		{ "group/app:1@sha256:00", "group/app" },
	};
	(void)state;

	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *got = image_repository(cases[i][0]);

		assert_string_equal(got, cases[i][1]);
	}
}

static void
stems_are_fit_for_file_names(void **state)
{
	static const char *const cases[][2] = {
		{ "tar_images/app.tar", "app" },
		{ "app.tar.gz", "app" },
		{ "a/b/app.tgz", "app" },
		{ "app", "app" },
		{ "x/.tar", "_tar" },
		{ "-rf.tar", "_rf" },
		{ "größe.tar", "größe" },
		{ "a\nb.tar", "a_b" },
		{ "caf\xe9.tar", "caf_" },
		{ "app .tar", "app" },
		{ " app.tar", "app" },
		{ "  .tar", "image" },
	};
	AUTO_FREE char *longest = mem_alloc(400);
	AUTO_FREE char *cut = NULL;
	(void)state;

	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *got = image_stem(cases[i][0]);

		assert_string_equal(got, cases[i][1]);
	}
	for (size_t i = 0; i < 300; i += 2)
		memcpy(longest + 1 + i, "ö", 2);
	longest[0] = 'x';
	cut = image_stem(longest);
	assert_int_equal(strlen(cut), 199);
	assert_true(str_is_utf8(cut, strlen(cut)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_docker_archive_becomes_a_layout_of_the_same_bytes),
		cmocka_unit_test(layers_behind_links_are_followed_within_the_archive),
		cmocka_unit_test(an_image_without_layers_is_read),
		cmocka_unit_test(a_forged_layer_is_named_with_both_digests),
		cmocka_unit_test(a_config_that_is_not_what_its_name_says_is_refused),
		cmocka_unit_test(a_file_cannot_be_two_different_layers),
		cmocka_unit_test(a_name_that_is_a_digest_must_be_true),
		cmocka_unit_test(every_rule_for_entries_has_its_refusal),
		cmocka_unit_test(a_manifest_that_readers_take_differently_is_refused),
		cmocka_unit_test(a_name_that_an_engine_would_clean_counts_as_an_image),
		cmocka_unit_test(a_layout_that_names_no_image_is_none),
		cmocka_unit_test(a_compressed_archive_that_is_cut_is_no_image),
		cmocka_unit_test(a_tar_without_image_is_ignored_but_in_tar_images),
		cmocka_unit_test(what_is_larger_than_allowed_is_refused),
		cmocka_unit_test(a_bomb_is_refused_by_its_ratio),
		cmocka_unit_test(an_outer_gzip_is_content_to_its_last_byte),
		cmocka_unit_test(more_archives_than_allowed_are_not_inspected),
		cmocka_unit_test(a_file_that_changed_since_it_was_opened_is_refused),
		cmocka_unit_test(both_layouts_in_one_archive_must_agree),
		cmocka_unit_test(images_are_named_after_tag_archive_and_platform),
		cmocka_unit_test(a_report_of_long_names_is_a_file_name_still),
		cmocka_unit_test(platforms_are_matched_part_by_part),
		cmocka_unit_test(repositories_are_told_from_registries),
		cmocka_unit_test(stems_are_fit_for_file_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
