#include "stages/discover_globs.h"

#include <stdlib.h>
#include <string.h>

#define GLOBS_MAX 256
#define PARTS_MAX 64

struct glob {
	struct strv parts;
	bool is_tree;
};

struct glob_set {
	struct glob *v;
	size_t n;
};

struct glob_state {
	size_t glob, part; /* the next part to match */
};

struct glob_set *
glob_set_new(void)
{
	return mem_alloc(sizeof(struct glob_set));
}

void
glob_set_free(struct glob_set *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->n; i++)
		strv_free(&g->v[i].parts);
	mem_free_at(&g->v);
	mem_free_at(&g);
}

static bool
is_any_path(const char *part)
{
	return !strcmp(part, "**") || strpbrk(part, "${}");
}

/* The part as it is walked by. Classes of characters of a job's glob are not told apart: readers differ in `[^a]`. */
static const char *
walked_part(const char *part, bool is_any, bool is_tree)
{
	if (is_any)
		return "**";
	return is_tree && strchr(part, '[') ? "*" : part;
}

/* An alternative can hold a slash, so that all parts from the brace on to its end stand for any path: so do they one by one. */
static bool
split(struct glob *g, const char *glob)
{
	bool in_braces = false;

	for (const char *p = glob; *p; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");
		AUTO_FREE char *part = mem_strndup(p, n);
		bool any = is_any_path(part) || in_braces;

		p += n;
		if (!strcmp(part, "..") || g->parts.n >= PARTS_MAX)
			return false;
		for (const char *c = part; *c; c++)
			in_braces = *c == '{' || (in_braces && *c != '}');
		if (!part[0] || !strcmp(part, ".") ||
		    (any && g->parts.n && !strcmp(g->parts.v[g->parts.n - 1], "**")))
			continue;
		strv_add(&g->parts, walked_part(part, any, g->is_tree));
	}
	return true;
}

bool
glob_set_add(struct glob_set *g, const char *glob, bool is_tree)
{
	struct glob one = { .is_tree = is_tree };

	if (glob[0] == '/' || g->n >= GLOBS_MAX)
		return false;
	if (!split(&one, glob)) {
		strv_free(&one.parts);
		return false;
	}
	g->v = mem_resize(g->v, g->n + 1, sizeof(*g->v));
	g->v[g->n++] = one;
	return true;
}

static bool
has_state(const struct glob_at *at, size_t glob, size_t part)
{
	for (size_t i = at->n; i > 0 && at->v[i - 1].glob == glob; i--)
		if (at->v[i - 1].part == part)
			return true;
	return false;
}

/* `**` matches nothing too, so that the part behind it may come next. */
static void
add_state(const struct glob_set *g, struct glob_at *at, size_t glob, size_t part)
{
	const struct strv *parts = &g->v[glob].parts;

	for (;; part++) {
		if (has_state(at, glob, part))
			return;
		at->v = mem_resize(at->v, at->n + 1, sizeof(*at->v));
		at->v[at->n++] = (struct glob_state){ glob, part };
		if (part >= parts->n || strcmp(parts->v[part], "**") != 0)
			return;
	}
}

void
glob_at_start(const struct glob_set *g, struct glob_at *ret)
{
	*ret = (struct glob_at){ 0 };
	for (size_t i = 0; i < g->n; i++) {
		add_state(g, ret, i, 0);
		/* "." as a tree: all of it. */
		if (g->v[i].is_tree && !g->v[i].parts.n)
			ret->is_everything = true;
	}
}

void
glob_at_free(struct glob_at *at)
{
	mem_free_at(&at->v);
	*at = (struct glob_at){ 0 };
}

static void
look_at_state(const struct glob_set *g, struct glob_match *m, const struct glob_at *below, size_t i)
{
	const struct glob_state *s = &below->v[i];
	const struct glob *from = &g->v[s->glob];

	if (s->part < from->parts.n) {
		m->is_way = true;
		return;
	}
	m->is_named = m->is_named || !from->is_tree;
	m->is_in_tree = m->is_in_tree || from->is_tree;
}

struct glob_match
glob_at_step(const struct glob_set *g, const struct glob_at *at, const char *name, struct glob_at *ret_below)
{
	struct glob_match m = { .is_in_tree = at->is_everything };

	*ret_below = (struct glob_at){ 0 };
	for (size_t i = 0; i < at->n; i++) {
		const struct glob *from = &g->v[at->v[i].glob];
		size_t part = at->v[i].part;
		const char *glob = part < from->parts.n ? from->parts.v[part] : NULL;

		if (!glob)
			continue;
		if (!strcmp(glob, "**")) {
			add_state(g, ret_below, at->v[i].glob, part);
		} else if (str_glob(glob, name)) {
			add_state(g, ret_below, at->v[i].glob, part + 1);
			if (part + 1 < from->parts.n && (from->is_tree || !strpbrk(glob, "*?[\\")))
				m.is_sure_way = true;
		}
	}
	for (size_t i = 0; i < ret_below->n; i++)
		look_at_state(g, &m, ret_below, i);
	ret_below->is_everything = m.is_in_tree;
	m.is_way = m.is_way || m.is_in_tree;
	return m;
}
