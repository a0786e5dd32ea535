/* `tidewaiter config check|show`. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/command.h"
#include "executor/settings.h"

struct show {
	const char *project; /* NULL: no overrides */
	bool is_defaults, is_example;
};

#define AT(member) offsetof(struct show, member)
static const struct cli_option show_rows[] = {
	{ "project", "PATH", OPTION_TEXT, AT(project), "with what projects has for this project", NULL },
	{ "defaults", NULL, OPTION_FLAG, AT(is_defaults), "the defaults alone, as YAML", NULL },
	{ "example", NULL, OPTION_FLAG, AT(is_example), "the same with a comment each: a file to start from",
	  NULL },
};
static const struct cli_options options[] = {
	{ "config check", NULL, 0, NULL },
	{ "config show", show_rows, MEM_COUNT(show_rows), NULL },
};

static const char *
path_of(const struct cli *cli)
{
	return cli->has_config_path ? cli->config_path : NULL;
}

static int
check(const struct cli *cli, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;
	AUTO_STRV struct strv warnings = { 0 };

	if (settings_load(path_of(cli), &s, e) < 0)
		return -1;
	settings_warnings(s, &warnings);
	for (size_t i = 0; i < warnings.n; i++)
		log_line(&cli->log, LOG_WARN, "%s", warnings.v[i]);
	printf("%s: ok (%lld slots, mode %s, %zu %s in projects%s)\n", s->path, (long long)s->job.slots,
	       gate_mode_words[s->opt.gate.mode], s->projects.n, s->projects.n == 1 ? "entry" : "entries",
	       warnings.n > 0 ? ", with warnings" : "");
	return CLI_OK;
}

static void *
section_of(const struct conf_section *section, const struct settings *s)
{
	return (char *)s + section->offset;
}

static bool
is_same(const struct conf_section *section, const struct conf_field *f, const struct settings *a,
	const struct settings *b)
{
	AUTO_FREE char *x = conf_value_text(f, section_of(section, a));
	AUTO_FREE char *y = conf_value_text(f, section_of(section, b));

	return str_eq(x, y);
}

/* Each setting with where its value comes from, in the file's own form. */
static void
print_effective(const struct settings *defaults, const struct settings *file, const struct settings *s,
		const char *match)
{
	for (size_t i = 0; i < settings_schema.n_sections; i++) {
		const struct conf_section *section = &settings_schema.sections[i];

		if (section->key)
			printf("\n%s:\n", section->key);
		for (size_t k = 0; k < section->n_fields; k++) {
			const struct conf_field *f = &section->fields[k];
			AUTO_FREE char *value = conf_value_text(f, section_of(section, s));
			AUTO_FREE char *text = mem_printf("%s%s: %s", section->key ? "  " : "", f->key, value);

			printf("%-48s # ", text);
			if (!is_same(section, f, s, file))
				printf("projects: match \"%s\"\n", match ? match : "");
			else if (!is_same(section, f, file, defaults))
				printf("%s\n", s->path);
			else
				printf("default\n");
		}
	}
}

static int
show_effective(const struct cli *cli, const char *project, struct err *e)
{
	AUTO(settings) struct settings *defaults = NULL;
	AUTO(settings) struct settings *file = NULL;
	AUTO(settings) struct settings *s = NULL;
	const char *match;

	if (settings_parse("defaults", "{}\n", 3, &defaults, e) < 0 ||
	    settings_load(path_of(cli), &file, e) < 0 || settings_load(path_of(cli), &s, e) < 0)
		return -1;
	match = project ? settings_apply_project(s, project) : NULL;
	if (project)
		printf("# project %s: %s%s\n", project,
		       match ? "projects: match " : "no entry of projects matches", match ? match : "");
	print_effective(defaults, file, s, match);
	if (!project && s->projects.n > 0)
		printf("\n# %zu entr%s in projects: see --project PATH\n", s->projects.n,
		       s->projects.n == 1 ? "y" : "ies");
	return CLI_OK;
}

static int
show(const struct cli *cli, int argc, char **argv, struct err *e)
{
	struct show what = { 0 };
	AUTO_BUF struct buf out = BUF_INIT(SETTINGS_MAX);
	int n_operands;

	if (options_parse(&options[1], argc, argv, &what, &n_operands, e) < 0)
		return -1;
	if ((what.project != NULL) + what.is_defaults + what.is_example > 1)
		return err_set(e, ERR_USAGE,
			       "config show: --project, --defaults and --example do not go together");
	if (what.is_example)
		settings_print_example(&out);
	else if (what.is_defaults)
		conf_print(&settings_schema, NULL, false, &out);
	else
		return show_effective(cli, what.project, e);
	fputs(buf_str(&out), stdout);
	return CLI_OK;
}

static int
config_run(struct cli *cli, int argc, char **argv, struct err *e)
{
	int n_operands;

	if (argc >= 2 && str_eq(argv[1], "check"))
		return options_parse(&options[0], argc - 1, argv + 1, NULL, &n_operands, e) < 0
			       ? -1
			       : check(cli, e);
	if (argc >= 2 && str_eq(argv[1], "show"))
		return show(cli, argc - 1, argv + 1, e);
	return err_set(e, ERR_USAGE, "config: say check or show; see tidewaiter config --help");
}

const struct command command_config = {
	.name = "config",
	.summary = "check the settings, or show what they come to",
	.help = "Usage: tidewaiter config check\n"
		"       tidewaiter config show [--project GROUP/PROJECT]\n"
		"       tidewaiter config show --defaults | --example\n"
		"\n"
		"check  reads the settings and every entry of projects; says ok, or file, line, key,\n"
		"       what was found and what is allowed. Warns of what is possible and hardly meant:\n"
		"       files that are not there, a server without TLS. tidewaiter doctor looks further.\n"
		"show   prints every setting with its value and where it comes from. A value in the\n"
		"       file that equals the default counts as default. No secret is read.\n",
	.options = options,
	.n_options = MEM_COUNT(options),
	.notes = "Exit codes: 0 ok, 2 wrong use, or settings that were not understood.\n",
	.run = config_run,
};
