#include "stages/trivy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/proc.h"
#include "base/str.h"
#include "stages/confine.h"

#define STDERR_MAX (64 * 1024) /* bytes */
#define EXPLANATION_MAX 300    /* code points */
#define VERSION_TIMEOUT_MS 20000
/* Trivy's own limit is behind ours, for a Trivy that outlives us. */
#define TIMEOUT_MARGIN_MS 10000
#define VERSION_MAX 256 /* bytes */

void
trivy_free(struct trivy *t)
{
	if (!t)
		return;
	mem_close_at(&t->fd);
	mem_free_at(&t->dir);
	mem_free_at(&t->cwd);
	mem_free_at(&t->home);
	mem_free_at(&t->cache);
	mem_free_at(&t->config);
	mem_free_at(&t->nothing);
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++)
		trivy_db_close(&t->dbs[k]);
	mem_free_at(&t);
}

static int
open_executable(const char *path, struct err *e)
{
	struct stat st;
	AUTO_FD int fd = -1;

	if (str_is_empty(path) || path[0] != '/')
		return err_set(e, ERR_FAILED, "trivy.path is \"%s\", expected an absolute path",
			       path ? path : "");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(e, "Trivy: %s (trivy.path)", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "Trivy: %s", path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return err_set(e, ERR_FAILED, "Trivy: %s (trivy.path) is no executable file", path);
	return take_fd(fd);
}

static int
check_sha256(int fd, const char *path, const char *expected, struct err *e)
{
	char digest[HASH_DIGEST_MAX];

	if (str_is_empty(expected))
		return 0;
	if (hash_of_fd(HASH_SHA256, fd, digest, e) < 0)
		return err_wrap(e, "Trivy: %s", path);
	if (!str_eq(strchr(digest, ':') + 1, expected))
		return err_set(e, ERR_FAILED, "Trivy: %s has SHA-256 %s, trivy.sha256 asks for %s", path,
			       strchr(digest, ':') + 1, expected);
	return 0;
}

int
trivy_open_program(const struct options_trivy *opt, struct err *e)
{
	AUTO_FD int fd = open_executable(opt->path, e);

	if (fd < 0 || check_sha256(fd, opt->path, opt->sha256, e) < 0)
		return -1;
	return take_fd(fd);
}

int
trivy_take_db(struct trivy *t, struct trivy_db_dir *db, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/%s", t->cache, trivy_db_forms[db->kind].cache_name);
	char to[64];

	snprintf(to, sizeof(to), "/proc/self/fd/%d", db->fd);
	if (symlink(to, path) < 0)
		return err_errno(e, "%s", path);
	t->dbs[db->kind] = *db;
	*db = (struct trivy_db_dir)TRIVY_DB_DIR_INIT;
	return 0;
}

int
trivy_use_server(struct trivy *t, int port, const char *token, struct err *e)
{
	AUTO_FREE char *text = mem_printf("server:\n  token: \"%s\"\n", token);
	AUTO_FD int dirfd = fs_open_dir(AT_FDCWD, t->dir, e);

	if (dirfd < 0 || fs_publish(dirfd, "config.yaml", text, strlen(text), 0600, 0, e) < 0)
		return -1;
	t->server_port = port;
	return 0;
}

static int
make_dirs(int work_fd, struct err *e)
{
	AUTO_FD int dirfd = -1;

	if (fs_mkdirs(work_fd, CONFINE_TRIVY_DIR, 0700, e) < 0)
		return -1;
	dirfd = fs_open_dir(work_fd, CONFINE_TRIVY_DIR, e);
	if (dirfd < 0 || fs_mkdirs(dirfd, "cwd", 0700, e) < 0 || fs_mkdirs(dirfd, "home", 0700, e) < 0 ||
	    fs_mkdirs(dirfd, "cache", 0700, e) < 0)
		return -1;
	return fs_publish(dirfd, "config.yaml", "", 0, 0600, 0, e);
}

int
trivy_open(const struct options_trivy *opt, int work_fd, const char *work_dir, struct trivy **ret,
	   struct err *e)
{
	AUTO(trivy) struct trivy *t = mem_alloc(sizeof(*t));

	t->opt = opt;
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++)
		t->dbs[k] = (struct trivy_db_dir)TRIVY_DB_DIR_INIT;
	t->fd = trivy_open_program(opt, e);
	if (t->fd < 0)
		return -1;
	t->dir = mem_printf("%s/" CONFINE_TRIVY_DIR, work_dir);
	t->cwd = mem_printf("%s/cwd", t->dir);
	t->home = mem_printf("%s/home", t->dir);
	t->cache = mem_printf("%s/cache", t->dir);
	t->config = mem_printf("%s/config.yaml", t->dir);
	t->nothing = mem_printf("%s/nothing", t->dir);
	if (make_dirs(work_fd, e) < 0)
		return err_wrap(e, "directories for Trivy");
	*ret = take_ptr(t);
	return 0;
}

