#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/mem.h"

#define MIB (1024 * 1024)

struct scan {
	bool enabled;
	int64_t count, size, timeout;
	char *name;
	char *path;
	char *optional;
	int mode;
	struct strv words, texts;
};

struct whole {
	char *state_dir;
	struct scan scan;
	int64_t slots;
	struct conf_overrides projects;
	struct conf_places places;
};

static const char *const modes[] = { "off", "warn", "block", NULL };
static const char *const words[] = { "vuln", "secret", NULL };

static const struct conf_field top_fields[] = {
	{ "state_dir", CONF_PATH, offsetof(struct whole, state_dir), "/var/lib/x",
	  .help = "Where state is kept" },
};

static const struct conf_field scan_fields[] = {
	{ "enabled", CONF_BOOL, offsetof(struct scan, enabled), "true", .help = "Whether to scan" },
	{ "count", CONF_INT, offsetof(struct scan, count), "3", .min = 1, .max = 9, .help = "How many" },
	{ "size", CONF_SIZE, offsetof(struct scan, size), "1MiB", .min = 1024, .max = INT64_C(64) << 30,
	  .help = "How large" },
	{ "timeout", CONF_DURATION, offsetof(struct scan, timeout), "15m", .help = "How long" },
	{ "name", CONF_STRING, offsetof(struct scan, name), "", .help = "A name" },
	{ "path", CONF_PATH, offsetof(struct scan, path), "/usr/bin/x", .help = "A program",
	  .flags = CONF_NO_OVERRIDE },
	{ "optional", CONF_PATH, offsetof(struct scan, optional), "", .help = "Perhaps a file" },
	{ "mode", CONF_ENUM, offsetof(struct scan, mode), "warn", .choices = modes, .help = "What follows" },
	{ "words", CONF_LIST, offsetof(struct scan, words), "[\"vuln\"]", .choices = words,
	  .help = "What is looked for" },
	{ "texts", CONF_LIST, offsetof(struct scan, texts), "[]", .help = "Texts" },
};

static const struct conf_field host_fields[] = {
	{ "slots", CONF_INT, 0, "4", .help = "Jobs at once" },
};

static const struct conf_section sections[] = {
	{ NULL, 0, top_fields, MEM_COUNT(top_fields), NULL, false },
	{ "scan", offsetof(struct whole, scan), scan_fields, MEM_COUNT(scan_fields), "The scan.", true },
	{ "host", offsetof(struct whole, slots), host_fields, MEM_COUNT(host_fields), "The host.", false },
};

static const struct conf_schema schema = { sections, MEM_COUNT(sections) };

static void
whole_free(struct whole *w)
{
	conf_free(&schema, w);
	conf_overrides_free(&w->projects);
	conf_places_free(&w->places);
}
#define AUTO_WHOLE __attribute__((cleanup(whole_free)))

static int
read_bytes(struct whole *w, const char *text, size_t len, struct err *e)
{
	AUTO_FREE char *exact = mem_alloc(len); /* what is read behind its end is seen by ASan */

	memcpy(exact, text, len);
	conf_set_defaults(&schema, w);
	return conf_read_yaml(&schema, "x.yml", exact, len, w, &w->projects, &w->places, e);
}

static void
read_good(struct whole *w, const char *text)
{
	struct err e = ERR_INIT;

	if (read_bytes(w, text, strlen(text), &e) < 0)
		fail_msg("%s: %s", text, e.text);
}

