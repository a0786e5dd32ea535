#include "cli/rehearse_play.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/rehearse_call.h"
#include "cli/rehearse_state.h"
#include "cli/rehearse_tree.h"

#define CONFIG_OUTPUT_MAX (1024 * 1024) /* bytes */
#define EXIT_FILE_MAX 4096		/* bytes */

void
failure_set(struct failure *f, const char *reason, int exit_code, const char *fmt, ...)
{
	va_list ap;

	failure_clear(f);
	f->reason = mem_strdup(reason);
	f->exit_code = exit_code;
	va_start(ap, fmt);
	f->message = mem_vprintf(fmt, ap);
	va_end(ap);
}

void
failure_clear(struct failure *f)
{
	mem_free_at(&f->reason);
	mem_free_at(&f->message);
	f->exit_code = 0;
}

void
failure_move(struct failure *to, struct failure *from)
{
	failure_clear(to);
	*to = *from;
	*from = (struct failure){ 0 };
}

/* What the rules say of an event now; NULL: nothing. */
static const cJSON *
find_event(const struct state *s, const char *event)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, json_array(s->play->rules, "events"))
	{
		const char *during = json_str(item, "during");

		if (str_eq(json_str(item, "event"), event) &&
		    (str_eq(during, "any") || str_eq(during, s->phase)))
			return item;
	}
	return NULL;
}

/* Signals to ourselves: Cancel, Cancel pressed again, and for who has no patience left. */
static int
on_event(void *arg, const char *event)
{
	struct state *s = arg;
	const cJSON *rule;

	if (str_eq(event, "signal")) {
		s->n_signals++;
		if (s->n_signals > 2)
			return SIGKILL;
		event = s->n_signals == 1 ? "cancel" : "abort";
		rehearse_log_say(s->play->log, LOG_YELLOW, "%s",
				 s->n_signals == 1
					 ? "Cancel: SIGTERM, then what GitLab Runner does after it; once more to "
					   "abort, a third time to kill"
					 : "Cancel pressed again: SIGTERM, then cleanup only");
	}
	rule = find_event(s, event);
	if (!rule || str_is_empty(json_str(rule, "failure_reason")))
		return 0;
	s->interrupted = rule;
	if (str_eq(json_str(rule, "then"), "cleanup"))
		s->is_stopped = true;
	return str_eq(json_str(rule, "signal"), "SIGTERM") ? SIGTERM : 0;
}

