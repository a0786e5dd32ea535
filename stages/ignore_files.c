#include "stages/ignore_files.h"

#include <string.h>

#include "base/clock.h"
#include "base/conf_tree.h"
#include "base/json.h"
#include "base/mem.h"
#include "stages/ignore_globs.h"
#include "stages/purl.h"

#define ID_MAX 64
#define PURL_MAX 1024
#define REASON_SHOWN 200 /* code points */
#define NAME_SHOWN 120
#define NOTES_MAX 20
#define ID_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:"

void
ignore_entry_free(struct policy_ignore *g)
{
	mem_free_at(&g->id);
	mem_free_at(&g->image);
	mem_free_at(&g->arch);
	mem_free_at(&g->reason);
	strv_free(&g->purls);
	strv_free(&g->paths);
}

static void
cut(struct ignore_list *l, size_t n, size_t n_withdrawn)
{
	while (l->n > n)
		ignore_entry_free(&l->v[--l->n]);
	while (l->n_withdrawn > n_withdrawn)
		mem_free_at(&l->withdrawn[--l->n_withdrawn].id);
}

void
ignore_list_free(struct ignore_list *l)
{
	cut(l, 0, 0);
	mem_free_at(&l->v);
	mem_free_at(&l->withdrawn);
	strv_free(&l->notes);
}

static bool
is_id(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= ID_MAX && strspn(s, ID_LETTERS) == n;
}

static int
add(struct ignore_list *l, enum ignore_file file, const char *id, struct policy_ignore **ret, struct err *e)
{
	if (l->n >= IGNORE_ENTRIES_MAX)
		return err_set(e, ERR_REFUSED, "more than %d entries in all", IGNORE_ENTRIES_MAX);
	l->v = mem_resize(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n] = (struct policy_ignore){ .file = file, .id = mem_strdup(id) };
	*ret = &l->v[l->n++];
	return 0;
}

static void
note(struct ignore_list *l, const char *name, size_t place, const char *what)
{
	AUTO_FREE char *safe = str_safe(name, NAME_SHOWN);
	AUTO_FREE char *said = str_safe(what, REASON_SHOWN);

	if (l->notes.n < NOTES_MAX)
		strv_addf(&l->notes, "%s:%zu: %s: it does not count", safe, place, said);
}

/* ---- .trivyignore ---- */

/* "CVE-2024-1 exp:2026-01-31 and what else": the first date counts, behind a # too; what else stands behind the id is for people. */
static int
read_line(const char *name, size_t n, char *line, struct ignore_list *l, struct err *e)
{
	static const char blanks[] = " \t\v\f\r";
	char *save = NULL, *id = strtok_r(line, blanks, &save), *word;
	struct policy_ignore *g;
	int64_t until_s = 0;

	if (!id || id[0] == '#')
		return 0;
	if (!is_id(id)) {
		note(l, name, n, "this is no id of a finding");
		return 0;
	}
	while ((word = strtok_r(NULL, blanks, &save)) && !str_has_prefix(word, "exp:"))
		;
	if (word && !policy_parse_date(word + strlen("exp:"), &until_s)) {
		note(l, name, n, "allowed is exp: and a date such as 2026-01-31");
		return 0;
	}
	if (add(l, IGNORE_TRIVYIGNORE, id, &g, e) < 0)
		return -1;
	g->until_s = until_s;
	return 0;
}

static int
read_plain(const char *name, const char *text, size_t len, struct ignore_list *l, struct err *e)
{
	size_t n = 0;

	if (memchr(text, '\0', len))
		return err_set(e, ERR_REFUSED, "it holds NUL bytes");
	for (const char *p = text, *end = text + len; p < end; n++) {
		const char *next = memchr(p, '\n', (size_t)(end - p));
		AUTO_FREE char *line = mem_strndup(p, (size_t)((next ? next : end) - p));

		if (read_line(name, n + 1, line, l, e) < 0)
			return -1;
		p = next ? next + 1 : end;
	}
	return 0;
}

/* ---- .trivyignore.yaml ---- */

struct yaml_entry {
	char *id;
	struct strv paths, purls;
	char *statement, *expired_at;
	size_t line;
};

struct yaml_file {
	struct conf_items vulnerabilities, misconfigurations, secrets, licenses;
};

