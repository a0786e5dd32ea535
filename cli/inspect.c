/*
 * `tidewaiter inspect VERB --tmpdir DIR`: what the run phase calls around and after a job's last step
 * (executor/guard.h). Internal; people use `tidewaiter scan`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/inspect_early.h"
#include "cli/inspect_record.h"
#include "cli/workspace.h"
#include "executor/plan.h"
#include "stages/commit_files.h"
#include "stages/confine.h"
#include "stages/engine.h"
#include "stages/fetcher_ask.h"
#include "stages/gate.h"
#include "stages/pipeline.h"
#include "stages/policy_feed.h"
#include "stages/policy_git.h"

static void
inspect_close(struct inspect *x)
{
	plan_free(x->plan);
	mem_close_at(&x->project_fd);
	mem_close_at(&x->tmp_fd);
	mem_close_at(&x->early_fd);
}
#define AUTO_INSPECT __attribute__((cleanup(inspect_close)))

/* The project directory belongs to the job: below builds_dir, which is ours, no link is followed. */
static int
open_project(struct inspect *x, struct err *e)
{
	const struct plan *p = x->plan;
	size_t n = strlen(p->builds_dir);
	AUTO_FD int builds_fd = -1;

	if (!str_has_prefix(p->project_dir, p->builds_dir) || p->project_dir[n] != '/')
		return err_set(e, ERR_FAILED, "%s is not below %s", p->project_dir, p->builds_dir);
	builds_fd = open(p->builds_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (builds_fd < 0)
		return err_errno(e, "%s", p->builds_dir);
	x->project_fd = fs_open_beneath(builds_fd, p->project_dir + n + 1, O_RDONLY | O_DIRECTORY, 0, e);
	if (x->project_fd < 0 && e->no == ENOENT)
		err_clear(e);
	else if (x->project_fd < 0)
		return err_wrap(e, "project directory");
	return 0;
}

static int
inspect_open(struct inspect *x, const char *tmpdir, struct err *e)
{
	x->tmp_fd = fs_open_dir(AT_FDCWD, tmpdir, e);
	if (x->tmp_fd < 0 || plan_read(x->tmp_fd, &x->plan, e) < 0 || open_project(x, e) < 0)
		return -1;
	/* a job log understands colours; it is no terminal, so it is not asked */
	log_init(&x->log, stdout);
	x->log.has_colour = true;
	return workspace_users(x->plan->scan_user, x->plan->courier_user, &x->users, e);
}

void
inspect_fill(const struct inspect *x, const struct workspace *w, struct inspection *ret)
{
	*ret = (struct inspection){
		.opt = &x->plan->opt,
		.job = &x->plan->facts,
		.job_began_s = x->plan->made_s,
		.log = &x->log,
		.project_fd = x->project_fd,
		.project_dir = x->plan->project_dir,
		.work_fd = w ? w->fd : -1,
		.work_dir = w ? w->path : NULL,
		.state_dir = x->plan->state_dir,
		.cache_dir = x->plan->cache_dir,
		.out_fd = w ? w->out_fd : -1,
	};
}

void
inspect_begin_policy(const struct inspect *x, unsigned flags, struct policy_source *ret)
{
	const struct pipeline_users *u = &x->users;

	policy_feed_begin(&x->plan->opt, x->plan->state_dir, u->is_separated ? u->courier_uid : (uid_t)-1,
			  u->courier_gid, flags, ret);
}

int
inspect_mode_unread(const struct inspect *x)
{
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };

	inspect_begin_policy(x, POLICY_GIT_NEVER, &source);
	policy_feed_wait(&source);
	return gate_mode_unread(&x->plan->opt, &x->plan->facts, &source);
}

/* ---- before ---- */

/* One engine: 'L' and its list as it came, 'A' for one that is not there, 'F' and why nothing is known. */
static int
note_engine(const struct inspect *x, size_t k, struct err *e)
{
	AUTO_BUF struct buf list = BUF_INIT(ENGINE_LIST_MAX);
	AUTO_BUF struct buf note = BUF_INIT(ENGINE_LIST_MAX + 1);
	AUTO_FREE char *name = mem_printf(PLAN_ENGINE_PREFIX "%zu", k);
	struct err why = ERR_INIT;

	if (engine_fetch_list(x->plan->opt.images.engine_sockets.v[k], &list, &why) == 0) {
		buf_add_char(&note, 'L');
		buf_add(&note, buf_str(&list), list.len);
	} else if (why.no == ENOENT || why.no == ECONNREFUSED) {
		buf_add_char(&note, 'A');
	} else {
		buf_add_char(&note, 'F');
		buf_add_str(&note, why.text);
	}
	return fs_publish(x->tmp_fd, name, buf_str(&note), note.len, 0600, 0, e);
}

