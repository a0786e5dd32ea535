/* What settings say that is possible and yet hardly meant: `tidewaiter config check` shows it. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/settings.h"
#include "stages/name_ends.h"

struct warnings {
	const struct settings *file; /* places and path */
	const char *prefix;	     /* "" or "projects[2]." */
	struct strv *to;
};

static void warn(const struct warnings *w, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Is it this entry that says it? What comes from above is told there. */
static size_t
line_of(const struct warnings *w, const char *key)
{
	AUTO_FREE char *path = mem_printf("%s%s", w->prefix, key);

	return conf_line_of(&w->file->places, path);
}

static void
warn(const struct warnings *w, const char *key, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL, *safe = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	safe = str_safe(text, ERR_TEXT_MAX / 2);
	strv_addf(w->to, "%s:%zu: %s%s: %s", w->file->path, line_of(w, key), w->prefix, key, safe);
}

/* A file or directory that the settings name. False: there is nothing to look at any closer. */
static bool
look(const struct warnings *w, const char *key, const char *path, mode_t kind, struct stat *ret)
{
	if (line_of(w, key) == 0 || str_is_empty(path))
		return false;
	if (stat(path, ret) < 0) {
		/* Another user may see more than an ordinary one that checks. */
		if (errno != EACCES)
			warn(w, key, "%s: %s", path, strerror(errno));
		return false;
	}
	if ((ret->st_mode & S_IFMT) == kind)
		return true;
	warn(w, key, "%s is no %s", path, kind == S_IFDIR ? "directory" : "regular file");
	return false;
}

static void
look_at_token(const struct warnings *w, const struct settings *s)
{
	static const char key[] = "defectdojo.token_file";
	const char *path = s->opt.defectdojo.token_file;
	const struct passwd *courier = geteuid() == 0 ? getpwnam(s->courier_user) : NULL;
	uid_t reader = courier ? courier->pw_uid : geteuid();
	struct stat st;

	if (!look(w, key, path, S_IFREG, &st))
		return;
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		warn(w, key, "%s is a symbolic link, which is not followed to a secret: name the file itself",
		     path);
	else if (st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
		warn(w, key,
		     "%s has mode %04o and holds a secret, needed is 0600 or 0640: chmod it, or nothing is sent",
		     path, st.st_mode & 07777);
	else if (st.st_uid != 0 && st.st_uid != reader)
		warn(w, key, "%s belongs to uid %u, needed is root or %s, or nothing is sent", path,
		     st.st_uid, geteuid() == 0 ? s->courier_user : "you");
	else if (courier && st.st_uid != reader && !(st.st_gid == courier->pw_gid && (st.st_mode & S_IRGRP)))
		warn(w, key,
		     "%s cannot be read by %s, and nothing is sent: sudo tidewaiter setup gives it to its group",
		     path, s->courier_user);
}

static bool
names_test(const struct options_defectdojo *o, const char *part)
{
	return strstr(o->product, part) || strstr(o->engagement, part) || strstr(o->test, part);
}

/* A finding of another service is another finding to DefectDojo, and nobody closes those of the service before. */
static void
look_at_service(const struct warnings *w, const struct settings *s)
{
	static const struct {
		const char *part, *same;
	} changing[] = {
		{ "{tag}", "{tag}" },
		{ "{archive}", "{archive}" },
		{ "{branch}", "{ref}" },
		{ "{ref}", "{branch}" },
		{ "{commit}", "{commit}" },
		{ "{job_id}", "{job_id}" },
		{ "{job_name}", "{job_name}" },
		{ "{job_stage}", "{job_stage}" },
		{ "{pipeline_id}", "{pipeline_id}" },
	};
	const struct options_defectdojo *o = &s->opt.defectdojo;

	if (line_of(w, "defectdojo.service") == 0)
		return;
	for (size_t k = 0; k < MEM_COUNT(changing); k++)
		if (strstr(o->service, changing[k].part) && !names_test(o, changing[k].part) &&
		    !names_test(o, changing[k].same))
			warn(w, "defectdojo.service",
			     "%s changes within a test, which does not have it in its name: each time all findings are made anew, "
			     "their triage ends, and the old ones stay open",
			     changing[k].part);
}

/* By the name of an image alone a job would choose whose triage it gets (fetcher_ask.h). */
static void
look_at_product(const struct warnings *w, const struct settings *s)
{
	const struct options_defectdojo *o = &s->opt.defectdojo;
	const char *p = o->product;
	bool names_project = strstr(p, "{project_path}") || strstr(p, "{project_id}");

	if (line_of(w, "defectdojo.product") == 0 || name_ends_are_certain(p))
		return;
	if (names_project)
		warn(w, "defectdojo.product",
		     "two projects can come to one product, since nothing is between project and image that neither has: "
		     "what is triaged for one may count for the other; put \": \" between them, such as \"{project_path}: {image}\"");
	else if (o->triage)
		warn(w, "defectdojo.product",
		     "takes an image and neither {project_path} nor {project_id}: nothing is asked for its triage, and nothing excused");
}

static void
look_at_fleet(const struct warnings *w, const struct settings *s)
{
	const struct options_defectdojo *o = &s->opt.defectdojo;
	const struct options_trivy *t = &s->opt.trivy;

	if (line_of(w, "defectdojo.redis") > 0 && *o->redis && !*o->redis_key_file)
		warn(w, "defectdojo.redis",
		     "is set and defectdojo.redis_key_file is not: it is of no use, and with keep_text nothing is sent");
	if (line_of(w, "trivy.results_redis") > 0 && *t->results_redis && !*t->results_key_file)
		warn(w, "trivy.results_redis", "is set and trivy.results_key_file is not: it is of no use");
}

/* Files that only have to be there; doctor looks at them as their reader does. */
static void
look_at_files(const struct warnings *w, const struct settings *s)
{
	const struct options_defectdojo *d = &s->opt.defectdojo;
	const struct options_trivy *t = &s->opt.trivy;
	const struct options_policy *p = &s->opt.policy;
	const struct {
		const char *key, *path;
	} files[] = {
		{ "trivy.db_credentials_file", t->db_credentials_file },
		{ "trivy.db_ca_file", t->db_ca_file },
		{ "trivy.results_key_file", t->results_key_file },
		{ "trivy.results_auth_file", t->results_auth_file },
		{ "trivy.results_ca_file", t->results_ca_file },
		{ "trivy.server_token_file", t->server_token_file },
		{ "trivy.server_ca_file", t->server_ca_file },
		{ "policy.file", p->file },
		{ "policy.credentials_file", p->credentials_file },
		{ "policy.ssh_key_file", p->ssh_key_file },
		{ "policy.known_hosts_file", p->known_hosts_file },
		{ "policy.ca_file", p->ca_file },
		{ "defectdojo.ca_file", d->ca_file },
		{ "defectdojo.client_cert_file", d->client_cert_file },
		{ "defectdojo.client_key_file", d->client_key_file },
		{ "defectdojo.redis_key_file", d->redis_key_file },
		{ "defectdojo.redis_auth_file", d->redis_auth_file },
		{ "defectdojo.redis_ca_file", d->redis_ca_file },
	};
	struct stat st;

	for (size_t k = 0; k < MEM_COUNT(files); k++)
		(void)look(w, files[k].key, files[k].path, S_IFREG, &st);
	if (line_of(w, "defectdojo.client_key_file") > 0 && *d->client_key_file && !*d->client_cert_file)
		warn(w, "defectdojo.client_key_file",
		     "is set and defectdojo.client_cert_file is not: nothing is sent");
}

/* Each project's reports would close what the other's have found, and what is accepted for one would count for all. */
static void
look_at_sharing(const struct warnings *w, const struct settings *s)
{
	const struct options_defectdojo *o = &s->opt.defectdojo;

	if (names_test(o, "{namespace}") && names_test(o, "{project_name}"))
		return;
	if (line_of(w, "defectdojo.product") == 0 || names_test(o, "{project_path}") ||
	    names_test(o, "{project_id}") || names_test(o, "{image}") || names_test(o, "{archive}"))
		return;
	warn(w, "defectdojo.product",
	     "neither product, engagement nor test has {project_path}, {project_id} or an image in its name: projects share a test, "
	     "each report closes what another's has found, and what is accepted for one counts for all");
}

static void
look_at_server(const struct warnings *w, const struct settings *s)
{
	const struct options_defectdojo *o = &s->opt.defectdojo;

	if (line_of(w, "defectdojo.url") > 0 && str_has_prefix(o->url, "http://"))
		warn(w, "defectdojo.url",
		     "%s is not encrypted, the token can be read on its way: use https://", o->url);
	if (line_of(w, "defectdojo.url") > 0 && *o->url && !*o->token_file)
		warn(w, "defectdojo.url",
		     "is set and defectdojo.token_file is not: reports wait in the spool");
	if (line_of(w, "defectdojo.token_file") > 0 && *o->token_file && !*o->url)
		warn(w, "defectdojo.token_file",
		     "is set and defectdojo.url is not: reports wait in the spool");
	look_at_token(w, s);
}

static bool
is_within_cache(const struct settings *s, const char *path)
{
	size_t n = strlen(s->cache_dir);

	return strncmp(path, s->cache_dir, n) == 0 && path[n] == '/';
}

static void
look_at_scanner(const struct warnings *w, const struct settings *s)
{
	const struct options_trivy *o = &s->opt.trivy;
	struct stat st;

	if (look(w, "trivy.path", o->path, S_IFREG, &st) && !(st.st_mode & 0111))
		warn(w, "trivy.path", "%s is no program (mode %04o): chmod +x it", o->path,
		     st.st_mode & 07777);
	/* where `tidewaiter db` keeps them, it makes them */
	if (!is_within_cache(s, o->db_dir))
		(void)look(w, "trivy.db_dir", o->db_dir, S_IFDIR, &st);
	if (!is_within_cache(s, o->java_db_dir))
		(void)look(w, "trivy.java_db_dir", o->java_db_dir, S_IFDIR, &st);
}

static void
look_at_policy(const struct warnings *w, const struct settings *s)
{
	const struct options_policy *o = &s->opt.policy;
	bool is_ssh = *o->url && (str_has_prefix(o->url, "ssh://") || !strstr(o->url, "://"));

	if (str_has_prefix(o->url, "http://"))
		warn(w, "policy.url",
		     "%s is not encrypted, whoever stands between can write the rules: use https://", o->url);
	if (is_ssh && !*o->known_hosts_file)
		warn(w, "policy.url",
		     "is reached by SSH and policy.known_hosts_file is not set: no server is known");
	if (is_ssh && !*o->ssh_key_file)
		warn(w, "policy.url",
		     "is reached by SSH and policy.ssh_key_file is not set: no server lets us in");
}

static void
look_at_groups(const struct warnings *w, const struct settings *s)
{
	for (size_t i = 0; i < s->job.groups.n; i++) {
		const char *name = s->job.groups.v[i];

		if (str_eq(name, "docker"))
			warn(w, "job.groups",
			     "docker is root by another name: any job can become root of this host");
		else if (!getgrnam(name))
			warn(w, "job.groups", "there is no group %s: no job will start", name);
	}
}

/* The first match wins: what stands behind one that matches all of it is never read. */
static void
look_at_order(const struct warnings *w, const struct conf_overrides *projects, size_t index)
{
	for (size_t i = 0; i < index; i++) {
		const char *earlier = projects->v[i].match;

		if (!str_glob_covers(earlier, projects->v[index].match))
			continue;
		warn(w, "match",
		     "\"%s\" is never reached, projects[%zu] (\"%s\") matches before it and the first wins",
		     projects->v[index].match, i + 1, earlier);
		return;
	}
}

/* The settings as they are for one entry of projects[], owned by the caller. */
static struct settings *
settings_of_entry(const struct settings *s, const struct conf_override *o)
{
	struct settings *own = mem_alloc(sizeof(*own));
	char any[] = "**";
	struct conf_override one = { .match = any, .patch = o->patch };
	const struct conf_overrides only = { .v = &one, .n = 1 };

	conf_copy(&settings_schema, own, s);
	conf_apply_overrides(&settings_schema, &only, "", own);
	return own;
}

void
settings_warnings(const struct settings *s, struct strv *ret)
{
	const struct warnings top = { .file = s, .prefix = "", .to = ret };

	if (s->places.n == 0)
		strv_addf(ret, "%s: nothing is set in it: every setting has its default", s->path);
	look_at_groups(&top, s);
	look_at_scanner(&top, s);
	look_at_server(&top, s);
	look_at_service(&top, s);
	look_at_product(&top, s);
	look_at_sharing(&top, s);
	look_at_fleet(&top, s);
	look_at_policy(&top, s);
	look_at_files(&top, s);
	for (size_t i = 0; i < s->projects.n; i++) {
		AUTO(settings) struct settings *own = settings_of_entry(s, &s->projects.v[i]);
		AUTO_FREE char *prefix = mem_printf("projects[%zu].", i + 1);
		const struct warnings w = { .file = s, .prefix = prefix, .to = ret };

		look_at_order(&w, &s->projects, i);
		look_at_scanner(&w, own);
		look_at_server(&w, own);
		look_at_service(&w, own);
		look_at_product(&w, own);
		look_at_files(&w, own);
	}
}
