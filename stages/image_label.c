#include "stages/image_label.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

#define STEM_MAX 200
#define PART_MAX 64 /* of a name, tag or platform in a report's name */

bool
image_is_tag(const char *tag)
{
	size_t len = strlen(tag);

	for (size_t i = 0; i < len; i++)
		if (tag[i] <= 0x20 || tag[i] >= 0x7f)
			return false;
	return len && len <= 512;
}

bool
image_is_platform(const struct strv *list, const char *platform)
{
	for (size_t i = 0; i < list->n; i++) {
		size_t n = strlen(list->v[i]);

		if (!strcmp(list->v[i], "all") ||
		    (str_has_prefix(platform, list->v[i]) && (!platform[n] || platform[n] == '/')))
			return true;
	}
	return !platform[0];
}

static const char *
without_hub(const char *tag)
{
	static const char *const fronts[] = { "docker.io/", "index.docker.io/", "registry-1.docker.io/",
					      "library/" };

	for (size_t i = 0; i < MEM_COUNT(fronts); i++)
		tag += str_has_prefix(tag, fronts[i]) ? strlen(fronts[i]) : 0;
	return tag;
}

bool
image_is_same_name(const char *a, const char *b)
{
	return !strcmp(without_hub(a), without_hub(b));
}

/* https://github.com/distribution/reference: a first part with a dot, a colon or a capital, or "localhost". */
static bool
is_registry(const char *part, size_t len)
{
	for (size_t k = 0; k < len; k++)
		if (part[k] == '.' || part[k] == ':' || (part[k] >= 'A' && part[k] <= 'Z'))
			return true;
	return len == strlen("localhost") && memcmp(part, "localhost", len) == 0;
}

char *
image_repository(const char *tag)
{
	const char *name = without_hub(tag);
	size_t len = strcspn(name, "@"), first = strcspn(name, "/@");
	const char *slash, *colon;

	/* Docker Hub was all of a registry that it had */
	if (name == tag && name[first] == '/' && is_registry(name, first)) {
		name += first + 1;
		len -= first + 1;
	}
	slash = memrchr(name, '/', len);
	slash = slash ? slash : name;
	colon = memchr(slash, ':', len - (size_t)(slash - name));
	return mem_strndup(name, colon ? (size_t)(colon - name) : len);
}

static size_t
without_end(const char *name, size_t len)
{
	static const char *const ends[] = { ".tar.gz", ".tgz",	   ".tar.zst", ".tar.zstd",
					    ".tar.xz", ".tar.bz2", ".tar" };

	for (size_t i = 0; i < MEM_COUNT(ends); i++) {
		size_t n = strlen(ends[i]);

		if (len > n && !strncasecmp(name + len - n, ends[i], n))
			return len - n;
	}
	return len;
}

char *
image_stem(const char *archive_name)
{
	const char *slash = strrchr(archive_name, '/');
	const char *name = slash ? slash + 1 : archive_name;
	size_t len = without_end(name, strlen(name));
	char *out;

	/* a server takes blanks off a name, and "app .tar" is not to be delivered as app.tar is */
	for (; len && *name == ' '; len--)
		name++;
	while (len && name[len - 1] == ' ')
		len--;
	if (len > STEM_MAX)
		for (len = STEM_MAX; len && (name[len] & 0xc0) == 0x80; len--)
			;
	if (!len)
		return mem_strdup("image");
	out = mem_strndup(name, len);
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || (!str_is_utf8(name, len) && (*p & 0x80)))
			*p = '_';
	/* Neither hidden nor ".." nor an option. */
	if (out[0] == '.' || out[0] == '-')
		out[0] = '_';
	return out;
}

char *
image_full_name(const char *stem, const char *tag)
{
	if (!*tag)
		return mem_strdup(stem);
	return strpbrk(tag, "/:@") ? mem_strdup(tag) : mem_printf("%s:%s", stem, tag);
}

/* Letters, digits and what file names ordinarily have. */
static char *
file_part(const char *s)
{
	char *out = mem_strndup(s, PART_MAX);

	for (char *p = out; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
		      strchr("._-", *p)))
			*p = '-';
	return out;
}

char *
image_report_stem(const char *stem, const char *tag, const char *platform)
{
	const char *slash = strrchr(tag, '/');
	AUTO_FREE char *name = file_part(slash ? slash + 1 : tag);
	AUTO_FREE char *where = file_part(platform);
	size_t len = strlen(stem), max = STEM_MAX - 2 * (PART_MAX + 1);

	if (*name || *where)
		for (len = len > max ? max : len; len && (stem[len] & 0xc0) == 0x80; len--)
			;
	return mem_printf("%.*s%s%s%s%s", (int)len, stem, *name ? "-" : "", name, *where ? "-" : "", where);
}
