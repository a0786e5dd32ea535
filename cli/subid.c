#include "cli/subid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define FILE_MAX (4 * 1024 * 1024) /* bytes */
#define ID_MAX 4294967294ull

/* "user:first:count"; false for a line that says nothing. */
static bool
parse_line(const char *line, size_t len, const char *user, bool *is_users, uint64_t *end)
{
	AUTO_FREE char *copy = mem_strndup(line, len);
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
	*is_users = str_eq(copy, user);
	*end = (uint64_t)from + (uint64_t)n;
	return true;
}

int
subid_find_in(const char *text, const char *user, bool *ret_has, struct subid_range *ret_free, struct err *e)
{
	uint64_t free_from = SUBID_FIRST;
	bool has = false;

	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "\n");
		bool is_users;
		uint64_t end;

		if (parse_line(p, len, user, &is_users, &end)) {
			has = has || is_users;
			if (end > free_from)
				free_from = end;
		}
		p += len + (p[len] == '\n');
	}
	if (!has && free_from + SUBID_COUNT - 1 > ID_MAX)
		return err_set(e, ERR_NO_SPACE, "no range of %d subordinate ids is free", SUBID_COUNT);
	ret_free->first = free_from;
	ret_free->last = free_from + SUBID_COUNT - 1;
	*ret_has = has;
	return 0;
}

int
subid_find(const char *path, const char *user, bool *ret_has, struct subid_range *ret_free, struct err *e)
{
	AUTO_FREE char *text = NULL;
	struct err why = ERR_INIT;
	size_t len;

	if (fs_read_max(AT_FDCWD, path, FILE_MAX, &text, &len, &why) < 0) {
		if (why.no != ENOENT)
			return err_set(e, why.kind, "%s", why.text);
		text = mem_strdup("");
	}
	if (subid_find_in(text, user, ret_has, ret_free, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}