/* The first line of BUILD_EXIT_CODE_FILE. False: it is there and not understood. */
static bool
read_exit_code(const struct state *s, int *ret)
{
	struct err ignored = ERR_INIT;
	AUTO_FREE char *text = NULL;
	size_t len;
	int64_t code;

	*ret = 1;
	if (faccessat(s->attempt_fd, "build_exit_code", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return true;
	if (fs_read_max(s->attempt_fd, "build_exit_code", EXIT_FILE_MAX, &text, &len, &ignored) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	len = strlen(text);
	if (len > 0 && text[len - 1] == '\r')
		text[len - 1] = '\0';
	if (str_parse_int(text, INT32_MIN, INT32_MAX, &code, &ignored) < 0)
		return false;
	*ret = (int)code;
	return true;
}

/* Maps the end of an executable by rules["exit_codes"]. */
static void
judge(const struct state *s, const char *name, const struct rehearse_call_result *r, struct failure *ret)
{
	const cJSON *rule = NULL;
	const cJSON *item;
	int code;

	if (r->end == CALL_GIVEN_UP) {
		failure_set(ret, "runner_system_failure", 0, "%s could not be stopped", name);
		return;
	}
	cJSON_ArrayForEach(item, json_array(s->play->rules, "exit_codes"))
	{
		if (r->end == CALL_EXITED && json_int(item, "code", -1) == r->code)
			rule = item;
	}
	if (rule && str_eq(json_str(rule, "state"), "success"))
		return;
	if (!rule)
		failure_set(ret, "runner_system_failure", 0, "%s: unknown Custom executor executable %s %d",
			    name, r->end == CALL_SIGNALLED ? "end by signal" : "exit code", r->code);
	else if (!json_bool(rule, "reads_exit_code_file", false))
		failure_set(ret, json_str(rule, "failure_reason"), 0, "%s: exit status %d", name, r->code);
	else if (!read_exit_code(s, &code))
		failure_set(ret, "runner_system_failure", 0, "%s: BUILD_EXIT_CODE_FILE was not understood",
			    name);
	else
		failure_set(ret, json_str(rule, "failure_reason"), code, "exit status %d", code);
}

/* The environment of one call. The five that the runner adds come in another order every time. */
static void
build_environment(const struct state *s, bool has_job_env, struct strv *ret)
{
	const cJSON *rules = json_array(s->play->rules, "environment");
	int n = cJSON_GetArraySize(rules);
	int turn = n > 0 ? rand() % n : 0;
	struct rehearse_context c = state_context(s);
	struct rehearse_values v = { 0 };
	const char *home = getenv("HOME");
	const char *user = getenv("USER");

	strv_add(ret, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	strv_addf(ret, "HOME=%s", home ? home : "/");
	strv_addf(ret, "USER=%s", user ? user : "runner");
	strv_add(ret, "LANG=C.UTF-8");
	rehearse_values_set(&v, "TMPDIR", s->attempt_dir);
	for (int i = 0; i < n; i++) {
		const cJSON *item = cJSON_GetArrayItem(rules, (i + turn) % n);
		AUTO_BUF struct buf value = BUF_INIT(8192);

		rules_fill(&value, json_str(item, "value"), &v, NULL);
		strv_addf(ret, "%s=%s", json_str(item, "name"), buf_str(&value));
	}
	rehearse_values_free(&v);
	for (size_t i = 0; has_job_env && i < s->job_env.n; i++)
		strv_add(ret, s->job_env.v[i]);
	rules_environment(&c, ret);
}

/* Runs one executable; `script` and `stage` for run, else NULL. *out is for what config prints. */
static int
execute(struct state *s, const char *exec, const char *script, const char *stage, int64_t limit_ms,
	struct buf *out, struct failure *ret, struct err *e)
{
	AUTO_STRV struct strv argv = { 0 };
	AUTO_STRV struct strv env = { 0 };
	struct rehearse_call call = { .argv = &argv,
				      .env = &env,
				      .cwd_fd = s->attempt_fd,
				      .limit_ms = limit_ms,
				      .out = out,
				      .log = s->play->log };
	struct rehearse_call_result result;

	if (limit_ms == 0)
		call.limit_ms =
			1000 * json_int(rules_find(s->play->rules, "phases", "exec", exec), "timeout_s", 0);
	strv_addf(&argv, "%s/tidewaiter-%s", s->play->programs_dir, exec);
	strv_add(&argv, "--config");
	strv_add(&argv, s->play->config_path);
	if (script) {
		strv_add(&argv, script);
		strv_add(&argv, stage);
	}
	build_environment(s, !str_eq(exec, "config"), &env);
	if (rehearse_call(&call, &s->watch, &result, e) < 0)
		return err_wrap(e, "%s", argv.v[0]);
	judge(s, stage ? stage : exec, &result, ret);
	return 0;
}

/* cleanup is never cut short by the job's end, and what it does cannot change the job. */
static int
run_cleanup(struct state *s, struct err *e)
{
	struct failure ignored = { 0 };
	int64_t deadline = s->watch.job_deadline;
	int rc;

	s->phase = "after_script";
	s->watch.job_deadline = CLOCK_DEADLINE_NEVER;
	rc = execute(s, "cleanup", NULL, NULL, 0, NULL, &ignored, e);
	s->watch.job_deadline = deadline;
	if (rc == 0 && ignored.reason)
		rehearse_log_say(s->play->log, LOG_YELLOW, "WARNING: cleanup: %s", ignored.message);
	failure_clear(&ignored);
	return rc;
}

static int
fill_project(struct state *s, struct err *e)
{
	const struct rehearse_content *content = &s->play->content;
	AUTO_FD int to = -1;
	struct stat st;
	struct tree_copy t = { 0 };

	if (content->project_fd < 0 && !content->image)
		return 0;
	to = fs_open_dir(AT_FDCWD, s->dirs.project, e);
	if (to < 0)
		return err_wrap(e, "the project directory after get_sources");
	if (fstat(to, &st) < 0)
		return err_errno(e, "%s", s->dirs.project);
	t.has_owner = geteuid() == 0;
	t.uid = st.st_uid;
	t.gid = st.st_gid;
	if (content->project_fd >= 0 && tree_copy_all(content->project_fd, to, &t, e) < 0)
		return err_wrap(e, "copying the project");
	if (content->image) {
		const char *slash = strrchr(content->image, '/');
		AUTO_FREE char *name = mem_printf("tar_images/%s", slash ? slash + 1 : content->image);

		if (tree_copy(AT_FDCWD, content->image, to, name, &t, e) < 0)
			return err_wrap(e, "copying the image");
	}
	return 0;
}

int
state_run_script(struct state *s, const char *stage, const char *exports, struct failure *ret, struct err *e)
{
	struct rehearse_context c = state_context(s);
	AUTO_BUF struct buf text = BUF_INIT(2 * REHEARSE_SCRIPT_MAX);
	AUTO_FREE char *dir = mem_printf("%s/script-%03u", s->attempt_dir, ++s->n_scripts);
	AUTO_FREE char *script = mem_printf("%s/script", dir);
	AUTO_FD int fd = -1;
	int64_t limit_ms =
		str_eq(stage, "after_script") ? 1000 * rules_seconds(s->play->rules, "after_script") : 0;

	if (rules_script(&c, stage, exports, &text, e) < 0)
		return -1;
	if (mkdir(dir, 0700) < 0)
		return err_errno(e, "%s", dir);
	fd = open(script, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700);
	if (fd < 0)
		return err_errno(e, "%s", script);
	if (fs_write_all(fd, buf_str(&text), text.len, e) < 0)
		return -1;
	mem_close_at(&fd);
	if (execute(s, "run", script, stage, limit_ms, NULL, ret, e) < 0)
		return -1;
	if (str_eq(stage, "get_sources") && !ret->reason)
		return fill_project(s, e);
	return 0;
}

static void
take_driver(const struct state *s, const cJSON *config)
{
	const cJSON *driver = json_object(config, "driver");
	const char *name = json_str(driver, "name");
	const char *version = json_str(driver, "version");
	AUTO_FREE char *text = str_safe(name ? name : "?", 80);
	AUTO_FREE char *number = str_safe(version ? version : "", 80);

	rehearse_log_say(s->play->log, "", "Using Custom executor with driver %s %s...", text, number);
}

/* What config printed: where the job lies and what the driver wants in its environment. */
static int
take_config(struct state *s, const struct buf *out, struct failure *ret)
{
	struct err bad = ERR_INIT;
	AUTO_JSON cJSON *config = NULL;
	const char *project = json_str(json_object(s->play->payload, "job_info"), "project_full_path");
	const char *builds, *cache;
	const cJSON *item;

	if (json_parse(buf_str(out), out->len, CONFIG_OUTPUT_MAX, 0, &config, &bad) < 0 ||
	    !cJSON_IsObject(config)) {
		failure_set(ret, "runner_system_failure", 0, "config: what it printed is no JSON object: %s",
			    bad.text);
		return 0;
	}
	builds = json_str(config, "builds_dir");
	cache = json_str(config, "cache_dir");
	if (str_eq(builds, "")) {
		failure_set(ret, "runner_configuration_error", 0, "config: builds_dir is empty");
		return 0;
	}
	take_driver(s, config);
	rehearse_dirs_free(&s->dirs);
	s->dirs.builds = builds ? mem_strdup(builds) : mem_printf("%s/builds", s->play->dir);
	s->dirs.cache = cache ? mem_strdup(cache) : mem_printf("%s/cache", s->play->dir);
	s->dirs.project = json_bool(config, "builds_dir_is_shared", false)
				  ? mem_printf("%s/rehearsal/0/%s", s->dirs.builds, project)
				  : mem_printf("%s/%s", s->dirs.builds, project);
	strv_free(&s->job_env);
	cJSON_ArrayForEach(item, json_object(config, "job_env"))
	{
		if (!cJSON_IsString(item)) {
			failure_set(ret, "runner_system_failure", 0, "config: job_env: values are strings");
			return 0;
		}
		strv_addf(&s->job_env, "%s=%s", item->string, item->valuestring);
	}
	return 0;
}

static int
run_config(struct state *s, struct failure *ret, struct err *e)
{
	AUTO_BUF struct buf out = BUF_INIT(CONFIG_OUTPUT_MAX);

	if (execute(s, "config", NULL, NULL, 0, &out, ret, e) < 0)
		return -1;
	return ret->reason ? 0 : take_config(s, &out, ret);
}

/* config, prepare, the stages. *ret_again: another attempt is to follow. */
static int
run_phases(struct state *s, struct failure *ret, bool *ret_again, struct err *e)
{
	rehearse_log_say(s->play->log, LOG_CYAN, "Preparing the \"custom\" executor");
	if (run_config(s, ret, e) < 0)
		return -1;
	if (!ret->reason && !s->is_stopped && execute(s, "prepare", NULL, NULL, 0, NULL, ret, e) < 0)
		return -1;
	if (s->is_stopped)
		return 0;
	if (ret->reason) {
		*ret_again = str_eq(ret->reason, "runner_system_failure");
		return 0;
	}
	return state_run_stages(s, ret, e);
}

static int
run_attempt(struct state *s, unsigned number, struct failure *ret, bool *ret_again, struct err *e)
{
	AUTO_FREE char *text = json_print(s->play->payload);
	int rc;

	mem_free_at(&s->attempt_dir);
	mem_close_at(&s->attempt_fd);
	s->attempt_dir = mem_printf("%s/custom-executor-%u", s->play->dir, number);
	if (mkdir(s->attempt_dir, 0700) < 0)
		return err_errno(e, "%s", s->attempt_dir);
	s->attempt_fd = fs_open_dir(AT_FDCWD, s->attempt_dir, e);
	if (s->attempt_fd < 0 ||
	    fs_publish(s->attempt_fd, "response.json", text, strlen(text), 0600, 0, e) < 0)
		return -1;
	s->phase = "before_script";
	*ret_again = false;
	failure_clear(ret);
	rc = run_phases(s, ret, ret_again, e);
	/* After a fault of ours too: nothing is to be left behind. */
	if (rc < 0) {
		struct err second = ERR_INIT;

		(void)run_cleanup(s, &second);
	} else {
		rc = run_cleanup(s, e);
	}
	if (!s->play->keeps_scripts) {
		struct err ignored = ERR_INIT;

		(void)fs_remove_tree(AT_FDCWD, s->attempt_dir, &ignored);
	}
	return rc;
}

static int
run_attempts(struct state *s, struct failure *ret, struct err *e)
{
	int64_t max = json_int(s->play->rules, "attempts_max", 1);
	bool is_again = true;

	for (unsigned n = 1; is_again && !s->is_stopped && n <= max; n++) {
		if (run_attempt(s, n, ret, &is_again, e) < 0)
			return -1;
		if (is_again && n < max && !s->is_stopped) {
			rehearse_log_say(s->play->log, LOG_RED, "ERROR: Preparation failed: %s", ret->message);
			rehearse_log_say(s->play->log, "", "Will be retried in %llds ...",
					 (long long)rules_seconds(s->play->rules, "attempt_pause"));
			state_pause(s, rules_seconds(s->play->rules, "attempt_pause"));
		}
	}
	return 0;
}

static void
tell_end(const struct state *s, const struct failure *f, struct rehearse_outcome *ret)
{
	if (s->interrupted) {
		ret->state = JOB_FAILED;
		ret->reason = mem_strdup(json_str(s->interrupted, "failure_reason"));
		rehearse_log_say(s->play->log, LOG_RED, "ERROR: Job failed: %s", ret->reason);
	} else if (f->reason) {
		bool is_system = !str_eq(f->reason, "script_failure");

		ret->state = is_system ? JOB_SYSTEM_FAILURE : JOB_FAILED;
		ret->reason = mem_strdup(f->reason);
		ret->exit_code = f->exit_code;
		rehearse_log_say(s->play->log, LOG_RED, "ERROR: Job failed%s: %s",
				 is_system ? " (system failure)" : "", f->message);
	} else {
		ret->state = JOB_SUCCEEDED;
		rehearse_log_say(s->play->log, LOG_GREEN, "Job succeeded");
	}
}

int
rehearse_play(const struct rehearse_play *p, struct rehearse_outcome *ret, struct err *e)
{
	struct state s = { .play = p, .attempt_fd = -1, .job_status = "running", .phase = "before_script" };
	struct failure failure = { 0 };
	sigset_t signals, old;
	int rc;

	*ret = (struct rehearse_outcome){ 0 };
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP); /* the terminal was closed: the job is not to go on without anybody */
	sigprocmask(SIG_BLOCK, &signals, &old);
	s.watch = (struct rehearse_watch){ .signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK),
					   .job_deadline = clock_deadline(p->timeout_ms),
					   .script_deadline = CLOCK_DEADLINE_NEVER,
					   .kill_wait_ms = 1000 * rules_seconds(p->rules, "graceful_kill"),
					   .give_up_ms = 1000 * rules_seconds(p->rules, "force_kill"),
					   .on_event = on_event,
					   .arg = &s };
	rehearse_log_say(p->log, "", "Running with gitlab-runner %s (rehearsal)",
			 json_str(p->rules, "runner_version"));
	rc = run_attempts(&s, &failure, e);
	if (rc == 0)
		tell_end(&s, &failure, ret);
	mem_close_at(&s.watch.signal_fd);
	sigprocmask(SIG_SETMASK, &old, NULL);
	failure_clear(&failure);
	rehearse_dirs_free(&s.dirs);
	strv_free(&s.job_env);
	mem_free_at(&s.attempt_dir);
	mem_close_at(&s.attempt_fd);
	return rc;
}
