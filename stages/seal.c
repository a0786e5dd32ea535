#include "stages/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "TWMAC1 "
#define KEY_ID_LEN 16
#define MAC_LEN 64

_Static_assert(SEAL_LEN == sizeof(MAGIC) - 1 + KEY_ID_LEN + 1 + MAC_LEN + 1, "as seal.h has it");

static void
hmac_hex(const char *mac_key, const void *p, size_t n, char ret[MAC_LEN + 1])
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!HMAC(EVP_sha256(), mac_key, (int)strlen(mac_key), p, n, mac, &len) || len * 2 != MAC_LEN)
		abort();
	for (unsigned k = 0; k < len; k++)
		snprintf(ret + 2 * (size_t)k, 3, "%02x", mac[k]);
}

static void
key_id(const char *mac_key, char ret[KEY_ID_LEN + 1])
{
	static const char what[] = "tidewaiter result key id 1";
	char mac[MAC_LEN + 1];

	hmac_hex(mac_key, what, sizeof(what), mac);
	snprintf(ret, KEY_ID_LEN + 1, "%.*s", KEY_ID_LEN, mac);
}

static void
seal_of(const char *mac_key, const char *kind, const char *name, const char *entry, size_t len,
	char ret[SEAL_LEN + 1])
{
	AUTO_BUF struct buf b = BUF_INIT(len + strlen(kind) + strlen(name) + 64);
	char id[KEY_ID_LEN + 1], mac[MAC_LEN + 1];

	key_id(mac_key, id);
	buf_printf(&b, "tidewaiter %s 1\n%s\n%s\n", kind, id, name);
	buf_add(&b, entry, len);
	if (b.is_full)
		abort();
	hmac_hex(mac_key, b.data, b.len, mac);
	snprintf(ret, SEAL_LEN + 1, MAGIC "%s %s\n", id, mac);
}

void
seal_add(const char *mac_key, const char *kind, const char *name, const char *entry, size_t len,
	 struct buf *out)
{
	char seal[SEAL_LEN + 1];

	seal_of(mac_key, kind, name, entry, len, seal);
	buf_add(out, seal, SEAL_LEN);
	buf_add(out, entry, len);
}

bool
seal_open(const char *mac_key, const char *kind, const char *name, const char *sealed, size_t len,
	  const char **ret_entry, size_t *ret_len)
{
	char seal[SEAL_LEN + 1];

	if (len < SEAL_LEN)
		return false;
	seal_of(mac_key, kind, name, sealed + SEAL_LEN, len - SEAL_LEN, seal);
	if (CRYPTO_memcmp(seal, sealed, SEAL_LEN) != 0)
		return false;
	*ret_entry = sealed + SEAL_LEN;
	*ret_len = len - SEAL_LEN;
	return true;
}
