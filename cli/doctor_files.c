/*
 * The files that the settings name for talking to others, seen as the courier sees them, who reads them: are they there, his
 * alone where they are secrets, and what they should be?
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "stages/seal.h"

#define FILE_MAX (4 * 1024 * 1024) /* bytes; the system's CA certificates have 220 KB */
#define EXPIRES_SOON_S (30 * INT64_C(86400))

enum content {
	CONTENT_TOKEN,	     /* one line */
	CONTENT_SHARED_KEY,  /* long enough for a MAC */
	CONTENT_PRIVATE_KEY, /* PEM, without a passphrase */
	CONTENT_SSH_KEY,
	CONTENT_CERTIFICATES, /* PEM, one or more */
	CONTENT_KNOWN_HOSTS,
};

struct named_file {
	const char *key;
	size_t offset; /* in struct options, a char * */
	enum content content;
};

#define DOJO(member) offsetof(struct options, defectdojo.member)
#define POLICY(member) offsetof(struct options, policy.member)
#define TRIVY(member) offsetof(struct options, trivy.member)
static const struct named_file named_files[] = {
	{ "defectdojo.token_file", DOJO(token_file), CONTENT_TOKEN },
	{ "defectdojo.ca_file", DOJO(ca_file), CONTENT_CERTIFICATES },
	{ "defectdojo.client_cert_file", DOJO(client_cert_file), CONTENT_CERTIFICATES },
	{ "defectdojo.client_key_file", DOJO(client_key_file), CONTENT_PRIVATE_KEY },
	{ "defectdojo.redis_key_file", DOJO(redis_key_file), CONTENT_SHARED_KEY },
	{ "defectdojo.redis_auth_file", DOJO(redis_auth_file), CONTENT_TOKEN },
	{ "defectdojo.redis_ca_file", DOJO(redis_ca_file), CONTENT_CERTIFICATES },
	{ "policy.credentials_file", POLICY(credentials_file), CONTENT_TOKEN },
	{ "policy.ssh_key_file", POLICY(ssh_key_file), CONTENT_SSH_KEY },
	{ "policy.known_hosts_file", POLICY(known_hosts_file), CONTENT_KNOWN_HOSTS },
	{ "policy.ca_file", POLICY(ca_file), CONTENT_CERTIFICATES },
	{ "trivy.results_key_file", TRIVY(results_key_file), CONTENT_SHARED_KEY },
	{ "trivy.results_auth_file", TRIVY(results_auth_file), CONTENT_TOKEN },
	{ "trivy.results_ca_file", TRIVY(results_ca_file), CONTENT_CERTIFICATES },
	{ "trivy.server_token_file", TRIVY(server_token_file), CONTENT_TOKEN },
	{ "trivy.server_ca_file", TRIVY(server_ca_file), CONTENT_CERTIFICATES },
};

static bool
is_secret(enum content content)
{
	return content == CONTENT_TOKEN || content == CONTENT_SHARED_KEY || content == CONTENT_PRIVATE_KEY ||
	       content == CONTENT_SSH_KEY;
}

/* ---- PEM ---- */

static int
no_passphrase(char *to, int size, int is_writing, void *arg)
{
	(void)to;
	(void)size;
	(void)is_writing;
	(void)arg;
	return -1;
}

static EVP_PKEY *
read_key(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return key;
}

/* The end of the first certificate that is to end, in ret_end_s; how many there are. */
static size_t
read_certificates(const char *text, int64_t *ret_end_s)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	X509 *x;
	size_t n = 0;

	while (bio && (x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
		struct tm tm = { 0 };
		int64_t end_s = ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) : 0;

		*ret_end_s = n++ == 0 || end_s < *ret_end_s ? end_s : *ret_end_s;
		X509_free(x);
	}
	BIO_free(bio);
	ERR_clear_error();
	return n;
}

/* The first one is that of the key. */
static bool
is_pair(const char *certificate, const char *key)
{
	BIO *bio = BIO_new_mem_buf(certificate, -1);
	X509 *x = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
	EVP_PKEY *pkey = read_key(key);
	bool is_so = x && pkey && X509_check_private_key(x, pkey) == 1;

	EVP_PKEY_free(pkey);
	X509_free(x);
	BIO_free(bio);
	ERR_clear_error();
	return is_so;
}

/* ---- one file ---- */

static void
check_certificates(struct checkup *c, const struct named_file *f, const char *path, const char *text)
{
	int64_t end_s = 0, left_s;
	size_t n = read_certificates(text, &end_s);
	char end[32];

	left_s = end_s - clock_wall_s();
	clock_format_rfc3339(end_s, end);
	if (n == 0)
		checkup_fail(c, "files", "put certificates in PEM into it (-----BEGIN CERTIFICATE-----)",
			     "%s: %s holds no certificate", f->key, path);
	else if (left_s <= 0)
		/* Of several CA certificates an old one may stand beside the one that counts. */
		(n == 1 ? checkup_fail : checkup_warn)(c, "files", "put the new certificate into it",
						       "%s: %s: %s ended at %s", f->key, path,
						       n == 1 ? "the certificate" : "one of its certificates",
						       end);
	else if (left_s < EXPIRES_SOON_S)
		checkup_warn(c, "files", "have it renewed before", "%s: %s: a certificate ends at %s", f->key,
			     path, end);
	else
		checkup_ok(c, "files", "%s: %s: %zu certificate%s, the first to end does at %s", f->key, path,
			   n, n == 1 ? "" : "s", end);
}

