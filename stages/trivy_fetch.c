#include "stages/trivy_fetch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "stages/trivy.h"

#define STDERR_MAX (64 * 1024)	     /* bytes */
#define FILE_MAX (INT64_C(16) << 30) /* bytes; the real ones are below 2 GB */
#define EXPLANATION_MAX 500	     /* code points */
#define TIMEOUT_MARGIN_MS 10000	     /* Trivy's own limit is behind ours */
#define CREDENTIALS_DIR "docker"

static int
make_dirs(const struct options_trivy *opt, int stage_fd, const char *stage_path, struct err *e)
{
	static const char *const names[] = { "cwd", "home", "tmp", "cache", CREDENTIALS_DIR };

	for (size_t k = 0; k < MEM_COUNT(names); k++)
		if (mkdirat(stage_fd, names[k], 0700) < 0)
			return err_errno(e, "%s/%s", stage_path, names[k]);
	/* a link: a copy of secrets would be one more place to lose them */
	if (!str_is_empty(opt->db_credentials_file) &&
	    symlinkat(opt->db_credentials_file, stage_fd, CREDENTIALS_DIR "/config.json") < 0)
		return err_errno(e, "%s/" CREDENTIALS_DIR, stage_path);
	return fs_publish(stage_fd, "config.yaml", "", 0, 0600, 0, e);
}

static int
check_readable(const char *setting, const char *path, struct err *e)
{
	if (str_is_empty(path) || access(path, R_OK) == 0)
		return 0;
	return err_errno(e, "%s (%s), for uid %u", path, setting, (unsigned)geteuid());
}

static void
build_argv(const struct options_trivy *opt, enum trivy_db_kind kind, const char *repository,
	   const char *stage_path, struct strv *argv)
{
	bool is_java = kind == TRIVY_DB_JAVA;

	strv_add(argv, "trivy");
	strv_add(argv, "image");
	strv_add(argv, is_java ? "--download-java-db-only" : "--download-db-only");
	strv_addf(argv, "--%s=%s", is_java ? "java-db-repository" : "db-repository", repository);
	strv_add(argv, "--no-progress");
	strv_add(argv, "--skip-version-check");
	strv_add(argv, "--disable-telemetry");
	strv_addf(argv, "--config=%s/config.yaml", stage_path);
	strv_addf(argv, "--cache-dir=%s/cache", stage_path);
	strv_addf(argv, "--timeout=%jdms", (intmax_t)(opt->db_timeout + TIMEOUT_MARGIN_MS));
}

static void
build_env(const struct options_trivy *opt, const char *stage_path, struct strv *env)
{
	strv_addf(env, "HOME=%s/home", stage_path);
	strv_addf(env, "TMPDIR=%s/tmp", stage_path);
	strv_addf(env, "DOCKER_CONFIG=%s/" CREDENTIALS_DIR, stage_path);
	strv_add(env, "PATH=/nonexistent"); /* no credential helpers */
	strv_add(env, "LANG=C.UTF-8");
	strv_add(env, "TZ=UTC");
	if (!str_is_empty(opt->db_ca_file))
		strv_addf(env, "SSL_CERT_FILE=%s", opt->db_ca_file);
	if (!str_is_empty(opt->db_proxy)) {
		strv_addf(env, "HTTPS_PROXY=%s", opt->db_proxy);
		strv_addf(env, "HTTP_PROXY=%s", opt->db_proxy);
	}
}

char *
trivy_fetch_explain(const char *stderr_text)
{
	const char *at = strstr(stderr_text, "FATAL");
	AUTO_BUF struct buf words = BUF_INIT(STDERR_MAX);
	bool has_gap = false;

	if (strstr(stderr_text, "no space left on device"))
		return mem_strdup("no space left on the device of the database's directory");
	if (!at)
		return trivy_explain(stderr_text);
	at += strlen("FATAL");
	for (const char *s = at; *s; s++) {
		if (strchr(" \t\r\n", *s)) {
			has_gap = words.len > 0;
			continue;
		}
		if (has_gap)
			buf_add_char(&words, ' ');
		has_gap = false;
		buf_add_char(&words, *s);
	}
	at = buf_str(&words);
	if (str_has_prefix(at, "Fatal error "))
		at += strlen("Fatal error ");
	return str_safe(at, EXPLANATION_MAX);
}

static int
run(const struct options_trivy *opt, enum trivy_db_kind kind, const char *repository, int stage_fd,
    const char *stage_path, const int *stop_fd, struct err *e)
{
	AUTO_STRV struct strv argv = { 0 };
	AUTO_STRV struct strv env = { 0 };
	AUTO_BUF struct buf err_out = BUF_INIT(STDERR_MAX);
	AUTO_FD int cwd = fs_open_dir(stage_fd, "cwd", e);
	AUTO_FD int fd = cwd < 0 ? -1 : trivy_open_program(opt, e);
	AUTO_FREE char *why = NULL;
	AUTO_FREE char *how = NULL;
	char path[TRIVY_PATH_SIZE];
	struct proc_spec spec;
	struct proc_result r;

	if (cwd < 0 || fd < 0)
		return -1;
	build_argv(opt, kind, repository, stage_path, &argv);
	build_env(opt, stage_path, &env);
	trivy_spec_init(&spec, path, &fd, argv.v, env.v, cwd);
	spec.file_max = FILE_MAX;
	spec.stop_fd = stop_fd;
	if (proc_run(&spec, clock_deadline(opt->db_timeout), NULL, &err_out, &r, e) < 0)
		return err_wrap(e, "Trivy: %s", opt->path);
	if (r.end == PROC_EXITED && r.code == 0)
		return 0;
	if (r.end == PROC_TIMED_OUT)
		return err_set(e, ERR_TIMEOUT,
			       "the download was stopped, or took longer than trivy.db_timeout");
	why = trivy_fetch_explain(buf_str(&err_out));
	how = proc_describe(&r);
	return err_set(e, strstr(why, "no space left") ? ERR_NO_SPACE : ERR_FAILED, "Trivy %s: %s", how, why);
}

int
trivy_fetch(const struct options_trivy *opt, enum trivy_db_kind kind, const char *repository, int stage_fd,
	    const char *stage_path, const int *stop_fd, int *ret_fd, struct err *e)
{
	AUTO_FREE char *got = mem_printf("cache/%s", trivy_db_forms[kind].cache_name);
	int fd;

	if (check_readable("trivy.db_credentials_file", opt->db_credentials_file, e) < 0 ||
	    check_readable("trivy.db_ca_file", opt->db_ca_file, e) < 0 ||
	    make_dirs(opt, stage_fd, stage_path, e) < 0 ||
	    run(opt, kind, repository, stage_fd, stage_path, stop_fd, e) < 0)
		return -1;
	fd = fs_open_beneath(stage_fd, got, O_RDONLY | O_DIRECTORY, 0, e);
	if (fd < 0)
		return err_wrap(e, "Trivy said that it had fetched the %s", trivy_db_forms[kind].what);
	*ret_fd = fd;
	return 0;
}
