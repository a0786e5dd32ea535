#include "executor/plan.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "executor/cgroup.h"

#define PLAN_VERSION 2

#define AT(type, member) #member, offsetof(struct type, member)

/* Members that are written and read alike. */
struct member {
	const char *name;
	size_t offset;
};

static const struct member text_members[] = {
	{ AT(plan, settings_path) },  { AT(plan, state_dir) },	   { AT(plan, cache_dir) },
	{ AT(plan, scan_user) },      { AT(plan, courier_user) },  { AT(plan, user) },
	{ AT(plan, builds_dir) },     { AT(plan, job_cache_dir) }, { AT(plan, slot_dir) },
	{ AT(plan, cgroup) },	      { AT(plan, project_dir) },   { AT(plan, image) },
	{ AT(plan, override_match) },
};

static const struct member int_members[] = {
	{ AT(plan, slot) },	  { AT(plan, uid) },	{ AT(plan, gid) },
	{ AT(plan, n_services) }, { AT(plan, made_s) },
};

static char **
text_at(const struct plan *p, const struct member *m)
{
	return (char **)(void *)((char *)p + m->offset);
}

static int64_t *
int_at(const struct plan *p, const struct member *m)
{
	return (int64_t *)(void *)((char *)p + m->offset);
}

static char *
take_or_empty(char **s)
{
	char *taken = *s ? *s : mem_strdup("");

	*s = NULL;
	return taken;
}

static int
no_user(struct err *e, const char *settings_path, const char *user, const char *what)
{
	return err_set(e, ERR_SETTINGS, "%s: user %s %s: run `tidewaiter setup` as root", settings_path, user,
		       what);
}

static int
find_user(struct plan *p, struct err *e)
{
	const struct passwd *pw;

	errno = 0;
	pw = getpwnam(p->user);
	if (!pw && errno != 0 && errno != ENOENT)
		return err_errno(e, "user %s", p->user);
	if (!pw)
		return no_user(e, p->settings_path, p->user, "of this slot is missing");
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		return no_user(e, p->settings_path, p->user, "is root or in root's group");
	p->uid = pw->pw_uid;
	p->gid = pw->pw_gid;
	return 0;
}

static int
find_groups(struct plan *p, const struct strv *groups, struct err *e)
{
	for (size_t i = 0; i < groups->n; i++) {
		const struct group *gr = getgrnam(groups->v[i]);

		if (!gr)
			return err_set(e, ERR_SETTINGS, "%s: job.groups: there is no group %s on this host",
				       p->settings_path, groups->v[i]);
		strv_addf(&p->group_ids, "%u", gr->gr_gid);
	}
	return 0;
}

/* Large numbers of a tree that is to be printed cannot be looked up in it: printed and read, it is one to read from. */
static int
copy_job(const struct settings_job *from, struct settings_job *to, struct err *e)
{
	AUTO_JSON cJSON *written = conf_to_json(&settings_job_schema, from);
	AUTO_FREE char *text = json_print(written);
	AUTO_JSON cJSON *j = NULL;

	if (json_parse(text, strlen(text), PLAN_MAX, JSON_UNIQUE, &j, e) < 0)
		return -1;
	return conf_from_json(&settings_job_schema, j, to, e);
}

