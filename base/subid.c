#include "base/subid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define FILE_MAX (4 * 1024 * 1024) /* bytes */
#define ID_MAX 4294967294ull

struct line {
	char *user; /* start of a copy that is freed by line_free() */
	struct subid_range range;
};

/* "user:first:count"; false for a line that says nothing. */
static bool
parse_line(const char *text, size_t len, struct line *ret)
{
	AUTO_FREE char *copy = mem_strndup(text, len);
	char *first = strchr(copy, ':');
	char *count = first ? strchr(first + 1, ':') : NULL;
	int64_t from, n;

	if (copy[0] == '#' || !count)
		return false;
	*first++ = '\0';
	*count++ = '\0';
	if (str_parse_int(first, 0, (int64_t)ID_MAX, &from, NULL) < 0 ||
	    str_parse_int(count, 1, (int64_t)ID_MAX, &n, NULL) < 0)
		return false;
	ret->range = (struct subid_range){ (uint64_t)from, (uint64_t)from + (uint64_t)n - 1 };
	ret->user = take_ptr(copy);
	return true;
}

/* The next line at *at that says something, or false at the end. ret->user is the caller's. */
static bool
next_line(const char **at, struct line *ret)
{
	bool is_found = false;

	while (**at && !is_found) {
		size_t len = strcspn(*at, "\n");

		is_found = parse_line(*at, len, ret);
		*at += len + ((*at)[len] == '\n');
	}
	return is_found;
}

int
subid_find_in(const char *text, const char *user, bool *ret_has, struct subid_range *ret_free, struct err *e)
{
	uint64_t free_from = SUBID_FIRST;
	bool has = false;
	struct line line;

	while (next_line(&text, &line)) {
		has = has || str_eq(line.user, user);
		if (line.range.last >= free_from)
			free_from = line.range.last + 1;
		mem_free_at(&line.user);
	}
	if (!has && free_from + SUBID_COUNT - 1 > ID_MAX)
		return err_set(e, ERR_NO_SPACE, "no range of %d subordinate ids is free", SUBID_COUNT);
	ret_free->first = free_from;
	ret_free->last = free_from + SUBID_COUNT - 1;
	*ret_has = has;
	return 0;
}

static int
read_file(const char *path, char **ret, struct err *e)
{
	struct err why = ERR_INIT;
	size_t len;

	if (fs_read_max(AT_FDCWD, path, FILE_MAX, ret, &len, &why) == 0)
		return 0;
	if (why.no != ENOENT)
		return err_set(e, why.kind, "%s", why.text);
	*ret = mem_strdup("");
	return 0;
}

int
subid_find(const char *path, const char *user, bool *ret_has, struct subid_range *ret_free, struct err *e)
{
	AUTO_FREE char *text = NULL;

	if (read_file(path, &text, e) < 0)
		return -1;
	if (subid_find_in(text, user, ret_has, ret_free, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}

static bool
is_of(const struct line *line, const char *user, uid_t uid)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", uid);
	return str_eq(line->user, user) || str_eq(line->user, number);
}

/* Does another user's line reach into the range? */
static bool
is_shared(const char *text, const struct subid_range *range, const char *user, uid_t uid)
{
	bool is_hit = false;
	struct line line;

	while (!is_hit && next_line(&text, &line)) {
		is_hit = !is_of(&line, user, uid) && line.range.first <= range->last &&
			 line.range.last >= range->first;
		mem_free_at(&line.user);
	}
	return is_hit;
}

void
subid_ranges_in(const char *text, const char *user, uid_t uid, struct subid_ranges *ret)
{
	const char *at = text;
	struct line line;

	ret->n = 0;
	while (ret->n < SUBID_RANGES_MAX && next_line(&at, &line)) {
		if (is_of(&line, user, uid) && !is_shared(text, &line.range, user, uid))
			ret->v[ret->n++] = line.range;
		mem_free_at(&line.user);
	}
}

int
subid_ranges(const char *path, const char *user, uid_t uid, struct subid_ranges *ret, struct err *e)
{
	AUTO_FREE char *text = NULL;

	if (read_file(path, &text, e) < 0)
		return -1;
	subid_ranges_in(text, user, uid, ret);
	return 0;
}

bool
subid_ranges_has(const struct subid_ranges *r, uint64_t id)
{
	for (size_t i = 0; i < r->n; i++) {
		if (id >= r->v[i].first && id <= r->v[i].last)
			return true;
	}
	return false;
}
