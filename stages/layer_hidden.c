#include "stages/layer_hidden.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/package_lists.h"

#define LINES_MAX 5
#define HOPS_MAX 40	    /* as in Linux */
#define PATH_LEN_MAX 16384  /* of what links lead to; longer than any engine's file system takes */
#define STEPS_MAX 100000000 /* comparisons: some seconds of a layer made to be slow */

struct item {
	const char *path, *link;
	enum layer_fact_kind kind;
	bool is_odd;
	size_t layer, seq;
};

struct view {
	struct item *v; /* by path, then by time */
	size_t n;
	size_t n_layers;
	size_t steps;
	struct strv *out;
	size_t n_out;
};

/* A moment of the image's making: before entry `seq` of `layer`, nothing of the layers below `from` regarded. */
struct moment {
	size_t from, layer, seq;
};

/* Where a path leads. */
struct place {
	char *path;
	const struct item *link; /* the first one on the way, NULL where there is none */
	bool is_link_last;	 /* the last part of the path itself was a link */
};

static void
tell(struct view *w, char *line)
{
	AUTO_FREE char *safe = str_safe(line, 400);

	if (w->n_out++ < LINES_MAX && !strv_has(w->out, safe))
		strv_add(w->out, safe);
	mem_free_at(&line);
}

static int
compare_items(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int c = strcmp(x->path, y->path);

	if (c)
		return c;
	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void
make_view(struct view *w, const struct layer_facts *const *layers, size_t n)
{
	size_t count = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		count += layers[i] ? layers[i]->n : 0;
	w->v = mem_array(count + 1, sizeof(*w->v));
	w->n = count;
	w->n_layers = n;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; layers[i] && k < layers[i]->n; k++) {
			const struct layer_fact *f = &layers[i]->v[k];

			w->v[at++] = (struct item){
				layers[i]->text + f->path, layers[i]->text + f->link, f->kind, f->is_odd, i, k
			};
		}
	}
	qsort(w->v, w->n, sizeof(*w->v), compare_items);
}

