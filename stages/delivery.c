#include "stages/delivery.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "stages/options.h"

#define FORMAT 1
/* A head that claims more findings than this is no head of ours. */
#define FINDINGS_MAX 10000000

/* The strings of a head, and how many code points DefectDojo takes (0: not sent, or any). */
static const struct text_field {
	const char *name;
	size_t offset;
	size_t max;
} text_fields[] = {
	{ "server", offsetof(struct delivery, server), 0 },
	{ "token_file", offsetof(struct delivery, token_file), 0 },
	{ "project", offsetof(struct delivery, project), 0 },
	{ "product_type", offsetof(struct delivery, product_type), 255 },
	{ "product", offsetof(struct delivery, product), 255 },
	{ "engagement", offsetof(struct delivery, engagement), 300 },
	{ "test", offsetof(struct delivery, test), 255 },
	{ "service", offsetof(struct delivery, service), 200 },
	{ "environment", offsetof(struct delivery, environment), 200 },
	{ "version", offsetof(struct delivery, version), 100 },
	{ "branch", offsetof(struct delivery, branch), 150 },
	{ "commit", offsetof(struct delivery, commit), 150 },
	{ "build_id", offsetof(struct delivery, build_id), 150 },
	{ "minimum_severity", offsetof(struct delivery, minimum_severity), 0 },
};

static char **
text_at(struct delivery *d, const struct text_field *f)
{
	return (char **)(void *)((char *)d + f->offset);
}

static const char *
text_of(const struct delivery *d, const struct text_field *f)
{
	const char *s = *(char *const *)(const void *)((const char *)d + f->offset);

	return s ? s : "";
}

void
delivery_free(struct delivery *d)
{
	for (size_t i = 0; i < MEM_COUNT(text_fields); i++)
		mem_free_at(text_at(d, &text_fields[i]));
	strv_free(&d->tags);
	mem_free_at(&d->report);
	d->report_len = 0;
}

void
delivery_file_close(struct delivery_file *f)
{
	mem_close_at(&f->fd);
}

static char *
print_head(const struct delivery *d)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();

	json_add_int(j, "format", FORMAT);
	for (size_t i = 0; i < MEM_COUNT(text_fields); i++)
		json_add_str(j, text_fields[i].name, text_of(d, &text_fields[i]));
	json_add_strv(j, "tags", &d->tags);
	json_add_int(j, "active", d->active);
	json_add_int(j, "verified", d->verified);
	json_add_bool(j, "keeps_old", d->keeps_old);
	json_add_int(j, "created_s", d->created_s);
	json_add_int(j, "n_findings", d->n_findings);
	json_add_int(j, "n_distinct", d->n_distinct);
	json_add_bool(j, "keep_text", d->keep_text);
	json_add_int(j, "timeout_ms", d->timeout_ms);
	json_add_int(j, "age_max_s", d->age_max_s);
	json_add_int(j, "report_len", (int64_t)d->report_len);
	return json_print(j);
}

/* C0 and DEL: DefectDojo strips some, a database refuses others, a terminal obeys all. */
static void
replace_controls(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
	}
}

static int
need_range(const cJSON *j, const char *name, int64_t max, int64_t *ret, struct err *e)
{
	if (json_need_int(j, name, ret, e) < 0)
		return -1;
	if (*ret < 0 || *ret > max)
		return err_set(e, ERR_REFUSED, "%s is %lld, expected 0 to %lld", name, (long long)*ret,
			       (long long)max);
	return 0;
}

static int
read_tags(const cJSON *j, struct strv *ret, struct err *e)
{
	const cJSON *tags = json_array(j, "tags");

	if (!tags || cJSON_GetArraySize(tags) > DELIVERY_TAGS_MAX)
		return err_set(e, ERR_REFUSED, "tags: expected a list of at most %d", DELIVERY_TAGS_MAX);
	json_strv(j, "tags", ret);
	if (ret->n != (size_t)cJSON_GetArraySize(tags))
		return err_set(e, ERR_REFUSED, "tags: expected strings only");
	for (size_t i = 0; i < ret->n; i++)
		replace_controls(ret->v[i]);
	return 0;
}

