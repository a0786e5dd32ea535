#include "executor/settings_rules.h"

#include <string.h>

#include "base/mem.h"
#include "stages/option_rules.h"

#define USER_MAX 32	   /* bytes of a user's name (useradd) */
#define USER_PREFIX_MAX 24 /* leaves room for a slot's number */

static bool
is_dir(const char *path)
{
	return path[0] == '/' && path[1] != '\0' && !strstr(path, "//") && !strstr(path, "/../") &&
	       !str_has_suffix(path, "/..") && !strstr(path, "/./") && !str_has_suffix(path, "/.") &&
	       !str_has_suffix(path, "/");
}

const struct conf_rule rule_dir = { is_dir, "an absolute directory below / without .., . and //", NULL };

static bool
is_job_dir(const char *path)
{
	return is_dir(path) && rule_is_script_safe(path);
}

const struct conf_rule rule_job_dir = {
	is_job_dir,
	"an absolute directory of letters, digits and ._-/ without .., . and //, for it stands in job scripts",
	NULL
};

static bool
is_name(const char *name, size_t max)
{
	size_t n = strlen(name);

	return n > 0 && n <= max && ((name[0] >= 'a' && name[0] <= 'z') || name[0] == '_') &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static bool
is_user(const char *name)
{
	return is_name(name, USER_MAX) && !str_eq(name, "root");
}

const struct conf_rule rule_user = {
	is_user, "a user's name other than root: a letter or _, then letters in lower case, digits, _ and -",
	NULL
};

static bool
is_user_prefix(const char *name)
{
	return is_name(name, USER_PREFIX_MAX);
}

const struct conf_rule rule_user_prefix = {
	is_user_prefix, "a letter or _, then letters in lower case, digits, _ and -, at most 24 together", NULL
};

static bool
is_group(const char *name)
{
	return *name && conf_is_plain_text(name) && !strpbrk(name, ":,/") && name[0] != ' ' &&
	       name[0] != '-' && !str_has_suffix(name, " ");
}

const struct conf_rule rule_group = { is_group, "names of groups", NULL };

/* Every entry is absolute: an empty one or "." would be the job's own directory. */
static bool
is_path_list(const char *list)
{
	const char *p = list;

	for (;;) {
		size_t n = strcspn(p, ":");

		if (n == 0 || p[0] != '/')
			return false;
		if (p[n] == '\0')
			return conf_is_plain_text(list);
		p += n + 1;
	}
}

const struct conf_rule rule_path_list = { is_path_list, "absolute directories with : between them", NULL };

static bool
is_variable_name(const char *name, size_t n)
{
	static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

	return n > 0 && strspn(name, chars) >= n && !(name[0] >= '0' && name[0] <= '9') &&
	       !str_has_prefix(name, "CUSTOM_ENV_");
}

static bool
is_variable(const char *name)
{
	return is_variable_name(name, strlen(name));
}

const struct conf_rule rule_variable = { is_variable, "names of environment variables, none of CUSTOM_ENV_*",
					 NULL };

static bool
is_assignment(const char *text)
{
	const char *eq = strchr(text, '=');

	return eq && is_variable_name(text, (size_t)(eq - text));
}

/* The value, or all of it where there is no =, may be a secret that stands in the wrong place. */
static char *
shown_assignment(const char *text)
{
	const char *eq = strchr(text, '=');

	return eq ? mem_printf("%.*s=…", (int)(eq - text), text) : mem_strdup("… (no =)");
}

const struct conf_rule rule_assignment = { is_assignment, "NAME=value, no NAME of CUSTOM_ENV_*",
					   shown_assignment };

static bool
is_locale(const char *name)
{
	return *name && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-") ==
				strlen(name);
}

const struct conf_rule rule_locale = { is_locale, "a locale, such as C.UTF-8", NULL };

static bool
is_program(const char *name)
{
	return *name && conf_is_plain_text(name) && (!strchr(name, '/') || name[0] == '/');
}

const struct conf_rule rule_program = { is_program, "a name on PATH or an absolute path", NULL };
