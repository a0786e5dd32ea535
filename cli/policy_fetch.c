/* `tidewaiter policy fetch`: asks the repository now, for whoever has changed the policy and does not want to wait. */
#include "cli/policy.h"
#include "cli/workspace.h"
#include "stages/policy_feed.h"
#include "stages/policy_git.h"

const struct cli_options policy_fetch_options = { "policy fetch", NULL, 0, NULL };

int
policy_load_configured(const struct settings *s, unsigned flags, struct policy_source *ret, struct err *e)
{
	struct pipeline_users u = { 0 };

	/* a file is read as whoever we are: also where there has been no setup */
	if (!str_is_empty(s->opt.policy.url) && workspace_users(s->scan_user, s->courier_user, &u, e) < 0)
		return -1;
	policy_feed_begin(&s->opt, s->state_dir, u.is_separated ? u.courier_uid : (uid_t)-1, u.courier_gid,
			  flags, ret);
	policy_feed_wait(ret);
	if (ret->fault.kind == ERR_NONE)
		return 0;
	*e = ret->fault;
	return -1;
}

int
policy_fetch(const struct cli *cli, int argc, char **argv, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };
	AUTO_FREE char *origin = NULL, *note = NULL;
	int n_operands;

	if (options_parse(&policy_fetch_options, argc, argv, NULL, &n_operands, e) < 0 ||
	    settings_load(cli->has_config_path ? cli->config_path : NULL, &s, e) < 0)
		return -1;
	if (str_is_empty(s->opt.policy.url))
		return err_set(e, ERR_USAGE, "%s names no repository (policy.url)", s->path);
	if (policy_load_configured(s, POLICY_GIT_NOW, &source, e) < 0)
		return -1;
	origin = str_safe(source.origin, ERR_TEXT_MAX);
	printf("%s\n", origin);
	if (!source.note)
		return CLI_OK;
	note = str_safe(source.note, ERR_TEXT_MAX);
	log_line(&cli->log, LOG_WARN, "%s", note);
	return CLI_BLOCKED;
}
