#include "executor/host_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/cgroup.h"
#include "executor/host_dirs.h"
#include "executor/host_kill.h"
#include "executor/host_mounts.h"

/* What the runner sets for its driver is not the job's, whatever job.env_pass says. */
static const char *const never_passed[] = { "TMPDIR",
					    "JOB_RESPONSE_FILE",
					    "BUILD_FAILURE_EXIT_CODE",
					    "SYSTEM_FAILURE_EXIT_CODE",
					    "BUILD_EXIT_CODE_FILE",
					    "HOME",
					    "PATH",
					    "USER",
					    "LOGNAME",
					    "SHELL",
					    HOST_MARK };

static bool
may_pass(const char *name)
{
	size_t i;

	for (i = 0; i < MEM_COUNT(never_passed); i++) {
		if (str_eq(name, never_passed[i]))
			return false;
	}
	return !str_has_prefix(name, "CUSTOM_ENV_");
}

static void
add_passed_env(const struct plan *p, struct strv *env)
{
	size_t i;

	for (i = 0; i < p->job.env_pass.n; i++) {
		const char *name = p->job.env_pass.v[i];
		const char *value = may_pass(name) ? getenv(name) : NULL;

		if (value)
			strv_addf(env, "%s=%s", name, value);
	}
	for (i = 0; i < p->job.env_set.n; i++)
		strv_add(env, p->job.env_set.v[i]);
}

static char *
own_user_name(void)
{
	const struct passwd *pw = getpwuid(geteuid());

	return mem_strdup(pw ? pw->pw_name : "user");
}

static void
build_env(struct host_child *c, const struct env_stage *stage)
{
	const struct plan *p = c->plan;
	AUTO_FREE char *user = p->is_separated ? mem_strdup(p->user) : own_user_name();
	AUTO_FREE char *first =
		stage && stage->path_prepend ? strv_join(stage->path_prepend, ":") : mem_strdup("");
	size_t i;

	strv_addf(&c->env, "PATH=%s%s%s", first, str_is_empty(first) ? "" : ":", p->job.path);
	strv_addf(&c->env, "HOME=%s", c->home);
	strv_addf(&c->env, "USER=%s", user);
	strv_addf(&c->env, "LOGNAME=%s", user);
	strv_addf(&c->env, "SHELL=%s", c->bash);
	if (!str_is_empty(p->job.lang))
		strv_addf(&c->env, "LANG=%s", p->job.lang);
	/* With private mounts /tmp itself is the job's own. */
	if (!p->is_separated || !p->job.private_tmp)
		strv_addf(&c->env, "TMPDIR=%s", c->tmp);
	if (!p->is_separated)
		strv_addf(&c->env, "%s=%s", HOST_MARK, p->slot_dir);
	add_passed_env(p, &c->env);
	for (i = 0; stage && stage->env_extra && i < stage->env_extra->n; i++)
		strv_add(&c->env, stage->env_extra->v[i]);
}

static void
add_path_dirs(struct strv *to, const char *list)
{
	AUTO_FREE char *copy = mem_strdup(list);
	char *save = NULL, *dir;

	for (dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		if (dir[0] == '/')
			strv_add(to, dir);
	}
}

static void
list_kept(struct host_child *c, const struct env_stage *stage)
{
	const struct plan *p = c->plan;
	const char *slash = p->job.runner_path[0] == '/' ? strrchr(p->job.runner_path, '/') : NULL;
	size_t i;

	strv_add(&c->keep, p->builds_dir);
	strv_add(&c->keep, p->job_cache_dir);
	strv_add(&c->keep, p->slot_dir);
	add_path_dirs(&c->keep, p->job.path);
	if (slash && slash != p->job.runner_path)
		strv_take(&c->keep, mem_strndup(p->job.runner_path, (size_t)(slash - p->job.runner_path)));
	for (i = 0; stage && stage->path_prepend && i < stage->path_prepend->n; i++)
		strv_add(&c->keep, stage->path_prepend->v[i]);
}

/* The user's own groups of /etc/group are not asked for: only what the settings name. */
static int
parse_groups(struct host_child *c, struct err *e)
{
	const struct strv *ids = &c->plan->group_ids;
	size_t i;

	c->groups = mem_array(ids->n + 1, sizeof(*c->groups));
	for (i = 0; i < ids->n; i++) {
		int64_t gid;

		if (str_parse_int(ids->v[i], 0, UINT32_MAX - 1, &gid, e) < 0)
			return err_wrap(e, "group");
		c->groups[c->n_groups++] = (gid_t)gid;
	}
	return 0;
}