int
plan_of_slot(const struct settings *s, int64_t slot, struct plan **ret, struct err *e)
{
	AUTO(plan) struct plan *p = mem_alloc(sizeof(*p));

	conf_set_defaults(&options_schema, &p->opt);
	if (copy_job(&s->job, &p->job, e) < 0)
		return -1;
	p->settings_path = mem_strdup(s->path);
	p->state_dir = mem_strdup(s->state_dir);
	p->cache_dir = mem_strdup(s->cache_dir);
	p->scan_user = mem_strdup(s->scan_user);
	p->courier_user = mem_strdup(s->courier_user);
	p->slot = slot;
	p->builds_dir = mem_printf("%s/%lld", s->job.builds_dir, (long long)slot);
	p->job_cache_dir = mem_printf("%s/%lld", s->job.cache_dir, (long long)slot);
	p->slot_dir = mem_printf("%s/slots/%lld", s->state_dir, (long long)slot);
	p->is_separated = geteuid() == 0;
	p->uid = geteuid();
	p->gid = getegid();
	for (size_t i = 0; i < MEM_COUNT(text_members); i++)
		if (!*text_at(p, &text_members[i]))
			*text_at(p, &text_members[i]) = mem_strdup("");
	if (p->is_separated) {
		mem_free_at(&p->user);
		mem_free_at(&p->cgroup);
		p->user = mem_printf("%s%lld", s->job.user_prefix, (long long)slot);
		if (cgroup_path(s->state_dir, slot, &p->cgroup, e) < 0 || find_user(p, e) < 0 ||
		    find_groups(p, &s->job.groups, e) < 0)
			return -1;
	}
	*ret = take_ptr(p);
	return 0;
}

static void
move_text(char **to, char **from)
{
	mem_free_at(to);
	*to = take_or_empty(from);
}

int
plan_make(struct settings *s, struct payload *payload, const char *override_match, int64_t slot,
	  struct plan **ret, struct err *e)
{
	AUTO(plan) struct plan *p = NULL;

	if (plan_of_slot(s, slot, &p, e) < 0)
		return -1;
	conf_free(&options_schema, &p->opt);
	p->opt = s->opt;
	s->opt = (struct options){ 0 };
	p->facts = payload->facts;
	payload->facts = (struct job_facts){ 0 };
	mem_free_at(&p->project_dir);
	p->project_dir = mem_printf("%s/%s", p->builds_dir, payload->repo_path);
	move_text(&p->image, &payload->image);
	mem_free_at(&p->override_match);
	p->override_match = mem_strdup(override_match ? override_match : "");
	p->n_services = (int64_t)payload->n_services;
	p->made_s = clock_wall_s();
	p->step_stages = payload->step_stages;
	payload->step_stages = (struct strv){ 0 };
	p->has_archive = payload->has_archive;
	p->archive_when = payload->archive_when;
	p->is_matching = plan_is_matching(&p->opt, &p->facts);
	*ret = take_ptr(p);
	return 0;
}

/* A job's name is no path: `*` is to match "build/app" and "docker_build: [linux/amd64]" whole. */
static bool
name_matches(const struct strv *globs, const char *name)
{
	AUTO_FREE char *flat = mem_strdup(name);

	for (char *c = flat; *c; c++)
		if (*c == '/')
			*c = '\001';
	for (size_t i = 0; i < globs->n; i++) {
		AUTO_FREE char *glob = mem_strdup(globs->v[i]);

		for (char *c = glob; *c; c++)
			if (*c == '/')
				*c = '\001';
		if (str_glob(glob, flat))
			return true;
	}
	return false;
}

bool
plan_is_matching(const struct options *o, const struct job_facts *f)
{
	return o->gate.mode != GATE_OFF && name_matches(&o->inject.jobs, f->name) &&
	       name_matches(&o->inject.stages, f->stage);
}

int
plan_settle_project_dir(int dirfd, struct plan *p, const char *temp_project_dir, struct err *e)
{
	AUTO_FREE char *dir = NULL;
	size_t n = strlen(p->builds_dir);

	if (str_is_empty(temp_project_dir))
		return 0;
	if (!str_has_suffix(temp_project_dir, ".tmp"))
		return err_set(e, ERR_FAILED, "RUNNER_TEMP_PROJECT_DIR is %s, which does not end in .tmp",
			       temp_project_dir);
	dir = mem_strndup(temp_project_dir, strlen(temp_project_dir) - strlen(".tmp"));
	if (strncmp(dir, p->builds_dir, n) != 0 || dir[n] != '/' || dir[n + 1] == '\0' ||
	    strstr(dir, "/../") || str_has_suffix(dir, "/.."))
		return err_set(e, ERR_FAILED,
			       "the runner puts the project into %s, outside the slot's %s: custom_build_dir is not supported",
			       dir, p->builds_dir);
	if (str_eq(dir, p->project_dir))
		return 0;
	mem_free_at(&p->project_dir);
	p->project_dir = take_ptr(dir);
	return plan_write(dirfd, p, e);
}

