#include "executor/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

#define SECOND 1000
#define SLOTS_MAX 512
#define USER_PREFIX_MAX 24 /* a user's name has at most 32 bytes (useradd) */

static const char *const on_image_words[] = { "warn", "fail", NULL };

#define TOP(member) offsetof(struct settings, member)

static const struct conf_field top_fields[] = {
	{ "state_dir", CONF_PATH, TOP(state_dir), "/var/lib/tidewaiter",
	  .help = "Slots, builds, spool: what must outlive a job" },
	{ "cache_dir", CONF_PATH, TOP(cache_dir), "/var/cache/tidewaiter",
	  .help = "What can be made again: job caches, work space of inspections" },
	{ "scan_user", CONF_STRING, TOP(scan_user), "tidewaiter-scan",
	  .help = "Unpacks images and runs Trivy, without network and secrets" },
	{ "courier_user", CONF_STRING, TOP(courier_user), "tidewaiter",
	  .help = "Owns token and spool, alone talks to DefectDojo" },
};

#define JOB(member) offsetof(struct settings_job, member)

static const struct conf_field job_fields[] = {
	{ "user_prefix", CONF_STRING, JOB(user_prefix), "tidewaiter-job-",
	  .help = "Jobs run as users <prefix>0, <prefix>1 …, one per slot; tidewaiter setup makes them" },
	{ "slots", CONF_INT, JOB(slots), "8", .min = 1, .max = SLOTS_MAX,
	  .help = "Concurrent jobs on this host; at least the runner's `concurrent`" },
	{ "slot_wait", CONF_DURATION, JOB(slot_wait), "60s", .min = 0, .max = 3600 * SECOND,
	  .help = "How long a job waits for a free slot before it fails as a system failure" },
	{ "groups", CONF_LIST, JOB(groups), "[]",
	  .help = "More groups for job users; `docker` is root by another name" },
	{ "builds_dir", CONF_PATH, JOB(builds_dir), "",
	  .help = "Projects are checked out in <builds_dir>/<slot>; empty: <state_dir>/builds" },
	{ "cache_dir", CONF_PATH, JOB(cache_dir), "",
	  .help = "Caches of jobs, by slot and project; empty: <cache_dir>/jobs" },
	{ "keep_builds", CONF_BOOL, JOB(keep_builds), "false",
	  .help = "Keep the checked out project for the next job of the same project in the slot" },
	{ "path", CONF_STRING, JOB(path), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	  .help = "PATH of job scripts" },
	{ "env_pass", CONF_LIST, JOB(env_pass), "[]",
	  .help = "Names of the runner service's environment that jobs get too, such as http_proxy" },
	{ "env_set", CONF_LIST, JOB(env_set), "[]", .help = "More variables for jobs, as NAME=value" },
	{ "lang", CONF_STRING, JOB(lang), "C.UTF-8", .help = "LANG of job scripts" },
	{ "runner_path", CONF_STRING, JOB(runner_path), "gitlab-runner",
	  .help = "gitlab-runner for caches and artifacts: a name on PATH or an absolute path" },
	{ "private_tmp", CONF_BOOL, JOB(private_tmp), "true",
	  .help = "/tmp, /var/tmp and /dev/shm of its own for every job (as root)" },
	{ "on_image", CONF_ENUM, JOB(on_image), "warn", .choices = on_image_words,
	  .help = "A job that asks for image: or services:, which run on the host here" },
	{ "kill_wait", CONF_DURATION, JOB(kill_wait), "0", .min = 0, .max = 60 * SECOND,
	  .help = "Time between SIGTERM and SIGKILL for processes that a script leaves behind; 0: killed at once" },
};

static const struct conf_section job_section[] = {
	{ "job", 0, job_fields, MEM_COUNT(job_fields), .help = "How jobs run on this host" },
};
const struct conf_schema settings_job_schema = { job_section, MEM_COUNT(job_section) };

/* Two sections of our own, then those of struct options, moved to where it lies in struct settings. */
static struct conf_section sections[2 + OPTIONS_SECTION_COUNT] = {
	{ NULL, 0, top_fields, MEM_COUNT(top_fields), .help = "" },
	{ "job", offsetof(struct settings, job), job_fields, MEM_COUNT(job_fields),
	  .help = "How jobs run on this host" },
};
const struct conf_schema settings_schema = { sections, MEM_COUNT(sections) };

/* options_sections is a constant of another file: no initialiser can add to its offsets. Runs before main(). */
__attribute__((constructor)) static void
embed_options(void)
{
	for (size_t i = 0; i < OPTIONS_SECTION_COUNT; i++) {
		sections[2 + i] = options_sections[i];
		sections[2 + i].offset += offsetof(struct settings, opt);
	}
}

