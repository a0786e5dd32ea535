#include "stages/known_hosts.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

#define OUT_MAX (64u << 20) /* bytes */
#define LINE_MAX_LEN 3500   /* bytes of one that is written; libssh2 takes 4 KiB */
#define BLANKS " \t\r"

/* The fields of a line; NULL those that it lacks. They point into it. */
struct line {
	const char *marker, *hosts, *type, *key;
};

static char *
take_field(char **at)
{
	char *field = *at + strspn(*at, BLANKS);
	size_t n = strcspn(field, BLANKS);

	*at = field + n;
	if (n == 0)
		return NULL;
	if (**at)
		*(*at)++ = '\0';
	return field;
}

/* False: it says nothing. Splits the text in place. */
static bool
read_line(char *text, struct line *ret)
{
	char *at = text;

	*ret = (struct line){ .hosts = take_field(&at) };
	if (ret->hosts && ret->hosts[0] == '@') {
		ret->marker = ret->hosts;
		ret->hosts = take_field(&at);
	}
	if (!ret->hosts || ret->hosts[0] == '#')
		return false;
	ret->type = take_field(&at);
	ret->key = take_field(&at);
	return ret->key && (str_has_prefix(ret->type, "ssh-") || str_has_prefix(ret->type, "ecdsa-"));
}

static void
add_lines(struct buf *to, const struct line *l)
{
	AUTO_FREE char *hosts = mem_strdup(l->hosts);
	char *next = hosts;

	for (char *host = strsep(&next, ","); host; host = strsep(&next, ","))
		if (*host && strlen(host) + strlen(l->type) + strlen(l->key) < LINE_MAX_LEN)
			buf_printf(to, "%s %s %s\n", host, l->type, l->key);
}

typedef void line_visit(const struct line *l, void *arg);

static void
each_line(const char *text, size_t len, line_visit *visit, void *arg)
{
	AUTO_FREE char *copy = mem_strndup(text, len);
	char *next = copy;

	for (char *one = strsep(&next, "\n"); one; one = strsep(&next, "\n")) {
		struct line l;

		if (read_line(one, &l))
			visit(&l, arg);
	}
}

struct rewriting {
	struct strv revoked; /* keys */
	bool is_rsa;	     /* which ones are written now */
	struct buf out;
};

static void
note_revoked(const struct line *l, void *arg)
{
	struct rewriting *r = arg;

	if (l->marker && str_eq(l->marker, "@revoked"))
		strv_add(&r->revoked, l->key);
}

static void
write_line(const struct line *l, void *arg)
{
	struct rewriting *r = arg;

	if (!l->marker && str_eq(l->type, "ssh-rsa") == r->is_rsa && !strv_has(&r->revoked, l->key))
		add_lines(&r->out, l);
}

char *
known_hosts_rewrite(const char *text, size_t len)
{
	struct rewriting r = { .out = BUF_INIT(OUT_MAX) };

	each_line(text, len, note_revoked, &r);
	each_line(text, len, write_line, &r);
	r.is_rsa = true;
	each_line(text, len, write_line, &r);
	strv_free(&r.revoked);
	buf_add_str(&r.out, "");
	return buf_take(&r.out);
}