#define AT(member) offsetof(struct yaml_entry, member)
static const struct conf_field entry_fields[] = {
	{ "id", CONF_STRING, AT(id), "", .help = "Of the finding" },
	{ "paths", CONF_LIST, AT(paths), "[]", .help = "Globs" },
	{ "purls", CONF_LIST, AT(purls), "[]", .help = "Packages" },
	{ "statement", CONF_STRING, AT(statement), "", .help = "Why" },
	{ "expired_at", CONF_STRING, AT(expired_at), "", .help = "A date" },
};
#undef AT
static const char *const entry_needed[] = { "id", NULL };
static const struct conf_group entry_group = { .what = "an entry",
					       .fields = entry_fields,
					       .n_fields = MEM_COUNT(entry_fields),
					       .needed = entry_needed,
					       .size = sizeof(struct yaml_entry),
					       .line_offset = offsetof(struct yaml_entry, line) };
#define CHILD(name)                                                                       \
	{                                                                                 \
#name, &entry_group, offsetof(struct yaml_file, name), IGNORE_ENTRIES_MAX \
	}
static const struct conf_child file_children[] = { CHILD(vulnerabilities), CHILD(misconfigurations),
						   CHILD(secrets), CHILD(licenses) };
static const struct conf_group file_group = { .what = "a .trivyignore.yaml",
					      .children = file_children,
					      .n_children = MEM_COUNT(file_children),
					      .size = sizeof(struct yaml_file) };

/* YAML has days and times. */
static bool
read_time(const char *text, int64_t *ret_s)
{
	return policy_parse_date(text, ret_s) || clock_parse_rfc3339(text, ret_s, NULL) == 0;
}

static int
take_entry(const char *name, const struct yaml_entry *y, struct ignore_list *l, struct err *e)
{
	AUTO_STRV struct strv paths = { 0 };
	struct policy_ignore *g;
	int64_t until_s = 0;

	if (!is_id(y->id)) {
		note(l, name, y->line, "id is no id of a finding");
		return 0;
	}
	if (*y->expired_at && !read_time(y->expired_at, &until_s)) {
		note(l, name, y->line, "expired_at is no date such as 2026-01-31");
		return 0;
	}
	for (size_t k = 0; k < y->paths.n; k++) {
		struct err why = ERR_INIT;

		if (ignore_globs_add(y->paths.v[k], &paths, &why) < 0) {
			note(l, name, y->line, why.text);
			return 0;
		}
	}
	l->n_paths += paths.n;
	if (l->n_paths > IGNORE_PATHS_MAX)
		return err_set(e, ERR_REFUSED, "more than %d paths in all, each alternative for itself",
			       IGNORE_PATHS_MAX);
	if (add(l, IGNORE_TRIVYIGNORE, y->id, &g, e) < 0)
		return -1;
	g->until_s = until_s;
	g->reason = *y->statement ? str_safe(y->statement, REASON_SHOWN) : NULL;
	strv_copy(&g->paths, &paths);
	strv_copy(&g->purls, &y->purls);
	return 0;
}

static int
read_yaml(const char *name, const char *text, size_t len, struct ignore_list *l, struct err *e)
{
	struct yaml_file f = { 0 };
	struct conf_places places = { 0 };
	int rc = 0;

	if (conf_tree_read(&file_group, name, text, len, &f, &places, e) < 0)
		return -1;
	conf_places_free(&places);
	for (size_t k = 0; rc == 0 && k < f.vulnerabilities.n; k++)
		rc = take_entry(name, &((const struct yaml_entry *)f.vulnerabilities.v)[k], l, e);
	conf_tree_free(&file_group, &f);
	return rc;
}

/* ---- OpenVEX ---- */

struct statement {
	const char *name; /* of the file */
	size_t n;	  /* from 1 */
	const cJSON *json;
	struct strv ids;
	int64_t said_s; /* 0: not known */
};

static bool
is_excusing(const char *status)
{
	return str_eq(status, "not_affected") || str_eq(status, "fixed");
}

static int64_t
time_of(const cJSON *document, const cJSON *statement)
{
	const char *text = json_str(statement, "timestamp");
	int64_t s;

	if (!text)
		text = json_str(document, "timestamp");
	return text && clock_parse_rfc3339(text, &s, NULL) == 0 ? s : 0;
}

/* {"name": …, "aliases": […]}, or as 0.0 had it a text. */
static void
read_ids(const cJSON *statement, struct strv *ret)
{
	const cJSON *v = json_object(statement, "vulnerability");
	AUTO_STRV struct strv aliases = { 0 };
	const char *name = v ? json_str(v, "name") : json_str(statement, "vulnerability");

	if (v)
		json_strv(v, "aliases", &aliases);
	if (name)
		strv_add(ret, name);
	for (size_t k = 0; k < aliases.n; k++)
		strv_add(ret, aliases.v[k]);
}