static int
read_head(const cJSON *j, struct delivery *d, struct err *e)
{
	int64_t format, active, verified, report_len;

	if (need_range(j, "format", INT32_MAX, &format, e) < 0)
		return -1;
	if (format != FORMAT)
		return err_set(e, ERR_UNSUPPORTED,
			       "format %lld, expected %d: another version of Tidewaiter has written it",
			       (long long)format, FORMAT);
	for (size_t i = 0; i < MEM_COUNT(text_fields); i++) {
		const char *s;

		if (json_need_str(j, text_fields[i].name, &s, e) < 0)
			return -1;
		*text_at(d, &text_fields[i]) = mem_strdup(s);
		replace_controls(*text_at(d, &text_fields[i]));
	}
	if (read_tags(j, &d->tags, e) < 0 || need_range(j, "active", TRI_FALSE, &active, e) < 0 ||
	    need_range(j, "verified", TRI_FALSE, &verified, e) < 0 ||
	    need_range(j, "created_s", (int64_t)1 << 40, &d->created_s, e) < 0 ||
	    need_range(j, "n_findings", FINDINGS_MAX, &d->n_findings, e) < 0 ||
	    need_range(j, "report_len", DELIVERY_REPORT_MAX, &report_len, e) < 0)
		return -1;
	/* Younger than the format: what waits from before has none of these. */
	d->keeps_old = json_bool(j, "keeps_old", false);
	d->n_distinct = json_int(j, "n_distinct", 0);
	d->keep_text = json_bool(j, "keep_text", false);
	d->timeout_ms = json_int(j, "timeout_ms", 0);
	d->age_max_s = json_int(j, "age_max_s", -1);
	if (d->n_distinct < 0 || d->n_distinct > d->n_findings)
		return err_set(e, ERR_REFUSED, "n_distinct is %lld of %lld findings",
			       (long long)d->n_distinct, (long long)d->n_findings);
	d->active = (int)active;
	d->verified = (int)verified;
	d->report_len = (size_t)report_len;
	return 0;
}

int
delivery_parse_head(const char *text, size_t len, struct delivery *ret, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	AUTO_DELIVERY struct delivery d = { 0 };

	if (json_parse(text, len, DELIVERY_HEAD_MAX, JSON_UNIQUE, &j, e) < 0)
		return err_wrap(e, "head");
	if (!cJSON_IsObject(j))
		return err_set(e, ERR_REFUSED, "head: expected an object");
	if (read_head(j, &d, e) < 0) {
		/* Whatever is missing: these bytes will not become a delivery. */
		if (e && e->kind == ERR_FAILED)
			e->kind = ERR_REFUSED;
		return err_wrap(e, "head");
	}
	if (d.report_len == 0)
		return err_set(e, ERR_REFUSED, "head: the report is empty");
	*ret = d;
	d = (struct delivery){ 0 };
	return 0;
}

/* The head's bytes, newline not counted, or -1 with -ERR in e. */
static int
read_head_line(int fd, char *text, size_t *ret_len, struct err *e)
{
	size_t n = 0;
	const char *end;

	while (n < DELIVERY_HEAD_MAX + 1) {
		ssize_t got = pread(fd, text + n, DELIVERY_HEAD_MAX + 1 - n, (off_t)n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "read");
		if (got == 0)
			break;
		n += (size_t)got;
	}
	end = memchr(text, '\n', n);
	if (!end)
		return err_set(e, ERR_REFUSED, "no head within %d bytes", DELIVERY_HEAD_MAX);
	*ret_len = (size_t)(end - text);
	return 0;
}

static int
open_checked(int dirfd, const char *name, struct delivery *ret, struct delivery_file *ret_file, struct err *e)
{
	AUTO_FREE char *text = mem_alloc(DELIVERY_HEAD_MAX + 1);
	/* O_NONBLOCK: a FIFO in its place may not hold us. */
	AUTO_FD int fd = fs_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, e);
	AUTO_DELIVERY struct delivery d = { 0 };
	struct stat st;
	size_t len = 0;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat");
	if (st.st_nlink == 0) {
		errno = ENOENT; /* delivered meanwhile */
		return err_errno(e, "open");
	}
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return err_set(e, ERR_REFUSED, "not a regular file with one link");
	if (read_head_line(fd, text, &len, e) < 0 || delivery_parse_head(text, len, &d, e) < 0)
		return -1;
	if (st.st_size != (off_t)(len + 1 + d.report_len))
		return err_set(e, ERR_REFUSED, "its size is %lld bytes, its head says %zu",
			       (long long)st.st_size, len + 1 + d.report_len);
	*ret = d;
	d = (struct delivery){ 0 };
	ret_file->fd = take_fd(fd);
	ret_file->offset = (off_t)len + 1;
	return 0;
}

