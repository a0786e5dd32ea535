/* `tidewaiter spool list|flush|serve|drop|retry`: reports on their way to DefectDojo. */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/command.h"
#include "cli/courier.h"
#include "cli/spool_flush.h"
#include "cli/spool_serve.h"
#include "executor/settings.h"
#include "stages/fleet.h"
#include "stages/spool.h"

#define FLUSH_DEFAULT_MS (10 * 60 * 1000)
#define NAME_COLUMNS 100

struct arguments {
	bool wants_json, is_now, is_dead;
	const char *server, *parallel;
	int64_t deadline_ms;
	int n_ids;
	char **ids;
	char *settings_text;
	size_t settings_len;
};

/* ---- list ---- */

static char *
age_of(int64_t since_s)
{
	int64_t s = clock_wall_s() - since_s;

	return since_s > 0 ? str_human_duration((s > 1 ? s : 1) * 1000) : mem_strdup("-");
}

static char *
due_of(const struct spool_item *i)
{
	int64_t s = i->state.next_s - clock_wall_s();

	if (i->is_dead)
		return mem_strdup("never");
	return s > 0 ? str_human_duration(s * 1000) : mem_strdup("now");
}

static const char *
state_of(const struct spool_item *i)
{
	if (i->is_dead)
		return "dead";
	if (i->state.is_sending || i->state.may_run)
		return "open";
	return "waits";
}

/* NULL where the file does not parse. */
static char *
name_of(const char *s)
{
	return str_safe(s ? s : "?", NAME_COLUMNS);
}

