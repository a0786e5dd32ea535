#include "cli/rehearse_options.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_DEFAULT ".gitlab-ci.yml"
#define TIMEOUT_DEFAULT_MS (3600 * 1000)

/* What is given as text and owned afterwards. */
struct given {
	struct rehearse_options o;
	const char *project, *project_path;
};

#define AT(member) offsetof(struct given, member)
static const struct cli_option rows[] = {
	{ "file", "FILE", OPTION_TEXT, AT(o.file), "the job comes from there; default: " FILE_DEFAULT, NULL },
	{ "job", "NAME", OPTION_TEXT, AT(o.job),
	  "which one; default: the only one, or the first that inject.jobs matches", NULL },
	{ "script", "COMMAND", OPTION_LIST, AT(o.script),
	  "a line of the script of a job of its own; may be repeated", NULL },
	{ "after-script", "COMMAND", OPTION_LIST, AT(o.after_script), "the same for its after_script", NULL },
	{ "artifact", "PATH", OPTION_LIST, AT(o.artifacts), "the same for its artifacts: paths:", NULL },
	{ "stage", "NAME", OPTION_TEXT, AT(o.stage), "its stage", NULL },
	{ "image", "TAR", OPTION_TEXT, AT(o.image),
	  "an image archive that lies in tar_images/ when the script begins", NULL },
	{ "project", "DIR", OPTION_TEXT, AT(project),
	  "what is checked out: all files of it; default: the directory of --file", NULL },
	{ "project-path", "PATH", OPTION_TEXT, AT(project_path),
	  "GROUP/PROJECT for settings and reports; default: rehearsal/<directory>", NULL },
	{ "ref", "NAME", OPTION_TEXT, AT(o.ref),
	  "the branch; default: the one that is checked out in the project, or main", NULL },
	{ "tag", NULL, OPTION_FLAG, AT(o.is_tag), "--ref is a tag", NULL },
	{ "target-branch", "NAME", OPTION_TEXT, AT(o.target_branch),
	  "the pipeline is that of a merge request of the branch for this one", NULL },
	{ "default-branch", "NAME", OPTION_TEXT, AT(o.default_branch), "the project's; default: main", NULL },
	{ "unprotected", NULL, OPTION_FLAG, AT(o.is_unprotected),
	  "the branch or tag is not protected, as a merge request's never is", NULL },
	{ "variable", "NAME=VALUE", OPTION_LIST, AT(o.variables), "a job variable; may be repeated", NULL },
	{ "timeout", "DURATION", OPTION_DURATION, AT(o.timeout_ms), "of the job, such as 10m; default: 1h",
	  NULL },
	{ "out", "DIR", OPTION_TEXT, AT(o.out), "uploaded artifacts are put there, as <type>/<path>", NULL },
	{ "keep", NULL, OPTION_FLAG, AT(o.keep),
	  "payload, scripts and settings of the rehearsal stay; says where", NULL },
	{ "programs", "DIR", OPTION_TEXT, AT(o.programs), "where the four executables are", NULL },
};
const struct cli_options rehearse_options_table = { "rehearse", rows, MEM_COUNT(rows), NULL };

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
	if (o->is_tag && (!o->ref || o->target_branch))
		return err_set(e, ERR_USAGE,
			       o->ref ? "rehearse: --tag and --target-branch do not go together"
				      : "rehearse: --tag goes with --ref, which names it");
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
	struct given given = { .o.timeout_ms = TIMEOUT_DEFAULT_MS };
	int n_operands, rc = options_parse(&rehearse_options_table, argc, argv, &given, &n_operands, e);

	/* Also after a fault: the lists are the caller's to free. */
	*ret = given.o;
	if (rc < 0)
		return -1;
	ret->project = mem_strdup(given.project);
	ret->project_path = mem_strdup(given.project_path);
	if (ret->timeout_ms < 1000)
		return err_set(e, ERR_USAGE,
			       "rehearse: --timeout: %lld ms is not possible, allowed is a duration of at "
			       "least 1s, such as 10m",
			       (long long)ret->timeout_ms);
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
