/* `tidewaiter db update|import|status`: Trivy's databases on this host. */
#include "cli/db.h"

#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"

enum action { ACTION_UPDATE, ACTION_IMPORT, ACTION_STATUS };

static int
parse_kind(const char *word, struct db_arguments *a, struct err *e)
{
	a->has_kind = true;
	if (str_eq(word, "java"))
		a->kind = TRIVY_DB_JAVA;
	else if (str_eq(word, "vulnerabilities"))
		a->kind = TRIVY_DB_VULNERABILITIES;
	else
		return err_set(e, ERR_USAGE, "--only %s: say vulnerabilities or java", word);
	return 0;
}

static int
parse(enum action action, int argc, char **argv, struct db_arguments *a, struct err *e)
{
	/* val: the option's letter; each goes with the sub-verbs that `with` names */
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "only", required_argument, NULL, 'o' },
		{ "json", no_argument, NULL, 'j' },
		{ "verify", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	static const char *const with[] = {
		[ACTION_UPDATE] = "fo", [ACTION_IMPORT] = "f", [ACTION_STATUS] = "jv"
	};
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == ':')
			return err_set(e, ERR_USAGE, "%s needs a value", argv[optind - 1]);
		if (c == '?' || !strchr(with[action], c))
			return err_set(e, ERR_USAGE, "%s is no option of db %s; see tidewaiter db --help",
				       argv[optind - 1], argv[0]);
		a->is_forced |= c == 'f';
		a->wants_json |= c == 'j';
		a->verifies |= c == 'v';
		if (c == 'o' && parse_kind(optarg, a, e) < 0)
			return -1;
	}
	if (argc - optind != (action == ACTION_IMPORT))
		return err_set(e, ERR_USAGE, "db %s takes %s; see tidewaiter db --help", argv[0],
			       action == ACTION_IMPORT ? "one file or directory" : "no argument");
	a->file = argv[optind];
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
	struct db_arguments a = { 0 };
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
		"status  path, schema, dates, size, what is in it, versions kept.\n"
		"\n"
		"  --only KIND  for update: vulnerabilities or java\n"
		"  --force      a database that is older than the one in use, too\n"
		"  --verify     for status: look at every page again (seconds)\n"
		"  --json       for status: one object\n"
		"\n"
		"Exit codes: 0 done (status: fresh), 1 status: no vulnerability database that scans\n"
		"could use, or a damaged Java index; import: refused, 2 wrong use or settings, 3 not\n"
		"updated: the one in use stays.\n",
	.run = run_db,
};
