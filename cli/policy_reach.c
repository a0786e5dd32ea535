#include "cli/policy_reach.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define TEXT_MAX 4096 /* bytes */

enum list_kind { LIST_OF_PATHS, LIST_OF_WORDS };

static bool
is_wider_glob(const char *a, const char *b, enum list_kind kind)
{
	/* in words a slash is a letter as any other */
	if (kind == LIST_OF_WORDS && (str_eq(a, "*") || strchr(b, '/')))
		return str_eq(a, b) || str_eq(a, "*") || str_eq(a, "**");
	return str_glob_covers(a, b);
}

static bool
has_wider_glob(const struct strv *a, const char *b, enum list_kind kind)
{
	for (size_t k = 0; k < a->n; k++)
		if (is_wider_glob(a->v[k], b, kind))
			return true;
	return a->n == 0;
}

static bool
is_wider_list(const struct strv *a, const struct strv *b, enum list_kind kind)
{
	if (b->n == 0)
		return has_wider_glob(a, "**", kind);
	for (size_t k = 0; k < b->n; k++)
		if (!has_wider_glob(a, b->v[k], kind))
			return false;
	return true;
}

/* But for the flags. */
static bool
is_wider(const struct policy_match *a, const struct policy_match *b)
{
	return is_wider_list(&a->projects, &b->projects, LIST_OF_PATHS) &&
	       is_wider_list(&a->branches, &b->branches, LIST_OF_PATHS) &&
	       is_wider_list(&a->images, &b->images, LIST_OF_PATHS) &&
	       is_wider_list(&a->stages, &b->stages, LIST_OF_WORDS) &&
	       is_wider_list(&a->jobs, &b->jobs, LIST_OF_WORDS);
}

static bool
is_possible(const struct policy_match *m, int is_protected, int is_tag)
{
	return (m->is_protected == FLAG_ANY || m->is_protected == is_protected) &&
	       (m->is_tag == FLAG_ANY || m->is_tag == is_tag);
}

/* The first rule before `k` that takes all of its jobs with these flags; k: none does. */
static size_t
find_taker(const struct policy *p, size_t k, int is_protected, int is_tag, int64_t today_s)
{
	for (size_t i = 0; i < k; i++) {
		const struct policy_rule *r = &p->rules.v[i];

		if (!policy_is_announced(r, today_s) && is_possible(&r->match, is_protected, is_tag) &&
		    is_wider(&r->match, &p->rules.v[k].match))
			return i;
	}
	return k;
}

char *
policy_taken_by(const struct policy *p, size_t k, int64_t today_s)
{
	static const int flags[] = { FLAG_TRUE, FLAG_FALSE };
	AUTO_BUF struct buf text = BUF_INIT(TEXT_MAX);
	size_t takers[MEM_COUNT(flags) * MEM_COUNT(flags)], n = 0;

	for (size_t f = 0; f < MEM_COUNT(takers); f++) {
		int is_protected = flags[f / 2], is_tag = flags[f % 2];
		size_t taker, at = 0;

		if (!is_possible(&p->rules.v[k].match, is_protected, is_tag))
			continue;
		taker = find_taker(p, k, is_protected, is_tag, today_s);
		if (taker == k)
			return NULL;
		while (at < n && takers[at] != taker)
			at++;
		takers[at] = taker;
		n += at == n;
	}
	buf_add_str(&text, n == 1 ? "rule " : "rules ");
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s%s in line %zu",
			   i == 0      ? ""
			   : i + 1 < n ? ", "
				       : " and ",
			   p->rules.v[takers[i]].name, p->rules.v[takers[i]].line);
	return buf_take(&text);
}
