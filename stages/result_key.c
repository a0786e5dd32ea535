#include "stages/result_key.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/hash.h"

#define DAY_S 86400

static void
digits_of(const void *p, size_t n, char ret[RESULT_KEY_LEN + 1])
{
	char digest[HASH_DIGEST_MAX];

	hash_of(HASH_SHA256, p, n, digest);
	snprintf(ret, RESULT_KEY_LEN + 1, "%.*s", RESULT_KEY_LEN, digest + strlen("sha256:"));
}

int
result_source_of_program(const struct result_cache *memo, int fd, struct result_source *ret, struct err *e)
{
	AUTO_FREE char *known = NULL;
	AUTO_FREE char *identity = NULL;
	char name[RESULT_KEY_LEN + 1], digest[HASH_DIGEST_MAX];
	struct fs_identity id;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "Trivy");
	fs_identity_of(&st, &id);
	identity = mem_printf("program %ju %ju %jd %jd %jd", (uintmax_t)id.dev, (uintmax_t)id.ino,
			      (intmax_t)id.size, (intmax_t)id.mtime_ns, (intmax_t)id.ctime_ns);
	digits_of(identity, strlen(identity), name);
	known = result_cache_recall(memo, name);
	if (!known) {
		if (hash_of_fd(HASH_SHA256, fd, digest, e) < 0)
			return err_wrap(e, "Trivy");
		known = mem_strdup(digest);
		result_cache_remember(memo, name, known);
	}
	snprintf(ret->program, sizeof(ret->program), "%s", known);
	return 0;
}

static void
add_db(struct buf *b, const char *what, const struct trivy_db *db)
{
	buf_printf(b, "%s %jd %jd %ju\n", what, (intmax_t)db->schema, (intmax_t)db->updated_s,
		   (uintmax_t)db->size);
}

void
result_key(const struct trivy *t, const struct result_source *s, int64_t now_s, const char *config_digest,
	   char ret[RESULT_KEY_LEN + 1])
{
	AUTO_BUF struct buf b = BUF_INIT(65536);

	buf_printf(&b, "tidewaiter result %d\nimage %s\nprogram %s\nserver %s\nday %jd\n", RESULT_FORMAT,
		   config_digest, s->program, s->server, (intmax_t)(now_s / DAY_S));
	add_db(&b, "db", &s->db);
	add_db(&b, "java", &s->java);
	trivy_describe(t, &b);
	digits_of(b.data, b.len, ret);
}
