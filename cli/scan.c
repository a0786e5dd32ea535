/* `tidewaiter scan FILE…`: the pipeline of a job by hand, over files given by name. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/command.h"
#include "cli/job_options.h"
#include "cli/report_files.h"
#include "cli/workspace.h"
#include "executor/settings.h"
#include "stages/discover.h"
#include "stages/pipeline.h"
#include "stages/policy_feed.h"

struct scan {
	struct job_options job;
	const char *report_dir;
	int severity, mode; /* -1: as the settings say */
	bool wants_json, wants_upload;
	int n_files;
	char **files;
};

#define AT(member) offsetof(struct scan, member)
static const struct cli_option rows[] = {
	{ "as", "PATH", OPTION_TEXT, AT(job.project), "the same as --project", NULL },
	JOB_OPTIONS(scan, job),
	{ "severity", "WORD", OPTION_WORD, AT(severity),
	  "what blocks: UNKNOWN, LOW, MEDIUM, HIGH or CRITICAL and worse", severity_words },
	/* without off, which inspects nothing */
	{ "mode", "WORD", OPTION_WORD, AT(mode),
	  "audit, warn or enforce: what the text says a job would meet", gate_mode_words + GATE_AUDIT },
	{ "json", NULL, OPTION_FLAG, AT(wants_json),
	  "one JSON object instead of text; its members are described in\ndocs/reference/scan-json.md", NULL },
	{ "report-dir", "DIR", OPTION_TEXT, AT(report_dir),
	  "put the reports there, FILE.json and FILE.html without .tar", NULL },
	{ "upload", NULL, OPTION_FLAG, AT(wants_upload),
	  "deliver the findings to DefectDojo, through the spool", NULL },
};
static const struct cli_options options = { "scan", rows, MEM_COUNT(rows), "FILE…" };

/* Settings as they are for the project, then what the command line says. */
static void
apply(const struct scan *s, struct settings *settings)
{
	struct options_gate *g = &settings->opt.gate;

	if (s->job.project)
		(void)settings_apply_project(settings, s->job.project);
	if (s->severity >= 0)
		g->severity = s->severity;
	if (s->mode >= 0)
		g->mode = GATE_AUDIT + s->mode;
}

static int
add_files(const struct scan *s, struct inspection *i, struct err *e)
{
	for (int k = 0; k < s->n_files; k++)
		if (discover_add_file(i, s->files[k], e) < 0)
			return -1;
	return 0;
}

