#include "executor/settings.h"

#include <stddef.h>
#include <string.h>

#include "executor/settings_rules.h"
#include "stages/option_rules.h"

#define SECOND 1000
#define SLOTS_MAX 512
#define SHOWN_MAX 80 /* columns of a value in a message */

static const char *const on_image_words[] = { "warn", "fail", NULL };

#define TOP(member) offsetof(struct settings, member)

static const struct conf_field top_fields[] = {
	{ "state_dir", CONF_PATH, TOP(state_dir), "/var/lib/tidewaiter",
	  .help = "Slots, builds, spool: what must outlive a job", .rule = &rule_dir },
	{ "cache_dir", CONF_PATH, TOP(cache_dir), "/var/cache/tidewaiter",
	  .help = "What can be made again: job caches, work space of inspections", .rule = &rule_dir },
	{ "scan_user", CONF_STRING, TOP(scan_user), "tidewaiter-scan",
	  .help = "Unpacks images and runs Trivy, without network and secrets", .rule = &rule_user },
	{ "courier_user", CONF_STRING, TOP(courier_user), "tidewaiter",
	  .help = "Owns token and spool, alone talks to DefectDojo", .rule = &rule_user },
};

#define JOB(member) offsetof(struct settings_job, member)

static const struct conf_field job_fields[] = {
	{ "user_prefix", CONF_STRING, JOB(user_prefix), "tidewaiter-job-",
	  .help = "Jobs run as users <prefix>0, <prefix>1 …, one per slot; tidewaiter setup makes them",
	  .rule = &rule_user_prefix },
	{ "slots", CONF_INT, JOB(slots), "8", .min = 1, .max = SLOTS_MAX,
	  .help = "Concurrent jobs on this host; at least the runner's `concurrent`" },
	{ "slot_wait", CONF_DURATION, JOB(slot_wait), "60s", .min = 0, .max = 3600 * SECOND,
	  .help = "How long a job waits for a free slot before it fails as a system failure" },
	{ "groups", CONF_LIST, JOB(groups), "[]",
	  .help = "More groups for job users; `docker` is root by another name", .rule = &rule_group },
	{ "builds_dir", CONF_PATH, JOB(builds_dir), "",
	  .help = "Projects are checked out in <builds_dir>/<slot>; empty: <state_dir>/builds",
	  .rule = &rule_job_dir },
	{ "cache_dir", CONF_PATH, JOB(cache_dir), "",
	  .help = "Caches of jobs, by slot and project; empty: <cache_dir>/jobs", .rule = &rule_job_dir },
	{ "keep_builds", CONF_BOOL, JOB(keep_builds), "false",
	  .help = "Keep the checked out project for the next job of the same project in the slot" },
	{ "path", CONF_STRING, JOB(path), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	  .help = "PATH of job scripts", .rule = &rule_path_list },
	{ "env_pass", CONF_LIST, JOB(env_pass), "[]",
	  .help = "Names of the runner service's environment that jobs get too, such as http_proxy",
	  .rule = &rule_variable },
	{ "env_set", CONF_LIST, JOB(env_set), "[]", .help = "More variables for jobs, as NAME=value",
	  .rule = &rule_assignment },
	{ "lang", CONF_STRING, JOB(lang), "C.UTF-8", .help = "LANG of job scripts", .rule = &rule_locale },
	{ "runner_path", CONF_STRING, JOB(runner_path), "gitlab-runner",
	  .help = "gitlab-runner for caches and artifacts: a name on PATH or an absolute path",
	  .rule = &rule_program },
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

/* A setting with where its value comes from: the line of its own, or of the one it follows from, or none. */
struct origin {
	const char *key, *value;
	const char *parent; /* NULL: none. Below its value lies the default. */
};

static size_t
line_of(const struct settings *s, const struct origin *o)
{
	size_t line = conf_line_of(&s->places, o->key);

	return line == 0 && o->parent ? conf_line_of(&s->places, o->parent) : line;
}

/* ` (state_dir, line 3)`, ` (line 3)`, ` (its default)` */
static char *
origin_text(const struct settings *s, const struct origin *o)
{
	size_t own = conf_line_of(&s->places, o->key),
	       of_parent = o->parent ? conf_line_of(&s->places, o->parent) : 0;

	if (own > 0)
		return mem_printf("line %zu", own);
	if (of_parent > 0)
		return mem_printf("by %s in line %zu", o->parent, of_parent);
	return mem_strdup("its default");
}

/*
 * Two settings that do not go together: the one that stands in the file, the later one of two, is what is refused;
 * the other is told with where it comes from. `allowed` is completed by the other's key.
 */
static int
conflict(const struct settings *s, const struct origin *a, const struct origin *b, const char *allowed,
	 struct err *e)
{
	bool is_a = line_of(s, a) > line_of(s, b);
	const struct origin *bad = is_a ? a : b, *other = is_a ? b : a;
	bool is_derived = conf_line_of(&s->places, bad->key) == 0;
	AUTO_FREE char *found = str_safe(bad->value, SHOWN_MAX), *its = str_safe(other->value, SHOWN_MAX);
	AUTO_FREE char *from = origin_text(s, other), *by = origin_text(s, bad);

	return err_set(e, ERR_SETTINGS,
		       "%s:%zu: %s: \"%s\"%s%s%s is not possible, allowed is %s %s (\"%s\", %s)", s->path,
		       line_of(s, bad), bad->key, found, is_derived ? " (" : "", is_derived ? by : "",
		       is_derived ? ")" : "", allowed, other->key, its, from);
}

/* a is b or lies below it */
static bool
is_within(const char *a, const char *b)
{
	size_t n = strlen(b);

	return strncmp(a, b, n) == 0 && (a[n] == '\0' || a[n] == '/');
}

/* The directories of jobs: nothing of ours within them, and apart from each other. */
static int
check_dirs(const struct settings *s, struct err *e)
{
	const struct origin own[] = { { "state_dir", s->state_dir, NULL },
				      { "cache_dir", s->cache_dir, NULL } };
	const struct origin of_jobs[] = { { "job.builds_dir", s->job.builds_dir, "state_dir" },
					  { "job.cache_dir", s->job.cache_dir, "cache_dir" } };

	for (size_t i = 0; i < MEM_COUNT(of_jobs); i++) {
		AUTO_FREE char *safe = str_safe(of_jobs[i].value, SHOWN_MAX);

		if (!rule_is_script_safe(of_jobs[i].value))
			return err_set(e, ERR_SETTINGS,
				       "%s:%zu: %s: \"%s\" (by %s) is not possible, allowed is %s", s->path,
				       line_of(s, &of_jobs[i]), of_jobs[i].key, safe, of_jobs[i].parent,
				       rule_job_dir.allowed);
		for (size_t k = 0; k < MEM_COUNT(own); k++)
			if (is_within(own[k].value, of_jobs[i].value))
				return conflict(s, &own[k], &of_jobs[i], "a directory of its own, apart from",
						e);
	}
	if (is_within(of_jobs[0].value, of_jobs[1].value) || is_within(of_jobs[1].value, of_jobs[0].value))
		return conflict(s, &of_jobs[0], &of_jobs[1], "a directory that neither lies in nor holds", e);
	return 0;
}

/* Whose secret it is, who reads images and who runs jobs are different users, or nothing is separated. */
static int
check_users(const struct settings *s, struct err *e)
{
	const struct origin users[] = { { "scan_user", s->scan_user, NULL },
					{ "courier_user", s->courier_user, NULL } };
	const struct origin prefix = { "job.user_prefix", s->job.user_prefix, NULL };
	size_t n = strlen(s->job.user_prefix);

	if (str_eq(s->scan_user, s->courier_user))
		return conflict(s, &users[0], &users[1], "a user other than", e);
	for (size_t i = 0; i < MEM_COUNT(users); i++) {
		const char *number = users[i].value + n;

		if (str_has_prefix(users[i].value, s->job.user_prefix) && *number &&
		    strspn(number, "0123456789") == strlen(number))
			return conflict(s, &users[i], &prefix, "what makes no user of jobs of", e);
	}
	return 0;
}

/* Which of the two would judge? */
static int
check_policy(const struct settings *s, struct err *e)
{
	const struct origin file = { "policy.file", s->opt.policy.file, NULL };
	const struct origin url = { "policy.url", s->opt.policy.url, NULL };

	if (str_is_empty(file.value) || str_is_empty(url.value))
		return 0;
	return conflict(s, &file, &url, "nothing beside", e);
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
	if (str_is_empty(s->opt.trivy.db_dir)) {
		mem_free_at(&s->opt.trivy.db_dir);
		s->opt.trivy.db_dir = mem_printf("%s/db/current", s->cache_dir);
	}
	if (str_is_empty(s->opt.trivy.java_db_dir)) {
		mem_free_at(&s->opt.trivy.java_db_dir);
		s->opt.trivy.java_db_dir = mem_printf("%s/java-db/current", s->cache_dir);
	}
}

static int
parse_into(struct settings *s, const char *text, size_t len, struct err *e)
{
	conf_set_defaults(&settings_schema, s);
	if (conf_read_yaml(&settings_schema, s->path, text, len, s, &s->projects, &s->places, e) < 0)
		return -1;
	fill_dirs(s);
	return check_users(s, e) < 0 || check_policy(s, e) < 0 ? -1 : check_dirs(s, e);
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

int
settings_load(const char *path, struct settings **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (!path)
		path = SETTINGS_PATH_DEFAULT;
	if (settings_read_text(path, &text, &len, e) < 0) {
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
	conf_places_free(&s->places);
	mem_free_at(&s->path);
	mem_free_at(&s);
}

const char *
settings_apply_project(struct settings *s, const char *project)
{
	const struct conf_override *o = conf_apply_overrides(&settings_schema, &s->projects, project, s);

	return o ? o->match : NULL;
}
