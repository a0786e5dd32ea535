#include "stages/option_rules.h"

#include <string.h>
#include <sys/un.h>

#include "base/mem.h"
#include "stages/job_facts.h"

#define URL_MAX 2000 /* bytes */
#define DIGITS "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

bool
rule_is_script_safe(const char *path)
{
	return strspn(path, LETTERS DIGITS "/._-") == strlen(path);
}

/* Has it a part that is `..`, or is it no path below a directory at all? */
static bool
leads_out(const char *path)
{
	return path[0] == '\0' || path[0] == '/' || str_eq(path, "..") || str_has_prefix(path, "../") ||
	       strstr(path, "/../") || str_has_suffix(path, "/..");
}

/* One that leads out of the project would never match: better said than wondered at. */
static bool
is_archive_glob(const char *glob)
{
	return !leads_out(glob) && conf_is_plain_text(glob);
}

const struct conf_rule rule_archive_glob = {
	is_archive_glob, "globs below the project directory, without .., such as \"tar_images/*.tar\"", NULL
};

static bool
is_platform(const char *text)
{
	unsigned n_parts = 0;

	for (const char *p = text;; p++) {
		size_t n = strspn(p, LETTERS DIGITS "._-");

		p += n;
		n_parts++;
		if (n == 0 || (*p != '/' && *p != '\0'))
			return false;
		if (*p == '\0')
			return n_parts <= 3;
	}
}

const struct conf_rule rule_platform = { is_platform, "all, linux, linux/amd64, linux/arm64/v8 and the like",
					 NULL };

static bool
is_socket(const char *path)
{
	return path[0] == '/' && path[1] && conf_is_plain_text(path) &&
	       strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path);
}

const struct conf_rule rule_socket = { is_socket, "absolute paths of Unix sockets, at most 107 bytes each",
				       NULL };

static bool
is_sha256(const char *text)
{
	return strlen(text) == 64 && str_is_hex(text, 64);
}

/* Trivy splits at commas, and what begins with - would be an option of its. */
static bool
is_repository(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= 512 && s[0] != '-' && strchr(s, '/') && !strstr(s, "://") &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@-[]") == n;
}
const struct conf_rule rule_repository = { is_repository,
					   "a repository such as registry.example.com/mirror/trivy-db:2",
					   NULL };

const struct conf_rule rule_sha256 = { is_sha256, "64 hexadecimal digits in lower case", NULL };

static bool
is_report_dir(const char *dir)
{
	return !leads_out(dir) && dir[0] != '-' && !str_eq(dir, ".") && !str_has_suffix(dir, "/") &&
	       rule_is_script_safe(dir);
}

const struct conf_rule rule_report_dir = {
	is_report_dir, "a directory below the project's, of letters, digits and ._-/ without ..", NULL
};

/* A number and a unit as GitLab knows them (https://docs.gitlab.com/ci/yaml/#artifactsexpire_in); a number alone is seconds. */
static bool
is_time(const char *number, const char *unit)
{
	static const char *const units[] = { "",     "s",    "sec",   "secs",	"second",  "seconds",
					     "m",    "min",  "mins",  "minute", "minutes", "h",
					     "hr",   "hrs",  "hour",  "hours",	"d",	   "day",
					     "days", "w",    "wk",    "wks",	"week",	   "weeks",
					     "mo",   "mos",  "month", "months", "y",	   "yr",
					     "yrs",  "year", "years" };

	for (size_t i = 0; *number && i < MEM_COUNT(units); i++)
		if (str_eq(unit, units[i]))
			return true;
	return false;
}

static bool
is_expiry(const char *text)
{
	static const char between[] = " ,";
	size_t n_times = 0;

	if (str_eq(text, "never"))
		return true;
	for (const char *p = text + strspn(text, between); *p; p += strspn(p, between)) {
		size_t n_digits = strspn(p, DIGITS "."), n_unit;
		AUTO_FREE char *number = mem_strndup(p, n_digits), *unit = NULL;

		if (n_times > 0 && str_has_prefix(p, "and ")) {
			p += strlen("and");
			continue;
		}
		p += n_digits;
		p += strspn(p, " ");
		n_unit = strspn(p, LETTERS);
		unit = mem_strndup(p, n_unit);
		if (!is_time(number, unit))
			return false;
		p += n_unit;
		n_times++;
	}
	return n_times > 0;
}

const struct conf_rule rule_expiry = { is_expiry,
				       "a time in GitLab's words, such as 1 month or 2 weeks, or never",
				       NULL };

/* [scheme]host[:port][/path]: no user, for settings are no place for a password, no query, no fragment. */
static bool
is_url_behind(const char *scheme, const char *text)
{
	const char *host = text + strlen(scheme), *end, *port;
	int64_t number;

	if (!str_has_prefix(text, scheme) || strlen(text) > URL_MAX)
		return false;
	for (const char *p = host; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("@?#\"<>\\^`{|}", *p))
			return false;
	end = host + strcspn(host, "/");
	port = *host == '[' ? strchr(host, ']') : host;
	port = port ? memchr(port, ':', (size_t)(end - port)) : NULL;
	if (port) {
		AUTO_FREE char *digits = mem_strndup(port + 1, (size_t)(end - port - 1));

		if (port == host || str_parse_int(digits, 1, 65535, &number, NULL) < 0)
			return false;
	}
	return host < end && *host != '.' && (*host != '[' || memchr(host, ']', (size_t)(end - host)));
}

static bool
is_server_url(const char *text)
{
	return is_url_behind("https://", text) || is_url_behind("http://", text);
}

static bool
is_proxy_url(const char *text)
{
	return is_server_url(text) || is_url_behind("socks5://", text) || is_url_behind("socks5h://", text);
}

