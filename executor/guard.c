#include "executor/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "executor/guard_env.h"
#include "executor/upload.h"
#include "stages/policy_source.h"
#include "stages/render_quality.h"

#define EXE_PATH_MAX 4096
#define RECORD_MAX (16 * 1024 * 1024) /* bytes of what an inspection leaves */
/* Exit codes of `tidewaiter inspect`, guard.h */
#define INSPECT_OK 0
#define INSPECT_NO 1 /* blocked; changed */

extern char **environ;

static const struct {
	const char *name;
	enum guard_kind kind;
} known_stages[] = {
	{ "after_script", GUARD_USER },
	/* _on_success, _on_failure and what runners to come may add */
	{ "archive_cache*", GUARD_CACHE },
	{ "upload_artifacts*", GUARD_UPLOAD },
	{ "cleanup_file_variables", GUARD_CLEANUP_VARS },
};

/* Two names of one stage (PROTOCOL.md, 1). */
static const char *
plain_name(const char *stage)
{
	return str_eq(stage, "step_script") ? "build_script" : stage;
}

enum guard_kind
guard_kind_of(const struct plan *p, const char *stage)
{
	const char *name = plain_name(stage);
	size_t i;

	for (i = p->step_stages.n; i > 0; i--) {
		if (str_eq(name, plain_name(p->step_stages.v[i - 1])))
			return i == p->step_stages.n ? GUARD_LAST_STEP : GUARD_USER;
	}
	for (i = 0; i < MEM_COUNT(known_stages); i++) {
		if (str_glob(known_stages[i].name, name))
			return known_stages[i].kind;
	}
	/* A step that the payload did not name, or one that no payload names at all */
	if (str_eq(name, "build_script"))
		return p->step_stages.n == 0 ? GUARD_LAST_STEP : GUARD_USER;
	return str_has_prefix(name, "step_") ? GUARD_USER : GUARD_PLAIN;
}

static bool
has_policy(const struct guard *g)
{
	return policy_source_is_configured(&g->plan->opt.policy);
}

/* By what ruled the inspection; before there is one by the settings. */
static bool
is_enforcing(const struct guard *g)
{
	return g->state->is_inspected ? g->state->is_enforced : g->plan->opt.gate.mode == GATE_ENFORCE;
}

static bool
is_storing(const struct guard *g)
{
	return g->kind == GUARD_CACHE || g->kind == GUARD_UPLOAD;
}

char *
guard_own_dir(struct err *e)
{
	char path[EXE_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n <= 0) {
		err_errno(e, "/proc/self/exe");
		return NULL;
	}
	path[n] = '\0';
	slash = strrchr(path, '/');
	return slash && slash != path ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup("/");
}

int
guard_load_payload(struct payload **ret, struct err *e)
{
	const char *path = getenv("JOB_RESPONSE_FILE");

	if (str_is_empty(path))
		return err_set(e, ERR_USAGE, "JOB_RESPONSE_FILE is not set");
	return payload_load(path, ret, e);
}

/* Installed: PREFIX/libexec/tidewaiter/ and PREFIX/bin/; in a build tree: executor/ and cli/. */
char *
guard_find_tidewaiter(struct err *e)
{
	static const char *const places[] = { "%s/../../bin/tidewaiter", "%s/../cli/tidewaiter",
					      "%s/tidewaiter" };
	AUTO_FREE char *dir = guard_own_dir(e);
	size_t i;

	if (!dir)
		return NULL;
	for (i = 0; i < MEM_COUNT(places); i++) {
		AUTO_FREE char *path = mem_printf(places[i], dir);

		if (access(path, X_OK) == 0)
			return take_ptr(path);
	}
	if (access(BIN_DIR "/tidewaiter", X_OK) == 0)
		return mem_strdup(BIN_DIR "/tidewaiter");
	err_set(e, ERR_FAILED, "tidewaiter is neither beside %s nor in " BIN_DIR, dir);
	return NULL;
}

/* The runner service's own, which is the admin's; of the job's variables none. */
void
guard_inspect_env(struct strv *env)
{
	char **at;

	for (at = environ; *at; at++) {
		if (!str_has_prefix(*at, "CUSTOM_ENV_"))
			strv_add(env, *at);
	}
}

