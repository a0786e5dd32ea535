#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/options.h"

struct got {
	bool wants_json;
	const char *name;
	struct strv lines;
	int64_t wait_ms;
	int mode;
};

static const char *const modes[] = { "warn", "enforce", NULL };
#define AT(member) offsetof(struct got, member)
static const struct cli_option rows[] = {
	{ "json", NULL, OPTION_FLAG, AT(wants_json), "as JSON", NULL },
	{ "name", "NAME", OPTION_TEXT, AT(name), "a name,\nin two lines", NULL },
	{ "line", "TEXT", OPTION_LIST, AT(lines), "a line", NULL },
	{ "a-wait-of-a-long-name", "DURATION", OPTION_DURATION, AT(wait_ms), "how long", NULL },
	{ "mode", "WORD", OPTION_WORD, AT(mode), "what follows", modes },
};
static const struct cli_options with_files = { "verb", rows, MEM_COUNT(rows), "FILE…" };
static const struct cli_options alone = { "verb act", rows, MEM_COUNT(rows), NULL };

#define ARGS_MAX 12

static int
parse(const struct cli_options *o, const char *const *words, char **argv, struct got *g, int *n, struct err *e)
{
	int argc = 1;

	argv[0] = NULL;
	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	argv[argc] = NULL;
	*g = (struct got){ .mode = -1 };
	return options_parse(o, argc, argv, g, n, e);
}

static void
options_stand_in_any_order_with_operands(void **state)
{
	static const char *const words[] = { "a",	 "--json",	   "--name=x=y", "b",  "--line", "1",
					     "--line=2", "--mode=ENFORCE", "-",		 "--", "--json", NULL };
	char *argv[ARGS_MAX + 2];
	struct got g;
	struct err e = ERR_INIT;
	int n = 0;

	(void)state;
	assert_int_equal(parse(&with_files, words, argv, &g, &n, &e), 0);
	assert_true(g.wants_json);
	assert_string_equal(g.name, "x=y");
	assert_int_equal(g.lines.n, 2);
	assert_string_equal(g.lines.v[1], "2");
	assert_int_equal(g.mode, 1);
	assert_int_equal(n, 4);
	assert_string_equal(argv[1], "a");
	assert_string_equal(argv[2], "b");
	assert_string_equal(argv[3], "-");
	assert_string_equal(argv[4], "--json");
	strv_free(&g.lines);
}

static void
the_last_of_two_counts(void **state)
{
	static const char *const words[] = { "--name", "a", "--name", "b", "--a-wait-of-a-long-name",
					     "90s",    NULL };
	char *argv[ARGS_MAX + 2];
	struct got g;
	int n = -1;

	(void)state;
	assert_int_equal(parse(&alone, words, argv, &g, &n, NULL), 0);
	assert_string_equal(g.name, "b");
	assert_int_equal(g.wait_ms, 90000);
	assert_int_equal(n, 0);
}

static void
what_is_wrong_is_told_in_one_line_with_what_is_allowed(void **state)
{
	static const struct {
		const char *words[3];
		const char *says;
	} bad[] = {
		{ { "--jsno" },
		  "verb act: --jsno is no option (is --json meant?), allowed are --json, --name, --line, " },
		{ { "--NAME=x" }, "verb act: --NAME=x is no option (is --name meant?)" },
		{ { "--colour" }, "verb act: --colour is no option, allowed are" },
		{ { "-x" }, "verb act: -x is no option, allowed are" },
		{ { "--nam", "x" }, "verb act: --nam is no option (is --name meant?)" },
		{ { "--name" }, "verb act: --name needs a value, NAME" },
		{ { "--name=" }, "verb act: --name is empty, allowed is NAME" },
		{ { "--json=yes" }, "verb act: --json takes no value" },
		{ { "--mode", "off" },
		  "verb act: --mode: \"off\" is not possible, allowed is one of warn, enforce" },
		{ { "--a-wait-of-a-long-name=5" },
		  "verb act: --a-wait-of-a-long-name: \"5\" is not possible, allowed is a duration such as" },
		{ { "--no\nsuch" }, "verb act: --no?such is no option" },
		{ { "file" }, "verb act takes options only, \"file\" is none" },
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		char *argv[ARGS_MAX + 2];
		struct got g;
		struct err e = ERR_INIT;
		int n;

		assert_int_equal(parse(&alone, bad[i].words, argv, &g, &n, &e), -1);
		assert_int_equal(e.kind, ERR_USAGE);
		if (!str_has_prefix(e.text, bad[i].says) || strchr(e.text, '\n'))
			fail_msg("\"%s\" does not begin with \"%s\"", e.text, bad[i].says);
	}
}

static void
help_has_every_row_in_columns(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	(void)state;
	options_print(&alone, to);
	fclose(to);
	assert_string_equal(text, "  --json                as JSON\n"
				  "  --name NAME           a name,\n"
				  "                        in two lines\n"
				  "  --line TEXT           a line\n"
				  "  --a-wait-of-a-long-name DURATION\n"
				  "                        how long\n"
				  "  --mode WORD           what follows\n");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_stand_in_any_order_with_operands),
		cmocka_unit_test(the_last_of_two_counts),
		cmocka_unit_test(what_is_wrong_is_told_in_one_line_with_what_is_allowed),
		cmocka_unit_test(help_has_every_row_in_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