static void
print_item(const struct spool *s, const struct spool_item *i)
{
	AUTO_FREE char *answer_name = mem_printf("%s.answer", i->id);
	bool has_answer = i->is_dead && faccessat(s->dead_fd, answer_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	AUTO_FREE char *age = age_of(i->delivery.created_s), *due = due_of(i), *size = str_human_size(i->size);
	AUTO_FREE char *revived = i->state.revived_s > 0 ? age_of(i->state.revived_s) : NULL;
	AUTO_FREE char *product = name_of(i->delivery.product);
	AUTO_FREE char *engagement = name_of(i->delivery.engagement);
	AUTO_FREE char *test = name_of(i->delivery.test);
	AUTO_FREE char *answer = str_safe(i->state.answer, 400);

	printf("%s  %-5s  age %s, %s, %lld %s, due %s\n", i->id, state_of(i), age, size,
	       (long long)i->state.attempts, i->state.attempts == 1 ? "try" : "tries", due);
	if (i->is_broken)
		printf("    %s\n", i->fault.text);
	else
		printf("    product %s, engagement %s, test %s, to %s\n", product, engagement, test,
		       str_is_empty(i->delivery.server) ? "the outbox" : i->delivery.server);
	if (revived)
		printf("    wanted again %s ago (spool retry): it goes, however old it is\n", revived);
	if (*answer)
		printf("    %s\n", answer);
	if (has_answer)
		printf("    the server's answer: %s/dead/%s\n", s->path, answer_name);
}

static cJSON *
item_json(const struct spool_item *i)
{
	const struct delivery *d = &i->delivery;
	cJSON *j = cJSON_CreateObject();

	json_add_str(j, "id", i->id);
	json_add_str(j, "state", state_of(i));
	json_add_int(j, "bytes", (int64_t)i->size);
	json_add_str(j, "server", d->server);
	json_add_str(j, "project", d->project);
	json_add_str(j, "product_type", d->product_type);
	json_add_str(j, "product", d->product);
	json_add_str(j, "engagement", d->engagement);
	json_add_str(j, "test", d->test);
	json_add_str(j, "service", d->service);
	json_add_str(j, "version", d->version);
	json_add_str(j, "branch", d->branch);
	json_add_str(j, "commit", d->commit);
	json_add_str(j, "build_id", d->build_id);
	json_add_int(j, "findings", d->n_findings);
	json_add_time(j, "created", d->created_s);
	json_add_int(j, "attempts", i->state.attempts);
	json_add_time(j, "last", i->state.last_s);
	json_add_time(j, "due", i->is_dead ? 0 : i->state.next_s);
	json_add_time(j, "sent", i->state.sent_s);
	json_add_time(j, "revived", i->state.revived_s);
	json_add_int(j, "status", i->state.status);
	json_add_str(j, "answer", i->is_broken ? i->fault.text : i->state.answer);
	return j;
}

static int
run_list(const struct spool *s, const struct options_defectdojo *o, bool wants_json, struct err *e)
{
	AUTO_SPOOL_ITEMS struct spool_items items = { 0 };
	AUTO_JSON cJSON *list = cJSON_CreateArray();
	AUTO_FREE char *text = NULL, *warning = NULL;
	struct spool_bounds bounds;
	struct spool_usage u;
	size_t n_dead = 0;

	if (spool_list(s, &items, e) < 0 || spool_usage(s, &u, e) < 0)
		return -1;
	spool_bounds_of(o, &bounds);
	warning = spool_warning(s, &u, &bounds);
	for (size_t i = 0; i < items.n; i++) {
		n_dead += items.v[i].is_dead;
		if (wants_json)
			cJSON_AddItemToArray(list, item_json(&items.v[i]));
		else
			print_item(s, &items.v[i]);
	}
	if (wants_json) {
		text = json_print_pretty(list);
		fputs(text, stdout);
	} else {
		printf("%zu waiting, %zu dead in %s\n", items.n - n_dead, n_dead, s->path);
		if (warning)
			printf("%s\n", warning);
	}
	return CLI_OK;
}

/* ---- drop, retry ---- */

static int
each_id(struct spool *s, const struct arguments *a, const char *did,
	int (*what)(struct spool *s, const char *id, struct err *e), struct err *e)
{
	for (int i = 0; i < a->n_ids; i++) {
		if (what(s, a->ids[i], e) < 0)
			return -1;
		printf("%s  %s\n", a->ids[i], did);
	}
	return CLI_OK;
}

/* One that is in somebody's hands just now keeps none of the others from it. */
static int
retry_dead(const struct cli *cli, struct spool *s, struct err *e)
{
	AUTO_STRV struct strv ids = { 0 };
	size_t n = 0;

	if (spool_dead_ids(s, &ids, e) < 0)
		return -1;
	for (size_t i = 0; i < ids.n; i++) {
		struct err why = ERR_INIT;

		if (spool_retry(s, ids.v[i], &why) < 0) {
			log_line(&cli->log, LOG_WARN, "%s", why.text);
			continue;
		}
		printf("%s  waits again\n", ids.v[i]);
		n++;
	}
	printf("%zu of %zu wait again\n", n, ids.n);
	return n == ids.n ? CLI_OK : CLI_UNDECIDED;
}

/* ---- the verb ---- */

enum action { ACTION_LIST, ACTION_FLUSH, ACTION_DROP, ACTION_RETRY, ACTION_SERVE };

#define AT(member) offsetof(struct arguments, member)
static const struct cli_option list_rows[] = {
	{ "json", NULL, OPTION_FLAG, AT(wants_json), "an array of objects", NULL },
};
static const struct cli_option flush_rows[] = {
	{ "server", "URL", OPTION_TEXT, AT(server), "only what goes to this server", NULL },
	{ "deadline", "DURATION", OPTION_DURATION, AT(deadline_ms), "such as 90s (default 10m)", NULL },
	{ "now", NULL, OPTION_FLAG, AT(is_now), "what is not due yet, too", NULL },
};
static const struct cli_option serve_rows[] = {
	{ "parallel", "N", OPTION_TEXT, AT(parallel), "so many tests at a time (default 4)", NULL },
};
static const struct cli_option retry_rows[] = {
	{ "dead", NULL, OPTION_FLAG, AT(is_dead), "all that are dead", NULL },
};
static const struct cli_options options[] = {
	[ACTION_LIST] = { "spool list", list_rows, MEM_COUNT(list_rows), NULL },
	[ACTION_FLUSH] = { "spool flush", flush_rows, MEM_COUNT(flush_rows), NULL },
	[ACTION_DROP] = { "spool drop", NULL, 0, "ID…" },
	[ACTION_RETRY] = { "spool retry", retry_rows, MEM_COUNT(retry_rows), "ID…" },
	[ACTION_SERVE] = { "spool serve", serve_rows, MEM_COUNT(serve_rows), NULL },
};

static int
parse(enum action action, int argc, char **argv, struct arguments *a, struct err *e)
{
	bool takes_ids = action == ACTION_DROP || action == ACTION_RETRY;

	if (options_parse(&options[action], argc, argv, a, &a->n_ids, e) < 0)
		return -1;
	a->ids = argv + 1;
	if (takes_ids && (a->n_ids == 0) != a->is_dead)
		return err_set(e, ERR_USAGE, "%s: name deliveries by the ids of tidewaiter spool list%s",
			       options[action].of, action == ACTION_RETRY ? ", or say --dead" : "");
	return 0;
}

static int
act(const struct cli *cli, const struct settings *s, struct spool *spool, enum action action,
    const struct arguments *a, struct err *e)
{
	AUTO(fleet) struct fleet *fleet = fleet_new(&s->opt, &cli->log);
	struct flush f = { .settings_text = a->settings_text,
			   .settings_len = a->settings_len,
			   .server = a->server,
			   .fleet = fleet,
			   .is_forced = a->is_now,
			   .deadline = clock_deadline(a->deadline_ms) };

	switch (action) {
	case ACTION_LIST:
		return run_list(spool, &s->opt.defectdojo, a->wants_json, e);
	case ACTION_FLUSH:
		return spool_flush(cli, s, spool, &f, e);
	case ACTION_DROP:
		return each_id(spool, a, "dropped", spool_drop, e);
	case ACTION_RETRY:
	case ACTION_SERVE:
		break;
	}
	return a->is_dead ? retry_dead(cli, spool, e) : each_id(spool, a, "waits again", spool_retry, e);
}

static int
serve(const struct cli *cli, const struct arguments *a, struct err *e)
{
	int64_t n = SERVE_PARTS_DEFAULT;

	if (a->parallel && str_parse_int(a->parallel, 1, SERVE_PARTS_MAX, &n, e) < 0) {
		if (e)
			e->kind = ERR_USAGE;
		return err_wrap(e, "spool serve: --parallel");
	}
	return spool_serve(cli, (unsigned)n, e);
}

static int
run_spool(struct cli *cli, int argc, char **argv, struct err *e)
{
	static const char *const words[] = { "list", "flush", "drop", "retry", "serve" };
	struct arguments a = { .deadline_ms = FLUSH_DEFAULT_MS };
	AUTO(settings) struct settings *s = NULL;
	AUTO(spool) struct spool *spool = NULL;
	AUTO_FREE char *text = NULL;
	size_t action = 0;

	while (action < MEM_COUNT(words) && (argc < 2 || !str_eq(argv[1], words[action])))
		action++;
	if (action == MEM_COUNT(words))
		return err_set(e, ERR_USAGE,
			       "spool: say list, flush, serve, drop or retry; see tidewaiter spool --help");
	if (parse((enum action)action, argc - 1, argv + 1, &a, e) < 0)
		return -1;
	if (action == ACTION_SERVE)
		return serve(cli, &a, e);
	if (settings_load(cli->has_config_path ? cli->config_path : NULL, &s, e) < 0 ||
	    settings_read_text(s->path, &text, &a.settings_len, e) < 0 || courier_become(s, e) < 0 ||
	    spool_open(s->state_dir, &spool, e) < 0)
		return -1;
	a.settings_text = text;
	return act(cli, s, spool, (enum action)action, &a, e);
}

const struct command command_spool = {
	.name = "spool",
	.summary = "reports on their way to DefectDojo: list, flush, serve, drop, retry",
	.help = "Usage: tidewaiter spool list [--json]\n"
		"       tidewaiter spool flush [--server URL] [--deadline DURATION] [--now]\n"
		"       tidewaiter spool serve [--parallel N]\n"
		"       tidewaiter spool drop ID…\n"
		"       tidewaiter spool retry ID… | --dead\n"
		"\n"
		"A report stays in the spool until DefectDojo has answered for it. Works as the courier\n"
		"user; root becomes it.\n"
		"\n"
		"list   every delivery: id, state, age, size, tries, when it is due, the last answer.\n"
		"       waits: in its turn. open: sent, its fate is not known yet; DefectDojo is asked\n"
		"       before it is sent again. dead: given up.\n"
		"flush  sends what is due, oldest first, and asks for what is open until the deadline.\n"
		"serve  delivers what comes, until SIGTERM; SIGHUP reads the settings again. For systemd.\n"
		"drop   removes deliveries for good.\n"
		"retry  makes deliveries due at once; dead ones wait again. Mind that DefectDojo takes\n"
		"       the report that comes last for the state of an image.\n",
	.options = options,
	.n_options = MEM_COUNT(options),
	.notes = "Exit codes: 0 done (flush: nothing is left), 2 wrong use or settings,\n"
		 "3 flush: something still waits or was given up; retry --dead: not all could be; else the\n"
		 "spool cannot be used.\n",
	.run = run_spool,
};
