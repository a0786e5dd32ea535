#include "stages/archive_entries.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

void
entries_init(struct entries *t, size_t n_max)
{
	*t = (struct entries){ .n_max = n_max, .links_max = ENTRY_LINKS_DEFAULT };
}

void
entries_free(struct entries *t)
{
	for (size_t i = 0; i < t->n; i++) {
		mem_free_at(&t->v[i].name);
		mem_free_at(&t->v[i].link);
		mem_free_at(&t->v[i].place.digest);
		mem_free_at(&t->v[i].place.work_name);
		layer_watch_free(t->v[i].place.watch);
	}
	mem_free_at(&t->v);
	*t = (struct entries){ 0 };
}

static bool
has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

static bool
has_climb(const char *name)
{
	while (*(name += strspn(name, "/"))) {
		size_t n = strcspn(name, "/");

		if (n == 2 && !memcmp(name, "..", 2))
			return true;
		name += n;
	}
	return false;
}

int
entries_clean_name(const char *name, char **ret, struct err *e)
{
	if (name[0] == '/')
		return err_set(e, ERR_REFUSED, "name: it is absolute");
	if (has_climb(name))
		return err_set(e, ERR_REFUSED, "name: it climbs with \"..\"");
	if (has_control(name))
		return err_set(e, ERR_REFUSED, "name: it has a control character");
	*ret = str_clean_path(name, NULL);
	return 0;
}

static void
fault(struct entries *t, const char *name, const struct err *why)
{
	AUTO_FREE char *safe = NULL;

	if (t->fault.kind != ERR_NONE)
		return;
	safe = str_safe(name, 120);
	err_set(&t->fault, ERR_REFUSED, "%s: entry %s", why->text, safe);
}

static void
fault_text(struct entries *t, const char *name, const char *text)
{
	struct err why = ERR_INIT;

	err_set(&why, ERR_REFUSED, "%s", text);
	fault(t, name, &why);
}

static unsigned
mark_of(const char *name)
{
	static const struct {
		const char *name;
		unsigned mark;
	} marks[] = { { "manifest.json", HAS_MANIFEST_JSON },
		      { "index.json", HAS_INDEX_JSON },
		      { "oci-layout", HAS_OCI_LAYOUT },
		      { "repositories", HAS_REPOSITORIES },
		      { "version", HAS_VERSION } };

	for (size_t i = 0; i < MEM_COUNT(marks); i++)
		if (!strcmp(name, marks[i].name))
			return marks[i].mark;
	return 0;
}

static const char *
last_part(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static void
mark(struct entries *t, const struct entry *n)
{
	const char *slash = strchr(n->name, '/');

	t->marks |= mark_of(n->name);
	if (slash && !strcmp(slash, "/layer.tar"))
		t->marks |= HAS_LAYER_TAR;
	if (slash && !strcmp(slash, "/oci-layout"))
		t->marks |= HAS_FOLDER_LAYOUT;
}

static bool
has_room(struct entries *t, const struct tar_entry *from)
{
	char text[128];

	if (t->n < t->n_max && t->name_bytes < ENTRY_NAMES_MAX)
		return true;
	if (t->n >= t->n_max)
		snprintf(text, sizeof(text), "entries: more than the %zu that are allowed", t->n_max);
	else
		snprintf(text, sizeof(text), "entries: names of more than %d bytes in all", ENTRY_NAMES_MAX);
	fault_text(t, from->name, text);
	return false;
}

struct entry *
entries_add(struct entries *t, const struct tar_entry *from)
{
	struct err why = ERR_INIT;
	struct entry n = { .type = from->type, .size = from->size, .place = { .fd = -1 } };

	if (entries_clean_name(from->name, &n.name, &why) < 0) {
		fault(t, from->name, &why);
		/* An engine may clean "/manifest.json" or "x/../manifest.json" and load it. */
		t->marks |= mark_of(last_part(from->name));
		return NULL;
	}
	mark(t, &n);
	if (!n.name[0] && n.type != TAR_DIR)
		fault_text(t, from->name, "name: it is empty");
	if (!n.name[0] || !has_room(t, from)) {
		mem_free_at(&n.name);
		return NULL;
	}
	if (n.type == TAR_SPECIAL)
		fault_text(t, n.name, "type: neither file nor directory nor link");
	if (n.type == TAR_SYMLINK || n.type == TAR_HARDLINK)
		n.link = mem_strdup(from->link);
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->v = mem_resize(t->v, t->cap, sizeof(*t->v));
	}
	t->name_bytes += strlen(n.name) + (n.link ? strlen(n.link) : 0);
	t->v[t->n] = n;
	return &t->v[t->n++];
}