static int
keep_reports(const struct scan *s, const struct workspace *w, struct err *e)
{
	AUTO_FD int to = -1;

	if (!s->report_dir)
		return 0;
	if (fs_mkdirs(AT_FDCWD, s->report_dir, 0755, e) < 0)
		return -1;
	to = open(s->report_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return err_errno(e, "%s", s->report_dir);
	return report_files_copy(w->out_fd, to, (uid_t)-1, (gid_t)-1, e);
}

static int
exit_code_of(enum verdict v)
{
	switch (v) {
	case VERDICT_PASS:
	case VERDICT_WARN:
		return CLI_OK;
	case VERDICT_BLOCK:
		return CLI_BLOCKED;
	case VERDICT_UNDECIDED:
		return CLI_UNDECIDED;
	}
	return CLI_UNDECIDED;
}

/* What a job would know and we were not told: a line where anything can depend on it. */
static void
note_missing(const struct scan *s, const struct settings *settings, struct strv *ret)
{
	const struct options *o = &settings->opt;
	bool has_policy = policy_source_is_configured(&o->policy), has_dojo = !str_is_empty(o->defectdojo.url);
	AUTO_STRV struct strv missing = { 0 };
	AUTO_FREE char *names = NULL;

	if (!s->job.project && (has_policy || has_dojo || settings->projects.n > 0))
		strv_add(&missing, "--project");
	if (!s->job.branch && (has_policy || has_dojo))
		strv_add(&missing, "--branch");
	if (missing.n == 0)
		return;
	names = strv_join(&missing, ", ");
	strv_addf(ret, "not known by hand: %s; a job may meet other rules and triage", names);
}

/* Else the report would have no place there, and nobody would hear of it but in a warning. */
static int
check_names(const struct scan *s, const struct settings *settings, struct err *e)
{
	const struct options_defectdojo *o = &settings->opt.defectdojo;
	const char *const templates[] = { o->product, o->engagement, o->test };

	if (!s->wants_upload)
		return 0;
	for (size_t k = 0; k < MEM_COUNT(templates); k++) {
		const char *t = templates[k];

		if (!s->job.project && (strstr(t, "{project_") || strstr(t, "{namespace}")))
			return err_set(e, ERR_USAGE,
				       "--upload needs --project: \"%s\" of the settings (defectdojo)", t);
		if (!s->job.branch && (strstr(t, "{branch}") || strstr(t, "{ref}")))
			return err_set(e, ERR_USAGE,
				       "--upload needs --branch: \"%s\" of the settings (defectdojo)", t);
	}
	return 0;
}

static int
inspect(const struct scan *s, const struct settings *settings, const struct job_facts *job, struct err *e)
{
	AUTO(workspace) struct workspace *w = NULL;
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };
	struct pipeline_users users;
	struct pipeline_result result = { 0 };
	struct inspection i = { .opt = &settings->opt, .job = job, .project_fd = -1 };
	struct log out;
	AUTO_FD int objects_fd = -1;
	int rc;

	if (check_names(s, settings, e) < 0 || job_options_open(&s->job, &i.objects_fd, e) < 0)
		return -1;
	objects_fd = i.objects_fd > 0 ? i.objects_fd : -1;
	if (workspace_users(settings->scan_user, settings->courier_user, &users, e) < 0 ||
	    workspace_make(settings->cache_dir, &w, e) < 0)
		return -1;
	/* Nothing may stand beside the one object. */
	log_init(&out, s->wants_json ? stderr : stdout);
	i.log = &out;
	i.project_dir = ".";
	i.work_fd = w->fd;
	i.work_dir = w->path;
	i.out_fd = w->out_fd;
	i.state_dir = settings->state_dir;
	i.cache_dir = settings->cache_dir;
	i.wants_json = s->wants_json;
	i.skips_upload = !s->wants_upload;
	policy_feed_begin(&settings->opt, settings->state_dir,
			  users.is_separated ? users.courier_uid : (uid_t)-1, users.courier_gid, 0, &source);
	i.policy_source = &source;
	note_missing(s, settings, &i.notes);
	for (size_t k = 0; k < i.notes.n; k++)
		log_line(i.log, LOG_NOTE, "%s", i.notes.v[k]);
	rc = add_files(s, &i, e);
	if (rc == 0)
		rc = pipeline_run(&i, &users, &result, e);
	if (rc == 0)
		rc = keep_reports(s, w, e);
	inspection_free(&i);
	return rc < 0 ? -1 : exit_code_of(result.verdict);
}

static int
run(struct cli *cli, int argc, char **argv, struct err *e)
{
	AUTO(settings) struct settings *settings = NULL;
	struct scan s = { .severity = -1, .mode = -1 };
	struct job_facts job = { 0 };
	int rc;

	if (options_parse(&options, argc, argv, &s, &s.n_files, e) < 0)
		return -1;
	if (s.n_files == 0)
		return err_set(e, ERR_USAGE, "scan needs at least one image archive; tidewaiter scan --help");
	s.files = argv + 1;
	if (settings_load(cli->has_config_path ? cli->config_path : NULL, &settings, e) < 0)
		return -1;
	apply(&s, settings);
	/* what the command line says where a policy has rules of its own: as a job would ask, it can only tighten */
	job_options_facts(&s.job, s.severity >= 0 ? severity_words[s.severity] : NULL,
			  s.mode >= 0 ? gate_mode_words[GATE_AUDIT + s.mode] : NULL, &job);
	rc = inspect(&s, settings, &job, e);
	job_facts_free(&job);
	return rc;
}

const struct command command_scan = {
	.name = "scan",
	.summary = "inspect image archives by hand, as after a job",
	.help = "Usage: tidewaiter scan [OPTION…] FILE…\n\n"
		"Unpacks and verifies image archives, scans them with Trivy and judges them by the settings,\n"
		"as after a job. The table stands on standard output in every mode. Nothing is uploaded\n"
		"without --upload. What is said of the job makes it the job's verdict: with --project and\n"
		"--branch triage and other branches count, with --commit its ignore files.\n",
	.options = &options,
	.n_options = 1,
	.notes = "Exit codes: 0 pass (warnings included), 1 blocked or refused, 2 usage or settings,\n"
		 "3 undecided (no Trivy, database too old, disk full, timeout, platform not looked at).\n",
	.run = run,
};