static const char example_projects[] =
	"\n"
	"# Other options for some projects: the first entry whose glob matches the project's path wins, and any\n"
	"# setting of the sections inject, images, trivy, gate, report and defectdojo may be given in it.\n"
	"projects: []\n"
	"\n"
	"# Enforcing for a group. A job can be renamed, so every job is looked at there, and one that leaves no\n"
	"# image is nothing to speak of:\n"
	"#projects:\n"
	"#  - match: \"group/**\"\n"
	"#    inject: { jobs: [\"*\"], on_no_image: pass }\n"
	"#    gate: { mode: enforce, severity: CRITICAL }\n"
	"#  - match: \"group-on-trial/*\"\n"
	"#    gate: { mode: warn, severity: HIGH, fixable_only: true }\n";

void
settings_print_example(struct buf *out)
{
	buf_add_str(out,
		    "# Settings of tidewaiter, every one with its default. Read as /etc/tidewaiter/tidewaiter.yml; another\n"
		    "# place: --config FILE. Durations (60s, 15m, 48h, 7d) and sizes (64MiB, 4GiB) carry units.\n"
		    "# In globs * stops at /, ** does not; in inject.jobs and inject.stages * matches / too.\n\n");
	conf_print(&settings_schema, NULL, true, out);
	buf_add_str(out, example_projects);
}

static int
bad_setting(struct err *e, const struct settings *s, const char *key, const char *found, const char *allowed)
{
	AUTO_FREE char *safe = str_safe(found, 200);

	return err_set(e, ERR_SETTINGS, "%s: %s: \"%s\" is not possible: %s", s->path, key, safe, allowed);
}

