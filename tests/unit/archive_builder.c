#include "tests/unit/archive_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define CHECK(x)                                             \
	do {                                                 \
		if (!(x)) {                                  \
			fprintf(stderr, "failed: " #x "\n"); \
			abort();                             \
		}                                            \
	} while (0)

static void
put(char *block, size_t at, size_t width, const char *s)
{
	size_t n = s ? strlen(s) : 0;

	memcpy(block + at, s ? s : "", n < width ? n : width);
}

void
build_header(struct buf *tar, const struct build_header *h)
{
	char block[512] = { 0 };
	long sum = h->checksum_off;

	put(block, 0, 100, h->name);
	put(block, 100, 8, "0000644");
	put(block, 108, 8, "0000000");
	put(block, 116, 8, "0000000");
	snprintf(block + 124, 12, "%011llo", (unsigned long long)h->size);
	if (h->size_field)
		memcpy(block + 124, h->size_field, 12);
	put(block, 136, 12, "00000000000");
	memset(block + 148, ' ', 8);
	block[156] = h->type ? h->type : '0';
	put(block, 157, 100, h->link);
	memcpy(block + 257, h->magic ? h->magic : "ustar\00000", 8);
	put(block, 345, 155, h->prefix);
	for (size_t i = 0; i < sizeof(block); i++)
		sum += (unsigned char)block[i];
	snprintf(block + 148, 8, "%06lo", (unsigned long)sum & 0777777);
	block[155] = ' ';
	buf_add(tar, block, sizeof(block));
}

void
build_entry(struct buf *tar, const struct build_header *h, const void *p, size_t n)
{
	static const char zeros[512];
	struct build_header copy = *h;

	copy.size = n;
	build_header(tar, &copy);
	buf_add(tar, p, n);
	buf_add(tar, zeros, -n & 511);
}

void
build_file(struct buf *tar, const char *name, const void *p, size_t n)
{
	const struct build_header h = { .name = name };

	build_entry(tar, &h, p, n);
}

void
build_text(struct buf *tar, const char *name, const char *text)
{
	build_file(tar, name, text, strlen(text));
}

void
build_link(struct buf *tar, char type, const char *name, const char *to)
{
	const struct build_header h = { .name = name, .link = to, .type = type };

	build_header(tar, &h);
}

void
build_pax_record(struct buf *text, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, len = rest + 1;
	char digits[24];

	while (len != rest + (size_t)snprintf(digits, sizeof(digits), "%zu", len))
		len = rest + strlen(digits);
	buf_printf(text, "%zu %s=%s\n", len, key, value);
}

void
build_pax(struct buf *tar, char type, const struct buf *records)
{
	const struct build_header h = { .name = "PaxHeaders/x", .type = type };

	build_entry(tar, &h, records->data, records->len);
}

void
build_end(struct buf *tar)
{
	static const char zeros[BUILD_END];

	buf_add(tar, zeros, sizeof(zeros));
}

struct options_images
build_limits(void)
{
	return (struct options_images){ .max_size = 64 << 20,
					.max_layers = 5,
					.max_entries = 40,
					.max_images = 8,
					.max_layer_size = 16 << 20,
					.max_name = 4096,
					.max_pax = 1 << 20,
					.max_json = 2 << 20,
					.max_json_depth = 64,
					.max_index_depth = 4,
					.max_manifests = 32,
					.max_link_chain = 8,
					.max_ratio = 1000,
					.max_window = 1 << 20,
					.threads = 2 };
}

void
build_gzip(struct buf *out, const void *p, size_t n)
{
	z_stream z = { 0 };
	unsigned char chunk[65536];
	int rc;

	CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	do {
		z.next_out = chunk;
		z.avail_out = sizeof(chunk);
		rc = deflate(&z, Z_FINISH);
		buf_add(out, chunk, sizeof(chunk) - z.avail_out);
	} while (rc == Z_OK);
	CHECK(rc == Z_STREAM_END);
	deflateEnd(&z);
}

void
build_image_init(struct build_image *m, size_t n)
{
	build_image_init_sized(m, n, 0);
}

void
build_image_init_sized(struct build_image *m, size_t n, size_t size)
{
	AUTO_BUF struct buf content = BUF_INIT(BUILD_MAX);

	*m = (struct build_image){ .n = n, .config = BUF_INIT(BUILD_MAX) };
	buf_add_str(&m->config,
		    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
	for (size_t i = 0; i < n; i++) {
		m->layers[i] = (struct buf)BUF_INIT(BUILD_MAX);
		buf_reset(&content);
		do
			buf_printf(&content, "content of layer %zu\n", i);
		while (content.len < size);
		build_file(&m->layers[i], "etc/file", content.data, content.len);
		build_end(&m->layers[i]);
		hash_of(HASH_SHA256, m->layers[i].data, m->layers[i].len, m->digests[i]);
		buf_printf(&m->config, "%s\"%s\"", i ? "," : "", m->digests[i]);
	}
	buf_add_str(&m->config, "]},\"history\":[");
	for (size_t i = 0; i < n; i++)
		buf_printf(&m->config, "%s{\"created_by\":\"step %zu\"}", i ? "," : "", i);
	buf_add_str(&m->config, "]}");
	hash_of(HASH_SHA256, m->config.data, m->config.len, m->config_digest);
}

void
build_image_free(struct build_image *m)
{
	for (size_t i = 0; i < m->n; i++)
		buf_free(&m->layers[i]);
	buf_free(&m->config);
}

void
build_docker_archive(struct buf *tar, const struct build_image *m)
{
	struct buf manifest = BUF_INIT(BUILD_MAX);
	char name[128];

	buf_printf(&manifest,
		   "[{\"Config\":\"%s.json\",\"RepoTags\":[\"registry.example.org/group/app:1\"],\"Layers\":[",
		   m->config_digest + 7);
	for (size_t i = 0; i < m->n; i++) {
		snprintf(name, sizeof(name), "%.64s.tar", m->digests[i] + 7);
		build_file(tar, name, m->layers[i].data, m->layers[i].len);
		buf_printf(&manifest, "%s\"%s\"", i ? "," : "", name);
	}
	buf_add_str(&manifest, "]}]");
	snprintf(name, sizeof(name), "%.64s.json", m->config_digest + 7);
	build_file(tar, name, m->config.data, m->config.len);
	build_file(tar, "manifest.json", manifest.data, manifest.len);
	buf_free(&manifest);
}

int
build_fd(const void *p, size_t n)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	CHECK(fd >= 0);
	for (size_t done = 0; done < n;) {
		ssize_t wrote = write(fd, (const char *)p + done, n - done);

		CHECK(wrote > 0);
		done += (size_t)wrote;
	}
	return fd;
}