static void
build_argv(const struct trivy *t, const char *layout, struct strv *argv)
{
	AUTO_FREE char *scanners = strv_join(&t->opt->scanners, ",");
	/* What is not said here is at Trivy's default, and neither file nor environment can change it. */
	const char *const fixed[] = { "trivy",
				      "image",
				      "--format",
				      "json",
				      "--quiet",
				      "--skip-db-update",
				      "--skip-java-db-update",
				      "--skip-check-update",
				      "--skip-vex-repo-update",
				      "--skip-version-check",
				      "--disable-telemetry",
				      "--offline-scan",
				      "--cache-backend",
				      "memory",
				      "--exit-code",
				      "0",
				      "--exit-on-eol",
				      "0",
				      "--list-all-pkgs",
				      "--pkg-types",
				      "os,library",
				      "--detection-priority",
				      "precise",
				      "--ignorefile",
				      "/dev/null" };

	for (size_t k = 0; k < MEM_COUNT(fixed); k++)
		strv_add(argv, fixed[k]);
	strv_addf(argv, "--config=%s", t->config);
	strv_addf(argv, "--secret-config=%s", t->nothing);
	strv_addf(argv, "--module-dir=%s", t->nothing);
	strv_addf(argv, "--cache-dir=%s", t->cache);
	strv_addf(argv, "--timeout=%jdms", (intmax_t)(t->opt->timeout + TIMEOUT_MARGIN_MS));
	strv_addf(argv, "--scanners=%s", scanners);
	if (t->server_port)
		strv_addf(argv, "--server=http://127.0.0.1:%d", t->server_port);
	strv_addf(argv, "--input=%s", layout);
}

static void
build_env(const struct trivy *t, struct strv *env)
{
	strv_addf(env, "HOME=%s", t->home);
	strv_addf(env, "TMPDIR=%s", t->home);
	strv_add(env, "PATH=/nonexistent");
	strv_add(env, "LANG=C.UTF-8");
	strv_add(env, "TZ=UTC");
	if (t->opt->memory_max > 0)
		strv_addf(env, "GOMEMLIMIT=%jd", (intmax_t)(t->opt->memory_max / 10 * 9));
}

void
trivy_describe(const struct trivy *t, struct buf *out)
{
	/* names of this inspection's own decide nothing */
	const struct trivy any = { .opt = t->opt,
				   .dir = (char[]){ "DIR" },
				   .cwd = (char[]){ "CWD" },
				   .home = (char[]){ "HOME" },
				   .cache = (char[]){ "CACHE" },
				   .config = (char[]){ "CONFIG" },
				   .nothing = (char[]){ "NOTHING" },
				   .server_port = t->server_port != 0 };
	AUTO_STRV struct strv words = { 0 };

	build_argv(&any, "IMAGE", &words);
	build_env(&any, &words);
	for (size_t k = 0; k < words.n; k++)
		buf_add(out, words.v[k], strlen(words.v[k]) + 1);
}

static int
limit_memory(void *arg)
{
	const struct options_trivy *opt = arg;
	struct rlimit l = { .rlim_cur = (rlim_t)opt->memory_max, .rlim_max = (rlim_t)opt->memory_max };

	return opt->memory_max > 0 && setrlimit(RLIMIT_DATA, &l) < 0 ? errno : 0;
}

/* The last line with FATAL, else where a Go program says why it dies, else the last line with anything in it. */
static const char *
find_reason(const char *text, size_t *ret_len)
{
	const char *found = NULL, *last = "";
	size_t found_len = 0, last_len = 0;
	bool is_fatal = false;

	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		const char *fatal = memmem(line, len, "FATAL", 5);

		if (fatal) {
			found = fatal + 5;
			found_len = len - (size_t)(found - line);
			is_fatal = true;
		} else if (!is_fatal && !found &&
			   (str_has_prefix(line, "panic: ") || str_has_prefix(line, "fatal error: ") ||
			    str_has_prefix(line, "runtime: out of memory"))) {
			found = line;
			found_len = len;
		}
		if (len > 0) {
			last = line;
			last_len = len;
		}
		line += len + (line[len] == '\n');
	}
	*ret_len = found ? found_len : last_len;
	return found ? found : last;
}

