#include "stages/result_entry.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <zstd.h>

#include "base/hash.h"
#include "base/mem.h"

#define MAGIC "TWRESULT"
#define LEVEL 3
#define SUM_LEN 32

struct head {
	char magic[8];
	uint32_t version, zero; /* little endian, as is the length */
	char key[RESULT_KEY_LEN];
	uint64_t json_len;
};
_Static_assert(sizeof(struct head) == 88, "no padding in what is kept");

static void
checksum(const char *p, size_t n, char out[SUM_LEN])
{
	char digest[HASH_DIGEST_MAX];
	const char *hex = digest + strlen("sha256:");

	hash_of(HASH_SHA256, p, n, digest);
	for (size_t k = 0; k < SUM_LEN; k++) {
		unsigned hi = (unsigned char)hex[2 * k], lo = (unsigned char)hex[2 * k + 1];

		hi = hi <= '9' ? hi - '0' : hi - 'a' + 10;
		lo = lo <= '9' ? lo - '0' : lo - 'a' + 10;
		out[k] = (char)(hi << 4 | lo);
	}
}

void
result_pack(const char *key, const char *json, size_t len, struct buf *out)
{
	struct head h = { .version = htole32(RESULT_FORMAT), .json_len = htole64(len) };
	size_t bound = ZSTD_compressBound(len), start = out->len, n;
	AUTO_FREE char *packed = mem_alloc(bound);
	char sum[SUM_LEN];

	memcpy(h.magic, MAGIC, sizeof(h.magic));
	memcpy(h.key, key, sizeof(h.key));
	n = ZSTD_compress(packed, bound, json, len, LEVEL);
	if (ZSTD_isError(n)) {
		out->is_full = true;
		return;
	}
	buf_add(out, &h, sizeof(h));
	buf_add(out, packed, n);
	if (out->is_full)
		return;
	checksum(out->data + start, out->len - start, sum);
	buf_add(out, sum, sizeof(sum));
}

bool
result_unpack(const char *key, const char *entry, size_t len, struct buf *json)
{
	AUTO_FREE char *text = NULL;
	struct head h;
	char sum[SUM_LEN];
	size_t n;

	if (len < sizeof(h) + SUM_LEN || len > RESULT_ENTRY_MAX)
		return false;
	memcpy(&h, entry, sizeof(h));
	if (memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 || le32toh(h.version) != RESULT_FORMAT || h.zero ||
	    memcmp(h.key, key, sizeof(h.key)) != 0 || le64toh(h.json_len) > json->max)
		return false;
	checksum(entry, len - SUM_LEN, sum);
	if (memcmp(sum, entry + len - SUM_LEN, SUM_LEN) != 0)
		return false;
	text = mem_alloc((size_t)le64toh(h.json_len) + 1);
	n = ZSTD_decompress(text, (size_t)le64toh(h.json_len), entry + sizeof(h), len - sizeof(h) - SUM_LEN);
	if (ZSTD_isError(n) || n != le64toh(h.json_len))
		return false;
	buf_reset(json);
	buf_add(json, text, n);
	return !json->is_full;
}