/* A signal to our group reaches the inspection too, which ends by itself; we wait for it and then say what came of it. */
static int
wait_inspect(const struct proc_spec *spec, struct proc_result *ret, bool *ret_was_signalled, struct err *e)
{
	struct proc proc;
	sigset_t set, old, pending;
	int rc;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, &old) < 0)
		return err_errno(e, "signals");
	rc = proc_start(spec, &proc, e);
	if (rc == 0) {
		rc = proc_wait(&proc, false, CLOCK_DEADLINE_NEVER, ret, e);
		proc_close(&proc);
	}
	*ret_was_signalled = false;
	while (sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1)) {
		*ret_was_signalled = true;
		(void)sigwaitinfo(&set, NULL);
	}
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return rc;
}

/* `tidewaiter inspect VERB`, its output into the job log. *ret_code: exit code; death by a signal is an error. */
static int
inspect(const struct guard *g, char *verb, int *ret_code, struct err *e)
{
	AUTO_FREE char *path = guard_find_tidewaiter(e);
	AUTO_FREE char *tmpdir = mem_strdup(g->c->tmpdir);
	AUTO_FREE char *words = NULL;
	AUTO_STRV struct strv env = { 0 };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_result r = { 0 };
	char name[] = "tidewaiter", inspect_word[] = "inspect", option[] = "--tmpdir";
	char early_option[] = "--early-fd", early_fd[16];
	char *argv[] = { name, inspect_word, verb, option, tmpdir, NULL, NULL, NULL };
	bool was_signalled = false;

	if (!path)
		return -1;
	guard_inspect_env(&env);
	spec.path = path;
	spec.argv = argv;
	spec.envp = env.v;
	spec.fd_out = STDOUT_FILENO;
	spec.fd_err = STDERR_FILENO;
	spec.dies_with_parent = true;
	if (g->early_fd && str_eq(verb, "run")) {
		snprintf(early_fd, sizeof(early_fd), "%d", *g->early_fd);
		argv[5] = early_option;
		argv[6] = early_fd;
		spec.pass_fds = g->early_fd;
		spec.n_pass_fds = 1;
	}
	if (wait_inspect(&spec, &r, &was_signalled, e) < 0)
		return err_wrap(e, "tidewaiter inspect %s", verb);
	if (r.end == PROC_EXITED && !was_signalled) {
		*ret_code = r.code;
		return 0;
	}
	words = proc_describe(&r);
	return err_set(e, ERR_FAILED, "tidewaiter inspect %s %s", verb,
		       was_signalled ? "was told to stop by the runner" : words);
}

/* For verbs that know no "no". */
static int
inspect_ok(const struct guard *g, char *verb, struct err *e)
{
	int code;

	if (inspect(g, verb, &code, e) < 0)
		return -1;
	if (code != INSPECT_OK)
		return err_set(e, ERR_FAILED, "tidewaiter inspect %s exited with %d", verb, code);
	return 0;
}

static void
fail_blocked(struct phase_result *ret)
{
	*ret = (struct phase_result){ .end = PHASE_JOB_FAILED, .job_code = PHASE_CODE_BLOCKED };
}

/* *ret_fails: the job has to fail for it. */
static int
verify(struct guard *g, bool *ret_fails, struct err *e)
{
	char verb[] = "verify";
	int code;

	if (inspect(g, verb, &code, e) < 0)
		return -1;
	if (code != INSPECT_OK && code != INSPECT_NO)
		return err_set(e, ERR_FAILED, "tidewaiter inspect verify exited with %d", code);
	*ret_fails = code == INSPECT_NO && is_enforcing(g);
	if (*ret_fails)
		g->state->is_tampered = true;
	return 0;
}

/* Blocked, or never looked at: nothing of it leaves the host through caches and artifacts. */
static bool
must_withhold(const struct guard *g)
{
	const struct plan_state *s = g->state;

	/* what no inspection has judged may be under a rule that enforces: `withhold` asks the policy */
	return (is_enforcing(g) || (has_policy(g) && !s->is_inspected)) && g->plan->opt.images.withhold &&
	       (s->job_failed || s->is_blocked || s->is_tampered || !s->is_inspected);
}

