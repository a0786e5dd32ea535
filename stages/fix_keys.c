#include "stages/fix_keys.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/identity.h"
#include "stages/kept.h"

int
fix_key_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct fix_key));
}

bool
fix_key_is_none(const struct fix_key *key)
{
	static const struct fix_key none;

	return fix_key_compare(key, &none) == 0;
}

struct package {
	const char *id, *source;
};
struct packages {
	struct package *v;
	size_t n;
};

static int
compare_packages(const void *a, const void *b)
{
	const struct package *x = a, *y = b;

	return strcmp(x->id, y->id);
}

/* Those of one result that have a source. */
static void
list_packages(const cJSON *result, struct packages *ret)
{
	const cJSON *list = json_array(result, "Packages"), *one;

	*ret = (struct packages){ .v = mem_array((list ? (size_t)cJSON_GetArraySize(list) : 0) + 1,
						 sizeof(*ret->v)) };
	cJSON_ArrayForEach(one, list)
	{
		const char *id = json_str(one, "ID"), *source = json_str(one, "SrcName");

		if (!str_is_empty(id) && !str_is_empty(source))
			ret->v[ret->n++] = (struct package){ id, source };
	}
	qsort(ret->v, ret->n, sizeof(*ret->v), compare_packages);
}

/* "" where it is not known. */
static const char *
source_of(const struct packages *l, const cJSON *vulnerability)
{
	const char *id = json_str(vulnerability, "PkgID");
	const struct package wanted = { .id = id ? id : "" };
	const struct package *p =
		l->n > 0 ? bsearch(&wanted, l->v, l->n, sizeof(*l->v), compare_packages) : NULL;

	return p ? p->source : "";
}

static unsigned
hex_value(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

static void
make_key(const char *scope, const char *kind, const char *package, const char *id, struct fix_key *ret)
{
	const char *const parts[] = { scope, kind, package, id };
	char hex[KEPT_KEY_SIZE];

	_Static_assert(KEPT_KEY_SIZE == 2 * sizeof(ret->bytes) + 1, "as many bits");
	kept_key(parts, MEM_COUNT(parts), hex);
	for (size_t k = 0; k < sizeof(ret->bytes); k++)
		ret->bytes[k] = (uint8_t)(hex_value(hex[2 * k]) << 4 | hex_value(hex[2 * k + 1]));
}

/* "npm" of a lock file and of a package in node_modules alike: the type of the package URL, where there is one. Owned by the caller. */
static char *
ecosystem_of(const struct finding *f)
{
	const char *type = str_has_prefix(f->purl, "pkg:") ? f->purl + strlen("pkg:") : "";
	size_t len = strcspn(type, "/");

	return type[len] == '/' && len > 0 ? mem_strndup(type, len) : mem_strdup(f->type);
}

/* As some ecosystems compare names (Python by PEP 503, NuGet). Owned by the caller. */
static char *
fold(const char *name)
{
	char *folded = mem_strdup(name), *to = folded;

	for (const char *p = name; *p; p++) {
		bool is_mark = strchr("-_.", *p) != NULL;

		if (!is_mark || to == folded || to[-1] != '-')
			*to++ = is_mark ? '-' : (char)tolower((unsigned char)*p);
	}
	*to = '\0';
	return folded;
}

static void
make_keys(const struct finding *f, const char *family, const char *system, const char *source,
	  struct fix_key ret[FIX_KEYS])
{
	AUTO_FREE char *ecosystem = NULL, *folded = NULL;

	if (!*f->fixed)
		return;
	if (str_eq(f->class, "os-pkgs")) {
		make_key(system, "package", f->package, f->id, &ret[0]);
		if (*source)
			make_key(system, "source", source, f->id, &ret[1]);
		make_key(family, "fix", f->fixed, f->id, &ret[2]);
		return;
	}
	ecosystem = ecosystem_of(f);
	folded = fold(f->package);
	make_key(ecosystem, "language", f->package, f->id, &ret[0]);
	make_key(ecosystem, "folded", folded, f->id, &ret[1]);
}

void
fix_keys_make(const struct report *r, struct fix_keys *ret)
{
	AUTO_FREE char *release = identity_os_release(r->os_family, r->os_name);
	AUTO_FREE char *system = mem_printf("%s %s", r->os_family, release);
	const cJSON *result;
	size_t index = 0;

	ret->of = mem_array(r->n_findings + 1, sizeof(*ret->of));
	/* findings stand in the order of the report, so both are walked once */
	cJSON_ArrayForEach(result, json_array(r->json, "Results"))
	{
		struct packages packages = { 0 };
		const cJSON *v;

		if (ret->n < r->n_findings && r->findings[ret->n].result == index)
			list_packages(result, &packages);
		cJSON_ArrayForEach(v, json_array(result, "Vulnerabilities"))
		{
			if (ret->n == r->n_findings || r->findings[ret->n].result != index)
				break;
			make_keys(&r->findings[ret->n], r->os_family, system, source_of(&packages, v),
				  ret->of[ret->n]);
			ret->n++;
		}
		mem_free_at(&packages.v);
		index++;
	}
}

void
fix_keys_free(struct fix_keys *k)
{
	mem_free_at(&k->of);
	k->n = 0;
}

int64_t
fix_keys_date(const struct fix_key of[FIX_KEYS],
	      int64_t (*date_of)(const void *arg, const struct fix_key *key), const void *arg)
{
	int64_t first = 0;

	for (size_t k = 0; k < FIX_KEYS; k++) {
		int64_t s = fix_key_is_none(&of[k]) ? 0 : date_of(arg, &of[k]);

		if (s > 0 && (first == 0 || s < first))
			first = s;
	}
	return first;
}