static cJSON *
plan_to_json(const struct plan *p)
{
	cJSON *j = cJSON_CreateObject();

	json_add_int(j, "version", PLAN_VERSION);
	for (size_t i = 0; i < MEM_COUNT(text_members); i++)
		json_add_str(j, text_members[i].name, *text_at(p, &text_members[i]));
	for (size_t i = 0; i < MEM_COUNT(int_members); i++)
		json_add_int(j, int_members[i].name, *int_at(p, &int_members[i]));
	json_add_bool(j, "is_separated", p->is_separated);
	json_add_bool(j, "has_archive", p->has_archive);
	json_add_bool(j, "is_matching", p->is_matching);
	json_add_int(j, "archive_when", p->archive_when);
	json_add_strv(j, "group_ids", &p->group_ids);
	json_add_strv(j, "step_stages", &p->step_stages);
	cJSON_AddItemToObject(j, "settings", conf_to_json(&settings_job_schema, &p->job));
	cJSON_AddItemToObject(j, "options", conf_to_json(&options_schema, &p->opt));
	cJSON_AddItemToObject(j, "facts", job_facts_to_json(&p->facts));
	return j;
}

int
plan_write(int dirfd, const struct plan *p, struct err *e)
{
	AUTO_JSON cJSON *j = plan_to_json(p);
	AUTO_FREE char *text = json_print(j);

	if (strlen(text) > PLAN_MAX)
		return err_set(e, ERR_REFUSED, "the plan of this job has %zu bytes, at most %d are written",
			       strlen(text), PLAN_MAX);
	if (fs_publish(dirfd, PLAN_NAME, text, strlen(text), 0600, 0, e) < 0)
		return err_wrap(e, "plan in the runner's TMPDIR");
	return 0;
}

static int
plan_from_json(const cJSON *j, struct plan *p, struct err *e)
{
	int64_t n;

	if (json_need_int(j, "version", &n, e) < 0)
		return -1;
	if (n != PLAN_VERSION)
		return err_set(e, ERR_FAILED,
			       "version %lld instead of %d: tidewaiter was changed while the job ran",
			       (long long)n, PLAN_VERSION);
	for (size_t i = 0; i < MEM_COUNT(text_members); i++) {
		const char *text;

		if (json_need_str(j, text_members[i].name, &text, e) < 0)
			return -1;
		*text_at(p, &text_members[i]) = mem_strdup(text);
	}
	for (size_t i = 0; i < MEM_COUNT(int_members); i++)
		if (json_need_int(j, int_members[i].name, int_at(p, &int_members[i]), e) < 0)
			return -1;
	if (json_need_int(j, "archive_when", &n, e) < 0)
		return -1;
	p->archive_when = (int)n;
	p->is_separated = json_bool(j, "is_separated", true);
	p->has_archive = json_bool(j, "has_archive", false);
	p->is_matching = json_bool(j, "is_matching", true);
	json_strv(j, "group_ids", &p->group_ids);
	json_strv(j, "step_stages", &p->step_stages);
	if (conf_from_json(&settings_job_schema, json_object(j, "settings"), &p->job, e) < 0 ||
	    conf_from_json(&options_schema, json_object(j, "options"), &p->opt, e) < 0)
		return -1;
	return job_facts_from_json(json_object(j, "facts"), &p->facts, e);
}

