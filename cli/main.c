/*
 * `tidewaiter`: the admin's program. A verb is a file that ends in a `const struct command`.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/command.h"
#include "cli/rehearse_runner.h"

static const struct command *const commands[] = {
	&command_scan,	&command_rehearse, &command_config, &command_doctor,  &command_setup,
	&command_spool, &command_db,	   &command_policy, &command_inspect,
};

static void
print_help(FILE *to)
{
	fprintf(to,
		"Usage: tidewaiter [--config FILE] VERB [OPTION…] [ARGUMENT…]\n\n"
		"Runs CI jobs for GitLab Runner as a custom executor, and inspects the container images\n"
		"that they leave: Trivy scans them, the platform team's policy decides, DefectDojo learns.\n\n"
		"Verbs:\n");
	for (size_t i = 0; i < MEM_COUNT(commands); i++)
		if (!commands[i]->is_internal)
			fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(to, "\nOptions:\n"
		    "  --config FILE  settings, by default " SETTINGS_PATH_DEFAULT "\n"
		    "  --help         this text, or behind a verb that verb's\n"
		    "  --version      the version\n\n"
		    "Exit codes: 0 success, 1 blocked or refused, 2 usage or settings, 3 undecided.\n"
		    "Colours stand on terminals only, never with NO_COLOR set or TERM=dumb.\n");
}

static void
print_verb_help(const struct command *c)
{
	fputs(c->help, stdout);
	for (size_t i = 0; i < c->n_options; i++) {
		if (c->options[i].n == 0)
			continue;
		if (c->n_options > 1)
			printf("\nOptions of %s:\n", c->options[i].of);
		else
			printf("\nOptions:\n");
		options_print(&c->options[i], stdout);
	}
	if (c->notes)
		printf("\n--config FILE, before or behind the verb: settings, by default " SETTINGS_PATH_DEFAULT
		       "\n\n%s",
		       c->notes);
}

static int
unknown_verb(const char *verb, struct err *e)
{
	AUTO_BUF struct buf known = BUF_INIT(1024);
	AUTO_FREE char *shown = str_safe(verb, 80);
	struct nearest near = NEAREST_INIT(verb);
	const char *best;

	for (size_t i = 0; i < MEM_COUNT(commands); i++) {
		if (commands[i]->is_internal)
			continue;
		buf_printf(&known, "%s%s", i > 0 ? ", " : "", commands[i]->name);
		nearest_try(&near, commands[i]->name);
	}
	for (const char *const *o = (const char *const[]){ "--config", "--help", "--version", NULL }; *o; o++)
		nearest_try(&near, *o);
	best = nearest_best(&near);
	return err_set(e, ERR_USAGE, "\"%s\" is no %s%s%s%s, allowed are %s; tidewaiter --help", shown,
		       verb[0] == '-' ? "option" : "verb", best ? " (is " : "", best ? best : "",
		       best ? " meant?)" : "",
		       verb[0] == '-' ? "--config FILE, --help and --version" : buf_str(&known));
}

static const struct command *
find_command(const char *name)
{
	for (size_t i = 0; i < MEM_COUNT(commands); i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

/* Takes --config FILE (or =FILE) out, wherever it stands before "--". */
static int
take_config(struct cli *cli, int *argc, char **argv, struct err *e)
{
	static const char with_value[] = "--config=";
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (i < *argc)
				argv[kept++] = argv[i++];
			break;
		}
		if (strcmp(argv[i], "--config") == 0) {
			if (++i == *argc || argv[i][0] == '\0')
				return err_set(e, ERR_USAGE, "--config needs a file");
			cli->config_path = argv[i];
		} else if (str_has_prefix(argv[i], with_value)) {
			cli->config_path = argv[i] + strlen(with_value);
			if (cli->config_path[0] == '\0')
				return err_set(e, ERR_USAGE, "--config needs a file");
		} else {
			argv[kept++] = argv[i];
			continue;
		}
		cli->has_config_path = true;
	}
	argv[kept] = NULL;
	*argc = kept;
	return 0;
}

static int
exit_code_of(enum err_kind kind)
{
	switch (kind) {
	case ERR_USAGE:
	case ERR_SETTINGS:
		return CLI_USAGE;
	case ERR_REFUSED:
		return CLI_BLOCKED;
	case ERR_NONE:
	case ERR_FAILED:
	case ERR_UNSUPPORTED:
	case ERR_TIMEOUT:
	case ERR_NO_SPACE:
		return CLI_UNDECIDED;
	}
	return CLI_UNDECIDED;
}

static bool
wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

static int
run(struct cli *cli, int argc, char **argv, struct err *e)
{
	const struct command *c;

	if (take_config(cli, &argc, argv, e) < 0)
		return -1;
	if (argc < 2) {
		print_help(stderr);
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("tidewaiter " TIDEWAITER_VERSION);
		return CLI_OK;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		c = argc > 2 ? find_command(argv[2]) : NULL;
		if (argc > 2 && !c)
			return unknown_verb(argv[2], e);
		if (c)
			print_verb_help(c);
		else
			print_help(stdout);
		return CLI_OK;
	}
	c = find_command(argv[1]);
	if (!c)
		return unknown_verb(argv[1], e);
	if (wants_help(argc - 1, argv + 1)) {
		print_verb_help(c);
		return CLI_OK;
	}
	return c->run(cli, argc - 1, argv + 1, e);
}

int
main(int argc, char **argv)
{
	struct cli cli = { .config_path = SETTINGS_PATH_DEFAULT };
	struct err e = ERR_INIT;
	bool was_root = geteuid() == 0;
	int code;

	proc_settle();
	/* In a rehearsal a copy of this program stands in for gitlab-runner. */
	if (rehearse_runner_is_me())
		return rehearse_runner_main(argc, argv);
	log_init(&cli.log, stderr);
	code = fs_hold_standard(&e) < 0 ? -1 : run(&cli, argc, argv, &e);
	/* A verdict of its own stands; what could not be printed makes of success an error. */
	if (code == CLI_OK && fs_flush_standard(&e) < 0)
		code = -1;
	if (code < 0) {
		AUTO_FREE char *safe = str_safe(e.text, ERR_TEXT_MAX);

		log_line(&cli.log, LOG_ERROR, "%s", safe);
		if (e.no == EACCES && !was_root)
			log_line(&cli.log, LOG_NOTE, "where that is root's or the courier's, say it as root");
		code = exit_code_of(e.kind);
	} else if (code != CLI_OK && fs_flush_standard(&e) < 0) {
		log_line(&cli.log, LOG_ERROR, "%s", e.text);
	}
	return code;
}
