/* `tidewaiter policy check|test|explain|fetch`: for those who write the policy, on a host or in the CI of its repository. */
#include "cli/policy.h"

#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "stages/policy_source.h"

#define REPORT_MAX (256 * 1024 * 1024) /* bytes */

void
policy_close(struct policy_opened *o)
{
	policy_free(take_ptr(o->policy));
	if (o->settings)
		settings_free(take_ptr(o->settings));
	mem_free_at(&o->origin);
	mem_free_at(&o->note);
}

static int
open_file(const char *file, struct policy_opened *ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (fs_read_named(file, POLICY_MAX, &text, &len, e) < 0) {
		if (e->kind == ERR_REFUSED) /* too large, or no file at all */
			e->kind = ERR_SETTINGS;
		return -1;
	}
	ret->origin = mem_printf("file %s", file);
	return policy_parse(file, text, len, ret->settings ? &ret->settings->opt : NULL, &ret->policy, e);
}

static int
open_configured(struct policy_opened *ret, struct err *e)
{
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };
	const struct options *o = &ret->settings->opt;

	if (policy_load_configured(ret->settings, 0, &source, e) < 0)
		return -1;
	ret->note = source.note ? str_safe(source.note, ERR_TEXT_MAX) : NULL;
	ret->origin = mem_strdup(source.origin);
	return policy_parse(source.name, source.text, source.len, o, &ret->policy, e);
}

/* As a job of this project: without a policy the section gate judges. */
static int
open_of_settings(struct policy_opened *ret, struct err *e)
{
	if (policy_source_is_configured(&ret->settings->opt.policy))
		return open_configured(ret, e);
	policy_from_options(&ret->settings->opt, &ret->policy);
	ret->origin = mem_printf("none, the section gate of %s", ret->settings->path);
	return 0;
}

int
policy_open_for(const struct cli *cli, const char *file, const char *project, struct policy_opened *ret,
		struct err *e)
{
	AUTO_POLICY_OPENED struct policy_opened o = { 0 };
	/* a file by itself is judged the same everywhere; only with --config the host's section gate counts behind it */
	bool has_settings = !file || cli->has_config_path;

	if (has_settings && settings_load(cli->has_config_path ? cli->config_path : NULL, &o.settings, e) < 0)
		return -1;
	if (has_settings && project)
		(void)settings_apply_project(o.settings, project);
	if ((file ? open_file(file, &o, e) : open_of_settings(&o, e)) < 0)
		return -1;
	*ret = o;
	o = (struct policy_opened){ 0 };
	return 0;
}

int
policy_open(const struct cli *cli, const char *file, struct policy_opened *ret, struct err *e)
{
	AUTO_POLICY_OPENED struct policy_opened o = { 0 };

	if (policy_open_for(cli, file, NULL, &o, e) < 0)
		return -1;
	if (!file && !policy_source_is_configured(&o.settings->opt.policy))
		return err_set(e, ERR_USAGE, "%s names no policy (policy.file, policy.url): name a file",
			       o.settings->path);
	if (o.note)
		log_line(&cli->log, LOG_WARN, "%s", o.note);
	*ret = o;
	o = (struct policy_opened){ 0 };
	return 0;
}

int
policy_read_day(const char *text, int64_t *ret_s, struct err *e)
{
	AUTO_FREE char *safe = text ? str_safe(text, 40) : NULL;

	if (!text) {
		*ret_s = clock_wall_s();
		return 0;
	}
	if (policy_parse_date(text, ret_s) || clock_parse_rfc3339(text, ret_s, NULL) == 0)
		return 0;
	return err_set(e, ERR_USAGE, "\"%s\" is no day, allowed is 2026-01-31 or 2026-01-31T12:00:00Z", safe);
}

int
policy_open_report(int dirfd, const char *path, int *ret_fd, struct err *e)
{
	int fd = dirfd == AT_FDCWD ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
				   : fs_open_beneath(dirfd, path, O_RDONLY | O_NONBLOCK, 0, e);

	if (fd < 0)
		return dirfd == AT_FDCWD ? err_errno(e, "%s", path) : err_wrap(e, "%s", path);
	*ret_fd = fd;
	return 0;
}

int
policy_parse_report(int fd, const char *path, struct report **ret, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (fs_read_fd_max(fd, REPORT_MAX, &text, &len, e) < 0 ||
	    report_parse(text, len, REPORT_MAX, ret, e) < 0)
		return err_wrap(e, "%s", path);
	return 0;
}

int
policy_read_report(int dirfd, const char *path, struct report **ret, struct err *e)
{
	AUTO_FD int fd = -1;

	return policy_open_report(dirfd, path, &fd, e) < 0 ? -1 : policy_parse_report(fd, path, ret, e);
}

const char *
policy_rule_name(const struct policy *p, const struct decision *d)
{
	return d->rule_index < p->rules.n ? d->rule->name : "(settings)";
}

static int
policy_run(struct cli *cli, int argc, char **argv, struct err *e)
{
	static const struct {
		const char *name;
		int (*run)(const struct cli *cli, int argc, char **argv, struct err *e);
	} actions[] = { { "check", policy_check },
			{ "test", policy_test },
			{ "explain", policy_explain },
			{ "fetch", policy_fetch } };

	for (size_t k = 0; argc >= 2 && k < MEM_COUNT(actions); k++)
		if (str_eq(argv[1], actions[k].name))
			return actions[k].run(cli, argc - 1, argv + 1, e);
	return err_set(e, ERR_USAGE,
		       "policy: say check, test, explain or fetch; see tidewaiter policy --help");
}

/* In the order of the actions. */
static struct cli_options options[4];

__attribute__((constructor)) static void
gather_options(void)
{
	options[0] = policy_check_options;
	options[1] = policy_test_options;
	options[2] = policy_explain_options;
	options[3] = policy_fetch_options;
}

const struct command command_policy = {
	.name = "policy",
	.summary = "check a policy, test it by cases, explain what it decides",
	.help = "Usage: tidewaiter policy check [OPTION…] [FILE]\n"
		"       tidewaiter policy test [OPTION…] DIR\n"
		"       tidewaiter policy explain --project PATH --image NAME [OPTION…] REPORT\n"
		"       tidewaiter policy fetch\n"
		"\n"
		"check    reads a policy; says ok, or file, line, key, what was found and what is allowed.\n"
		"         Names rules that are never reached, exceptions that expired, run too long or\n"
		"         expire soon, and break-glass entries that ended.\n"
		"test     judges the cases of a directory (*.yml: report, job, day, what is expected), so that\n"
		"         a policy can have tests of its own.\n"
		"explain  says of every finding of a Trivy report which rule judges it and what excuses it, by what a\n"
		"         job would know: docs/reference/policy-explain.md.\n"
		"fetch    asks the repository (policy.url) now, and says which commit judges.\n"
		"\n"
		"Without a file: the policy that the settings name. docs/reference/policy.md\n",
	.options = options,
	.n_options = MEM_COUNT(options),
	.notes = "Exit codes: 0 ok, 1 check or test found something, explain: blocked,\n"
		 "fetch: an older version judges; 2 wrong use, or a policy,\n"
		 "case or settings that were not understood; 3 the policy cannot be had.\n",
	.run = policy_run,
};
