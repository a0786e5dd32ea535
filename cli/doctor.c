/* `tidewaiter doctor`. */
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "cli/command.h"
#include "cli/doctor.h"

static const char *const level_words[] = { "ok", "warn", "fail" };

void
checkup_free(struct checkup *c)
{
	for (size_t i = 0; i < c->n; i++) {
		mem_free_at(&c->v[i].subject);
		mem_free_at(&c->v[i].text);
		mem_free_at(&c->v[i].fix);
	}
	mem_free_at(&c->v);
	c->n = 0;
}

static void
add(struct checkup *c, enum finding_level level, const char *subject, const char *fix, const char *fmt,
    va_list ap)
{
	c->v = mem_resize(c->v, c->n + 1, sizeof(*c->v));
	c->v[c->n++] = (struct checkup_line){ .level = level,
					      .subject = mem_strdup(subject),
					      .text = mem_vprintf(fmt, ap),
					      .fix = mem_strdup(fix) };
}

void
checkup_ok(struct checkup *c, const char *subject, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(c, LEVEL_OK, subject, NULL, fmt, ap);
	va_end(ap);
}

void
checkup_warn(struct checkup *c, const char *subject, const char *fix, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(c, LEVEL_WARN, subject, fix, fmt, ap);
	va_end(ap);
}

void
checkup_fail(struct checkup *c, const char *subject, const char *fix, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(c, LEVEL_FAIL, subject, fix, fmt, ap);
	va_end(ap);
}

static bool
has_failed(const struct checkup *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].level == LEVEL_FAIL)
			return true;
	return false;
}

static void
print_text(const struct checkup *c)
{
	static const char *const colours[] = { LOG_GREEN, LOG_YELLOW, LOG_RED };
	struct log out;

	log_init(&out, stdout);
	for (size_t i = 0; i < c->n; i++) {
		const struct checkup_line *l = &c->v[i];
		AUTO_FREE char *text = str_safe(l->text, ERR_TEXT_MAX);

		printf("%s%-4s%s  %-12s  %s\n", log_colour(&out, colours[l->level]), level_words[l->level],
		       log_colour(&out, LOG_RESET), l->subject, text);
		if (l->fix)
			printf("%20s→ %s\n", "", l->fix);
	}
}

static void
print_json(const struct checkup *c)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	cJSON *list = json_add_array(j, "checks");
	AUTO_FREE char *text = NULL;

	for (size_t i = 0; i < c->n; i++) {
		const struct checkup_line *l = &c->v[i];
		cJSON *line = cJSON_CreateObject();

		json_add_str(line, "subject", l->subject);
		json_add_str(line, "level", level_words[l->level]);
		json_add_str(line, "text", l->text);
		json_add_str(line, "fix", l->fix);
		cJSON_AddItemToArray(list, line);
	}
	json_add_bool(j, "ok", !has_failed(c));
	text = json_print_pretty(j);
	fputs(text, stdout);
}

struct arguments {
	bool wants_json;
	const char *project;
};

static const struct cli_option rows[] = {
	{ "as", "PATH", OPTION_TEXT, offsetof(struct arguments, project),
	  "with the settings of this project; DefectDojo is then asked\nwhether the token may upload for it",
	  NULL },
	{ "json", NULL, OPTION_FLAG, offsetof(struct arguments, wants_json),
	  "{\"ok\": …, \"checks\": [{\"subject\", \"level\", \"text\", \"fix\"}]}", NULL },
};
static const struct cli_options options = { "doctor", rows, MEM_COUNT(rows), NULL };

/* Without settings that are understood there is nothing else to look at. */
static int
check_settings(struct checkup *c, const struct cli *cli, const char *project, struct settings **ret,
	       struct err *e)
{
	const char *path = cli->has_config_path ? cli->config_path : NULL;
	AUTO(settings) struct settings *s = NULL;
	const char *match;

	if (settings_load(path, &s, e) < 0)
		return -1;
	match = project ? settings_apply_project(s, project) : NULL;
	checkup_ok(c, "settings", "%s: mode %s, severity %s, %zu entries in projects%s%s", s->path,
		   gate_mode_words[s->opt.gate.mode], severity_words[s->opt.gate.severity], s->projects.n,
		   match ? ", applied: " : "", match ? match : "");
	*ret = take_ptr(s);
	return 0;
}

/* What tidewaiter config check says of them. */
static void
check_warnings(struct checkup *c, const struct settings *s)
{
	AUTO_STRV struct strv warnings = { 0 };

	settings_warnings(s, &warnings);
	for (size_t k = 0; k < warnings.n; k++)
		checkup_warn(c, "settings", "mend this line; tidewaiter config check reads it again", "%s",
			     warnings.v[k]);
}

static int
run_doctor(struct cli *cli, int argc, char **argv, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;
	AUTO_CHECKUP struct checkup c = { 0 };
	struct arguments a = { 0 };
	struct err why = ERR_INIT;
	int n_operands;

	if (options_parse(&options, argc, argv, &a, &n_operands, e) < 0)
		return -1;
	if (check_settings(&c, cli, a.project, &s, &why) < 0) {
		checkup_fail(&c, "settings", "mend the file; tidewaiter config check reads it again", "%s",
			     why.text);
	} else {
		check_warnings(&c, s);
		doctor_host(&c, s);
		doctor_scan(&c, s);
		doctor_policy(&c, s);
		doctor_dojo(&c, s, a.project);
	}
	if (a.wants_json)
		print_json(&c);
	else
		print_text(&c);
	return has_failed(&c) ? CLI_BLOCKED : CLI_OK;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "go through the set-up of this host, and say how to mend it",
	.help = "Usage: tidewaiter doctor [--as GROUP/PROJECT] [--json]\n"
		"\n"
		"Looks at settings and the files they name, users, groups, control groups, tools,\n"
		"slots, disk, Trivy and its database, spool, DefectDojo and what its token may do, and\n"
		"the clock. A line each: ok, warn (works, but) or fail, and what to do. Changes\n"
		"nothing, here or in DefectDojo.\n",
	.options = &options,
	.n_options = 1,
	.notes = "Exit codes: 0 nothing failed (warnings included), 1 something did, 2 wrong use.\n",
	.run = run_doctor,
};