static int
verb_before(struct inspect *x, struct err *e)
{
	/* where a later one is missing, nothing is known of that engine */
	for (size_t k = 0; k < x->plan->opt.images.engine_sockets.n; k++)
		if (note_engine(x, k, e) < 0)
			return -1;
	return CLI_OK;
}

static void
read_note(const struct inspect *x, size_t k, struct engine_before *ret)
{
	AUTO_FREE char *name = mem_printf(PLAN_ENGINE_PREFIX "%zu", k);
	AUTO_FREE char *text = NULL;
	struct err e = ERR_INIT;
	size_t len = 0;

	if (fs_read_max(x->tmp_fd, name, ENGINE_LIST_MAX + 1, &text, &len, &e) < 0)
		ret->fault = mem_strdup(e.text);
	else if (len == 0 || text[0] == 'F')
		ret->fault = mem_strdup(len ? text + 1 : "an empty note");
	else if (text[0] == 'L')
		*ret = (struct engine_before){ .text = mem_strndup(text + 1, len - 1),
					       .len = len - 1,
					       .was_there = true };
}

/* NULL where engines are not looked at. */
static struct engine_before *
read_notes(const struct inspect *x)
{
	const struct options_images *o = &x->plan->opt.images;
	struct engine_before *l;

	if (!o->from_engine || o->engine_sockets.n == 0)
		return NULL;
	l = mem_array(o->engine_sockets.n, sizeof(*l));
	for (size_t k = 0; k < o->engine_sockets.n; k++)
		read_note(x, k, &l[k]);
	return l;
}

static void
free_notes(const struct inspect *x, struct engine_before *l)
{
	for (size_t k = 0; l && k < x->plan->opt.images.engine_sockets.n; k++) {
		mem_free_at(&l[k].text);
		mem_free_at(&l[k].fault);
	}
	mem_free_at(&l);
}

/* ---- ahead ---- */

/* Whatever goes wrong is said when the inspection asks again. */
static int
verb_ahead(struct inspect *x, struct err *e)
{
	const struct pipeline_users *u = &x->users;
	uid_t uid = u->is_separated ? u->courier_uid : (uid_t)-1;
	AUTO(kept) struct kept *kept = kept_open(x->plan->state_dir, uid, u->courier_gid);
	AUTO(triage) struct triage *t = NULL;
	struct inspection i;
	struct err ignored = ERR_INIT;

	inspect_fill(x, NULL, &i);
	if (u->is_separated && confine_become(u->courier_uid, u->courier_gid, e) < 0)
		return -1;
	if (confine_finish(e) < 0)
		return -1;
	(void)fetcher_ask_triage(&i, kept, clock_deadline(FETCHER_ASK_MS), &t, &ignored);
	return CLI_OK;
}

/* ---- early ---- */

static int
verb_early(struct inspect *x, struct err *e)
{
	struct inspection model;

	if (x->project_fd < 0)
		return CLI_OK;
	inspect_fill(x, NULL, &model);
	return inspect_early(&model, &x->users, x->early_fd, e) < 0 ? -1 : CLI_OK;
}

/* ---- run ---- */

static int
run_pipeline(struct inspect *x, struct inspection *i, struct pipeline_result *result, struct err *e)
{
	AUTO(workspace) struct workspace *w = NULL;
	AUTO(inspect_record) struct inspect_record *record = NULL;
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };
	AUTO_FD int objects_fd = -1;
	struct early_known early[EARLY_KNOWN_MAX];
	struct engine_before *engines;
	int rc;

	if (workspace_make(x->plan->cache_dir, &w, e) < 0)
		return -1;
	inspect_fill(x, w, i);
	inspect_begin_policy(x, 0, &source);
	i->policy_source = &source;
	if (policy_source_is_configured(&x->plan->opt.policy))
		i->objects_fd = objects_fd = commit_files_open(x->project_fd, NULL);
	i->engines = engines = read_notes(x);
	i->early = early;
	i->n_early = inspect_early_take_over(x->plan->cache_dir, w->fd, x->early_fd, early);
	rc = pipeline_run(i, &x->users, result, e);
	early_known_close(early, i->n_early);
	i->early = NULL;
	i->engines = NULL;
	i->policy_source = NULL;
	free_notes(x, engines);
	if (rc < 0)
		return -1;
	/* the record last: where it is there, all of it is true */
	if (inspect_keep_reports(x, w->out_fd, e) < 0)
		return -1;
	record = inspect_record_make(i);
	return inspect_record_write(x->tmp_fd, record, e);
}

