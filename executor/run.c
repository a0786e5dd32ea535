#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/guard.h"
#include "executor/guard_ahead.h"
#include "executor/guard_early.h"
#include "executor/host.h"
#include "executor/phase.h"
#include "executor/upload.h"

/* The program named gitlab-runner, beside ours in libexec and in the build tree. */
#define UPLOAD_DIR "upload"

/* Before anything is given up: the script is root's, with every secret of the job in it. */
static int
open_script(const char *path, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_errno(e, "script %s", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "script %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_USAGE, "script %s: not a regular file", path);
	return take_fd(fd);
}

static void
result_of_script(const struct env_result *script, struct phase_result *ret)
{
	ret->end = script->code == 0 ? PHASE_OK : PHASE_JOB_FAILED;
	ret->job_code = script->code;
}

static int
run_script(struct guard *g, struct env_stage *stage, const char *path, struct env_result *ret, struct err *e)
{
	AUTO_FD int script = open_script(path, e);

	if (script < 0)
		return -1;
	stage->script_fd = script;
	return g->env->run(g->plan, stage, ret, e);
}

/* The stage that stores the job's archive: our own gitlab-runner stands first in PATH. */
static int
run_upload(struct guard *g, struct env_stage *stage, const char *path, struct env_result *ret, struct err *e)
{
	AUTO(payload) struct payload *payload = NULL;
	AUTO_STRV struct strv dirs = { 0 };
	AUTO_STRV struct strv env = { 0 };
	AUTO_FREE char *own_dir = NULL;
	struct upload u;
	int rc;

	own_dir = guard_own_dir(e);
	if (!own_dir || guard_load_payload(&payload, e) < 0 ||
	    upload_open(&u, g->plan, g->env, payload, e) < 0)
		return -1;
	u.before = guard_before_upload;
	u.before_arg = g;
	strv_addf(&dirs, "%s/%s", own_dir, UPLOAD_DIR);
	strv_addf(&env, "%s=%s", UPLOAD_ENV, u.name);
	stage->path_prepend = &dirs;
	stage->env_extra = &env;
	stage->serve_fd = u.listen_fd;
	stage->serve = upload_serve;
	stage->serve_arg = &u;
	rc = run_script(g, stage, path, ret, e);
	g->state->was_uploaded = g->state->was_uploaded || (rc == 0 && u.was_uploaded);
	upload_free(&u);
	stage->path_prepend = NULL;
	stage->env_extra = NULL;
	stage->serve = NULL;
	stage->serve_arg = NULL;
	return rc;
}

/* What runs beside a script. */
struct beside {
	struct guard_ahead ahead;
	struct guard_early early;
};

/* Before what the script left is killed: without a cgroup that is all our children. */
static void
stop_beside(void *arg)
{
	struct beside *b = arg;

	guard_early_stop(&b->early);
	guard_ahead_stop(&b->ahead);
}

static int
run_guarded(struct guard *g, const char *script, struct phase_result *ret, struct err *e)
{
	struct env_stage stage = { .name = g->stage, .serve_fd = -1 };
	struct env_result result = { 0 };
	struct beside beside;
	bool is_skipped = false;
	int rc;

	if (guard_before(g, &is_skipped, ret, e) < 0)
		return -1;
	if (is_skipped)
		return 0;
	guard_ahead_start(g, &beside.ahead);
	guard_early_start(g, &beside.early);
	stage.ended = stop_beside;
	stage.ended_arg = &beside;
	rc = guard_needs_upload(g) ? run_upload(g, &stage, script, &result, e)
				   : run_script(g, &stage, script, &result, e);
	stop_beside(&beside);
	if (rc == 0) {
		result_of_script(&result, ret);
		g->early_fd = beside.early.fd >= 0 ? &beside.early.fd : NULL;
		rc = guard_after(g, &result, ret, e);
		g->early_fd = NULL;
	}
	guard_early_free(&beside.early);
	return rc;
}

static int
run_run(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	AUTO(plan) struct plan *plan = NULL;
	struct plan_state state = { 0 };
	struct guard g = { .c = c, .env = &env_host, .state = &state, .stage = c->args[1] };
	struct err second = ERR_INIT;
	int rc;

	if (plan_read(c->tmpdir_fd, &plan, e) < 0 || plan_state_read(c->tmpdir_fd, &state, e) < 0)
		return -1;
	g.plan = plan;
	g.kind = guard_kind_of(plan, g.stage);
	rc = run_guarded(&g, c->args[0], ret, e);
	/* Also after a fault: what was found out so far binds the later stages. */
	mem_free_at(&state.last_stage);
	state.last_stage = mem_strdup(g.stage);
	if (plan_state_write(c->tmpdir_fd, &state, rc < 0 ? &second : e) < 0)
		rc = -1;
	plan_state_free(&state);
	return rc;
}

const struct phase phase_run = {
	.name = "run",
	.usage = " SCRIPT STAGE",
	.summary =
		"Runs one stage script of the job; after the last user step of a matching job, the inspection.",
	.details =
		"SCRIPT  the stage's script, a regular file of any length; bash gets it on descriptor 0.\n"
		"STAGE   its name; names that are not known are run like any other.\n"
		"Runs    it as the slot's user with an environment made anew; SIGTERM is handed on; what is left of\n"
		"        it afterwards is killed (job.kill_wait of the settings between SIGTERM and SIGKILL).\n"
		"Prints  what the script prints, untouched, and the inspection's section.\n"
		"Fails   the job with the script's own code, with 128 + n for signal n, with 90 where images are\n"
		"        blocked (mode enforce); an inspection that is undecided is a system failure there.\n",
	.n_args_min = 2,
	.is_in_job_log = true,
	.run = run_run,
};
