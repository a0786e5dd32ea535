#include "base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define READ_SIZE (256 * 1024)

struct hash {
	EVP_MD_CTX *ctx;
	const EVP_MD *md;
	const char *name;
};

static void
start(struct hash *h)
{
	if (EVP_DigestInit_ex(h->ctx, h->md, NULL) != 1)
		abort(); /* only out of memory */
}

struct hash *
hash_new(enum hash_algo algo)
{
	struct hash *h = mem_alloc(sizeof(*h));

	h->md = algo == HASH_SHA256 ? EVP_sha256() : EVP_sha512();
	h->name = algo == HASH_SHA256 ? "sha256" : "sha512";
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx)
		abort();
	start(h);
	return h;
}

void
hash_update(struct hash *h, const void *p, size_t n)
{
	if (EVP_DigestUpdate(h->ctx, p, n) != 1)
		abort();
}

void
hash_digest(struct hash *h, char out[HASH_DIGEST_MAX])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	char *p = stpcpy(out, h->name);

	if (EVP_DigestFinal_ex(h->ctx, sum, &n) != 1)
		abort();
	*p++ = ':';
	for (unsigned int i = 0; i < n; i++) {
		*p++ = hex[sum[i] >> 4];
		*p++ = hex[sum[i] & 15];
	}
	*p = '\0';
	start(h);
}

void
hash_free(struct hash *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

void
hash_of(enum hash_algo algo, const void *p, size_t n, char out[HASH_DIGEST_MAX])
{
	struct hash *h = hash_new(algo);

	hash_update(h, p, n);
	hash_digest(h, out);
	hash_free(h);
}

int
hash_of_fd(enum hash_algo algo, int fd, char out[HASH_DIGEST_MAX], struct err *e)
{
	struct hash *h = hash_new(algo);
	AUTO_FREE char *block = mem_alloc(READ_SIZE);
	off_t at = 0;
	ssize_t n;

	for (;;) {
		n = pread(fd, block, READ_SIZE, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		hash_update(h, block, (size_t)n);
		at += n;
	}
	if (n == 0)
		hash_digest(h, out);
	hash_free(h);
	return n < 0 ? err_errno(e, "read") : 0;
}

int
hash_parse_digest(const char *digest, enum hash_algo *ret_algo, const char **ret_hex)
{
	static const struct {
		const char *prefix;
		size_t hex_len;
		enum hash_algo algo;
	} kinds[] = { { "sha256:", 64, HASH_SHA256 }, { "sha512:", 128, HASH_SHA512 } };

	for (size_t i = 0; i < MEM_COUNT(kinds); i++) {
		const char *hex;

		if (!str_has_prefix(digest, kinds[i].prefix))
			continue;
		hex = digest + strlen(kinds[i].prefix);
		if (strlen(hex) != kinds[i].hex_len || !str_is_hex(hex, kinds[i].hex_len))
			return -1;
		*ret_algo = kinds[i].algo;
		*ret_hex = hex;
		return 0;
	}
	return -1;
}
