#include "stages/identity.h"

#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "stages/image_label.h"
#include "stages/kept.h"

#define SLUG_MAX 63

/* https://docs.gitlab.com/ci/variables/predefined_variables/ CI_COMMIT_REF_SLUG */
static void
make_slug(const char *ref, char out[SLUG_MAX + 1])
{
	size_t n = 0;

	for (const char *p = ref; *p && n < SLUG_MAX; p++) {
		int c = tolower((unsigned char)*p);

		out[n++] = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? (char)c : '-';
	}
	while (n > 0 && out[n - 1] == '-')
		n--;
	out[n] = '\0';
	n = strspn(out, "-");
	memmove(out, out + n, strlen(out + n) + 1);
}

/* Is it the project's path, in the lower case that registries want, or something below it? */
static bool
is_in_project(const char *repository, size_t len, const char *project)
{
	size_t n = strlen(project);

	return n > 0 && len >= n && strncasecmp(repository, project, n) == 0 &&
	       (len == n || repository[n] == '/');
}

char *
identity_repository(const char *repository, const struct job_facts *job)
{
	char slug[SLUG_MAX + 1];
	const char *last = strrchr(repository, '/');

	/* Auto DevOps and many a pipeline push to $CI_REGISTRY_IMAGE/$CI_COMMIT_REF_SLUG: of a merge request its source branch's. */
	make_slug(!str_is_empty(job->source_branch) ? job->source_branch : job->ref ? job->ref : "", slug);
	if (last && *slug && str_eq(last + 1, slug) &&
	    is_in_project(repository, (size_t)(last - repository), job->project_path ? job->project_path : ""))
		return mem_strndup(repository, (size_t)(last - repository));
	return mem_strdup(repository);
}

/* What an image is told apart by, from what changes least to what changes with every build. */
static char *
archive_of(const struct inspection *i, const struct image *m)
{
	return image_stem(m->archive < i->n_archives ? i->archives[m->archive].name : "");
}

static char *
platform_of(const struct inspection *i, const struct image *m)
{
	(void)i;
	return mem_strdup(m->platform ? m->platform : "");
}

static char *
archive_and_platform_of(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *stem = archive_of(i, m);

	return mem_printf("%s, %s", stem, m->platform ? m->platform : "");
}

static char *
report_of(const struct inspection *i, const struct image *m)
{
	(void)i;
	return mem_strdup(m->report_name ? m->report_name : "");
}

static char *(*const told_by[])(const struct inspection *i, const struct image *m) = {
	archive_of,
	platform_of,
	archive_and_platform_of,
	report_of,
};

/* No two of the images with this repository have the same there. */
static bool
tells_apart(const struct inspection *i, const char *repository,
	    char *(*of)(const struct inspection *i, const struct image *m))
{
	AUTO_STRV struct strv seen = { 0 };

	for (size_t k = 0; k < i->n_images; k++) {
		AUTO_FREE char *other = identity_repository(i->images[k].repository, i->job);
		AUTO_FREE char *by = NULL;

		if (!str_eq(other, repository))
			continue;
		by = of(i, &i->images[k]);
		if (!*by || strv_has(&seen, by))
			return false;
		strv_add(&seen, by);
	}
	return true;
}

static bool
is_shared(const struct inspection *i, const struct image *m, const char *repository)
{
	for (size_t k = 0; k < i->n_images; k++) {
		AUTO_FREE char *other = identity_repository(i->images[k].repository, i->job);

		if (&i->images[k] != m && str_eq(other, repository))
			return true;
	}
	return false;
}

char *
identity_image(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *repository = identity_repository(m->repository, i->job);

	if (!is_shared(i, m, repository))
		return take_ptr(repository);
	for (size_t k = 0; k < MEM_COUNT(told_by); k++) {
		AUTO_FREE char *by = NULL;

		if (k + 1 < MEM_COUNT(told_by) && !tells_apart(i, repository, told_by[k]))
			continue;
		by = told_by[k](i, m);
		/* an untagged image goes by its archive's name, and so does its report */
		return str_eq(by, repository) ? take_ptr(repository) : mem_printf("%s (%s)", repository, by);
	}
	return take_ptr(repository);
}

