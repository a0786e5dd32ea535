/*
 * policy_git_tool STATE_DIR [KEY=VALUE…] [now|never|feed]: what policy_git_load() makes of these settings of the section policy, as JSON.
 * For e2e/test_policy_git.py.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "stages/policy_feed.h"
#include "stages/policy_git.h"

static void
set(struct options *o, char *argument)
{
	static const struct {
		const char *key;
		size_t at;
	} texts[] = {
		{ "url", offsetof(struct options_policy, url) },
		{ "ref", offsetof(struct options_policy, ref) },
		{ "path", offsetof(struct options_policy, path) },
		{ "credentials_file", offsetof(struct options_policy, credentials_file) },
		{ "ssh_key_file", offsetof(struct options_policy, ssh_key_file) },
		{ "known_hosts_file", offsetof(struct options_policy, known_hosts_file) },
		{ "ca_file", offsetof(struct options_policy, ca_file) },
		{ "proxy", offsetof(struct options_policy, proxy) },
	}, numbers[] = {
		{ "fetch_every", offsetof(struct options_policy, fetch_every) },
		{ "fetch_timeout", offsetof(struct options_policy, fetch_timeout) },
		{ "fetch_max", offsetof(struct options_policy, fetch_max) },
		{ "max_age", offsetof(struct options_policy, max_age) },
	};
	char *value = strchr(argument, '=');

	*value++ = '\0';
	for (size_t i = 0; i < MEM_COUNT(texts); i++)
		if (strcmp(texts[i].key, argument) == 0) {
			char **to = (char **)(void *)((char *)&o->policy + texts[i].at);

			mem_free_at(to);
			*to = mem_strdup(value);
		}
	for (size_t i = 0; i < MEM_COUNT(numbers); i++)
		if (strcmp(numbers[i].key, argument) == 0)
			*(int64_t *)(void *)((char *)&o->policy + numbers[i].at) = strtoll(value, NULL, 10);
}

int
main(int argc, char **argv)
{
	AUTO_POLICY_SOURCE struct policy_source s = { 0 };
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	struct options o = { 0 };
	unsigned flags = 0;
	bool is_fed = false;

	if (argc < 2)
		return 2;
	conf_set_defaults(&options_schema, &o);
	for (int i = 2; i < argc; i++) {
		if (strchr(argv[i], '='))
			set(&o, argv[i]);
		flags |= strcmp(argv[i], "now") == 0 ? POLICY_GIT_NOW : 0;
		flags |= strcmp(argv[i], "never") == 0 ? POLICY_GIT_NEVER : 0;
		is_fed = is_fed || strcmp(argv[i], "feed") == 0;
	}
	if (is_fed) {
		policy_feed_begin(&o, argv[1], (uid_t)-1, (gid_t)-1, flags, &s);
		policy_feed_wait(&s);
	} else {
		policy_git_load(&o, argv[1], flags, NULL, &s);
	}
	json_add_str(j, "text", s.text);
	json_add_str(j, "name", s.name);
	json_add_str(j, "origin", s.origin);
	json_add_str(j, "note", s.note);
	json_add_str(j, "fault", s.fault.kind == ERR_NONE ? NULL : s.fault.text);
	text = json_print(j);
	puts(text);
	options_free(&o);
	return 0;
}
