#include "executor/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"

#define ASK_WAIT_MS 10000 /* for the arguments of one that connected */
#define CA_NAME "tidewaiter-ca.pem"
#define CA_MAX (1024 * 1024) /* bytes */

/* Options of artifacts-uploader that say to whom: these come from the trusted payload. */
static const char *const addressing[] = { "--url",	     "--id",	      "--token", "--tls-ca-file",
					  "--tls-cert-file", "--tls-key-file" };

/* `--name value` or `--name=value`, with one dash too (the runner's flags are Go's). NULL: another option. */
static const char *
option_value(const char *arg, const char *name, const char *next, bool *ret_has_next)
{
	size_t len;

	if (arg[0] == '-' && arg[1] != '-')
		name++;
	len = strlen(name);
	*ret_has_next = str_eq(arg, name);
	if (*ret_has_next)
		return next ? next : "";
	return strncmp(arg, name, len) == 0 && arg[len] == '=' ? arg + len + 1 : NULL;
}

bool
upload_is_archive(const struct strv *args)
{
	const char *type = "archive"; /* gitlab-runner's own default */
	size_t i;

	if (args->n == 0 || !str_eq(args->v[0], "artifacts-uploader"))
		return false;
	for (i = 1; i < args->n; i++) {
		bool has_next;
		const char *value = option_value(args->v[i], "--artifact-type", args->v[i + 1], &has_next);

		if (value)
			type = value;
	}
	return str_eq(type, "archive") || str_is_empty(type);
}

static bool
is_addressing(const char *arg, bool *ret_has_next)
{
	size_t i;

	for (i = 0; i < MEM_COUNT(addressing); i++) {
		if (option_value(arg, addressing[i], NULL, ret_has_next))
			return true;
	}
	return false;
}

void
upload_build_args(const struct strv *args, const char *dir, struct strv *ret)
{
	size_t i;

	for (i = 0; i < args->n; i++) {
		bool has_next = false;

		if (i > 0 && is_addressing(args->v[i], &has_next))
			i += has_next ? 1 : 0;
		else
			strv_add(ret, args->v[i]);
	}
	if (dir) {
		strv_add(ret, "--path");
		strv_add(ret, dir);
	}
}

static int
make_name(char name[33], struct err *e)
{
	unsigned char bytes[16];
	size_t i;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return err_errno(e, "random bytes");
	for (i = 0; i < sizeof(bytes); i++)
		(void)snprintf(name + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static int
listen_abstract(const char *name, struct err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	AUTO_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path + 1, name, strlen(name));
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, len) < 0 || listen(fd, 16) < 0)
		return err_errno(e, "socket for uploads");
	return take_fd(fd);
}

int
upload_open(struct upload *u, const struct plan *p, const struct env_ops *env, const struct payload *payload,
	    struct err *e)
{
	AUTO_FREE char *runner = proc_find(p->job.runner_path, p->job.path);
	struct upload new = { .plan = p, .env = env, .payload = payload, .listen_fd = -1 };

	if (!runner)
		return err_set(e, ERR_FAILED, "there is no %s in %s (job.runner_path)", p->job.runner_path,
			       p->job.path);
	if (make_name(new.name, e) < 0)
		return -1;
	new.listen_fd = listen_abstract(new.name, e);
	if (new.listen_fd < 0)
		return -1;
	new.runner = take_ptr(runner);
	*u = new;
	return 0;
}

void
upload_free(struct upload *u)
{
	mem_free_at(&u->runner);
	mem_close_at(&u->listen_fd);
}

/* Only the job's own user, or ourselves, may ask. */
static bool
is_from_job(const struct upload *u, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && (int64_t)cred.uid == u->plan->uid;
}

/* false: not a message of the shim */
static bool
read_args(int fd, struct strv *ret)
{
	AUTO_FREE char *text = mem_alloc(UPLOAD_ASK_MAX + 1);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;
	size_t at;

	if (poll(&p, 1, ASK_WAIT_MS) != 1)
		return false;
	n = recv(fd, text, UPLOAD_ASK_MAX + 1, MSG_DONTWAIT);
	if (n <= 0 || n > UPLOAD_ASK_MAX || text[n - 1] != '\0')
		return false;
	for (at = 0; at < (size_t)n; at += strlen(text + at) + 1)
		strv_add(ret, text + at);
	return true;
}