int
delivery_open(int dirfd, const char *name, struct delivery *ret, struct delivery_file *ret_file, struct err *e)
{
	if (open_checked(dirfd, name, ret, ret_file, e) < 0)
		return err_wrap(e, "delivery %s", name);
	return 0;
}

int
delivery_read(int dirfd, const char *name, struct delivery *ret, struct err *e)
{
	AUTO_DELIVERY_FILE struct delivery_file f = DELIVERY_FILE_INIT;
	AUTO_DELIVERY struct delivery d = { 0 };

	if (delivery_open(dirfd, name, &d, &f, e) < 0)
		return -1;
	d.report = mem_alloc(d.report_len + 1);
	for (size_t n = 0; n < d.report_len;) {
		ssize_t got = pread(f.fd, d.report + n, d.report_len - n, f.offset + (off_t)n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "delivery %s", name);
		if (got == 0)
			return err_set(e, ERR_FAILED, "delivery %s: became shorter while it was read", name);
		n += (size_t)got;
	}
	*ret = d;
	d = (struct delivery){ 0 };
	return 0;
}

/* The whole file, from memory or from another delivery. */
static int
write_file(int fd, const struct delivery *d, const struct delivery_file *from, struct err *e)
{
	AUTO_FREE char *head = print_head(d);
	size_t len = strlen(head);

	if (len > DELIVERY_HEAD_MAX - 1)
		return err_set(e, ERR_REFUSED, "its head has %zu bytes, at most %d are allowed", len,
			       DELIVERY_HEAD_MAX - 1);
	head[len] = '\n'; /* in place of the NUL: written by length */
	if (fs_write_all(fd, head, len + 1, e) < 0)
		return -1;
	if (from)
		return fs_copy(from->fd, from->offset, fd, d->report_len, e);
	return fs_write_all(fd, d->report, d->report_len, e);
}

static int
publish(int dirfd, const char *name, const struct delivery *d, const struct delivery_file *from,
	unsigned flags, struct err *e)
{
	AUTO_FREE char *temp = mem_printf(".%s.%ld", name, (long)getpid());
	AUTO_FD int fd = -1;

	if (d->report_len == 0 || d->report_len > DELIVERY_REPORT_MAX)
		return err_set(e, ERR_REFUSED, "the report has %zu bytes, expected 1 to %d", d->report_len,
			       DELIVERY_REPORT_MAX);
	if (unlinkat(dirfd, temp, 0) < 0 && errno != ENOENT)
		return err_errno(e, "remove %s", temp);
	fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, "create");
	if (write_file(fd, d, from, e) < 0) {
		unlinkat(dirfd, temp, 0);
		return -1;
	}
	if (((flags & FS_DURABLE) && fsync(fd) < 0) || renameat(dirfd, temp, dirfd, name) < 0) {
		err_errno(e, "store");
		unlinkat(dirfd, temp, 0);
		return -1;
	}
	if ((flags & FS_DURABLE) && fsync(dirfd) < 0)
		return err_errno(e, "store");
	return 0;
}

int
delivery_write(int dirfd, const char *name, const struct delivery *d, unsigned publish_flags, struct err *e)
{
	if (publish(dirfd, name, d, NULL, publish_flags, e) < 0)
		return err_wrap(e, "delivery %s", name);
	return 0;
}

int
delivery_copy(int dirfd, const char *name, const struct delivery *d, const struct delivery_file *from,
	      unsigned publish_flags, struct err *e)
{
	if (publish(dirfd, name, d, from, publish_flags, e) < 0)
		return err_wrap(e, "delivery %s", name);
	return 0;
}

static bool
is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Shortens to `max` code points of valid UTF-8. */
void
delivery_fit_text(char **text, size_t max)
{
	AUTO_FREE char *old = NULL;
	char digest[HASH_DIGEST_MAX];
	const char *hex = NULL;
	enum hash_algo algo;
	size_t n = 0, keep = 0;

	if (!*text)
		return;
	for (const char *p = *text; *p; p++) {
		if (is_continuation(*p))
			continue;
		if (n == max - 9)
			keep = (size_t)(p - *text);
		n++;
	}
	if (n <= max)
		return;
	hash_of(HASH_SHA256, *text, strlen(*text), digest);
	if (hash_parse_digest(digest, &algo, &hex) < 0)
		hex = digest;
	old = take_ptr(*text);
	*text = mem_printf("%.*s~%.8s", (int)keep, old, hex);
}