char *
trivy_explain(const char *stderr_text)
{
	static const struct {
		const char *has, *says;
	} known[] = {
		{ "Unable to initialize the Java DB",
		  "the image holds Java archives, for which Trivy needs its Java index (trivy.java_db_dir)" },
		{ "unable to initialize the Java DB",
		  "the image holds Java archives, for which Trivy needs its Java index (trivy.java_db_dir)" },
		{ "out of memory", "it needs more memory than trivy.memory_max allows" },
		{ "cannot allocate memory", "it needs more memory than trivy.memory_max allows" },
		{ "no space left on device", "no space left on the device of cache_dir" },
		{ "context deadline exceeded", "it took longer than trivy.timeout" },
	};
	AUTO_FREE char *line = NULL;
	const char *reason;
	size_t len;

	for (size_t k = 0; k < MEM_COUNT(known); k++) {
		if (strstr(stderr_text, known[k].has))
			return mem_strdup(known[k].says);
	}
	reason = find_reason(stderr_text, &len);
	while (len > 0 && (*reason == '\t' || *reason == ' ')) {
		reason++;
		len--;
	}
	line = mem_strndup(reason, len);
	if (str_has_prefix(line, "Fatal error\t"))
		memmove(line, line + strlen("Fatal error\t"), strlen(line + strlen("Fatal error\t")) + 1);
	return *line ? str_safe(line, EXPLANATION_MAX) : mem_strdup("it said nothing");
}

/* Nothing of ours in the words of Trivy: the layout directory is called the image. */
static char *
without_path(const char *text, const char *path)
{
	AUTO_BUF struct buf out = BUF_INIT(STDERR_MAX);
	const char *at;

	while ((at = strstr(text, path)) != NULL) {
		buf_add(&out, text, (size_t)(at - text));
		buf_add_str(&out, "the image");
		text = at + strlen(path);
	}
	buf_add_str(&out, text);
	return mem_strdup(buf_str(&out));
}

static int
judge_end(const struct trivy *t, const char *layout, const struct proc_result *r, const struct buf *out,
	  const struct buf *err_out, struct err *e)
{
	AUTO_FREE char *text = without_path(buf_str(err_out), layout);
	AUTO_FREE char *why = NULL;
	AUTO_FREE char *how = NULL;

	if (r->end == PROC_TIMED_OUT) {
		AUTO_FREE char *limit = str_format_duration(t->opt->timeout);

		return err_set(e, ERR_TIMEOUT, "Trivy took longer than %s (trivy.timeout)", limit);
	}
	if (r->end != PROC_EXITED || r->code != 0) {
		why = trivy_explain(text);
		how = proc_describe(r);
		return err_set(e, ERR_FAILED, "Trivy %s: %s", how, why);
	}
	if (out->is_full) {
		AUTO_FREE char *max = str_format_size(t->opt->report_max);

		return err_set(e, ERR_NO_SPACE, "Trivy's report is larger than %s (trivy.report_max)", max);
	}
	return 0;
}

void
trivy_spec_init(struct proc_spec *s, char path[TRIVY_PATH_SIZE], const int *fd, char *const *argv,
		char *const *envp, int cwd_fd)
{
	*s = (struct proc_spec)PROC_SPEC_INIT;
	snprintf(path, TRIVY_PATH_SIZE, "/proc/self/fd/%d", *fd);
	s->path = path;
	s->argv = argv;
	s->envp = envp;
	s->cwd_fd = cwd_fd;
	s->pass_fds = fd;
	s->n_pass_fds = 1;
	s->new_group = true;
	s->no_new_privs = true;
	s->dies_with_parent = true;
}

