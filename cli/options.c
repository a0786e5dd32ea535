#include "cli/options.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "base/str.h"

#define SHOWN_MAX 80   /* columns of what was found in a message */
#define HELP_COLUMN 24 /* where the words begin in --help */

static int
unknown(const struct cli_options *o, const char *arg, struct err *e)
{
	AUTO_FREE char *name = mem_strndup(arg, strcspn(arg, "=")), *shown = str_safe(arg, SHOWN_MAX);
	AUTO_BUF struct buf allowed = BUF_INIT(4096);
	AUTO_STRV struct strv names = { 0 };
	struct nearest near = NEAREST_INIT(name);
	const char *best;

	for (size_t i = 0; i < o->n; i++)
		strv_addf(&names, "--%s", o->v[i].name);
	strv_add(&names, "--config");
	strv_add(&names, "--help");
	for (size_t i = 0; i < names.n; i++) {
		nearest_try(&near, names.v[i]);
		buf_printf(&allowed, "%s%s", i > 0 ? ", " : "", names.v[i]);
	}
	best = nearest_best(&near);
	return err_set(e, ERR_USAGE, "%s: %s is no option%s%s%s, allowed are %s", o->of, shown,
		       best ? " (is " : "", best ? best : "", best ? " meant?)" : "", buf_str(&allowed));
}

static const struct cli_option *
find(const struct cli_options *o, const char *arg)
{
	const char *name = arg + strlen("--");
	size_t len = strcspn(name, "=");

	if (!str_has_prefix(arg, "--"))
		return NULL;
	for (size_t i = 0; i < o->n; i++)
		if (strlen(o->v[i].name) == len && strncmp(o->v[i].name, name, len) == 0)
			return &o->v[i];
	return NULL;
}

static int
take_word(const struct cli_options *o, const struct cli_option *row, const char *value, int *ret,
	  struct err *e)
{
	AUTO_BUF struct buf allowed = BUF_INIT(1024);
	AUTO_FREE char *shown = str_safe(value, SHOWN_MAX);

	for (int k = 0; row->words[k]; k++) {
		if (strcasecmp(row->words[k], value) == 0) {
			*ret = k;
			return 0;
		}
		buf_printf(&allowed, "%s%s", k > 0 ? ", " : "", row->words[k]);
	}
	return err_set(e, ERR_USAGE, "%s: --%s: \"%s\" is not possible, allowed is one of %s", o->of,
		       row->name, shown, buf_str(&allowed));
}

static int
take(const struct cli_options *o, const struct cli_option *row, const char *value, void *ret, struct err *e)
{
	void *at = (char *)ret + row->offset;
	AUTO_FREE char *shown = str_safe(value, SHOWN_MAX);

	switch (row->kind) {
	case OPTION_FLAG:
		*(bool *)at = true;
		return 0;
	case OPTION_TEXT:
		if (*value == '\0')
			return err_set(e, ERR_USAGE, "%s: --%s is empty, allowed is %s", o->of, row->name,
				       row->value);
		*(const char **)at = value;
		return 0;
	case OPTION_LIST:
		strv_add(at, value);
		return 0;
	case OPTION_DURATION:
		if (str_parse_duration(value, at, NULL) == 0)
			return 0;
		return err_set(e, ERR_USAGE,
			       "%s: --%s: \"%s\" is not possible, allowed is a duration such as 90s, 15m or 48h",
			       o->of, row->name, shown);
	case OPTION_WORD:
		return take_word(o, row, value, at, e);
	}
	return -1;
}

/* The option at argv[*i], which moves on behind its value. */
static int
take_option(const struct cli_options *o, int argc, char **argv, int *i, void *ret, struct err *e)
{
	const char *arg = argv[*i], *eq = strchr(arg, '=');
	const struct cli_option *row = find(o, arg);

	if (!row)
		return unknown(o, arg, e);
	(*i)++;
	if (row->kind == OPTION_FLAG)
		return eq ? err_set(e, ERR_USAGE, "%s: --%s takes no value", o->of, row->name)
			  : take(o, row, "", ret, e);
	if (eq)
		return take(o, row, eq + 1, ret, e);
	if (*i >= argc)
		return err_set(e, ERR_USAGE, "%s: --%s needs a value, %s", o->of, row->name, row->value);
	return take(o, row, argv[(*i)++], ret, e);
}

int
options_parse(const struct cli_options *o, int argc, char **argv, void *ret, int *ret_n_operands,
	      struct err *e)
{
	int n = 0, i = 1;

	while (i < argc) {
		/* "-" alone is no option */
		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			argv[++n] = argv[i++];
			continue;
		}
		if (str_eq(argv[i], "--")) {
			for (i++; i < argc;)
				argv[++n] = argv[i++];
			break;
		}
		if (take_option(o, argc, argv, &i, ret, e) < 0)
			return -1;
	}
	if (n > 0 && !o->operands) {
		AUTO_FREE char *shown = str_safe(argv[1], SHOWN_MAX);

		return err_set(e, ERR_USAGE, "%s takes options only, \"%s\" is none; tidewaiter %s --help",
			       o->of, shown, o->of);
	}
	*ret_n_operands = n;
	return 0;
}

static void
print_row(const char *name, const char *value, const char *help, FILE *to)
{
	AUTO_FREE char *left = mem_printf("  --%s%s%s", name, value ? " " : "", value ? value : "");
	bool is_long = strlen(left) > HELP_COLUMN - 2;

	fprintf(to, "%s%s%*s", left, is_long ? "\n" : "",
		is_long ? HELP_COLUMN : HELP_COLUMN - (int)strlen(left), "");
	for (; *help; help++) {
		fputc(*help, to);
		if (*help == '\n')
			fprintf(to, "%*s", HELP_COLUMN, "");
	}
	fputc('\n', to);
}

void
options_print(const struct cli_options *o, FILE *to)
{
	for (size_t i = 0; i < o->n; i++)
		print_row(o->v[i].name, o->v[i].value, o->v[i].help, to);
}