static const char *
purl_of(const cJSON *thing)
{
	const cJSON *identifiers = json_object(thing, "identifiers");
	const char *id = cJSON_IsString(thing) ? thing->valuestring : json_str(thing, "@id");

	if (identifiers && json_str(identifiers, "purl"))
		id = json_str(identifiers, "purl");
	return id && str_has_prefix(id, "pkg:") && strlen(id) <= PURL_MAX ? id : NULL;
}

static int
add_package(const struct statement *s, const char *image, const char *arch, const char *purl,
	    struct ignore_list *l, struct err *e)
{
	const char *why = json_str(s->json, "impact_statement");
	struct policy_ignore *g;

	if (!why)
		why = json_str(s->json, "justification");
	for (size_t k = 0; k < s->ids.n; k++) {
		if (!is_id(s->ids.v[k])) {
			note(l, s->name, s->n, "a vulnerability's name is no id");
			continue;
		}
		if (add(l, IGNORE_OPENVEX, s->ids.v[k], &g, e) < 0)
			return -1;
		strv_add(&g->purls, purl);
		g->image = mem_strdup(image);
		g->arch = mem_strdup(arch);
		g->said_s = s->said_s;
		g->statement = l->n_statements;
		g->reason = why ? str_safe(why, REASON_SHOWN) : NULL;
	}
	return 0;
}

/* A package, or an image and what in it is meant. */
static int
read_product(const struct statement *s, const cJSON *product, struct ignore_list *l, struct err *e)
{
	const char *purl = purl_of(product);
	const cJSON *parts = json_array(product, "subcomponents"), *part;
	bool is_image = purl && str_has_prefix(purl, "pkg:oci/");
	AUTO_FREE char *arch = NULL;
	AUTO_FREE char *image = is_image ? purl_image(purl, &arch) : NULL;

	if (!purl || (is_image && (!image || cJSON_GetArraySize(parts) == 0))) {
		note(l, s->name, s->n,
		     is_image ? "a product that is an image has no digest or tag, and names packages in subcomponents"
			      : "a product has no package URL");
		return 0;
	}
	if (!is_image && cJSON_GetArraySize(parts) == 0)
		return add_package(s, NULL, NULL, purl, l, e);
	cJSON_ArrayForEach(part, parts)
	{
		const char *its = purl_of(part);

		if (!its || str_has_prefix(its, "pkg:oci/"))
			note(l, s->name, s->n, "a subcomponent has no package URL of a package");
		else if (is_image && add_package(s, image, arch, its, l, e) < 0)
			return -1;
	}
	if (!is_image)
		note(l, s->name, s->n, "a package that is a part of another package");
	return 0;
}

static int
read_withdrawal(const struct statement *s, struct ignore_list *l, struct err *e)
{
	for (size_t k = 0; k < s->ids.n; k++) {
		if (l->n_withdrawn >= IGNORE_ENTRIES_MAX)
			return err_set(e, ERR_REFUSED, "more than %d entries in all", IGNORE_ENTRIES_MAX);
		l->withdrawn = mem_resize(l->withdrawn, l->n_withdrawn + 1, sizeof(*l->withdrawn));
		l->withdrawn[l->n_withdrawn++] =
			(struct ignore_withdrawal){ mem_strdup(s->ids.v[k]), s->said_s };
	}
	return 0;
}

static int
read_statement(const struct statement *s, struct ignore_list *l, struct err *e)
{
	const cJSON *products = json_array(s->json, "products"), *product;

	if (!is_excusing(json_str(s->json, "status")))
		return read_withdrawal(s, l, e);
	l->n_statements++;
	if (cJSON_GetArraySize(products) == 0)
		note(l, s->name, s->n, "it has no products");
	cJSON_ArrayForEach(product, products)
	{
		if (read_product(s, product, l, e) < 0)
			return -1;
	}
	return 0;
}