static void
check_private_key(struct checkup *c, const struct named_file *f, const char *path, const char *text)
{
	EVP_PKEY *key = read_key(text);

	if (!key)
		checkup_fail(c, "files",
			     "put the key in PEM into it, without a passphrase: openssl pkey -in OLD -out NEW",
			     "%s: %s holds no private key that can be read", f->key, path);
	else
		checkup_ok(c, "files", "%s: %s: a private key", f->key, path);
	EVP_PKEY_free(key);
}

static bool
has_known_host(const char *text)
{
	while (*text) {
		const char *line = text + strspn(text, " \t");

		if (*line && *line != '#' && *line != '\n' && memchr(line, ' ', strcspn(line, "\n")))
			return true;
		text += strcspn(text, "\n");
		text += *text != '\0';
	}
	return false;
}

static void
check_content(struct checkup *c, const struct named_file *f, const char *path, const char *text)
{
	switch (f->content) {
	case CONTENT_TOKEN:
		if (!*text || strpbrk(text, "\r\n"))
			checkup_fail(c, "files", "put the one line into it that it is for, and nothing else",
				     "%s: %s has %s", f->key, path,
				     *text ? "more than one line" : "nothing in it");
		else
			checkup_ok(c, "files", "%s: %s", f->key, path);
		return;
	case CONTENT_SHARED_KEY:
		if (strlen(text) < SEAL_KEY_MIN)
			checkup_fail(c, "files", "write a key of its own: openssl rand -hex 32",
				     "%s: %s holds %zu characters, needed are %d or more", f->key, path,
				     strlen(text), SEAL_KEY_MIN);
		else
			checkup_ok(c, "files", "%s: %s", f->key, path);
		return;
	case CONTENT_PRIVATE_KEY:
		check_private_key(c, f, path, text);
		return;
	case CONTENT_SSH_KEY:
		if (!strstr(text, "-----BEGIN ") || !strstr(text, "PRIVATE KEY-----"))
			checkup_fail(c, "files", "put the private key into it, not the .pub beside it",
				     "%s: %s holds no private key", f->key, path);
		else
			checkup_ok(c, "files", "%s: %s", f->key, path);
		return;
	case CONTENT_CERTIFICATES:
		check_certificates(c, f, path, text);
		return;
	case CONTENT_KNOWN_HOSTS:
		if (!has_known_host(text))
			checkup_fail(c, "files", "ssh-keyscan HOST, compared with what its owner publishes",
				     "%s: %s names no host", f->key, path);
		else
			checkup_ok(c, "files", "%s: %s", f->key, path);
		return;
	}
}

static const char *
path_of(const struct options *o, size_t offset)
{
	return *(char *const *)(const void *)((const char *)o + offset);
}

static int
read_text(const struct named_file *f, const char *path, char **ret, struct err *e)
{
	size_t len;

	return is_secret(f->content) ? fs_read_secret(path, ret, e)
				     : fs_read_named(path, FILE_MAX, ret, &len, e);
}

static void
wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	mem_free_at(text);
}
#define AUTO_WIPED __attribute__((cleanup(wipe)))

static void
check_file(struct checkup *c, const struct settings *s, const struct named_file *f)
{
	const char *path = path_of(&s->opt, f->offset);
	AUTO_WIPED char *text = NULL;
	struct err e = ERR_INIT;

	if (str_is_empty(path))
		return;
	if (read_text(f, path, &text, &e) == 0) {
		check_content(c, f, path, text);
		return;
	}
	checkup_fail(c, "files",
		     e.no == ENOENT ? "put it there, or take the setting out"
		     : is_secret(f->content)
			     ? "sudo tidewaiter setup gives it to the courier, with mode 0640"
			     : "make it, and the directories above it, readable for the courier",
		     "%s: %s", f->key, e.text);
}

static void
check_pair(struct checkup *c, const struct options_defectdojo *o)
{
	AUTO_WIPED char *certificate = NULL, *key = NULL;
	struct err ignored = ERR_INIT;
	size_t len;

	if (str_is_empty(o->client_cert_file) || str_is_empty(o->client_key_file))
		return;
	if (fs_read_named(o->client_cert_file, FILE_MAX, &certificate, &len, &ignored) < 0 ||
	    fs_read_secret(o->client_key_file, &key, &ignored) < 0)
		return; /* told above */
	if (!is_pair(certificate, key))
		checkup_fail(c, "files", "name the two that were made for each other",
			     "defectdojo.client_key_file is not the key of the first certificate in client_cert_file");
}

void
doctor_files(struct checkup *c, const struct settings *s)
{
	for (size_t k = 0; k < MEM_COUNT(named_files); k++)
		check_file(c, s, &named_files[k]);
	check_pair(c, &s->opt.defectdojo);
}