int
plan_read(int dirfd, struct plan **ret, struct err *e)
{
	AUTO(plan) struct plan *p = mem_alloc(sizeof(*p));
	AUTO_JSON cJSON *j = NULL;

	if (json_load(dirfd, PLAN_NAME, PLAN_MAX, JSON_UNIQUE, &j, e) < 0 || plan_from_json(j, p, e) < 0)
		return err_wrap(e, "plan");
	*ret = take_ptr(p);
	return 0;
}

void
plan_free(struct plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < MEM_COUNT(text_members); i++)
		mem_free_at(text_at(p, &text_members[i]));
	conf_free(&settings_job_schema, &p->job);
	conf_free(&options_schema, &p->opt);
	job_facts_free(&p->facts);
	strv_free(&p->group_ids);
	strv_free(&p->step_stages);
	mem_free_at(&p);
}

/* They are numbered without a gap. */
static int
remove_engines(int dirfd, struct err *e)
{
	for (size_t k = 0;; k++) {
		AUTO_FREE char *name = mem_printf(PLAN_ENGINE_PREFIX "%zu", k);

		if (unlinkat(dirfd, name, 0) < 0)
			return errno == ENOENT ? 0 : err_errno(e, "%s", name);
	}
}

int
plan_remove(int dirfd, struct err *e)
{
	static const char *const names[] = { PLAN_STATE_NAME, PLAN_INSPECTION_NAME, PLAN_NAME };

	if (remove_engines(dirfd, e) < 0)
		return -1;
	/* The plan last: a cleanup that is cut short still finds it. */
	for (size_t i = 0; i < MEM_COUNT(names); i++)
		if (unlinkat(dirfd, names[i], 0) < 0 && errno != ENOENT)
			return err_errno(e, "%s", names[i]);
	return 0;
}

static const struct member state_flags[] = {
	{ AT(plan_state, job_failed) },	    { AT(plan_state, is_blocked) },  { AT(plan_state, is_inspected) },
	{ AT(plan_state, was_uploaded) },   { AT(plan_state, is_withheld) }, { AT(plan_state, is_tampered) },
	{ AT(plan_state, has_own_upload) }, { AT(plan_state, is_enforced) },
};

int
plan_state_write(int dirfd, const struct plan_state *s, struct err *e)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;

	for (size_t i = 0; i < MEM_COUNT(state_flags); i++)
		json_add_bool(j, state_flags[i].name,
			      *(const bool *)((const char *)s + state_flags[i].offset));
	json_add_str(j, "last_stage", s->last_stage ? s->last_stage : "");
	text = json_print(j);
	if (fs_publish(dirfd, PLAN_STATE_NAME, text, strlen(text), 0600, 0, e) < 0)
		return err_wrap(e, "state of the job in the runner's TMPDIR");
	return 0;
}

int
plan_state_read(int dirfd, struct plan_state *ret, struct err *e)
{
	struct plan_state s = { 0 };
	AUTO_JSON cJSON *j = NULL;
	struct err why = ERR_INIT;
	const char *stage;

	if (json_load(dirfd, PLAN_STATE_NAME, PLAN_MAX, JSON_UNIQUE, &j, &why) < 0) {
		if (why.no == ENOENT) {
			s.last_stage = mem_strdup("");
			*ret = s;
			return 0;
		}
		return err_set(e, why.kind, "state of the job: %s", why.text);
	}
	for (size_t i = 0; i < MEM_COUNT(state_flags); i++) {
		const cJSON *flag = json_get(j, state_flags[i].name);

		if (!cJSON_IsBool(flag))
			return err_set(e, ERR_FAILED, "state of the job: %s is missing", state_flags[i].name);
		*(bool *)((char *)&s + state_flags[i].offset) = cJSON_IsTrue(flag);
	}
	if (json_need_str(j, "last_stage", &stage, e) < 0)
		return err_wrap(e, "state of the job");
	s.last_stage = mem_strdup(stage);
	*ret = s;
	return 0;
}

void
plan_state_free(struct plan_state *s)
{
	mem_free_at(&s->last_stage);
}