int
host_child_init(struct host_child *c, const struct plan *p, const struct env_stage *stage, struct err *e)
{
	*c = (struct host_child){ .plan = p, .cgroup_fd = -1 };
	c->bash = proc_find("bash", p->job.path);
	if (!c->bash)
		return err_set(e, ERR_FAILED, "there is no bash in %s (job.path in %s)", p->job.path,
			       p->settings_path);
	c->home = host_dirs_home(p);
	c->tmp = host_dirs_tmp(p);
	c->var_tmp = host_dirs_var_tmp(p);
	c->cwd = mem_strdup(p->builds_dir);
	build_env(c, stage);
	list_kept(c, stage);
	if (p->is_separated && (host_kill_check_uid(p, e) < 0 || parse_groups(c, e) < 0))
		return -1;
	if (!str_is_empty(p->cgroup)) {
		c->cgroup_fd = cgroup_open(p->cgroup, e);
		if (c->cgroup_fd < 0)
			return -1;
	}
	return 0;
}

void
host_child_free(struct host_child *c)
{
	mem_free_at(&c->bash);
	mem_free_at(&c->home);
	mem_free_at(&c->tmp);
	mem_free_at(&c->var_tmp);
	mem_free_at(&c->cwd);
	mem_free_at(&c->groups);
	strv_free(&c->env);
	strv_free(&c->keep);
	mem_close_at(&c->cgroup_fd);
}

/*
 * One capability that is worth nothing, kept through the change of user: the kernel lets nobody trace a process or read
 * its memory who has not all capabilities that it has (ptrace(2), commoncap). Processes of the job have none.
 */
static int
raise_shield(struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 }, { 0 } };
	const uint32_t shield = 1u << CAP_NET_BIND_SERVICE;
	const uint32_t needed = shield | 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_SETPCAP;

	/* Without the fixup a change of uid leaves capabilities alone; exec(2) then leaves the ambient one only. */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
		return err_errno(e, "securebits");
	data[0].permitted = data[0].effective = needed;
	data[0].inheritable = shield;
	if (syscall(SYS_capset, &head, data) < 0)
		return err_errno(e, "capabilities");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) < 0)
		return err_errno(e, "ambient capability");
	return 0;
}

/*
 * With the job user's rights: what leads to a project directory is the job's to write, and a link in it must lead no
 * further than the job could go by itself.
 */
static int
change_dir(const struct host_child *c, struct err *e)
{
	const struct plan *p = c->plan;
	int rc, no;

	if (!p->is_separated)
		return chdir(c->cwd) < 0 ? err_errno(e, "%s", c->cwd) : 0;
	if (setgroups(c->n_groups, c->groups) < 0)
		return err_errno(e, "groups of user %s", p->user);
	(void)setfsgid((gid_t)p->gid);
	(void)setfsuid((uid_t)p->uid);
	rc = chdir(c->cwd);
	no = errno;
	(void)setfsuid(0);
	(void)setfsgid(0);
	errno = no;
	return rc < 0 ? err_errno(e, "user %s cannot enter %s", p->user, c->cwd) : 0;
}

int
host_child_enter(struct host_child *c, struct err *e)
{
	const struct plan *p = c->plan;

	if (p->is_separated) {
		struct host_mounts m = { .tmp = c->tmp, .var_tmp = c->var_tmp, .keep = &c->keep };

		/* Keys of the runner's session are not the job's. A kernel without keyrings is fine too. */
		(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
		if (p->job.private_tmp && host_mounts_enter(&m, e) < 0)
			return -1;
	}
	/* After the mounts: a directory of the other namespace would have no path in this one. */
	if (change_dir(c, e) < 0)
		return -1;
	if (c->is_shielded && p->is_separated)
		return raise_shield(e);
	return 0;
}

int
host_child_become(const struct host_child *c, struct err *e)
{
	const struct plan *p = c->plan;
	gid_t gid = (gid_t)p->gid;
	uid_t uid = (uid_t)p->uid;

	if (!p->is_separated)
		return 0;
	if (setgroups(c->n_groups, c->groups) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		return err_errno(e, "becoming user %s", p->user);
	return 0;
}

static int
enter_in_child(void *arg)
{
	struct err e = ERR_INIT;

	if (host_child_enter(arg, &e) == 0)
		return 0;
	return e.no != 0 ? e.no : EIO;
}

void
host_child_fill(struct host_child *c, struct proc_spec *spec)
{
	const struct plan *p = c->plan;

	spec->cgroup_fd = c->cgroup_fd;
	spec->new_session = true;
	spec->dies_with_parent = true;
	spec->in_child = enter_in_child;
	spec->in_child_arg = c;
	spec->in_child_before_ids = true;
	if (p->is_separated) {
		spec->has_ids = true;
		spec->uid = (uid_t)p->uid;
		spec->gid = (gid_t)p->gid;
		spec->groups = c->groups;
		spec->n_groups = c->n_groups;
	}
}