int
trivy_scan(const struct trivy *t, const char *layout, const int *stop_fd, struct buf *ret_json, struct err *e)
{
	AUTO_STRV struct strv argv = { 0 };
	AUTO_STRV struct strv env = { 0 };
	AUTO_BUF struct buf err_out = BUF_INIT(STDERR_MAX);
	AUTO_FD int cwd = fs_open_dir(AT_FDCWD, t->cwd, e);
	char path[TRIVY_PATH_SIZE];
	int pass[1 + TRIVY_DB_KINDS] = { t->fd };
	struct proc_result result;
	struct proc_spec spec;

	if (cwd < 0)
		return -1;
	build_argv(t, layout, &argv);
	build_env(t, &env);
	trivy_spec_init(&spec, path, pass, argv.v, env.v, cwd);
	for (size_t k = 0; k < TRIVY_DB_KINDS; k++)
		if (t->dbs[k].fd >= 0)
			pass[spec.n_pass_fds++] = t->dbs[k].fd;
	spec.in_child = limit_memory;
	spec.in_child_arg = (void *)t->opt;
	spec.stop_fd = stop_fd;
	if (proc_run(&spec, clock_deadline(t->opt->timeout), ret_json, &err_out, &result, e) < 0)
		return err_wrap(e, "Trivy: %s", t->opt->path);
	return judge_end(t, layout, &result, ret_json, &err_out, e);
}

int
trivy_ask_version(const char *path, char **ret, struct err *e)
{
	AUTO_FD int fd = open_executable(path, e);
	AUTO_BUF struct buf out = BUF_INIT(4096);
	AUTO_BUF struct buf err_out = BUF_INIT(STDERR_MAX);
	AUTO_JSON cJSON *j = NULL;
	char proc_path[TRIVY_PATH_SIZE];
	char *const argv[] = { (char[]){ "trivy" }, (char[]){ "version" }, (char[]){ "--format" },
			       (char[]){ "json" }, NULL };
	/* A cache directory that is not there keeps it from looking into the caller's. */
	char *const envp[] = { (char[]){ "HOME=/nonexistent" }, (char[]){ "TRIVY_CACHE_DIR=/nonexistent" },
			       NULL };
	struct proc_spec spec;
	struct proc_result result;
	const char *version;
	AUTO_FD int cwd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	trivy_spec_init(&spec, proc_path, &fd, argv, envp, cwd);
	if (proc_run(&spec, clock_deadline(VERSION_TIMEOUT_MS), &out, &err_out, &result, e) < 0)
		return err_wrap(e, "Trivy: %s", path);
	if (result.end != PROC_EXITED || result.code != 0) {
		AUTO_FREE char *how = proc_describe(&result);
		AUTO_FREE char *why = trivy_explain(buf_str(&err_out));

		return err_set(e, ERR_FAILED, "Trivy: `%s version` %s: %s", path, how, why);
	}
	if (json_parse(buf_str(&out), out.len, out.max, 0, &j, e) < 0 ||
	    json_need_str(j, "Version", &version, e) < 0) {
		if (e)
			e->kind = ERR_FAILED;
		return err_wrap(e, "Trivy: what `%s version --format json` says", path);
	}
	*ret = str_safe(version, VERSION_MAX);
	return 0;
}

/* "0.74.0" → three numbers; anything behind them makes it another version ("0.74.0-rc1", "dev"). */
static bool
parse_version(const char *s, unsigned v[3])
{
	int end = 0;

	if (*s == 'v')
		s++;
	if (strlen(s) > 32 || s[strspn(s, "0123456789.")] != '\0')
		return false;
	return sscanf(s, "%4u.%4u.%4u%n", &v[0], &v[1], &v[2], &end) == 3 && s[end] == '\0';
}

static int
compare_versions(const unsigned a[3], const unsigned b[3])
{
	for (int k = 0; k < 3; k++) {
		if (a[k] != b[k])
			return a[k] < b[k] ? -1 : 1;
	}
	return 0;
}

int
trivy_check_version(const char *version, struct err *e)
{
	unsigned v[3], min[3], below[3];
	AUTO_FREE char *shown = str_safe(*version ? version : "without a version", 60);

	if (!parse_version(TRIVY_VERSION_MIN, min) || !parse_version(TRIVY_VERSION_BELOW, below))
		return err_set(e, ERR_FAILED, "supported versions of Trivy");
	if (!parse_version(version, v) || compare_versions(v, min) < 0 || compare_versions(v, below) >= 0)
		return err_set(e, ERR_FAILED, "Trivy %s is not supported, expected %s or newer, below %s",
			       shown, TRIVY_VERSION_MIN, TRIVY_VERSION_BELOW);
	return 0;
}
