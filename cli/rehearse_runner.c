#include "cli/rehearse_runner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/rehearse_tree.h"

struct options {
	struct strv paths, excludes;
	const char *type, *format, *name;
	bool is_untracked;
};

static void
options_free(struct options *o)
{
	strv_free(&o->paths);
	strv_free(&o->excludes);
}

/* What goes with a type in GitLab; NULL: only archives and unknown types, which are not looked at. */
static const char *
format_of(const char *type)
{
	static const char *const raw[] = {
		"codequality", "container_scanning", "dast", "dependency_scanning", "sarif",
		"sast",	       "secret_detection"
	};
	static const char *const gzip[] = { "annotations", "cyclonedx", "dotenv", "junit" };

	for (size_t i = 0; i < MEM_COUNT(raw); i++)
		if (str_eq(raw[i], type))
			return "raw";
	for (size_t i = 0; i < MEM_COUNT(gzip); i++)
		if (str_eq(gzip[i], type))
			return "gzip";
	return str_eq(type, "archive") ? "zip" : NULL;
}

/* The directory of this program; owned by the caller, NULL when it cannot be known. */
static char *
own_path(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n <= 0)
		return NULL;
	path[n] = '\0';
	return mem_strdup(path);
}

bool
rehearse_runner_is_me(void)
{
	AUTO_FREE char *path = own_path();

	return path && str_has_suffix(path, "/" REHEARSE_RUNNER_NAME);
}

static int
parse(int argc, char **argv, struct options *o, struct err *e)
{
	for (int i = 0; i < argc; i++) {
		const char *eq = strchr(argv[i], '=');
		AUTO_FREE char *name = mem_strndup(argv[i], eq ? (size_t)(eq - argv[i]) : strlen(argv[i]));
		const char *value;

		if (str_eq(name, "--untracked")) {
			o->is_untracked = true;
			continue;
		}
		if (!str_has_prefix(name, "--") || (!eq && i + 1 >= argc))
			return err_set(e, ERR_USAGE, "unexpected argument %s", name);
		value = eq ? eq + 1 : argv[++i];
		if (str_eq(name, "--path"))
			strv_add(&o->paths, value);
		else if (str_eq(name, "--exclude"))
			strv_add(&o->excludes, value);
		else if (str_eq(name, "--artifact-type"))
			o->type = value;
		else if (str_eq(name, "--artifact-format"))
			o->format = value;
		else if (str_eq(name, "--name"))
			o->name = value;
		/* Address, token, time limits: of no meaning here. */
	}
	return 0;
}