static void
answer(int fd, char kind, const char *text)
{
	AUTO_FREE char *message = mem_printf("%c%s", kind, text);

	(void)send(fd, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A GitLab with a CA of its own: the runner gives it as a file variable. It can only make an upload fail, not go elsewhere. */
static int
write_ca(const struct upload *u, char **ret_path, struct err *e)
{
	const char *ca = getenv("CUSTOM_ENV_CI_SERVER_TLS_CA_FILE");
	AUTO_FD int dir = -1;

	if (!ca || !*ca || strlen(ca) > CA_MAX)
		return 0;
	/* In the slot's directory, where the job user can read and not write. */
	dir = fs_open_dir(AT_FDCWD, u->plan->slot_dir, e);
	if (dir < 0 || fs_publish(dir, CA_NAME, ca, strlen(ca), 0644, 0, e) < 0)
		return err_wrap(e, "CA of the GitLab server");
	*ret_path = mem_printf("%s/%s", u->plan->slot_dir, CA_NAME);
	return 0;
}

/* Nothing of the job's: proxies and the like are what the admin names in job.env_pass and job.env_set. */
static int
build_env(const struct upload *u, struct strv *env, struct err *e)
{
	const struct plan *p = u->plan;
	AUTO_FREE char *ca = NULL;
	size_t i;

	if (str_is_empty(u->payload->facts.server_url) || str_is_empty(u->payload->token))
		return err_set(e, ERR_FAILED, "the payload names no CI_SERVER_URL or no job token");
	if (write_ca(u, &ca, e) < 0)
		return -1;
	strv_addf(env, "PATH=%s", p->job.path);
	strv_add(env, "HOME=/");
	if (!str_is_empty(p->job.lang))
		strv_addf(env, "LANG=%s", p->job.lang);
	for (i = 0; i < p->job.env_pass.n; i++) {
		const char *name = p->job.env_pass.v[i];
		const char *value = str_has_prefix(name, "CUSTOM_ENV_") ? NULL : getenv(name);

		if (value)
			strv_addf(env, "%s=%s", name, value);
	}
	for (i = 0; i < p->job.env_set.n; i++)
		strv_add(env, p->job.env_set.v[i]);
	strv_addf(env, "CI_SERVER_URL=%s", u->payload->facts.server_url);
	strv_addf(env, "CI_JOB_ID=%lld", (long long)u->payload->facts.job_id);
	strv_addf(env, "CI_JOB_TOKEN=%s", u->payload->token);
	if (ca)
		strv_addf(env, "CI_SERVER_TLS_CA_FILE=%s", ca);
	return 0;
}

static int
run_uploader(const struct upload *u, const struct strv *args, struct env_result *ret, struct err *e)
{
	AUTO_STRV struct strv argv = { 0 };
	AUTO_STRV struct strv env = { 0 };
	struct env_tool tool = { .cwd = u->plan->project_dir, .is_shielded = true };
	size_t i;

	if (str_is_empty(u->plan->project_dir))
		return err_set(e, ERR_FAILED, "the project directory is not known");
	strv_add(&argv, u->runner);
	for (i = 0; i < args->n; i++)
		strv_add(&argv, args->v[i]);
	if (build_env(u, &env, e) < 0)
		return -1;
	tool.argv = argv.v;
	tool.envp = env.v;
	return u->env->run_tool(u->plan, &tool, clock_deadline(UPLOAD_TIMEOUT_MS), ret, e);
}

/* A second archive in one stage is not the runner's doing: GitLab takes one per job. */
static int
carry_archive(struct upload *u, const struct strv *asked, int *ret_code, struct err *e)
{
	const struct options_report *report = &u->plan->opt.report;
	AUTO_STRV struct strv args = { 0 };
	struct env_result result = { 0 };

	if (++u->n_asked > 1) {
		u->was_uploaded = false;
		*ret_code = 1;
		return 0;
	}
	if (u->before && u->before(u->before_arg, e) < 0)
		return -1;
	upload_build_args(asked, report->artifact ? report->dir : NULL, &args);
	if (run_uploader(u, &args, &result, e) < 0)
		return -1;
	*ret_code = result.code;
	u->was_uploaded = result.code == 0;
	/* It was for the whole stage: whoever watches the script is to see it too. */
	if (result.was_signalled)
		(void)raise(SIGTERM);
	return 0;
}

int
upload_serve(void *arg, struct err *e)
{
	struct upload *u = arg;
	AUTO_STRV struct strv args = { 0 };
	AUTO_FD int fd = accept4(u->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	char code_text[16];
	int code = 1;

	if (fd < 0)
		return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR
			       ? 0
			       : err_errno(e, "socket for uploads");
	if (!is_from_job(u, fd) || !read_args(fd, &args))
		return 0;
	if (!upload_is_archive(&args)) {
		answer(fd, 'x', u->runner);
		return 0;
	}
	if (carry_archive(u, &args, &code, e) < 0)
		return -1;
	(void)snprintf(code_text, sizeof(code_text), "%d", code);
	answer(fd, 'e', code_text);
	return 0;
}

int
upload_own(const struct plan *p, const struct env_ops *env, const struct payload *payload,
	   const struct upload_artifact *a, int *ret_code, struct err *e)
{
	const char *expire_in = p->opt.report.expire_in;
	AUTO_STRV struct strv args = { 0 };
	AUTO_FREE char *runner = proc_find(p->job.runner_path, p->job.path);
	struct upload u = { .plan = p, .env = env, .payload = payload, .runner = runner };
	struct env_result result = { 0 };

	if (!runner)
		return err_set(e, ERR_FAILED, "there is no %s in %s (job.runner_path)", p->job.runner_path,
			       p->job.path);
	strv_add(&args, "artifacts-uploader");
	strv_add(&args, "--artifact-type");
	strv_add(&args, a->type);
	strv_add(&args, "--artifact-format");
	strv_add(&args, a->format);
	strv_add(&args, "--name");
	strv_add(&args, a->name);
	if (!str_is_empty(expire_in)) {
		strv_add(&args, "--expire-in");
		strv_add(&args, expire_in);
	}
	strv_add(&args, "--path");
	strv_add(&args, a->path);
	if (run_uploader(&u, &args, &result, e) < 0)
		return -1;
	*ret_code = result.code;
	return 0;
}