/* Refused, with these words in the message, the place at its front. */
static void
assert_fault(const char *text, size_t len, const char *place, const char *const *says)
{
	AUTO_WHOLE struct whole w = { 0 };
	struct err e = ERR_INIT;

	if (read_bytes(&w, text, len, &e) == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(e.kind, ERR_SETTINGS);
	if (strncmp(e.text, place, strlen(place)) != 0)
		fail_msg("\"%s\" does not begin with \"%s\"", e.text, place);
	for (; *says; says++)
		if (!strstr(e.text, *says))
			fail_msg("\"%s\" does not say \"%s\"", e.text, *says);
	assert_int_equal(w.projects.n, 0);
}

struct fault_case {
	const char *text;
	const char *place;
	const char *says[5];
};

static void
assert_faults(const struct fault_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_fault(cases[i].text, strlen(cases[i].text), cases[i].place, cases[i].says);
}

static void
an_empty_file_means_the_defaults(void **state)
{
	static const char *const empty[] = { "",      "\n",  "# only a comment\n",
					     "---\n", "~\n", "scan:\nhost: ~\nprojects:\n" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(empty); i++) {
		AUTO_WHOLE struct whole w = { 0 };

		read_good(&w, empty[i]);
		assert_string_equal(w.state_dir, "/var/lib/x");
		assert_true(w.scan.enabled);
		assert_int_equal(w.scan.count, 3);
		assert_int_equal(w.scan.size, MIB);
		assert_int_equal(w.scan.timeout, 15 * 60 * 1000);
		assert_string_equal(w.scan.name, "");
		assert_int_equal(w.scan.mode, 1);
		assert_int_equal(w.scan.words.n, 1);
		assert_int_equal(w.scan.texts.n, 0);
		assert_int_equal(w.slots, 4);
	}
}

static void
every_type_is_read(void **state)
{
	AUTO_WHOLE struct whole w = { 0 };

	(void)state;
	read_good(&w, "state_dir: /srv\n"
		      "scan:\n"
		      "  enabled: false\n  count: 9\n  size: 8GiB\n  timeout: 90s\n"
		      "  name: \"a: b # c\"\n  path: /opt/y\n  optional: ''\n  mode: block\n"
		      "  words: [secret, vuln]\n  texts:\n    - one\n    - \"\"\n");
	assert_string_equal(w.state_dir, "/srv");
	assert_false(w.scan.enabled);
	assert_int_equal(w.scan.count, 9);
	assert_int_equal(w.scan.size, INT64_C(8) << 30);
	assert_int_equal(w.scan.timeout, 90000);
	assert_string_equal(w.scan.name, "a: b # c");
	assert_string_equal(w.scan.path, "/opt/y");
	assert_string_equal(w.scan.optional, "");
	assert_int_equal(w.scan.mode, 2);
	assert_int_equal(w.scan.words.n, 2);
	assert_string_equal(w.scan.words.v[0], "secret");
	assert_int_equal(w.scan.texts.n, 2);
	assert_string_equal(w.scan.texts.v[1], "");
}

static void
a_value_that_is_not_possible_is_named_with_what_is_allowed(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  enabled: yes\n", "x.yml:2: ", { "scan.enabled", "\"yes\"", "true or false" } },
		{ "scan:\n  count: 10\n", "x.yml:2: ", { "scan.count", "\"10\"", "a whole number from 1 to 9" } },
		{ "scan:\n\n  count: 1.0\n", "x.yml:3: ", { "scan.count", "\"1.0\"", "from 1 to 9" } },
		{ "scan: {count: 99999999999999999999}\n", "x.yml:1: ", { "scan.count", "from 1 to 9" } },
		{ "host:\n  slots: -1\n", "x.yml:2: ", { "host.slots", "\"-1\"", "a whole number, 0 or more" } },
		{ "scan:\n  size: 5\n", "x.yml:2: ", { "scan.size", "\"5\"", "a size from 1KiB to 64GiB" } },
		{ "scan:\n  size: 65GiB\n",
		  "x.yml:2: ",
		  { "scan.size", "\"65GiB\"", "a size from 1KiB to 64GiB" } },
		{ "scan:\n  timeout: 15\n", "x.yml:2: ", { "scan.timeout", "\"15\"", "a duration such as 90s" } },
		{ "scan:\n  timeout: -5s\n", "x.yml:2: ", { "scan.timeout", "\"-5s\"", "a duration" } },
		{ "scan:\n  path: bin/x\n", "x.yml:2: ", { "scan.path", "\"bin/x\"", "an absolute path" } },
		{ "scan:\n  path: ''\n", "x.yml:2: ", { "scan.path", "\"\"", "an absolute path" } },
		{ "scan:\n  optional: x\n", "x.yml:2: ", { "scan.optional", "\"x\"", "or \"\" for none" } },
		{ "scan:\n  mode: Block\n",
		  "x.yml:2: ",
		  { "scan.mode", "\"Block\"", "one of off, warn, block" } },
		{ "scan:\n  words:\n    - vuln\n    - all\n",
		  "x.yml:4: ",
		  { "scan.words", "\"all\"", "a list of vuln, secret" } },
		{ "# c\nstate_dir: var\n", "x.yml:2: ", { "state_dir", "\"var\"", "an absolute path" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
a_value_of_another_kind_is_named_with_what_was_found(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  name: [a]\n", "x.yml:2: ", { "scan.name", "a list", "a text" } },
		{ "scan:\n  name: {a}\n",
		  "x.yml:2: ",
		  { "scan.name: a group of settings (a text that begins with { stands in quotes), allowed is a text" } },
		{ "scan:\n  name:\n    a: b\n",
		  "x.yml:3: ",
		  { "scan.name: a group of settings, allowed is a text" } },
		{ "scan:\n  name:\n", "x.yml:2: ", { "scan.name", "no value", "a text" } },
		{ "scan:\n  count: null\n", "x.yml:2: ", { "scan.count", "no value", "from 1 to 9" } },
		{ "scan:\n  name: Null\n", "x.yml:2: ", { "scan.name", "no value" } },
		{ "scan:\n  texts: one\n", "x.yml:2: ", { "scan.texts", "a single value", "a list of texts" } },
		{ "scan:\n  texts: [[a]]\n",
		  "x.yml:2: ",
		  { "scan.texts", "a list in the list", "a list of texts" } },
		{ "scan:\n  texts:\n  - a\n  -\n", "x.yml:4: ", { "scan.texts", "nothing in the list" } },
		{ "scan: 5\n", "x.yml:1: ", { "scan", "a single value", "a group of settings" } },
		{ "host:\n- slots\n", "x.yml:2: ", { "host", "a list", "a group of settings" } },
		{ "- a\n", "x.yml:1: ", { "a list", "a group of settings" } },
		{ "text\n", "x.yml:1: ", { "a single value", "a group of settings" } },
		{ "projects: x\n", "x.yml:1: ", { "projects", "a single value", "a list of groups with match" } },
		{ "[a]: b\n", "x.yml:1: ", { "a list in the place of a key of the file, allowed is a name" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
an_unknown_key_is_named_with_those_that_are_allowed(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  enabled: true\n  Count: 3\n",
		  "x.yml:3: ",
		  { "scan.Count is no setting (is count meant?)", "allowed are enabled, count, size" } },
		{ "\n\nscans:\n", "x.yml:3: ", { "scans is no setting", "projects, state_dir, scan, host" } },
		{ "scan:\n  cuont: 3\n",
		  "x.yml:2: ",
		  { "scan.cuont is no setting (is count meant?), allowed are" } },
		{ "scan:\n  slots: 3\n",
		  "x.yml:2: ",
		  { "scan.slots is no setting here (it belongs below host:), allowed" } },
		{ "mode: off\n", "x.yml:1: ", { "mode is no setting here (it belongs below scan:), allowed" } },
		{ "hosts:\n  slots: 3\n", "x.yml:1: ", { "hosts is no setting (is host meant?), allowed" } },
		{ "projects:\n- match: \"a[b\"\n",
		  "x.yml:2: ",
		  { "projects[1].match: \"a[b\" is not possible" } },
		{ "project:\n- match: a\n",
		  "x.yml:1: ",
		  { "project is no setting (is projects meant?), allowed" } },
		{ "projects:\n- match: a\n  scan:\n    state_dir: /x\n",
		  "x.yml:4: ",
		  { "projects[1].scan.state_dir is no setting, allowed are enabled" } },
		{ "\"a\\eb\": 1\n", "x.yml:1: ", { "a?b is no setting" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
a_key_twice_is_refused_with_both_lines(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  count: 3\n  count: 3\n",
		  "x.yml:3: ",
		  { "scan.count", "twice in the group scan", "first in line 2: keep one" } },
		{ "scan:\nhost:\n\"scan\":\n",
		  "x.yml:3: ",
		  { "scan stands twice in the file, first in line 1: keep one" } },
		{ "projects:\n- match: a\n  match: b\n",
		  "x.yml:3: ",
		  { "projects[1].match stands twice in the group projects[1], first in line 2: keep one" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
aliases_are_refused(void **state)
{
	static const struct fault_case cases[] = {
		{ "state_dir: &a /x\nscan:\n  path: *a\n", "x.yml:1: ", { "aliases are not allowed" } },
		{ "scan: &a\n  texts: [*a]\n", "x.yml:1: ", { "aliases are not allowed" } },
		{ "scan:\n  name: &a x\n  texts: [*a, *a, *a]\n", "x.yml:2: ", { "aliases are not allowed" } },
		{ "scan:\n  name: *none\n",
		  "x.yml:2: ",
		  { "aliases are not allowed, and a text that begins with * stands in quotes" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
tags_and_merge_keys_are_refused(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  name: !!int \"5\"\n", "x.yml:2: ", { "tag:yaml.org,2002:int", "not allowed" } },
		{ "scan:\n  name: !secret x\n", "x.yml:2: ", { "!secret" } },
		{ "scan:\n  texts: !!set [a]\n", "x.yml:2: ", { "2002:set" } },
		{ "scan: !!omap\n  name: x\n", "x.yml:1: ", { "2002:omap" } },
		{ "scan:\n  !!int name: x\n", "x.yml:2: ", { "2002:int" } },
		{ "scan:\n  <<: {name: x}\n",
		  "x.yml:2: ",
		  { "<< in the group scan: merge keys are not allowed" } },
		{ "<<: {}\n", "x.yml:1: ", { "<< in the file: merge keys are not allowed" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
text_that_is_no_yaml_is_refused_with_its_line(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  name: \"open\n", "x.yml:3: ", { "unexpected end of stream" } },
		{ "scan:\n\tcount: 3\n",
		  "x.yml:2: ",
		  { "a tab stands here, allowed is indentation with blanks" } },
		{ "scan:\n  name: a\xc3\xa4\n\tcount: 3\n", "x.yml:3: ", { "a tab stands here" } },
		{ "scan:\n  name: @x\n",
		  "x.yml:2: ",
		  { "no YAML: found character that cannot start any token" } },
		{ "scan:\n  name: \"open\n",
		  "x.yml:3: ",
		  { "while scanning a quoted scalar that began in line 2" } },
		{ "scan:\n  texts: [*]\n",
		  "x.yml:2: ",
		  { "a text that begins with * or & stands without quotes" } },
		{ "scan: count: 3\n", "x.yml:1: ", { "a second key stands on this line" } },
		{ "scan:\n  count: 3\n name: a\n", "x.yml:3: ", { "began in line 1; look at indentation" } },
		{ "scan:\n  texts: [a\nhost:\n", "x.yml:3: ", { "did not find expected" } },
		{ "scan:\n  name: \xff\n", "x.yml:2: ", { "UTF-8" } },
		{ "scan:\n  name: a\x01\n", "x.yml:2: ", { "control characters" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
a_nul_is_refused_with_its_line(void **state)
{
	static const char raw[] = "scan:\n  count: 3\n  name: a\0b\n";
	static const struct fault_case quoted[] = {
		{ "scan:\n  name: \"a\\0b\"\n",
		  "x.yml:2: ",
		  { "scan.name", "a text with a NUL byte", "a text" } },
		{ "scan:\n  texts: [\"\\0\"]\n", "x.yml:2: ", { "scan.texts", "a text with a NUL byte" } },
		{ "scan:\n  \"name\\0x\": a\n",
		  "x.yml:2: ",
		  { "a text with a NUL byte in the place of a key of the group scan" } },
		{ "projects:\n- match: \"a\\0\"\n", "x.yml:2: ", { "projects[1].match" } },
	};

	(void)state;
	assert_fault(raw, sizeof(raw) - 1, "x.yml:3: ", (const char *const[]){ "control characters", NULL });
	assert_faults(quoted, MEM_COUNT(quoted));
}

static void
a_second_document_is_refused(void **state)
{
	static const struct fault_case cases[] = {
		{ "scan:\n  count: 3\n---\nscan:\n", "x.yml:3: ", { "a second document" } },
		{ "---\n---\n", "x.yml:2: ", { "a second document" } },
		{ "scan:\n...\n---\n\"open\n", "x.yml:", { "unexpected end of stream" } },
	};
	AUTO_WHOLE struct whole w = { 0 };

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
	read_good(&w, "---\nscan:\n  count: 5\n...\n");
	assert_int_equal(w.scan.count, 5);
}

static void
size_and_depth_are_bounded(void **state)
{
	AUTO_FREE char *text = mem_alloc(MIB + 2);
	AUTO_WHOLE struct whole w = { 0 };

	(void)state;
	memset(text, '[', MIB);
	assert_fault(text, MIB, "x.yml:1: ", (const char *const[]){ "nested more than 16 deep", NULL });
	memset(text, '\n', MIB + 1);
	text[0] = '#';
	assert_int_equal(read_bytes(&w, text, MIB, NULL), 0);
	assert_fault(text, MIB + 1,
		     "x.yml: ", (const char *const[]){ "1048577 bytes, allowed are 1048576", NULL });
}

static void
the_first_project_that_matches_decides(void **state)
{
	AUTO_WHOLE struct whole w = { 0 };
	const struct conf_override *o;

	(void)state;
	read_good(&w,
		  "scan:\n  count: 2\n  texts: [kept]\n"
		  "projects:\n"
		  "- match: other/*\n  scan: {count: 4}\n"
		  "- match: \"group/**\"\n"
		  "  scan:\n    count: 5\n    enabled: false\n    size: 2MiB\n    name: n\n    mode: off\n    words: []\n"
		  "- match: \"**\"\n  scan: {count: 6, mode: block}\n");
	assert_int_equal(w.projects.n, 3);
	o = conf_apply_overrides(&schema, &w.projects, "group/a/b", &w);
	assert_ptr_equal(o, &w.projects.v[1]);
	assert_int_equal(w.scan.count, 5);
	assert_false(w.scan.enabled);
	assert_int_equal(w.scan.size, 2 * MIB);
	assert_string_equal(w.scan.name, "n");
	assert_int_equal(w.scan.mode, 0);
	assert_int_equal(w.scan.words.n, 0);
	assert_string_equal(w.scan.texts.v[0], "kept");
}

static void
a_project_that_nothing_matches_keeps_the_settings(void **state)
{
	AUTO_WHOLE struct whole w = { 0 };

	(void)state;
	read_good(&w, "projects:\n- match: group/*\n  scan: {count: 5}\n");
	assert_null(conf_apply_overrides(&schema, &w.projects, "group/a/b", &w));
	assert_int_equal(w.scan.count, 3);
}

static void
faults_in_projects_name_the_project(void **state)
{
	static const struct fault_case cases[] = {
		{ "projects:\n- scan: {count: 5}\n", "x.yml:2: ", { "projects[1]", "match is missing" } },
		{ "projects:\n- match: a\n- match: b\n  scan:\n    count: 0\n",
		  "x.yml:5: ",
		  { "projects[2].scan.count", "\"0\"", "from 1 to 9" } },
		{ "projects:\n- match: a\n  host: {slots: 1}\n",
		  "x.yml:3: ",
		  { "projects[1].host cannot be different for a project", "allowed are match, scan" } },
		{ "projects:\n- match: a\n  scan:\n    path: /x\n",
		  "x.yml:4: ",
		  { "projects[1].scan.path cannot be different for a project", "allowed is scan.path" } },
		{ "projects:\n- match: [a]\n",
		  "x.yml:2: ",
		  { "projects[1].match: a list is not possible, allowed is a glob" } },
		{ "projects:\n- match: \"\"\n",
		  "x.yml:2: ",
		  { "projects[1].match: \"\" is not possible", "a glob" } },
		{ "projects:\n- match:\n", "x.yml:2: ", { "projects[1].match: no value is not possible" } },
		{ "projects:\n- match: a/\n", "x.yml:2: ", { "projects[1].match: \"a/\" is not possible" } },
		{ "projects:\n- a\n", "x.yml:2: ", { "projects[1]", "a single value" } },
		{ "projects:\n- match: a\n  projects: []\n",
		  "x.yml:3: ",
		  { "projects[1].projects is no setting" } },
		{ "projects:\n- match: a\n  scan: {texts: [a, {}]}\n",
		  "x.yml:3: ",
		  { "projects[1].scan.texts", "a group of settings in the list" } },
	};

	(void)state;
	assert_faults(cases, MEM_COUNT(cases));
}

static void
the_line_of_every_key_is_kept(void **state)
{
	AUTO_WHOLE struct whole w = { 0 };

	(void)state;
	read_good(&w, "state_dir: /x\n\nscan:\n  # three\n  count: 3\n  texts:\n    - a\n"
		      "projects:\n- match: a\n- match: b\n  scan: {count: 4,\n    size: 2MiB}\n");
	assert_int_equal(conf_line_of(&w.places, "state_dir"), 1);
	assert_int_equal(conf_line_of(&w.places, "scan.count"), 5);
	assert_int_equal(conf_line_of(&w.places, "scan.texts"), 7);
	assert_int_equal(conf_line_of(&w.places, "projects[2].match"), 10);
	assert_int_equal(conf_line_of(&w.places, "projects[2].scan.size"), 12);
	assert_int_equal(conf_line_of(&w.places, "scan.size"), 0);
	assert_int_equal(conf_line_of(&w.places, "projects[1].scan.count"), 0);
}

static void
a_long_value_leaves_room_for_what_is_allowed(void **state)
{
	AUTO_FREE char *text = mem_alloc(5000);

	(void)state;
	snprintf(text, 5000, "scan:\n  mode: ");
	memset(text + strlen(text), 'x', 4000);
	assert_fault(text, strlen(text), "x.yml:2: scan.mode: \"xxx",
		     (const char *const[]){ "…\" is not possible, allowed is one of off, warn, block", NULL });
}

static bool
is_even_length(const char *text)
{
	return strlen(text) % 2 == 0;
}

static char *
shown_as_length(const char *text)
{
	return mem_printf("%zu letters", strlen(text));
}

static const struct conf_rule even = { is_even_length, "a text of even length", shown_as_length };
struct ruled {
	char *name, *path;
	struct strv list;
	struct conf_overrides projects;
};
static const struct conf_field ruled_fields[] = {
	{ "name", CONF_STRING, offsetof(struct ruled, name), "", .rule = &even, .help = "A name" },
	{ "path", CONF_PATH, offsetof(struct ruled, path), "/a", .rule = &even, .help = "A path" },
	{ "list", CONF_LIST, offsetof(struct ruled, list), "[]", .rule = &even, .help = "Texts" },
};
static const struct conf_section ruled_sections[] = {
	{ "r", 0, ruled_fields, MEM_COUNT(ruled_fields), "Ruled.", true },
};
static const struct conf_schema ruled_schema = { ruled_sections, 1 };

static void
a_rule_is_asked_where_a_text_is_read(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "r:\n  name: abc\n",
		  "x.yml:2: r.name: \"3 letters\" is not possible, allowed is a text of even length, or \"\" for none" },
		{ "r:\n  path: /ab\n",
		  "x.yml:2: r.path: \"3 letters\" is not possible, allowed is a text of even length" },
		{ "r:\n  list:\n    - ab\n    - a\n",
		  "x.yml:4: r.list: \"1 letters\" is not possible, allowed is a list of a text of even length" },
		{ "projects:\n- match: a\n  r:\n    name: abc\n",
		  "x.yml:4: projects[1].r.name: \"3 letters\" is not" },
	};
	struct ruled w = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		conf_set_defaults(&ruled_schema, &w);
		assert_int_equal(conf_read_yaml(&ruled_schema, "x.yml", bad[i].text, strlen(bad[i].text), &w,
						&w.projects, NULL, &e),
				 -1);
		if (!str_has_prefix(e.text, bad[i].says))
			fail_msg("\"%s\" does not begin with \"%s\"", e.text, bad[i].says);
	}
	conf_free(&ruled_schema, &w);
}

static void
settings_survive_json(void **state)
{
	AUTO_WHOLE struct whole w = { 0 };
	AUTO_WHOLE struct whole back = { 0 };
	AUTO_JSON cJSON *j = NULL;
	AUTO_JSON cJSON *parsed = NULL;
	AUTO_JSON cJSON *again = NULL;
	AUTO_FREE char *text = NULL, *text_again = NULL;
	struct err e = ERR_INIT;

	(void)state;
	read_good(&w,
		  "scan:\n  size: 40GiB\n  name: \"\\\"\\n\xc3\xa4\"\n  mode: off\n  words: []\n  texts: [a, b]\n");
	j = conf_to_json(&schema, &w);
	text = json_print(j);
	assert_int_equal(json_parse(text, strlen(text), MIB, JSON_UNIQUE, &parsed, &e), 0);
	conf_set_defaults(&schema, &back);
	if (conf_from_json(&schema, parsed, &back, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(back.scan.size, INT64_C(40) << 30);
	assert_int_equal(back.scan.words.n, 0);
	again = conf_to_json(&schema, &back);
	text_again = json_print(again);
	assert_string_equal(text, text_again);
}

/* The defaults as JSON with one value of scan replaced, or left out. */
static void
assert_json_refused(const char *key, const char *value)
{
	AUTO_WHOLE struct whole w = { 0 };
	AUTO_JSON cJSON *j = NULL;
	AUTO_FREE char *named = mem_printf("scan.%s is missing or of another kind", key);
	cJSON *scan;
	struct err e = ERR_INIT;

	conf_set_defaults(&schema, &w);
	j = conf_to_json(&schema, &w);
	scan = cJSON_GetObjectItemCaseSensitive(j, "scan");
	cJSON_DeleteItemFromObjectCaseSensitive(scan, key);
	if (value)
		cJSON_AddItemToObject(scan, key, cJSON_Parse(value));
	if (conf_from_json(&schema, j, &w, &e) == 0)
		fail_msg("accepted: %s: %s", key, value ? value : "nothing");
	assert_string_equal(e.text, named);
}

static void
json_is_read_strictly(void **state)
{
	(void)state;
	for (size_t i = 0; i < MEM_COUNT(scan_fields); i++) {
		assert_json_refused(scan_fields[i].key, NULL);
		assert_json_refused(scan_fields[i].key, "null");
		assert_json_refused(scan_fields[i].key, "{}");
	}
	assert_json_refused("enabled", "1");
	assert_json_refused("count", "10");
	assert_json_refused("count", "1.5");
	assert_json_refused("count", "\"3\"");
	assert_json_refused("mode", "\"other\"");
	assert_json_refused("mode", "1");
	assert_json_refused("path", "\"relative\"");
	assert_json_refused("words", "[\"other\"]");
	assert_json_refused("texts", "[\"a\", 5]");
}

static void
the_example_is_the_defaults(void **state)
{
	AUTO_BUF struct buf example = BUF_INIT(MIB);
	AUTO_BUF struct buf shown = BUF_INIT(MIB);
	AUTO_BUF struct buf defaults = BUF_INIT(MIB);
	AUTO_WHOLE struct whole w = { 0 };

	(void)state;
	conf_print(&schema, NULL, true, &example);
	assert_non_null(strstr(buf_str(&example), "\n# The scan.\nscan:\n"));
	assert_non_null(strstr(buf_str(&example), "  # How many (a whole number from 1 to 9)\n  count: 3\n"));
	read_good(&w, buf_str(&example));
	conf_print(&schema, &w, false, &shown);
	conf_free(&schema, &w);
	conf_set_defaults(&schema, &w);
	conf_print(&schema, &w, false, &defaults);
	assert_string_equal(buf_str(&shown), buf_str(&defaults));
	assert_null(strchr(buf_str(&shown), '#'));
}

static void
any_text_that_is_shown_is_read_back_the_same(void **state)
{
	static const char *const texts[] = {
		"",
		"null",
		"NULL",
		"~",
		"true",
		"false",
		"- a",
		"a: b",
		"a:",
		"a #b",
		" a ",
		"'",
		"\"",
		"\\",
		"\\n",
		"a\nb\n\n c",
		"\t",
		"\r",
		"\x01\x1f",
		"\x7f",
		"---",
		"...",
		"*a",
		"&a",
		"!a",
		"[a]",
		"{a}",
		"%",
		"@",
		"|",
		">",
		"? a",
		"a, b",
		"a/b:c",
		"\xc3\xa4",
		"\xc2\x80",
		"\xc2\x85x",
		"a\xe2\x80\xa8 b",
		"\xe2\x80\xa9",
		"\xef\xbb\xbf",
		"\xef\xbf\xbe",
		"\xef\xbf\xbf",
		"\xef\xbf\xbd",
		"\xf0\x9f\x9a\xa2",
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(texts); i++) {
		AUTO_BUF struct buf shown = BUF_INIT(MIB);
		AUTO_WHOLE struct whole w = { 0 };
		AUTO_WHOLE struct whole back = { 0 };

		conf_set_defaults(&schema, &w);
		free(w.scan.name);
		w.scan.name = mem_strdup(texts[i]);
		strv_add(&w.scan.texts, texts[i]);
		strv_add(&w.scan.texts, texts[i]);
		conf_print(&schema, &w, i % 2, &shown);
		read_good(&back, buf_str(&shown));
		assert_string_equal(back.scan.name, texts[i]);
		assert_int_equal(back.scan.texts.n, 2);
		assert_string_equal(back.scan.texts.v[1], texts[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_file_means_the_defaults),
		cmocka_unit_test(every_type_is_read),
		cmocka_unit_test(a_value_that_is_not_possible_is_named_with_what_is_allowed),
		cmocka_unit_test(a_value_of_another_kind_is_named_with_what_was_found),
		cmocka_unit_test(an_unknown_key_is_named_with_those_that_are_allowed),
		cmocka_unit_test(a_key_twice_is_refused_with_both_lines),
		cmocka_unit_test(aliases_are_refused),
		cmocka_unit_test(tags_and_merge_keys_are_refused),
		cmocka_unit_test(text_that_is_no_yaml_is_refused_with_its_line),
		cmocka_unit_test(a_nul_is_refused_with_its_line),
		cmocka_unit_test(a_second_document_is_refused),
		cmocka_unit_test(size_and_depth_are_bounded),
		cmocka_unit_test(the_first_project_that_matches_decides),
		cmocka_unit_test(a_project_that_nothing_matches_keeps_the_settings),
		cmocka_unit_test(faults_in_projects_name_the_project),
		cmocka_unit_test(the_line_of_every_key_is_kept),
		cmocka_unit_test(a_long_value_leaves_room_for_what_is_allowed),
		cmocka_unit_test(a_rule_is_asked_where_a_text_is_read),
		cmocka_unit_test(settings_survive_json),
		cmocka_unit_test(json_is_read_strictly),
		cmocka_unit_test(the_example_is_the_defaults),
		cmocka_unit_test(any_text_that_is_shown_is_read_back_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