static int
before_storing(struct guard *g, bool *ret_skip, struct phase_result *ret, struct err *e)
{
	char withhold[] = "withhold", publish[] = "publish";
	bool is_failing = false;

	/* after_script was the user's code too: what it left to be started later is gone before the images are looked at. */
	if (g->env->kill_all(g->plan, e) < 0)
		return -1;
	if (must_withhold(g)) {
		if (inspect_ok(g, withhold, e) < 0)
			return -1;
		g->state->is_withheld = true;
	} else if (g->state->is_inspected && verify(g, &is_failing, e) < 0) {
		return -1;
	}
	if (is_failing) {
		log_line(&g->c->log, LOG_ERROR,
			 "%s is not run: images changed after they were inspected, and would be stored; make and change them "
			 "in script:, not in after_script:",
			 g->stage);
		fail_blocked(ret);
		*ret_skip = true;
		return 0;
	}
	if (g->kind == GUARD_UPLOAD && g->state->is_inspected && g->plan->opt.report.artifact)
		return inspect_ok(g, publish, e);
	return 0;
}

/* Once, before anything of the job has run. */
static int
note_engines(struct guard *g, struct err *e)
{
	char before[] = "before";
	struct stat st;

	if (!g->plan->opt.images.from_engine ||
	    fstatat(g->c->tmpdir_fd, PLAN_ENGINE_PREFIX "0", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return inspect_ok(g, before, e);
}

int
guard_before(struct guard *g, bool *ret_skip, struct phase_result *ret, struct err *e)
{
	*ret_skip = false;
	if (g->plan->is_matching && note_engines(g, e) < 0)
		return -1;
	if (!g->plan->is_matching || g->kind == GUARD_USER || g->kind == GUARD_LAST_STEP)
		return 0;
	if (guard_clean_env(g->plan, e) < 0)
		return err_wrap(e, "$GITLAB_ENV");
	return is_storing(g) ? before_storing(g, ret_skip, ret, e) : 0;
}

bool
guard_needs_upload(const struct guard *g)
{
	return g->plan->is_matching && g->kind == GUARD_UPLOAD && g->plan->has_archive &&
	       g->state->is_inspected;
}

int
guard_before_upload(void *arg, struct err *e)
{
	const struct guard *g = arg;
	char withhold[] = "withhold";

	return must_withhold(g) ? inspect_ok(g, withhold, e) : 0;
}

/* What does not say how it was ruled counts as enforced. */
static void
note_inspection(struct guard *g)
{
	AUTO_JSON cJSON *j = NULL;
	struct stat st;

	g->state->is_inspected = fstatat(g->c->tmpdir_fd, PLAN_INSPECTION_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!g->state->is_inspected)
		return;
	g->state->is_enforced =
		json_load(g->c->tmpdir_fd, PLAN_INSPECTION_NAME, RECORD_MAX, 0, &j, NULL) < 0 ||
		!json_str(j, "mode") || str_eq(json_str(j, "mode"), gate_mode_words[GATE_ENFORCE]);
}

/* The inspection; its verdict is the phase's end. */
static int
after_last_step(struct guard *g, struct phase_result *ret, struct err *e)
{
	char verb[] = "run";
	int code, rc;

	/* Until it is known: whatever happens, the images count as not fit to leave. */
	g->state->job_failed = true;
	if (g->env->kill_all(g->plan, e) < 0)
		return -1;
	rc = inspect(g, verb, &code, e);
	note_inspection(g);
	if (rc < 0)
		return -1;
	if (code == INSPECT_OK) {
		g->state->job_failed = false;
	} else if (code == INSPECT_NO) {
		g->state->is_blocked = true;
		fail_blocked(ret);
	} else {
		/* 3: it has said why in the job log */
		ret->end = PHASE_SYSTEM_FAILED;
	}
	return 0;
}

/* Did the runner have an archive to store in a stage that went well? */
static bool
expects_upload(const struct guard *g)
{
	return guard_needs_upload(g) && str_eq(g->stage, "upload_artifacts_on_success") &&
	       g->plan->archive_when != ARTIFACT_ON_FAILURE;
}

/* What the stage's own code has put back may be stored by now; *ret_fails: there was some. */
static int
look_for_withheld(const struct guard *g, bool *ret_fails, struct err *e)
{
	char withheld[] = "withheld";
	int code;

	if (inspect(g, withheld, &code, e) < 0)
		return -1;
	if (code != INSPECT_OK && code != INSPECT_NO)
		return err_set(e, ERR_FAILED, "tidewaiter inspect withheld exited with %d", code);
	*ret_fails = code == INSPECT_NO;
	return 0;
}

static int
after_storing(struct guard *g, struct phase_result *ret, struct err *e)
{
	bool is_failing = false;
	int rc = 0;

	if (must_withhold(g))
		rc = look_for_withheld(g, &is_failing, e);
	else if (g->state->is_inspected)
		rc = verify(g, &is_failing, e);
	if (rc < 0)
		return -1;
	if (ret->end == PHASE_OK && expects_upload(g) && !g->state->was_uploaded) {
		log_line(&g->c->log, is_enforcing(g) ? LOG_ERROR : LOG_WARN,
			 "the artifacts were not stored by this runner's own gitlab-runner: does the job set PATH?");
		is_failing = is_failing || is_enforcing(g);
	}
	if (is_failing) {
		g->state->is_tampered = true;
		fail_blocked(ret);
	}
	return 0;
}

/* Is there anything below the project directory to upload? */
static bool
has_reports(const struct plan *p)
{
	AUTO_FD int project = fs_open_dir(AT_FDCWD, p->project_dir, NULL);
	AUTO_FD int dir = -1;

	if (project >= 0)
		dir = fs_open_beneath(project, p->opt.report.dir, O_RDONLY | O_DIRECTORY, 0, NULL);
	return dir >= 0;
}

static int
upload_artifact(struct guard *g, const struct payload *payload, const struct upload_artifact *a, struct err *e)
{
	int code = 0;

	if (upload_own(g->plan, g->env, payload, a, &code, e) < 0)
		return -1;
	if (code != 0)
		log_line(&g->c->log, LOG_WARN,
			 "the reports did not become an artifact (%s): gitlab-runner exited with %d", a->type,
			 code);
	return 0;
}

/* The archive, where the job uploads none that takes them along; the Code Quality report, where the job has none. */
static int
upload_artifacts(struct guard *g, struct err *e)
{
	AUTO(payload) struct payload *payload = NULL;
	const struct options_report *report = &g->plan->opt.report;
	AUTO_FREE char *path = mem_printf("%s/" RENDER_QUALITY_FILE, report->dir);
	const struct upload_artifact archive = { "archive", "zip", report->dir, report->dir };
	const struct upload_artifact quality = { "codequality", "raw", RENDER_QUALITY_FILE, path };

	if (guard_load_payload(&payload, e) < 0)
		return -1;
	if (!g->state->was_uploaded && upload_artifact(g, payload, &archive, e) < 0)
		return -1;
	if (!report->codequality || strv_has(&payload->report_types, quality.type))
		return 0;
	return upload_artifact(g, payload, &quality, e);
}

int
guard_upload_reports(struct guard *g, struct err *e)
{
	const struct options_report *report = &g->plan->opt.report;
	struct plan_state *s = g->state;
	char publish[] = "publish";

	if (!g->plan->is_matching || !report->artifact || !s->is_inspected || s->has_own_upload ||
	    (s->was_uploaded && !report->codequality))
		return 0;
	s->has_own_upload = true;
	if (inspect_ok(g, publish, e) < 0)
		return -1;
	return has_reports(g->plan) ? upload_artifacts(g, e) : 0;
}

/* Its result counts for nothing with the runner: a fault here is a line in the log. */
static void
after_cleanup_vars(struct guard *g)
{
	struct err e = ERR_INIT;

	/* The files that are uploaded are written anew: nobody of the job is to be there to change them. */
	if (g->env->kill_all(g->plan, &e) < 0 || guard_upload_reports(g, &e) < 0)
		log_line(&g->c->log, LOG_WARN, "the reports did not become an artifact: %s", e.text);
}

bool
guard_is_step(const struct guard *g)
{
	return g->kind == GUARD_LAST_STEP || (g->kind == GUARD_USER && !str_eq(g->stage, "after_script"));
}

int
guard_after(struct guard *g, const struct env_result *script, struct phase_result *ret, struct err *e)
{
	if (guard_is_step(g) && (script->code != 0 || script->was_signalled))
		g->state->job_failed = true;
	if (!g->plan->is_matching || script->was_signalled)
		return 0;
	switch (g->kind) {
	case GUARD_PLAIN:
	case GUARD_USER:
		return 0;
	case GUARD_LAST_STEP:
		return g->state->job_failed ? 0 : after_last_step(g, ret, e);
	case GUARD_CACHE:
	case GUARD_UPLOAD:
		return after_storing(g, ret, e);
	case GUARD_CLEANUP_VARS:
		after_cleanup_vars(g);
		return 0;
	}
	return 0;
}
