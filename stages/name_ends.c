#include "stages/name_ends.h"

#include <string.h>

#include "base/str.h"

#define BLANKS " \t"
#define SHORTENED_MIN 255 /* bytes: what was shortened has as many characters */
#define KEPT_MAX 200	  /* of a prefix, however its name is shortened */

void
name_ends_free(struct name_ends *x)
{
	mem_free_at(&x->prefix);
	mem_free_at(&x->suffix);
}

static bool
is_of_image(const char *name, size_t len)
{
	static const char *const names[] = { "image", "tag", "archive" };

	for (size_t k = 0; k < MEM_COUNT(names); k++)
		if (strlen(names[k]) == len && strncmp(names[k], name, len) == 0)
			return true;
	return false;
}

/* From the first placeholder that takes an image to behind the last. False: there is none. */
static bool
find_image_part(const char *tmpl, const char **ret_from, const char **ret_to)
{
	bool is_there = false;

	for (const char *p = tmpl, *end; *p; p = end) {
		end = p + 1;
		if (*p != '{')
			continue;
		end = p[1] == '{' ? p + 1 : strchr(p, '}');
		if (!end)
			return is_there;
		if (is_of_image(p + 1, (size_t)(end - p - 1))) {
			*ret_from = is_there ? *ret_from : p;
			*ret_to = end + 1;
			is_there = true;
		}
		end++;
	}
	return is_there;
}

bool
name_ends_of(const char *tmpl, const struct job_facts *job, struct name_ends *ret)
{
	AUTO_FREE char *before = NULL, *prefix = NULL, *suffix = NULL;
	struct err ignored = ERR_INIT;
	const char *from, *to;

	if (!find_image_part(tmpl, &from, &to))
		return false;
	before = mem_strndup(tmpl, (size_t)(from - tmpl));
	if (job_facts_expand(job, before, &prefix, &ignored) < 0 ||
	    job_facts_expand(job, to, &suffix, &ignored) < 0)
		return false;
	ret->prefix = take_ptr(prefix);
	ret->suffix = take_ptr(suffix);
	return true;
}

/* Between the placeholder and the next one, or the end: something that is in no value of it. */
static bool
is_set_apart(const char *text, size_t len, const char *in_values)
{
	for (size_t k = 0; k < len; k++)
		if (!strchr(in_values, text[k]))
			return true;
	return false;
}

static bool
is_certain(const char *tmpl, const char *from, const char *to, const char *name, const char *in_values)
{
	const char *at = strstr(tmpl, name), *behind, *before;

	if (!at)
		return false;
	behind = at + strlen(name);
	before = at;
	while (before > tmpl && before[-1] != '}')
		before--;
	if (from > at)
		return is_set_apart(behind, strcspn(behind, "{"), in_values);
	return to <= at && is_set_apart(before, (size_t)(at - before), in_values);
}

bool
name_ends_are_certain(const char *tmpl)
{
	/* GitLab: letters, digits, and these. */
	static const char of_path[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/";
	const char *from, *to;

	return !find_image_part(tmpl, &from, &to) || is_certain(tmpl, from, to, "{project_path}", of_path) ||
	       is_certain(tmpl, from, to, "{project_id}", "0123456789");
}

bool
name_ends_are_of(const struct name_ends *x, const char *name)
{
	const char *prefix = x->prefix + strspn(x->prefix, BLANKS);
	size_t n_prefix = strlen(prefix), n_suffix = strlen(x->suffix), len = strlen(name);

	if (len >= SHORTENED_MIN)
		return strncmp(name, prefix, n_prefix < KEPT_MAX ? n_prefix : KEPT_MAX) == 0;
	while (n_suffix > 0 && strchr(BLANKS, x->suffix[n_suffix - 1]))
		n_suffix--;
	return len >= n_prefix + n_suffix && strncmp(name, prefix, n_prefix) == 0 &&
	       strncmp(name + len - n_suffix, x->suffix, n_suffix) == 0;
}
