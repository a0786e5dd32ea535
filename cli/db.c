/* `tidewaiter db update|import|status`: Trivy's databases on this host. */
#include "cli/db.h"

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"

enum action { ACTION_UPDATE, ACTION_IMPORT, ACTION_STATUS };

/* in the order of enum trivy_db_kind */
static const char *const kind_words[] = { "vulnerabilities", "java", NULL };

#define AT(member) offsetof(struct db_arguments, member)
static const struct cli_option update_rows[] = {
	{ "only", "KIND", OPTION_WORD, AT(only), "vulnerabilities or java", kind_words },
	{ "force", NULL, OPTION_FLAG, AT(is_forced), "a database that is older than the one in use, too",
	  NULL },
};
static const struct cli_option import_rows[] = {
	{ "force", NULL, OPTION_FLAG, AT(is_forced), "a database that is older than the one in use, too",
	  NULL },
};
static const struct cli_option status_rows[] = {
	{ "verify", NULL, OPTION_FLAG, AT(verifies), "look at every page again (seconds)", NULL },
	{ "json", NULL, OPTION_FLAG, AT(wants_json), "one object", NULL },
};
static const struct cli_options options[] = {
	[ACTION_UPDATE] = { "db update", update_rows, MEM_COUNT(update_rows), NULL },
	[ACTION_IMPORT] = { "db import", import_rows, MEM_COUNT(import_rows), "FILE|DIRECTORY" },
	[ACTION_STATUS] = { "db status", status_rows, MEM_COUNT(status_rows), NULL },
};

static int
parse(enum action action, int argc, char **argv, struct db_arguments *a, struct err *e)
{
	int n_operands;

	if (options_parse(&options[action], argc, argv, a, &n_operands, e) < 0)
		return -1;
	if (action == ACTION_IMPORT && n_operands != 1)
		return err_set(e, ERR_USAGE,
			       "db import takes one file or directory, not %d; tidewaiter db --help",
			       n_operands);
	a->file = n_operands > 0 ? argv[1] : NULL;
	return 0;
}

const char *
db_link_of(const struct settings *s, enum trivy_db_kind kind)
{
	return kind == TRIVY_DB_JAVA ? s->opt.trivy.java_db_dir : s->opt.trivy.db_dir;
}

static int
run_db(struct cli *cli, int argc, char **argv, struct err *e)
{
	static const char *const words[] = { "update", "import", "status" };
	AUTO(settings) struct settings *s = NULL;
	struct db_arguments a = { .only = -1 };
	size_t action = 0;

	while (action < MEM_COUNT(words) && (argc < 2 || !str_eq(argv[1], words[action])))
		action++;
	if (action == MEM_COUNT(words))
		return err_set(e, ERR_USAGE, "db: say update, import or status; see tidewaiter db --help");
	if (parse((enum action)action, argc - 1, argv + 1, &a, e) < 0 ||
	    settings_load(cli->has_config_path ? cli->config_path : NULL, &s, e) < 0)
		return -1;
	umask(022);
	switch ((enum action)action) {
	case ACTION_UPDATE:
		return db_update(cli, s, &a, e);
	case ACTION_IMPORT:
		return db_import(cli, s, &a, e);
	case ACTION_STATUS:
		break;
	}
	return db_status(s, &a, e);
}

const struct command command_db = {
	.name = "db",
	.summary = "Trivy's databases on this host: update, import, status",
	.help = "Usage: tidewaiter db update [--only vulnerabilities|java] [--force]\n"
		"       tidewaiter db import FILE|DIRECTORY [--force]\n"
		"       tidewaiter db status [--verify] [--json]\n"
		"\n"
		"The vulnerability database and the Java index that scans use. Works as the courier\n"
		"user; root becomes it. A database that trivy.db_dir names and something else brings\n"
		"there is shown, and never touched.\n"
		"\n"
		"update  lets Trivy download both from the first of trivy.db_repositories and\n"
		"        trivy.java_db_repositories that answers, into a new directory, checks every\n"
		"        page, then switches the link that scans follow. Scans that run keep what they\n"
		"        opened; the version before stays. If anything goes wrong nothing changes.\n"
		"        Two updates at once are one: the second waits.\n"
		"import  the same with what somebody brought to a host without a network, told by its\n"
		"        content: db.tar.gz or javadb.tar.gz as `oras pull` gives them, a directory with\n"
		"        trivy.db (trivy-java.db) and metadata.json, or the artifact as an OCI layout,\n"
		"        a directory or a plain tar.\n"
		"status  path, schema, dates, size, what is in it, versions kept.\n",
	.options = options,
	.n_options = MEM_COUNT(options),
	.notes = "Exit codes: 0 done (status: fresh), 1 status: no vulnerability database that scans\n"
		 "could use, or a damaged Java index; import: refused, 2 wrong use or settings, 3 not\n"
		 "updated: the one in use stays.\n",
	.run = run_db,
};
