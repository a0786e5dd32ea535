/* `tidewaiter rehearse`: plays the runner for one job, without GitLab. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/rehearse_ci.h"
#include "cli/rehearse_options.h"
#include "cli/rehearse_play.h"
#include "cli/rehearse_runner.h"
#include "cli/rehearse_tree.h"
#include "executor/plan.h"
#include "executor/settings.h"

#define TOKEN "glcbt-rehearsal" /* refused everywhere */
#define NO_COMMIT "0000000000000000000000000000000000000000"
#define HEAD_MAX 4096  /* bytes of .git/HEAD */
#define NAMES_SHOWN 20 /* per artifact */

/* A job that is made of flags, in the form of rehearse_ci.h. */
static cJSON *
job_of_flags(const struct rehearse_options *o)
{
	cJSON *job = cJSON_CreateObject();
	cJSON *artifacts;

	json_add_str(job, "name", o->job ? o->job : "docker_build");
	json_add_str(job, "stage", o->stage ? o->stage : "build");
	json_add_str(job, "image", "");
	json_add_strv(job, "script", &o->script);
	json_add_strv(job, "after_script", &o->after_script);
	json_add_array(job, "variables");
	artifacts = json_add_array(job, "artifacts");
	json_add_array(job, "cache");
	json_add_array(job, "services");
	if (o->artifacts.n > 0) {
		cJSON *archive = ci_add_archive(artifacts);

		cJSON_DeleteItemFromObjectCaseSensitive(archive, "paths");
		json_add_strv(archive, "paths", &o->artifacts);
	}
	return job;
}

/* From the file, or from flags where --script, or nothing but --image, is given. */
static int
make_job(const struct cli *cli, const struct rehearse_options *o, const struct settings *s, cJSON **ret,
	 struct err *e)
{
	AUTO_STRV struct strv notes = { 0 };
	AUTO_JSON cJSON *job = NULL;
	cJSON *variables;

	if (rehearse_options_has_own_job(o)) {
		job = job_of_flags(o);
	} else if (ci_load_job(o->file, o->job, &s->opt.inject.jobs, &job, &notes, e) < 0) {
		return -1;
	}
	for (size_t i = 0; i < notes.n; i++)
		log_line(&cli->log, LOG_NOTE, "%s: %s", o->file, notes.v[i]);
	variables = cJSON_GetObjectItemCaseSensitive(job, "variables");
	for (size_t i = 0; i < o->variables.n; i++) {
		const char *eq = strchr(o->variables.v[i], '=');
		AUTO_FREE char *name = mem_strndup(o->variables.v[i], (size_t)(eq - o->variables.v[i]));

		ci_add_variable(variables, name, eq + 1, true);
	}
	*ret = take_ptr(job);
	return 0;
}

static char *
self_path(struct err *e)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0) {
		err_errno(e, "/proc/self/exe");
		return NULL;
	}
	path[n] = '\0';
	return mem_strdup(path);
}

/* The directory of the four executables: beside us as installed, in a build tree, or where they were installed. */
static char *
find_programs(const struct rehearse_options *o, struct err *e)
{
	AUTO_FREE char *self = self_path(e);
	const char *dir = self ? dirname(self) : NULL;
	AUTO_STRV struct strv places = { 0 };

	if (!self)
		return NULL;
	if (o->programs) {
		strv_add(&places, o->programs);
	} else {
		strv_addf(&places, "%s/../libexec/tidewaiter", dir);
		strv_addf(&places, "%s/../executor", dir);
		strv_add(&places, LIBEXEC_DIR);
	}
	for (size_t i = 0; i < places.n; i++) {
		AUTO_FREE char *run = mem_printf("%s/tidewaiter-run", places.v[i]);
		char *absolute = access(run, X_OK) == 0 ? realpath(places.v[i], NULL) : NULL;

		if (absolute)
			return absolute;
	}
	err_set(e, ERR_FAILED, "there is no tidewaiter-run in %s; --programs DIR", places.v[places.n - 1]);
	return NULL;
}

