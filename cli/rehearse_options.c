#include "cli/rehearse_options.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_DEFAULT ".gitlab-ci.yml"
#define TIMEOUT_DEFAULT_MS (3600 * 1000)

enum kind { ONE, LIST };

static const struct {
	const char *name;
	enum kind kind;
	size_t offset;
} table[] = {
	{ "--job", ONE, offsetof(struct rehearse_options, job) },
	{ "--file", ONE, offsetof(struct rehearse_options, file) },
	{ "--stage", ONE, offsetof(struct rehearse_options, stage) },
	{ "--image", ONE, offsetof(struct rehearse_options, image) },
	{ "--ref", ONE, offsetof(struct rehearse_options, ref) },
	{ "--out", ONE, offsetof(struct rehearse_options, out) },
	{ "--programs", ONE, offsetof(struct rehearse_options, programs) },
	{ "--script", LIST, offsetof(struct rehearse_options, script) },
	{ "--after-script", LIST, offsetof(struct rehearse_options, after_script) },
	{ "--artifact", LIST, offsetof(struct rehearse_options, artifacts) },
	{ "--variable", LIST, offsetof(struct rehearse_options, variables) },
};

bool
rehearse_options_has_own_job(const struct rehearse_options *o)
{
	return o->script.n > 0 || (o->image && !o->file);
}

/* GitLab's own rule for names in a path, and no way out of the builds directory. */
static bool
is_project_path(const char *s)
{
	const char *last = NULL;

	if (strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/") != strlen(s))
		return false;
	for (const char *p = s;; p++) {
		if (*p != '/' && *p != '\0')
			continue;
		/* A part: not empty, not beginning with a dot. */
		if (p == s || (last && p == last + 1) || (last ? last[1] : s[0]) == '.')
			return false;
		if (*p == '\0')
			return last != NULL;
		last = p;
	}
}

/* "rehearsal/<directory>", with what may not stand in a path as dashes. */
static char *
default_path(const char *project)
{
	char absolute[PATH_MAX];
	const char *name = "job";
	char *path;

	if (project && realpath(project, absolute) && strrchr(absolute, '/')[1] != '\0')
		name = strrchr(absolute, '/') + 1;
	path = mem_printf("rehearsal/%s", name);
	for (char *p = path + strlen("rehearsal/"); *p; p++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.", *p) ||
		    (*p == '.' && p[-1] == '/'))
			*p = '-';
	return path;
}

static char *
directory_of(const char *file)
{
	const char *slash = strrchr(file, '/');

	if (!slash)
		return mem_strdup(".");
	return slash == file ? mem_strdup("/") : mem_strndup(file, (size_t)(slash - file));
}

static int
take(struct rehearse_options *o, const char *name, const char *value, struct err *e)
{
	if (str_eq(name, "--project")) {
		mem_free_at(&o->project);
		o->project = mem_strdup(value);
		return 0;
	}
	if (str_eq(name, "--project-path")) {
		mem_free_at(&o->project_path);
		o->project_path = mem_strdup(value);
		return 0;
	}
	if (str_eq(name, "--timeout")) {
		if (str_parse_duration(value, &o->timeout_ms, e) < 0 || o->timeout_ms < 1000)
			return err_set(e, ERR_USAGE, "--timeout %s: a duration of at least 1s, such as 10m",
				       value);
		return 0;
	}
	for (size_t i = 0; i < MEM_COUNT(table); i++) {
		void *place = (char *)o + table[i].offset;

		if (!str_eq(table[i].name, name))
			continue;
		if (table[i].kind == ONE)
			*(const char **)place = value;
		else
			strv_add(place, value);
		return 0;
	}
	return err_set(e, ERR_USAGE, "rehearse: %s is not understood; see tidewaiter rehearse --help", name);
}

static int
check(const struct rehearse_options *o, struct err *e)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

	for (size_t i = 0; i < o->variables.n; i++) {
		const char *eq = strchr(o->variables.v[i], '=');
		size_t n = strspn(o->variables.v[i], letters);

		if (!eq || n == 0 || o->variables.v[i] + n != eq ||
		    (o->variables.v[i][0] >= '0' && o->variables.v[i][0] <= '9'))
			return err_set(e, ERR_USAGE,
				       "--variable %.*s: NAME=VALUE, the name of letters, digits and _",
				       eq ? (int)(eq - o->variables.v[i]) : 40, o->variables.v[i]);
	}
	if (!is_project_path(o->project_path))
		return err_set(e, ERR_USAGE, "--project-path %s: GROUP/PROJECT, of letters, digits and ._-",
			       o->project_path);
	if (o->file && o->script.n > 0)
		return err_set(e, ERR_USAGE, "rehearse: --script and --file do not go together");
	if (!rehearse_options_has_own_job(o) && (o->artifacts.n > 0 || o->after_script.n > 0 || o->stage))
		return err_set(e, ERR_USAGE,
			       "rehearse: --artifact, --after-script and --stage go with --script or --image, not with a job "
			       "of a file");
	return 0;
}

int
rehearse_options_parse(int argc, char **argv, struct rehearse_options *ret, struct err *e)
{
	ret->timeout_ms = TIMEOUT_DEFAULT_MS;
	for (int i = 1; i < argc; i++) {
		const char *eq = str_has_prefix(argv[i], "--") ? strchr(argv[i], '=') : NULL;
		AUTO_FREE char *name = mem_strndup(argv[i], eq ? (size_t)(eq - argv[i]) : strlen(argv[i]));

		if (str_eq(name, "--keep") && !eq) {
			ret->keep = true;
			continue;
		}
		if (!str_has_prefix(name, "--") || (!eq && i + 1 >= argc))
			return err_set(e, ERR_USAGE,
				       "rehearse: %s is not understood; see tidewaiter rehearse --help",
				       argv[i]);
		if (take(ret, name, eq ? eq + 1 : argv[++i], e) < 0)
			return -1;
	}
	if (rehearse_options_has_own_job(ret)) {
		if (ret->script.n == 0)
			strv_add(&ret->script, "ls -l tar_images");
	} else {
		if (!ret->file)
			ret->file = FILE_DEFAULT;
		if (!ret->project)
			ret->project = directory_of(ret->file);
	}
	if (!ret->project_path)
		ret->project_path = default_path(ret->project);
	return check(ret, e);
}

void
rehearse_options_free(struct rehearse_options *o)
{
	mem_free_at(&o->project);
	mem_free_at(&o->project_path);
	strv_free(&o->script);
	strv_free(&o->after_script);
	strv_free(&o->artifacts);
	strv_free(&o->variables);
}