/* Does a glob name this path or a directory above it? */
static bool
is_named(const char *glob, const char *path)
{
	AUTO_FREE char *pattern = mem_strdup(str_has_prefix(glob, "./") ? glob + 2 : glob);
	AUTO_FREE char *part = mem_strdup(path);
	size_t n = strlen(pattern);

	while (n > 0 && pattern[n - 1] == '/')
		pattern[--n] = '\0';
	if (str_eq(pattern, "") || str_eq(pattern, "."))
		return true;
	for (;;) {
		char *slash;

		if (str_glob(pattern, part))
			return true;
		slash = strrchr(part, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
}

/* GitLab takes absolute paths too, where they lie in the project directory. */
static void
make_relative(struct strv *globs)
{
	char cwd[PATH_MAX];
	size_t n;

	if (!getcwd(cwd, sizeof(cwd)))
		return;
	n = strlen(cwd);
	for (size_t i = 0; i < globs->n; i++) {
		if (strncmp(globs->v[i], cwd, n) == 0 && globs->v[i][n] == '/')
			memmove(globs->v[i], globs->v[i] + n + 1, strlen(globs->v[i] + n + 1) + 1);
	}
}

static int
collect(struct options *o, struct strv *ret, struct err *e)
{
	AUTO_FD int cwd = fs_open_dir(AT_FDCWD, ".", e);
	AUTO_STRV struct strv all = { 0 };
	AUTO_FREE size_t *counts = mem_array(o->paths.n + 1, sizeof(*counts));

	if (cwd < 0 || tree_list(cwd, &all, e) < 0)
		return -1;
	make_relative(&o->paths);
	for (size_t i = 0; i < all.n; i++) {
		bool is_wanted = o->is_untracked;

		for (size_t k = 0; k < o->paths.n; k++) {
			if (is_named(o->paths.v[k], all.v[i])) {
				counts[k]++;
				is_wanted = true;
			}
		}
		if (is_wanted && !str_glob_any(&o->excludes, all.v[i]))
			strv_add(ret, all.v[i]);
	}
	for (size_t k = 0; k < o->paths.n; k++) {
		AUTO_FREE char *safe = str_safe(o->paths.v[k], 200);

		if (counts[k] > 0)
			printf("%s: found %zu matching artifact files and directories\n", safe, counts[k]);
		else
			fprintf(stderr, "WARNING: %s: no matching files\n", safe);
	}
	return 0;
}

static int
store(const struct strv *names, int cwd, int to, struct err *e)
{
	struct tree_copy t = { 0 };

	for (size_t i = 0; i < names->n; i++) {
		struct stat st;

		/* Directories come into being with what is in them; their own listing is no reason to copy it all. */
		if (fstatat(cwd, names->v[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
		    tree_copy(cwd, names->v[i], to, names->v[i], &t, e) < 0)
			return -1;
	}
	return 0;
}

static int
upload(struct options *o, struct err *e)
{
	const char *type = o->type ? o->type : "archive";
	const char *format = o->format ? o->format : "zip";
	AUTO_STRV struct strv names = { 0 };
	AUTO_FREE char *path = own_path();
	AUTO_FREE char *uploads = NULL;
	AUTO_FD int all = -1;
	AUTO_FD int cwd = -1;
	AUTO_FD int to = -1;

	if (strchr(type, '/') || type[0] == '.')
		return err_set(e, ERR_USAGE, "artifact type %s", type);
	if (collect(o, &names, e) < 0)
		return -1;
	if (names.n == 0) {
		fprintf(stderr, "ERROR: No files to upload\n");
		return 0;
	}
	if (format_of(type) && !str_eq(format_of(type), format))
		return err_set(e, ERR_REFUSED, "400: format %s does not go with %s", format, type);
	if (!path)
		return err_set(e, ERR_FAILED, "/proc is not there");
	uploads = mem_printf("%.*s/" REHEARSE_UPLOADS, (int)(strrchr(path, '/') - path), path);
	all = fs_open_dir(AT_FDCWD, uploads, e);
	cwd = all < 0 ? -1 : fs_open_dir(AT_FDCWD, ".", e);
	if (cwd < 0)
		return -1;
	if (mkdirat(all, type, 0755) < 0)
		return errno == EEXIST
			       ? err_set(e, ERR_REFUSED, "400: another artifact of type %s is there", type)
			       : err_errno(e, "%s/%s", uploads, type);
	to = fs_open_dir(all, type, e);
	if (to < 0 || store(&names, cwd, to, e) < 0)
		return -1;
	fprintf(stderr, "Uploading artifacts as \"%s\" to coordinator... 201 Created (rehearsal)\n", type);
	return 0;
}

int
rehearse_runner_main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct options o = { 0 };
	const char *verb = argc > 1 ? argv[1] : "";
	int rc = 0;

	/* Standard error comes in the same log: the lines are to stay in order. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (str_eq(verb, "--version") || str_eq(verb, "-v")) {
		printf("Version:      %s\nGit revision: rehearsal\n", TIDEWAITER_VERSION);
		return 0;
	}
	if (str_eq(verb, "cache-archiver")) {
		printf("A rehearsal keeps no caches.\n");
		return 0;
	}
	if (str_eq(verb, "cache-extractor")) {
		fprintf(stderr, "WARNING: a rehearsal has no caches.\n");
		return 1;
	}
	if (str_eq(verb, "artifacts-uploader")) {
		rc = parse(argc - 2, argv + 2, &o, &e);
		if (rc == 0)
			rc = upload(&o, &e);
	} else {
		rc = err_set(&e, ERR_USAGE, "no such command in a rehearsal: %s", verb);
	}
	options_free(&o);
	if (rc < 0)
		fprintf(stderr, "FATAL: %s\n", e.text);
	return rc < 0 ? 1 : 0;
}