/* Reachable for users of jobs: the stand-in for gitlab-runner lies in it. Owned by the caller. */
static char *
make_dir(struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	AUTO_FREE char *dir = mem_printf("%s/tidewaiter-rehearse-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
	AUTO_FREE char *runner = NULL;
	AUTO_FREE char *uploads = NULL;

	if (!mkdtemp(dir) || chmod(dir, 0711) < 0) {
		err_errno(e, "%s", dir);
		return NULL;
	}
	runner = mem_printf("%s/runner", dir);
	uploads = mem_printf("%s/" REHEARSE_UPLOADS, runner);
	/* Every job user may put something there, none may take another's away. */
	if (mkdir(runner, 0755) < 0 || chmod(runner, 0755) < 0 || mkdir(uploads, 0700) < 0 ||
	    chmod(uploads, 01777) < 0) {
		err_errno(e, "%s", uploads);
		return NULL;
	}
	return take_ptr(dir);
}

/* A copy of ourselves under the name that stage scripts call. */
static int
install_runner(const char *dir, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/runner/" REHEARSE_RUNNER_NAME, dir);
	AUTO_FD int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	AUTO_FD int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755);
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		return err_errno(e, "/proc/self/exe");
	if (to < 0 || fchmod(to, 0755) < 0)
		return err_errno(e, "%s", path);
	return fs_copy(from, 0, to, (uint64_t)st.st_size, e);
}

/* The settings of this rehearsal: those of the project, with our stand-in as gitlab-runner. *ret_path is owned by the caller. */
static int
write_settings(struct settings *s, const char *dir, char **ret_path, struct err *e)
{
	AUTO_BUF struct buf text = BUF_INIT(SETTINGS_MAX);
	AUTO_FD int at = fs_open_dir(AT_FDCWD, dir, e);
	char *path = mem_printf("%s/runner:%s", dir, s->job.path);

	mem_free_at(&s->job.path);
	s->job.path = path;
	mem_free_at(&s->job.runner_path);
	s->job.runner_path = mem_printf("%s/runner/" REHEARSE_RUNNER_NAME, dir);
	conf_print(&settings_schema, s, false, &text);
	if (at < 0 || fs_publish(at, "tidewaiter.yml", buf_str(&text), text.len, 0644, 0, e) < 0)
		return -1;
	*ret_path = mem_printf("%s/tidewaiter.yml", dir);
	return 0;
}

/* Branch and commit of the project as git has them, where it is a checkout; else main and no commit. */
static void
read_head(const char *project, char **ret_ref, char **ret_sha)
{
	struct err ignored = ERR_INIT;
	AUTO_FREE char *head_path = mem_printf("%s/.git/HEAD", project ? project : "");
	AUTO_FREE char *head = NULL;
	AUTO_FREE char *sha = NULL;
	size_t len;

	if (project && fs_read_max(AT_FDCWD, head_path, HEAD_MAX, &head, &len, &ignored) == 0)
		head[strcspn(head, "\n")] = '\0';
	if (head && str_has_prefix(head, "ref: refs/heads/")) {
		AUTO_FREE char *ref_path = mem_printf("%s/.git/%s", project, head + strlen("ref: "));

		*ret_ref = mem_strdup(head + strlen("ref: refs/heads/"));
		if (fs_read_max(AT_FDCWD, ref_path, HEAD_MAX, &sha, &len, &ignored) == 0)
			sha[strcspn(sha, "\n")] = '\0';
	} else {
		*ret_ref = mem_strdup("main");
		sha = head ? mem_strdup(head) : NULL;
	}
	*ret_sha = mem_strdup(sha && strlen(sha) == 40 && str_is_hex(sha, 40) ? sha : NO_COMMIT);
}