/* Bytes of the white space beyond ASCII that begins there, as Unicode and Python's strip() know it; 0: none. */
static size_t
wide_blank(const char *s)
{
	static const char *const blanks[] = { "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
					      "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80" };

	for (size_t k = 0; k < MEM_COUNT(blanks); k++)
		if (str_has_prefix(s, blanks[k]))
			return strlen(blanks[k]);
	/* U+2000 to U+200A */
	return str_has_prefix(s, "\xe2\x80") && (unsigned char)s[2] >= 0x80 && (unsigned char)s[2] <= 0x8a ? 3
													   : 0;
}

/* Of the white space at the end of s[0..len): bytes of the last one, 0: none. */
static size_t
wide_blank_before(const char *s, size_t len)
{
	for (size_t n = 2; n <= 3 && n <= len; n++)
		if (wide_blank(s + len - n) == n)
			return n;
	return 0;
}

static void
add_mark(struct buf *to, const char *blank, size_t n)
{
	const unsigned char *b = (const unsigned char *)blank;
	unsigned code = n == 2 ? (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu)
			       : (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);

	buf_printf(to, "?%04x", code);
}

/*
 * The server takes these off the ends of a name, too: a branch "main" with one behind it, which Git allows, would be delivered as main. So
 * they are written out: "main?00a0". '?' stands in no name of Git's.
 */
static void
mark_wide_ends(char **text)
{
	AUTO_BUF struct buf b = BUF_INIT(DELIVERY_HEAD_MAX);
	const char *s = *text;
	size_t len = strlen(s), end = len, n;

	if (wide_blank(s) == 0 && wide_blank_before(s, len) == 0)
		return;
	for (; (n = wide_blank(s)) > 0; s += n, end -= n)
		add_mark(&b, s, n);
	len = end;
	while ((n = wide_blank_before(s, end)) > 0)
		end -= n;
	buf_add(&b, s, end);
	for (; end < len; end += n) {
		n = wide_blank(s + end);
		add_mark(&b, s + end, n);
	}
	mem_free_at(text);
	*text = buf_take(&b);
}

/* The server takes blanks off both ends of a name, and would then be asked for one that it does not have. */
static void
trim(char *s)
{
	size_t start = strspn(s, " "), len = strlen(s + start);

	while (len > 0 && s[start + len - 1] == ' ')
		len--;
	memmove(s, s + start, len);
	s[len] = '\0';
}

/* Tags: `a b` is refused, `a,b` and `a"b` become two (FACTS.md, 2). */
static void
fit_tag(char *tag)
{
	for (; *tag; tag++) {
		if (strchr(" ,\"'", *tag))
			*tag = '-';
	}
}

void
delivery_fit(struct delivery *d)
{
	for (size_t i = 0; i < MEM_COUNT(text_fields); i++) {
		char **text = text_at(d, &text_fields[i]);

		if (text_fields[i].max == 0 || !*text)
			continue;
		trim(*text);
		mark_wide_ends(text);
		delivery_fit_text(text, text_fields[i].max);
	}
	for (size_t i = 0; i < d->tags.n; i++) {
		delivery_fit_text(&d->tags.v[i], 120);
		fit_tag(d->tags.v[i]);
	}
}

/* The server is left out: what waited in the outbox and what came after it belong to one test. */
void
delivery_key(const struct delivery *d, char out[DELIVERY_KEY_SIZE])
{
	const char *const parts[] = { d->product, d->engagement, d->test };
	struct hash *h = hash_new(HASH_SHA256);
	char digest[HASH_DIGEST_MAX];
	const char *hex = digest;
	enum hash_algo algo;

	for (size_t i = 0; i < MEM_COUNT(parts); i++)
		hash_update(h, parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) + 1 : 1);
	hash_digest(h, digest);
	hash_free(h);
	if (hash_parse_digest(digest, &algo, &hex) < 0)
		hex = digest;
	snprintf(out, DELIVERY_KEY_SIZE, "%.16s", hex);
}