/* Nothing could be said about the images: what now is a matter of mode and gate.on_error. */
static int
run_undecided(const struct inspect *x, const struct err *why)
{
	enum gate_end end = gate_end(VERDICT_UNDECIDED, inspect_mode_unread(x), x->plan->opt.gate.on_error);
	AUTO_FREE char *safe = str_safe(why->text, ERR_TEXT_MAX);

	log_line(&x->log, end == GATE_GO_ON ? LOG_WARN : LOG_ERROR,
		 "undecided, the images were not inspected: %s", safe);
	log_line(&x->log, LOG_NOTE,
		 end == GATE_GO_ON
			 ? "the job goes on; this is for the runner's administrators to mend"
			 : "the job ends here; this is for the runner's administrators to mend, then retry it");
	return end == GATE_GO_ON ? CLI_OK : CLI_UNDECIDED;
}

static int
verb_run(struct inspect *x, struct err *e)
{
	struct inspection i = { 0 };
	struct pipeline_result result = { 0 };
	struct err why = ERR_INIT;
	int rc;

	if (unlinkat(x->tmp_fd, PLAN_INSPECTION_NAME, 0) < 0 && errno != ENOENT)
		return err_errno(e, PLAN_INSPECTION_NAME);
	if (x->project_fd < 0) {
		err_set(&why, ERR_FAILED, "%s is not there", x->plan->project_dir);
		return run_undecided(x, &why);
	}
	rc = run_pipeline(x, &i, &result, &why);
	inspection_free(&i);
	if (rc < 0)
		return run_undecided(x, &why);
	switch (gate_end(result.verdict, result.mode, x->plan->opt.gate.on_error)) {
	case GATE_GO_ON:
		return CLI_OK;
	case GATE_BLOCKED:
		return CLI_BLOCKED;
	case GATE_STUCK:
		return CLI_UNDECIDED;
	}
	return CLI_UNDECIDED;
}

static const struct {
	const char *name;
	int (*run)(struct inspect *x, struct err *e);
} verbs[] = {
	{ "before", verb_before },	  { "ahead", verb_ahead },
	{ "early", verb_early },	  { "run", verb_run },
	{ "verify", inspect_verify },	  { "publish", inspect_publish },
	{ "withhold", inspect_withhold }, { "withheld", inspect_withheld },
};

/* Inherited; for us alone. */
static int
take_early_fd(const char *text, int *ret, struct err *e)
{
	int64_t fd;

	if (str_parse_int(text, 3, INT32_MAX, &fd, e) < 0)
		return err_wrap(e, "--early-fd");
	if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_errno(e, "--early-fd");
	*ret = (int)fd;
	return 0;
}

static int
run(struct cli *cli, int argc, char **argv, struct err *e)
{
	AUTO_INSPECT struct inspect x = { .tmp_fd = -1, .project_fd = -1, .early_fd = -1 };
	bool has_fd = argc == 6 && strcmp(argv[4], "--early-fd") == 0;
	int rc;

	(void)cli;
	if ((argc != 4 && !has_fd) || strcmp(argv[2], "--tmpdir") != 0)
		return err_set(e, ERR_USAGE,
			       "inspect is called by the run phase: inspect VERB --tmpdir DIR [--early-fd N]");
	if (has_fd && take_early_fd(argv[5], &x.early_fd, e) < 0)
		return -1;
	for (size_t k = 0; k < MEM_COUNT(verbs); k++) {
		if (strcmp(verbs[k].name, argv[1]) != 0)
			continue;
		rc = inspect_open(&x, argv[3], e) < 0 ? -1 : verbs[k].run(&x, e);
		/* the code for "blocked" is said of images alone: files of ours that are damaged leave it undecided */
		if (rc < 0 && e->kind == ERR_REFUSED)
			e->kind = ERR_FAILED;
		return rc;
	}
	return err_set(e, ERR_USAGE, "inspect: \"%s\" is no verb", argv[1]);
}

const struct command command_inspect = {
	.name = "inspect",
	.summary = "inspect the images of a job (called by the run phase)",
	.help = "Usage: tidewaiter inspect before|ahead|early|run|verify|publish|withhold|withheld --tmpdir DIR [--early-fd N]\n\n"
		"Called by tidewaiter-run with the runner's TMPDIR, where the plan lies. People use `tidewaiter scan`.\n",
	.is_internal = true,
	.run = run,
};