static int
read_openvex(const char *name, const char *text, size_t len, struct ignore_list *l, struct err *e)
{
	AUTO_JSON cJSON *j = NULL;
	const cJSON *list, *one;
	const char *context;
	size_t n = 0;
	int rc = 0;

	if (json_parse(text, len, IGNORE_FILE_MAX, JSON_UNIQUE, &j, e) < 0)
		return -1;
	context = json_str(j, "@context");
	list = json_array(j, "statements");
	if (!context || !str_has_prefix(context, "https://openvex.dev/ns") || !list)
		return err_set(e, ERR_REFUSED, "it is no OpenVEX document");
	cJSON_ArrayForEach(one, list)
	{
		struct statement s = { .name = name, .n = ++n, .json = one, .said_s = time_of(j, one) };

		read_ids(one, &s.ids);
		rc = read_statement(&s, l, e);
		strv_free(&s.ids);
		if (rc < 0)
			break;
	}
	return rc;
}

/* Somebody looks into it again, or found it to be so, at the same time or later: about which product is not asked. */
static bool
is_taken_back(const struct ignore_list *l, size_t first, const struct policy_ignore *g)
{
	if (g->file != IGNORE_OPENVEX)
		return false;
	for (size_t k = first; k < l->n_withdrawn; k++) {
		const struct ignore_withdrawal *w = &l->withdrawn[k];

		if (str_eq(w->id, g->id) && (w->said_s == 0 || g->said_s == 0 || w->said_s >= g->said_s))
			return true;
	}
	return false;
}

/*
 * A statement may stand in another file than the one that takes it back. What was there before the last file was read, so many of
 * both, was compared then: with many files it would be for each of them.
 */
static void
drop_taken_back(struct ignore_list *l, size_t n_before, size_t n_withdrawn_before)
{
	size_t n = 0, end;

	for (size_t k = 0; k < l->n; k = end) {
		AUTO_FREE char *said = NULL;
		bool is_taken = false;

		/* a flaw under each of its names, and of each product: what takes one of them back takes all */
		for (end = k; end < l->n && (end == k || (l->v[k].statement > 0 &&
							  l->v[end].statement == l->v[k].statement));
		     end++)
			is_taken = is_taken ||
				   is_taken_back(l, end < n_before ? n_withdrawn_before : 0, &l->v[end]);
		if (is_taken)
			said = mem_printf("OpenVEX of %s: another statement takes it back: it does not count",
					  l->v[k].id);
		if (said && l->notes.n < NOTES_MAX && !strv_has(&l->notes, said))
			strv_add(&l->notes, said);
		for (size_t x = k; x < end; x++) {
			if (is_taken)
				ignore_entry_free(&l->v[x]);
			else
				l->v[n++] = l->v[x];
		}
	}
	l->n = n;
}

/* ---- the whole ---- */

static const struct {
	const char *glob;
	enum ignore_file kind;
	int (*read)(const char *name, const char *text, size_t len, struct ignore_list *l, struct err *e);
} forms[] = {
	{ ".trivyignore", IGNORE_TRIVYIGNORE, read_plain },
	{ ".trivyignore.yaml", IGNORE_TRIVYIGNORE, read_yaml },
	{ ".vex.json", IGNORE_OPENVEX, read_openvex },
	{ "*.openvex.json", IGNORE_OPENVEX, read_openvex },
	{ ".vex/*.json", IGNORE_OPENVEX, read_openvex },
};

static size_t
form_of(const char *name)
{
	size_t k = 0;

	while (k < MEM_COUNT(forms) && !str_glob(forms[k].glob, name))
		k++;
	return k;
}

bool
ignore_file_kind(const char *name, enum ignore_file *ret)
{
	size_t k = form_of(name);

	if (k == MEM_COUNT(forms))
		return false;
	*ret = forms[k].kind;
	return true;
}

int
ignore_file_read(const char *name, const char *text, size_t len, struct ignore_list *l, struct err *e)
{
	size_t k = form_of(name), n_before = l->n, n_withdrawn_before = l->n_withdrawn;
	AUTO_FREE char *safe = str_safe(name, NAME_SHOWN);

	if (k == MEM_COUNT(forms))
		return err_set(e, ERR_REFUSED, "%s: no such file is known", safe);
	if (len > IGNORE_FILE_MAX)
		return err_set(e, ERR_REFUSED, "%s has more than %d bytes", safe, IGNORE_FILE_MAX);
	if (forms[k].read(name, text, len, l, e) == 0) {
		drop_taken_back(l, n_before, n_withdrawn_before);
		return 0;
	}
	cut(l, n_before, n_withdrawn_before);
	if (e)
		e->kind = ERR_REFUSED;
	return err_wrap(e, "%s", safe);
}