/* The first item that is not before the path and time. */
static size_t
lower_bound(struct view *w, const char *path, size_t layer, size_t seq)
{
	const struct item key = { .path = path, .layer = layer, .seq = seq };
	size_t low = 0, high = w->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		w->steps++;
		if (compare_items(&w->v[mid], &key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool
has_item(struct view *w, const char *path, enum layer_fact_kind kind, size_t after, const struct moment *m)
{
	for (size_t i = lower_bound(w, path, after + 1, 0);
	     i < w->n && !strcmp(w->v[i].path, path) && w->v[i].layer <= m->layer; i++) {
		w->steps++;
		if (w->v[i].kind == kind && (w->v[i].layer < m->layer || w->v[i].seq < m->seq))
			return true;
	}
	return false;
}

/* A whiteout of a later layer took away what `layer` had at the path. */
static bool
is_gone(struct view *w, const char *path, size_t layer, const struct moment *m)
{
	AUTO_FREE char *at = mem_strdup(path);
	char *slash;

	if (has_item(w, at, FACT_GONE, layer, m))
		return true;
	while ((slash = strrchr(at, '/'))) {
		*slash = '\0';
		if (has_item(w, at, FACT_GONE, layer, m) || has_item(w, at, FACT_OPAQUE, layer, m))
			return true;
	}
	return has_item(w, "", FACT_OPAQUE, layer, m);
}

/* What is at the path at a moment, links above it not regarded. */
static const struct item *
find_live(struct view *w, const char *path, const struct moment *m)
{
	for (size_t i = lower_bound(w, path, m->layer, m->seq); i-- > 0 && !strcmp(w->v[i].path, path);) {
		const struct item *it = &w->v[i];

		w->steps++;
		if (it->layer < m->from)
			return NULL;
		if (it->kind == FACT_GONE || it->kind == FACT_OPAQUE)
			continue;
		return is_gone(w, path, it->layer, m) ? NULL : it;
	}
	return NULL;
}

static char *
join(const char *dir, const char *name, size_t len)
{
	return mem_printf("%s%s%.*s", dir, dir[0] ? "/" : "", (int)len, name);
}

/* Follows all links on a path. False where it leads in circles, or too far. */
static bool
follow(struct view *w, const char *path, const struct moment *m, struct place *ret)
{
	AUTO_FREE char *at = mem_strdup("");
	AUTO_FREE char *todo = mem_strdup(path);
	const char *p = todo;
	bool is_own = true; /* the rest is still of the path itself, not of what a link says */
	int hops = 0;

	*ret = (struct place){ 0 };
	while (*(p += strspn(p, "/"))) {
		size_t len = strcspn(p, "/");
		AUTO_FREE char *next = NULL;
		const struct item *it;
		const char *rest = p + len;
		bool is_last = !rest[strspn(rest, "/")];

		w->steps += 4;
		if (len == 2 && !memcmp(p, "..", 2)) {
			char *slash = strrchr(at, '/');

			*(slash ? slash : at) = '\0';
			p = rest;
			continue;
		}
		if (len == 1 && *p == '.') {
			p = rest;
			continue;
		}
		next = join(at, p, len);
		it = find_live(w, next, m);
		if (!it || it->kind != FACT_SYMLINK) {
			mem_free_at(&at);
			at = take_ptr(next);
			p = rest;
			continue;
		}
		if (!ret->link)
			ret->link = it;
		ret->is_link_last = ret->is_link_last || (is_own && is_last);
		is_own = is_own && !is_last;
		if (++hops > HOPS_MAX || strlen(it->link) + strlen(rest) + strlen(at) > PATH_LEN_MAX)
			return false;
		mem_free_at(&next);
		next = mem_printf("%s/%s", it->link, rest);
		if (it->link[0] == '/')
			at[0] = '\0';
		mem_free_at(&todo);
		todo = take_ptr(next);
		p = todo;
	}
	ret->path = take_ptr(at);
	return true;
}

static struct moment
the_end(const struct view *w)
{
	return (struct moment){ 0, w->n_layers, 0 };
}

static bool
is_seen(const struct item *it)
{
	return it && it->kind == FACT_FILE && !it->is_odd && package_list_is(it->path);
}

static void
tell_link(struct view *w, const char *list, const struct item *link)
{
	tell(w,
	     mem_printf("the package list %s is behind a link, which Trivy does not follow: %s -> %s, layer %zu of %zu",
			list, link->path, link->link, link->layer + 1, w->n_layers));
}

static void
tell_kind(struct view *w, const struct item *it)
{
	const char *what = "neither a file nor a link";

	if (it->is_odd)
		what = "an entry whose name or content readers take differently";
	else if (it->kind == FACT_HARDLINK)
		what = "a hard link, which Trivy does not follow";
	else if (it->kind == FACT_SYMLINK)
		what = "a symbolic link, which Trivy does not follow";
	tell(w, mem_printf("the package list %s is %s%s%s, layer %zu of %zu", it->path, what,
			   it->link[0] ? ": to " : "", it->link, it->layer + 1, w->n_layers));
}

/* --- the lists by name --- */

/* Two files of one name in one layer: which of them counts is not the same to all. */
static void
find_twice(struct view *w, const char *list)
{
	const struct item *before = NULL;

	for (size_t i = lower_bound(w, list, 0, 0); i < w->n && !strcmp(w->v[i].path, list); i++) {
		const struct item *it = &w->v[i];

		w->steps++;
		if (it->kind == FACT_GONE || it->kind == FACT_OPAQUE)
			continue;
		if (before && before->layer == it->layer) {
			tell(w, mem_printf("the package list %s stands twice in layer %zu of %zu", list,
					   it->layer + 1, w->n_layers));
			return;
		}
		before = it;
	}
}

/* True when Trivy sees it. */
static bool
look_at_list(struct view *w, const char *list)
{
	const struct moment end = the_end(w);
	AUTO_FREE char *path = NULL;
	struct place p;
	const struct item *it;

	find_twice(w, list);
	if (!follow(w, list, &end, &p)) {
		tell_link(w, list, p.link);
		return false;
	}
	path = p.path;
	it = find_live(w, path, &end);
	if (is_seen(it))
		return true;
	if (p.is_link_last || (p.link && it && it->kind != FACT_DIR))
		tell_link(w, list, p.link);
	else if (it && it->kind != FACT_DIR)
		tell_kind(w, it);
	return false;
}

static bool
is_right_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) && path[len] == '/' && path[len + 1] && !strchr(path + len + 1, '/');
}

static bool
is_entry(const struct item *it)
{
	return it->kind != FACT_GONE && it->kind != FACT_OPAQUE && it->kind != FACT_DIR;
}

static bool
look_at_directory(struct view *w)
{
	static const char dir[] = PACKAGE_LIST_DIR;
	const struct moment end = the_end(w);
	AUTO_FREE char *path = NULL;
	struct place p;
	bool has_seen = false;

	if (!follow(w, dir, &end, &p) || p.is_link_last) {
		tell_link(w, dir, p.link);
		mem_free_at(&p.path);
		return false;
	}
	path = p.path;
	for (size_t i = 0; i < w->n; i++) {
		const struct item *it = &w->v[i];

		w->steps++;
		if (!is_entry(it) || !is_right_in(it->path, path) || find_live(w, it->path, &end) != it)
			continue;
		if (is_seen(it))
			has_seen = true;
		else if (p.link)
			tell_link(w, dir, p.link);
		else
			tell_kind(w, it);
	}
	return has_seen;
}

/* --- what is written through a link --- */

/* Where the entry's bytes go when the links since layer `from` are there. NULL where that is nowhere. */
static char *
landing(struct view *w, const struct item *it, size_t from, const struct item **ret_link)
{
	const struct moment m = { from, it->layer, it->seq };
	const char *slash = strrchr(it->path, '/');
	AUTO_FREE char *dir = mem_strndup(it->path, slash ? (size_t)(slash - it->path) : 0);
	AUTO_FREE char *at = NULL;
	struct place p;

	if (!slash || !follow(w, dir, &m, &p) || !p.link) {
		if (slash)
			mem_free_at(&p.path);
		return NULL;
	}
	at = p.path;
	*ret_link = p.link;
	return join(at, slash + 1, strlen(slash + 1));
}

/* Of the image at its end: is this the place that a list's name leads to? */
static bool
is_place_of_list(struct view *w, const char *path)
{
	const struct moment end = the_end(w);

	if (package_list_is(path))
		return true;
	for (const char *const *l = package_lists; *l; l++) {
		AUTO_FREE char *at = NULL;
		struct place p;

		if (follow(w, *l, &end, &p)) {
			at = p.path;
			if (!strcmp(at, path))
				return true;
		}
	}
	return false;
}

static void
look_at_entry(struct view *w, const struct item *it)
{
	const size_t froms[] = { it->layer, 0 };

	if (is_seen(it))
		return;
	if (it->is_odd && package_list_is(it->path)) {
		tell_kind(w, it);
		return;
	}
	for (size_t i = 0; i < MEM_COUNT(froms); i++) {
		const struct item *link = NULL;
		AUTO_FREE char *to = landing(w, it, froms[i], &link);

		if (!to || !strcmp(to, it->path) || !is_place_of_list(w, to))
			continue;
		tell(w,
		     mem_printf("the package list %s is written through a link: as %s, with %s -> %s, layer %zu of %zu",
				to, it->path, link->path, link->link, it->layer + 1, w->n_layers));
		return;
	}
}

/* --- the rest --- */

/* A file of the kind that says which distribution it is, seen by Trivy by its own name or another one of them. */
static bool
is_os_seen(struct view *w, const char *path)
{
	const struct moment end = the_end(w);
	AUTO_FREE char *at = NULL;
	const struct item *it;
	struct place p;

	if (!follow(w, path, &end, &p))
		return false;
	at = p.path;
	it = find_live(w, at, &end);
	return it && it->kind == FACT_FILE && !it->is_odd && package_os_file_is(it->path);
}

/* Lists that are seen are worth nothing where what says of which distribution they are is hidden. */
static void
look_at_os(struct view *w)
{
	const struct moment end = the_end(w);
	const struct item *hidden = NULL;
	bool has_seen = false;

	for (const char *const *f = package_os_files; *f; f++)
		has_seen = is_os_seen(w, *f) || has_seen;
	for (const char *const *f = has_seen ? package_os_files_alone : package_os_files; *f; f++) {
		const struct item *it = find_live(w, *f, &end);

		if (it && it->kind != FACT_DIR && !is_os_seen(w, *f))
			hidden = it;
	}
	if (hidden)
		tell(w,
		     mem_printf("%s, which says what distribution it is, is a link or odd: Trivy does not follow it, and looks up no package (layer %zu of %zu)",
				hidden->path, hidden->layer + 1, w->n_layers));
}

static void
tell_doubts(struct view *w, const struct layer_facts *const *layers)
{
	for (size_t i = 0; i < w->n_layers; i++)
		if (layers[i] && layers[i]->doubt)
			tell(w,
			     mem_printf("layer %zu of %zu cannot be looked through for hidden package lists: entry %llu: %s",
					i + 1, w->n_layers, (unsigned long long)layers[i]->doubt_at,
					layers[i]->doubt));
}

void
layer_hidden_find(const struct layer_facts *const *layers, size_t n, struct strv *ret)
{
	struct view w = { .out = ret };
	bool has_seen = false;

	make_view(&w, layers, n);
	tell_doubts(&w, layers);
	for (const char *const *l = package_lists; *l; l++)
		has_seen = look_at_list(&w, *l) || has_seen;
	has_seen = look_at_directory(&w) || has_seen;
	for (size_t i = 0; i < w.n && w.steps < STEPS_MAX; i++)
		if (is_entry(&w.v[i]) && package_list_may_be(w.v[i].path))
			look_at_entry(&w, &w.v[i]);
	if (has_seen)
		look_at_os(&w);
	if (w.steps >= STEPS_MAX)
		tell(&w, mem_strdup("its links are too entangled to look through for hidden package lists"));
	if (w.n_out > LINES_MAX)
		strv_addf(ret, "… and more of this kind");
	mem_free_at(&w.v);
}