static int
open_content(const struct rehearse_options *o, struct rehearse_content *ret, struct err *e)
{
	struct stat st;

	*ret = (struct rehearse_content){ .project_fd = -1, .image = o->image };
	if (o->image && (lstat(o->image, &st) < 0 || !S_ISREG(st.st_mode)))
		return err_set(e, ERR_USAGE, "--image %s: not a regular file", o->image);
	if (!o->project)
		return 0;
	ret->project_fd = open(o->project, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return ret->project_fd < 0 ? err_errno(e, "--project %s", o->project) : 0;
}

/* One line per kind of artifact that was uploaded, and the files to --out. */
static int
show_uploads(const struct cli *cli, const struct rehearse_options *o, const char *dir, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/runner/" REHEARSE_UPLOADS, dir);
	AUTO_FD int uploads = fs_open_dir(AT_FDCWD, path, e);
	AUTO_STRV struct strv all = { 0 };
	AUTO_FD int out = -1;
	struct tree_copy t = { 0 };
	size_t n_files = 0;

	if (uploads < 0 || tree_list(uploads, &all, e) < 0)
		return -1;
	for (size_t i = 0; i < all.n; i++) {
		AUTO_FREE char *safe = str_safe(all.v[i], 200);
		struct stat st;

		if (fstatat(uploads, all.v[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
			continue;
		if (++n_files <= NAMES_SHOWN)
			log_line(&cli->log, LOG_NOTE, "artifact: %s", safe);
	}
	if (n_files > NAMES_SHOWN)
		log_line(&cli->log, LOG_NOTE, "artifact: … and %zu more", n_files - NAMES_SHOWN);
	if (!o->out || n_files == 0)
		return 0;
	if (mkdir(o->out, 0755) < 0 && access(o->out, W_OK) < 0)
		return err_errno(e, "--out %s", o->out);
	out = open(o->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out < 0 || tree_copy_all(uploads, out, &t, e) < 0)
		return out < 0 ? err_errno(e, "--out %s", o->out) : err_wrap(e, "--out %s", o->out);
	log_line(&cli->log, LOG_NOTE, "artifacts are in %s", o->out);
	return 0;
}

struct rehearsal {
	const struct cli *cli;
	const struct rehearse_options *o;
	struct settings *settings;
	const cJSON *rules, *job;
	const char *programs;
	char *dir;
};

/* Another one for each rehearsal: DefectDojo is asked by it whether an upload has arrived. 31 bits, as job ids mostly have. */
static int64_t
new_job_id(void)
{
	return 1 + (clock_wall_s() * 1000 + clock_mono_ms() % 1000) % (INT32_MAX - 1);
}

static int
play(const struct rehearsal *r, struct rehearse_outcome *ret, struct err *e)
{
	AUTO_FREE char *config = NULL;
	AUTO_FREE char *ref = NULL;
	AUTO_FREE char *sha = NULL;
	AUTO_JSON cJSON *payload = NULL;
	struct rehearse_log log;
	struct rehearse_play p = { .rules = r->rules,
				   .programs_dir = r->programs,
				   .dir = r->dir,
				   .keeps_scripts = r->o->keep,
				   .timeout_ms = r->o->timeout_ms,
				   .log = &log };
	int rc;

	if (install_runner(r->dir, e) < 0 || write_settings(r->settings, r->dir, &config, e) < 0 ||
	    open_content(r->o, &p.content, e) < 0)
		return -1;
	read_head(r->o->project, &ref, &sha);
	payload = rules_payload(r->rules, r->job,
				&(struct rehearse_identity){ .project_path = r->o->project_path,
							     .ref = r->o->ref ? r->o->ref : ref,
							     .sha = sha,
							     .target_branch = r->o->target_branch,
							     .default_branch = r->o->default_branch,
							     .is_tag = r->o->is_tag,
							     .is_unprotected = r->o->is_unprotected ||
									       r->o->target_branch,
							     .job_id = new_job_id(),
							     .started_at = clock_wall_s(),
							     .token = TOKEN,
							     .timeout_s = r->o->timeout_ms / 1000 });
	p.payload = payload;
	p.config_path = config;
	rehearse_log_init(&log, stdout, log_shows_colour(stdout));
	strv_add(&log.secrets, TOKEN);
	/* What the programs say of their settings is for the file that the admin can change. */
	log.stand_in = config;
	log.original = r->settings->path;
	rc = rehearse_play(&p, ret, e);
	rehearse_log_free(&log);
	mem_close_at(&p.content.project_fd);
	return rc;
}

static int
exit_code(const struct rehearse_outcome *outcome)
{
	switch (outcome->state) {
	case JOB_SUCCEEDED:
		return CLI_OK;
	case JOB_FAILED:
		return CLI_BLOCKED;
	case JOB_SYSTEM_FAILURE:
		break;
	}
	return CLI_UNDECIDED;
}

static int
rehearse(struct rehearsal *r, struct err *e)
{
	struct rehearse_outcome outcome = { 0 };
	struct err ignored = ERR_INIT;
	int rc;

	r->dir = make_dir(e);
	if (!r->dir)
		return -1;
	rc = play(r, &outcome, e);
	if (rc == 0)
		rc = show_uploads(r->cli, r->o, r->dir, e);
	if (r->o->keep)
		log_line(&r->cli->log, LOG_NOTE, "payload, scripts and settings are in %s", r->dir);
	else if (fs_remove_tree(AT_FDCWD, r->dir, &ignored) < 0)
		log_line(&r->cli->log, LOG_WARN, "%s", ignored.text);
	mem_free_at(&r->dir);
	mem_free_at(&outcome.reason);
	return rc < 0 ? -1 : exit_code(&outcome);
}

static int
rehearse_run(struct cli *cli, int argc, char **argv, struct err *e)
{
	__attribute__((cleanup(rehearse_options_free))) struct rehearse_options o = { 0 };
	AUTO(settings) struct settings *s = NULL;
	AUTO_JSON cJSON *rules = NULL;
	AUTO_JSON cJSON *job = NULL;
	AUTO_FREE char *programs = NULL;
	AUTO(plan) struct plan *first = NULL;

	/* Users that are missing are no fault of the job: said once, and not in three attempts as the runner would. */
	if (rehearse_options_parse(argc, argv, &o, e) < 0 ||
	    settings_load(cli->has_config_path ? cli->config_path : NULL, &s, e) < 0)
		return -1;
	(void)settings_apply_project(s, o.project_path);
	if (rules_load(&rules, e) < 0 || make_job(cli, &o, s, &job, e) < 0 ||
	    plan_of_slot(s, 0, &first, e) < 0)
		return -1;
	programs = find_programs(&o, e);
	if (!programs)
		return -1;
	return rehearse(&(struct rehearsal){ .cli = cli,
					     .o = &o,
					     .settings = s,
					     .rules = rules,
					     .job = job,
					     .programs = programs },
			e);
}

const struct command command_rehearse = {
	.name = "rehearse",
	.summary = "play the runner for one job, without GitLab",
	.help = "Usage: tidewaiter rehearse [--job NAME] [--file .gitlab-ci.yml] [OPTION]…\n"
		"       tidewaiter rehearse --script COMMAND… [--artifact PATH]… [OPTION]…\n"
		"       tidewaiter rehearse --image TAR [OPTION]…\n"
		"\n"
		"Makes payload and stage scripts of a job as GitLab Runner does, calls the four executables in its order\n"
		"with the settings that are in force, and shows the job log. What the job uploads is listed at the end.\n"
		"There is no GitLab: nothing is fetched, caches are not kept, and a stand-in for gitlab-runner takes the\n"
		"artifacts. DefectDojo, where the settings name one, is the real one; see --project-path.\n"
		"Ctrl-C is Cancel, a second one is Cancel pressed again.\n",
	.options = &rehearse_options_table,
	.n_options = 1,
	.notes = "Exit codes: 0 the job succeeded, 1 it failed or was blocked, 2 wrong use or settings, 3 system failure.\n",
	.run = rehearse_run,
};