/* "https://user:password@host/?token=x": what may be a secret is not repeated. */
static char *
shown_url(const char *text)
{
	const char *at = strrchr(text, '@'), *query = strpbrk(text, "?#");
	const char *scheme = strstr(text, "://");
	size_t n_scheme = scheme ? (size_t)(scheme + strlen("://") - text) : 0;

	if (at)
		return mem_printf("%.*s…@…", (int)n_scheme, text);
	if (query)
		return mem_printf("%.*s…", (int)(query + 1 - text), text);
	return mem_strdup(text);
}

static bool
is_redis_url(const char *text)
{
	const char *host = strstr(text, "://"), *path = host ? strchr(host + 3, '/') : NULL;
	int64_t database;

	if (path && path[1] && str_parse_int(path + 1, 0, 100000, &database, NULL) < 0)
		return false;
	return is_url_behind("redis://", text) || is_url_behind("rediss://", text);
}

const struct conf_rule rule_redis_url = {
	is_redis_url,
	"redis://host[:port][/database] or rediss://…, without user and password (results_auth_file, redis_auth_file)",
	shown_url,
};

/* user@host:path, as scp takes it */
static bool
is_scp_like(const char *text)
{
	const char *colon = strchr(text, ':'), *at = strchr(text, '@');

	if (!colon || !at || at > colon || at == text || at + 1 == colon || !colon[1] || text[0] == '-')
		return false;
	return strlen(text) <= URL_MAX && !strstr(text, "://") &&
	       strspn(text, LETTERS DIGITS "._-") == (size_t)(at - text) &&
	       strspn(at + 1, LETTERS DIGITS ".-") == (size_t)(colon - at - 1) && at[1] != '-' &&
	       strspn(colon + 1, LETTERS DIGITS "._~/+-") == strlen(colon + 1);
}

/* A user is no secret with SSH, where no password can stand. */
static bool
is_ssh_url(const char *text)
{
	const char *user = text + strlen("ssh://");
	size_t n = strspn(user, LETTERS DIGITS "._-");
	AUTO_FREE char *without = NULL;

	if (!str_has_prefix(text, "ssh://"))
		return false;
	without = mem_printf("ssh://%s", n > 0 && user[n] == '@' ? user + n + 1 : user);
	return is_url_behind("ssh://", without) && user[0] != '-';
}

static bool
is_git_url(const char *text)
{
	return is_server_url(text) || is_ssh_url(text) || is_scp_like(text) ||
	       (str_has_prefix(text, "file:///") && conf_is_plain_text(text) && strlen(text) <= URL_MAX);
}

/* https://git-scm.com/docs/git-check-ref-format, and nothing that is an expression. */
static bool
is_git_ref(const char *text)
{
	return strlen(text) <= 255 && strspn(text, LETTERS DIGITS "._-/+#@%=,") == strlen(text) &&
	       text[0] != '-' && text[0] != '/' && text[0] != '.' && text[0] && !strstr(text, "..") &&
	       !strstr(text, "//") && !strstr(text, "/.") && !str_has_suffix(text, "/") &&
	       !str_has_suffix(text, ".") && !str_has_suffix(text, ".lock") && !str_eq(text, "@");
}

static bool
is_git_path(const char *text)
{
	return !leads_out(text) && conf_is_plain_text(text) && strlen(text) <= 1024 && !strstr(text, "//") &&
	       !str_has_prefix(text, "./") && !strstr(text, "/./") && !str_has_suffix(text, "/");
}

const struct conf_rule rule_git_url = {
	is_git_url,
	"https://host/path.git, ssh://user@host/path.git, user@host:path.git or file:///path, without a password",
	shown_url,
};
const struct conf_rule rule_git_ref = { is_git_ref, "the name of a branch or tag, or a commit", NULL };
const struct conf_rule rule_git_path = { is_git_path, "the path of a file in the repository", NULL };

const struct conf_rule rule_server_url = {
	is_server_url, "a URL such as https://dojo.example.com, without user, password and query", shown_url
};
static bool
is_http_proxy_url(const char *url)
{
	return (str_has_prefix(url, "http://") || str_has_prefix(url, "https://")) && is_proxy_url(url);
}

const struct conf_rule rule_http_proxy_url = {
	is_http_proxy_url,
	"a URL of an HTTP proxy such as http://proxy.example.com:3128, without user and password", shown_url
};
const struct conf_rule rule_proxy_url = {
	is_proxy_url, "a URL such as http://proxy.example.com:3128, without user and password", shown_url
};

/* Any value does for a name that there is. */
static const char *
template_value(const char *name, void *arg)
{
	const struct job_facts none = { 0 };
	char scratch[JOB_FACTS_SCRATCH];

	(void)arg;
	if (str_eq(name, "image") || str_eq(name, "tag") || str_eq(name, "archive"))
		return "";
	return job_facts_value(&none, name, scratch) ? "" : NULL;
}

static bool
is_template(const char *text)
{
	AUTO_FREE char *expanded = NULL;

	return *text && conf_is_plain_text(text) &&
	       str_expand(text, template_value, NULL, &expanded, NULL) == 0;
}

const struct conf_rule rule_template = {
	is_template,
	"a text with {project_path}, {project_name}, {namespace}, {branch}, {ref}, {commit}, {commit_short}, {job_id}, "
	"{job_name}, {job_stage}, {pipeline_id}, {project_id}, {server_url}, {default_branch}, {image}, {tag} or "
	"{archive} in it, and {{ for a brace",
	NULL
};

static bool
is_tag(const char *text)
{
	return *text && conf_is_plain_text(text) && !strpbrk(text, " ,\"'");
}

const struct conf_rule rule_tag = { is_tag, "tags without blanks, commas and quotes", NULL };