char *
identity_os_release(const char *family, const char *name)
{
	/* How many numbers make a release, by the family's own words; two where it is not listed. */
	static const struct {
		const char *family;
		unsigned n;
	} known[] = {
		{ "debian", 1 },
		{ "redhat", 1 },
		{ "centos", 1 },
		{ "rocky", 1 },
		{ "alma", 1 },
		{ "oracle", 1 },
		{ "amazon", 1 },
		{ "fedora", 1 },
		/* without releases: what they call one is a day */
		{ "wolfi", 0 },
		{ "chainguard", 0 },
		{ "minimos", 0 },
		{ "opensuse.tumbleweed", 0 },
		{ "opensuse-tumbleweed", 0 },
	};
	size_t len = strcspn(name, " "), end = 0;
	unsigned n = 2;

	for (size_t k = 0; k < MEM_COUNT(known); k++) {
		if (str_eq(known[k].family, family))
			n = known[k].n;
	}
	for (unsigned k = 0; k < n && end < len; k++) {
		end += k > 0;
		end += strcspn(name + end, ". ");
	}
	return mem_strndup(name, end < len ? end : len);
}

char *
identity_db_release(const char *family, const char *name)
{
	static const char *const known[] = { "debian", "ubuntu", "rocky", "alma" };

	for (size_t k = 0; k < MEM_COUNT(known); k++) {
		if (str_eq(known[k], family)) {
			AUTO_FREE char *release = identity_os_release(family, name);

			return mem_printf("%s %s", family, release);
		}
	}
	return NULL;
}

bool
identity_is_release_unknown(const struct report *r, const struct strv *known)
{
	AUTO_FREE char *release = identity_db_release(r->os_family, r->os_name);

	return release && known->n > 0 && !strv_has(known, release);
}

char *
identity_target(const struct report *r, const char *target, const char *image)
{
	AUTO_FREE char *of_os = mem_printf("%s (%s %s)", r->artifact_name, r->os_family, r->os_name);
	AUTO_FREE char *release = identity_os_release(r->os_family, r->os_name);

	if (str_eq(target, of_os))
		return *release ? mem_printf("%s (%s %s)", image, r->os_family, release)
				: mem_printf("%s (%s)", image, r->os_family);
	/* DefectDojo drops a result without a target and everything in it, without a word. */
	return mem_strdup(str_is_empty(target) || str_eq(target, r->artifact_name) ? image : target);
}

bool
identity_is_of_language(const struct finding *f)
{
	return str_eq(f->class, "lang-pkgs");
}

char *
identity_place(const struct report *r, const struct finding *f, const char *image)
{
	return *f->path ? mem_strdup(f->path) : identity_target(r, f->target, image);
}

void
identity_key_of(const struct identity *x, char out[IDENTITY_KEY_SIZE])
{
	const char *const parts[] = { x->project, x->image, x->type, x->package, x->version, x->id, x->place };

	_Static_assert(IDENTITY_KEY_SIZE == KEPT_KEY_SIZE, "one kind of key");
	kept_key(parts, MEM_COUNT(parts), out);
}

static void
make_key(const char *project, const char *image, const struct finding *f, const char *place,
	 char out[IDENTITY_KEY_SIZE])
{
	identity_key_of(&(struct identity){ .project = project,
					    .image = image,
					    .type = f->type,
					    .package = f->package,
					    .version = f->installed,
					    .id = f->id,
					    .place = place },
			out);
}

void
identity_key_anywhere(const char *project, const char *image, const struct finding *f,
		      char out[IDENTITY_KEY_SIZE])
{
	make_key(project, image, f, "", out);
}

void
identity_key(const char *project, const char *image, const struct report *r, const struct finding *f,
	     char out[IDENTITY_KEY_SIZE])
{
	AUTO_FREE char *place = identity_place(r, f, image);

	make_key(project, image, f, str_eq(f->class, "os-pkgs") ? "" : place, out);
}