/* A slash sorts before every other byte, so that what lies below a name follows it at once. */
static int
order(unsigned char c)
{
	return c == '/' ? 1 : c == '\0' ? 0 : c + 1;
}

static int
compare_names(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return order((unsigned char)*a) - order((unsigned char)*b);
}

static int
compare_entries(const void *a, const void *b)
{
	return compare_names(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int
compare_folded(const void *a, const void *b)
{
	return strcasecmp(*(char *const *)a, *(char *const *)b);
}

static void
check_case(struct entries *t)
{
	AUTO_FREE char **names = mem_array(t->n + 1, sizeof(*names));

	for (size_t i = 0; i < t->n; i++)
		names[i] = t->v[i].name;
	qsort(names, t->n, sizeof(*names), compare_folded);
	for (size_t i = 1; i < t->n; i++)
		if (!strcasecmp(names[i - 1], names[i]) && strcmp(names[i - 1], names[i]) != 0)
			fault_text(t, names[i], "name: it differs from another by case only");
}

static bool
is_below(const char *name, const char *above)
{
	size_t len = strlen(above);

	return !strncmp(name, above, len) && name[len] == '/';
}

void
entries_finish(struct entries *t)
{
	const char *above = NULL; /* the last one that is no directory */
	const struct entry *sorted;

	if (!t->v)
		return;
	qsort(t->v, t->n, sizeof(*t->v), compare_entries);
	sorted = t->v;
	for (size_t i = 0; i < t->n; i++) {
		const struct entry *n = &sorted[i], *before = i ? &sorted[i - 1] : NULL;

		if (before && !strcmp(before->name, n->name) && (before->type != TAR_DIR || n->type != TAR_DIR))
			fault_text(t, n->name, "twice: two entries of one name");
		if (above && is_below(n->name, above)) {
			fault_text(t, n->name, "name: it lies below one that is no directory");
			/* Through a link "a" to "." an engine may find "a/manifest.json" at the top. */
			t->marks |= mark_of(last_part(n->name));
		} else if (n->type != TAR_DIR) {
			above = n->name;
		}
	}
	check_case(t);
}

const struct entry *
entries_find(const struct entries *t, const char *name)
{
	struct entry key = { .name = (char *)(uintptr_t)name };

	return t->n ? bsearch(&key, t->v, t->n, sizeof(*t->v), compare_entries) : NULL;
}

/* The cleaned name that a link points to; climbing is fine as long as it stays inside. */
static int
link_target(const struct entry *n, char **ret, struct err *e)
{
	const char *slash = strrchr(n->name, '/');
	int len = n->type == TAR_SYMLINK && slash ? (int)(slash - n->name) : 0;
	AUTO_FREE char *whole = mem_printf("%.*s/%s", len, n->name, n->link);
	AUTO_FREE char *clean = NULL;
	bool climbs = n->link[0] == '/';

	if (!climbs)
		clean = str_clean_path(whole, &climbs);
	if (climbs)
		return err_set(e, ERR_REFUSED, "link: it points out of the archive");
	*ret = take_ptr(clean);
	return 0;
}

static int
wrong_type(const struct entry *n, const char *what, struct err *e)
{
	AUTO_FREE char *safe = str_safe(n->name, 120);

	return err_set(e, ERR_REFUSED, "type: %s (%s) is a %s, not a file", what, safe,
		       n->type == TAR_DIR ? "directory" : "special file");
}

int
entries_resolve(const struct entries *t, const char *name, const char *what, const char *missing,
		const struct entry **ret, struct err *e)
{
	AUTO_FREE char *at = NULL;
	AUTO_FREE char *safe = str_safe(name, 120);

	if (entries_clean_name(name, &at, e) < 0) {
		AUTO_FREE char *why = mem_strdup(e->text);

		return err_set(e, ERR_REFUSED, "%s: %s (%s)", why, what, safe);
	}
	for (unsigned i = 0; i <= t->links_max; i++) {
		const struct entry *n = entries_find(t, at);
		char *next = NULL;

		if (!n)
			return err_set(e, ERR_REFUSED, "%s: %s (%s) is not in the archive%s", missing, what,
				       safe, i ? ", only a link to it" : "");
		if (n->type == TAR_FILE) {
			*ret = n;
			return 0;
		}
		if (n->type != TAR_SYMLINK && n->type != TAR_HARDLINK)
			return wrong_type(n, what, e);
		if (link_target(n, &next, e) < 0) {
			AUTO_FREE char *why = mem_strdup(e->text);

			return err_set(e, ERR_REFUSED, "%s: %s (%s)", why, what, safe);
		}
		mem_free_at(&at);
		at = next;
	}
	return err_set(e, ERR_REFUSED, "link: %s (%s) is behind more than %u links", what, safe, t->links_max);
}