static bool
is_user_name(const char *name, size_t max)
{
	size_t n = strlen(name);

	return n > 0 && n <= max && ((name[0] >= 'a' && name[0] <= 'z') || name[0] == '_') &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static bool
is_variable_name(const char *name, size_t n)
{
	static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

	return n > 0 && strspn(name, chars) >= n && !(name[0] >= '0' && name[0] <= '9') &&
	       !str_has_prefix(name, "CUSTOM_ENV_");
}

/* Every entry of a PATH-like list is absolute: an empty one or "." would be the job's own directory. */
static bool
is_path_list(const char *list)
{
	const char *p = list;

	for (;;) {
		size_t n = strcspn(p, ":");

		if (n == 0 || p[0] != '/')
			return false;
		if (p[n] == '\0')
			return true;
		p += n + 1;
	}
}

static bool
is_plain_dir(const char *path)
{
	return path[0] == '/' && path[1] != '\0' && !strstr(path, "//") && !strstr(path, "/../") &&
	       !str_has_suffix(path, "/..") && !strstr(path, "/./") && !str_has_suffix(path, "/");
}

/* a is b or lies below it */
static bool
is_within(const char *a, const char *b)
{
	size_t n = strlen(b);

	return strncmp(a, b, n) == 0 && (a[n] == '\0' || a[n] == '/');
}

/* gitlab-runner's scripts use these paths unquoted in places. */
static bool
is_script_safe(const char *path)
{
	return strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-") ==
	       strlen(path);
}

static int
check_dirs(const struct settings *s, struct err *e)
{
	const struct {
		const char *key, *path;
		bool is_for_jobs;
	} dirs[] = {
		{ "state_dir", s->state_dir, false },
		{ "cache_dir", s->cache_dir, false },
		{ "job.builds_dir", s->job.builds_dir, true },
		{ "job.cache_dir", s->job.cache_dir, true },
	};

	for (size_t i = 0; i < MEM_COUNT(dirs); i++) {
		if (!is_plain_dir(dirs[i].path))
			return bad_setting(e, s, dirs[i].key, dirs[i].path,
					   "an absolute directory below / without .., . and //");
		if (dirs[i].is_for_jobs && !is_script_safe(dirs[i].path))
			return bad_setting(e, s, dirs[i].key, dirs[i].path,
					   "letters, digits and ._-/ only, for it stands in job scripts");
	}
	if (str_eq(s->state_dir, s->job.builds_dir) || str_eq(s->cache_dir, s->job.cache_dir))
		return err_set(e, ERR_SETTINGS,
			       "%s: job.builds_dir and job.cache_dir must be directories of their own",
			       s->path);
	if (is_within(s->job.builds_dir, s->job.cache_dir) || is_within(s->job.cache_dir, s->job.builds_dir))
		return err_set(e, ERR_SETTINGS,
			       "%s: job.builds_dir and job.cache_dir must not lie in each other", s->path);
	return 0;
}

static int
check_environment(const struct settings *s, struct err *e)
{
	for (size_t i = 0; i < s->job.env_pass.n; i++)
		if (!is_variable_name(s->job.env_pass.v[i], strlen(s->job.env_pass.v[i])))
			return bad_setting(e, s, "job.env_pass", s->job.env_pass.v[i],
					   "names of environment variables, none of CUSTOM_ENV_*");
	for (size_t i = 0; i < s->job.env_set.n; i++) {
		const char *v = s->job.env_set.v[i];
		const char *eq = strchr(v, '=');

		/* The value may be a secret that stands in the wrong place: it is not repeated. */
		if (!eq || !is_variable_name(v, (size_t)(eq - v))) {
			AUTO_FREE char *name = mem_strndup(v, eq ? (size_t)(eq - v) : strlen(v));

			return bad_setting(e, s, "job.env_set", eq ? name : "(no =)", "NAME=value");
		}
	}
	if (!is_path_list(s->job.path))
		return bad_setting(e, s, "job.path", s->job.path, "absolute directories with : between them");
	return 0;
}

/* Globs that lead out of the project would never match: better said than wondered at. */
static int
check_archives(const struct settings *s, const char *where, struct err *e)
{
	AUTO_FREE char *key = mem_printf("%simages.archives", where);

	for (size_t i = 0; i < s->opt.images.archives.n; i++) {
		const char *glob = s->opt.images.archives.v[i];

		if (glob[0] == '\0' || glob[0] == '/' || str_eq(glob, "..") || str_has_prefix(glob, "../") ||
		    strstr(glob, "/../") || str_has_suffix(glob, "/.."))
			return bad_setting(e, s, key, glob, "globs below the project directory, without ..");
	}
	return 0;
}

static int
check_scanner_and_server(const struct settings *s, const char *where, struct err *e)
{
	AUTO_FREE char *sum = mem_printf("%strivy.sha256", where);
	AUTO_FREE char *server = mem_printf("%sdefectdojo.url", where);
	const char *hex = s->opt.trivy.sha256, *url = s->opt.defectdojo.url;

	if (hex[0] && (strlen(hex) != 64 || !str_is_hex(hex, 64)))
		return bad_setting(e, s, sum, hex, "64 hexadecimal digits in lower case, or \"\"");
	if (url[0] && !str_has_prefix(url, "https://") && !str_has_prefix(url, "http://"))
		return bad_setting(e, s, server, url, "a URL that begins with https:// (or http://), or \"\"");
	return 0;
}

static int
check_options(const struct settings *s, const char *where, struct err *e)
{
	AUTO_FREE char *key = mem_printf("%sreport.dir", where);
	const char *dir = s->opt.report.dir;

	if (dir[0] == '\0' || dir[0] == '/' || dir[0] == '-' || str_has_suffix(dir, "/") ||
	    str_eq(dir, ".") || str_eq(dir, "..") || str_has_prefix(dir, "../") || strstr(dir, "/../") ||
	    str_has_suffix(dir, "/..") || !is_script_safe(dir))
		return bad_setting(e, s, key, dir,
				   "a directory below the project's, of letters, digits and ._-/ without ..");
	return check_archives(s, where, e) < 0 ? -1 : check_scanner_and_server(s, where, e);
}

static int
check_settings(const struct settings *s, struct err *e)
{
	if (!is_user_name(s->job.user_prefix, USER_PREFIX_MAX))
		return bad_setting(e, s, "job.user_prefix", s->job.user_prefix,
				   "a letter or _, then letters in lower case, digits, _ and -, at most 24");
	if (!is_user_name(s->scan_user, 32))
		return bad_setting(e, s, "scan_user", s->scan_user, "a user's name");
	if (!is_user_name(s->courier_user, 32))
		return bad_setting(e, s, "courier_user", s->courier_user, "a user's name");
	if (str_eq(s->scan_user, s->courier_user))
		return err_set(e, ERR_SETTINGS, "%s: scan_user and courier_user must be two users", s->path);
	if (strchr(s->job.runner_path, '/') ? s->job.runner_path[0] != '/' : s->job.runner_path[0] == '\0')
		return bad_setting(e, s, "job.runner_path", s->job.runner_path,
				   "a name on PATH or an absolute path");
	if (check_dirs(s, e) < 0 || check_environment(s, e) < 0)
		return -1;
	return check_options(s, "", e);
}

static void
fill_dirs(struct settings *s)
{
	if (str_is_empty(s->job.builds_dir)) {
		mem_free_at(&s->job.builds_dir);
		s->job.builds_dir = mem_printf("%s/builds", s->state_dir);
	}
	if (str_is_empty(s->job.cache_dir)) {
		mem_free_at(&s->job.cache_dir);
		s->job.cache_dir = mem_printf("%s/jobs", s->cache_dir);
	}
}

static int
parse_into(struct settings *s, const char *text, size_t len, struct err *e)
{
	conf_set_defaults(&settings_schema, s);
	if (conf_read_yaml(&settings_schema, s->path, text, len, s, &s->projects, e) < 0)
		return -1;
	fill_dirs(s);
	return check_settings(s, e);
}

int
settings_parse(const char *name, const char *text, size_t len, struct settings **ret, struct err *e)
{
	AUTO(settings) struct settings *s = mem_alloc(sizeof(*s));

	s->path = mem_strdup(name);
	if (parse_into(s, text, len, e) < 0) {
		if (e)
			e->kind = ERR_SETTINGS;
		return -1;
	}
	*ret = take_ptr(s);
	return 0;
}

/* Whoever can write the settings is root: they name programs, users and directories. */
static int
check_owner(const char *what, const struct stat *st, struct err *e)
{
	if (geteuid() != 0)
		return 0;
	if (st->st_uid != 0)
		return err_set(e, ERR_SETTINGS,
			       "%s belongs to uid %u, and would rule what runs as root: chown root it", what,
			       st->st_uid);
	/* A directory such as /tmp: others may add to it, and not replace what is there. */
	if ((st->st_mode & 022) && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return err_set(e, ERR_SETTINGS,
			       "%s is writable by others than root (mode %04o), and would rule what runs as root: chmod go-w it",
			       what, st->st_mode & 07777);
	return 0;
}

static int
open_trusted(const char *path, struct err *e)
{
	AUTO_FREE char *dir = NULL;
	AUTO_FD int fd = -1;
	const char *slash = strrchr(path, '/');
	struct stat st;

	/* The file may be a link (configuration management makes them): its target is what is looked at. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_SETTINGS,
			       "%s is not there: make it with `tidewaiter config show --example` or name another with --config FILE",
			       path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SETTINGS, "%s is not a regular file", path);
	if (check_owner(path, &st, e) < 0)
		return -1;
	dir = slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
	if (stat(dir, &st) < 0)
		return err_errno(e, "%s", dir);
	if (check_owner(dir, &st, e) < 0)
		return -1;
	return take_fd(fd);
}

static int
read_text(const char *path, char **ret, size_t *ret_len, struct err *e)
{
	AUTO_FD int fd = open_trusted(path, e);

	if (fd < 0)
		return -1;
	if (fs_read_fd_max(fd, SETTINGS_MAX, ret, ret_len, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}

int
settings_load(const char *path, struct settings **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (!path)
		path = SETTINGS_PATH_DEFAULT;
	if (read_text(path, &text, &len, e) < 0) {
		if (e)
			e->kind = ERR_SETTINGS;
		return -1;
	}
	return settings_parse(path, text, len, ret, e);
}

void
settings_free(struct settings *s)
{
	if (!s)
		return;
	conf_free(&settings_schema, s);
	conf_overrides_free(&s->projects);
	mem_free_at(&s->path);
	mem_free_at(&s);
}

int
settings_apply_project(struct settings *s, const char *project, const char **ret_match, struct err *e)
{
	const struct conf_override *o = conf_apply_overrides(&settings_schema, &s->projects, project, s);
	AUTO_FREE char *where = NULL;

	where = o ? mem_printf("projects (match \"%s\"): ", o->match) : mem_strdup("");
	if (check_options(s, where, e) < 0)
		return -1;
	*ret_match = o ? o->match : NULL;
	return 0;
}

int
settings_check_projects(const char *path, struct err *e)
{
	AUTO(settings) struct settings *all = NULL;

	if (settings_load(path, &all, e) < 0)
		return -1;
	for (size_t i = 0; i < all->projects.n; i++) {
		AUTO(settings) struct settings *s = NULL;
		char any[] = "**";
		struct conf_override one = { .match = any, .patch = all->projects.v[i].patch };
		const struct conf_overrides only = { .v = &one, .n = 1 };
		AUTO_FREE char *where = mem_printf("projects[%zu]: ", i);

		if (settings_load(path, &s, e) < 0)
			return -1;
		conf_apply_overrides(&settings_schema, &only, "group/project", s);
		if (check_options(s, where, e) < 0)
			return -1;
	}
	return 0;
}
