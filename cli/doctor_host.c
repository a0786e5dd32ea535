#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "executor/cgroup.h"
#include "stages/layer_cache.h"

#define SETUP "sudo tidewaiter setup"
#define DISK_FAIL ((uint64_t)512 << 20) /* bytes free */
#define DISK_WARN ((uint64_t)5 << 30)
#define RECORD_MAX 65536

/* ---- users and groups ---- */

static void
check_users(struct checkup *c, const struct settings *s)
{
	AUTO_STRV struct strv missing = { 0 };
	AUTO_FREE char *names = NULL;

	if (geteuid() != 0) {
		checkup_warn(c, "users", "run tidewaiter doctor, and gitlab-runner, as root",
			     "we are not root: jobs are not separated from each other, nor from this user");
		return;
	}
	if (!getpwnam(s->scan_user))
		strv_add(&missing, s->scan_user);
	if (!getpwnam(s->courier_user))
		strv_add(&missing, s->courier_user);
	for (int64_t i = 0; i < s->job.slots; i++) {
		AUTO_FREE char *name = mem_printf("%s%lld", s->job.user_prefix, (long long)i);

		if (!getpwnam(name) && missing.n < 5)
			strv_add(&missing, name);
	}
	names = strv_join(&missing, ", ");
	if (missing.n > 0)
		checkup_fail(c, "users", SETUP, "missing: %s%s", names,
			     missing.n == 5 ? " and perhaps more" : "");
	else
		checkup_ok(c, "users", "%s, %s, %s0 to %s%lld", s->scan_user, s->courier_user,
			   s->job.user_prefix, s->job.user_prefix, (long long)s->job.slots - 1);
}

/* Does somebody whom jobs run as belong to it, by settings or by the system's own list? */
static bool
jobs_have_group(const struct settings *s, const struct group *g)
{
	for (size_t i = 0; i < s->job.groups.n; i++)
		if (str_eq(s->job.groups.v[i], g->gr_name))
			return true;
	for (char **member = g->gr_mem; *member; member++)
		if (str_has_prefix(*member, s->job.user_prefix))
			return true;
	return false;
}

static void
check_groups(struct checkup *c, const struct settings *s)
{
	static const char *const root_by_another_name[] = { "docker",  "podman", "lxd", "incus-admin",
							    "libvirt", "disk",	 "sudo" };
	size_t n_found = 0;

	for (size_t i = 0; i < s->job.groups.n; i++) {
		if (getgrnam(s->job.groups.v[i]))
			continue;
		checkup_fail(c, "groups", "make the group, or take it out of job.groups",
			     "job.groups: there is no group %s", s->job.groups.v[i]);
		n_found++;
	}
	for (size_t i = 0; i < MEM_COUNT(root_by_another_name); i++) {
		const struct group *g = getgrnam(root_by_another_name[i]);

		if (!g || !jobs_have_group(s, g))
			continue;
		checkup_warn(c, "groups",
			     "let jobs build with rootless Podman or Buildah instead, which need no group",
			     "jobs belong to %s: any job can become root of this host", g->gr_name);
		n_found++;
	}
	if (n_found == 0)
		checkup_ok(c, "groups",
			   s->job.groups.n ? "none that is root by another name"
					   : "jobs have none but their own");
}

/* ---- kernel ---- */

static void
check_cgroup(struct checkup *c, const struct settings *s)
{
	AUTO_FREE char *dir = NULL;
	struct err e = ERR_INIT;

	if (cgroup_path(s->state_dir, 0, &dir, &e) < 0)
		checkup_warn(c, "cgroup", "mount cgroup v2 (the default of systemd since 247)", "%s", e.text);
	else if (!*dir)
		checkup_warn(c, "cgroup", "mount cgroup v2, writable for the runner's service",
			     "no cgroup v2 that we may write: what jobs leave running is found by its user alone");
	else
		checkup_ok(c, "cgroup", "v2, jobs below %s", dir);
}

/* ---- tools ---- */

static void
check_tools(struct checkup *c, const struct settings *s)
{
	static const char *const tools[] = { "bash", "git" };
	AUTO_FREE char *runner = proc_find(s->job.runner_path, s->job.path);
	AUTO_STRV struct strv found = { 0 };
	AUTO_FREE char *text = NULL;

	for (size_t i = 0; i < MEM_COUNT(tools); i++) {
		AUTO_FREE char *path = proc_find(tools[i], s->job.path);

		if (path)
			strv_add(&found, path);
		else
			checkup_fail(c, "tools", "install it, or add its directory to job.path",
				     "%s is not in job.path (%s)", tools[i], s->job.path);
	}
	if (runner)
		strv_add(&found, runner);
	else
		checkup_fail(c, "tools", "set job.runner_path to where gitlab-runner is",
			     "%s is not there: caches and artifacts need it", s->job.runner_path);
	text = strv_join(&found, ", ");
	if (found.n == MEM_COUNT(tools) + 1)
		checkup_ok(c, "tools", "%s", text);
}

/* ---- slots ---- */

/* A record whose runner is gone: the next job cleans up after it. */
static bool
is_stale(int dirfd, const char *name)
{
	AUTO_JSON cJSON *j = NULL;
	uint64_t start;
	struct err e = ERR_INIT;
	const char *recorded;
	int64_t pid;

	if (json_load(dirfd, name, RECORD_MAX, 0, &j, &e) < 0)
		return e.no != ENOENT;
	pid = json_int(j, "runner_pid", -1);
	recorded = json_str(j, "runner_start");
	if (pid <= 0 || proc_start_time((pid_t)pid, &start, &e) < 0)
		return true;
	return recorded && strtoull(recorded, NULL, 16) != start;
}

static void
check_slots(struct checkup *c, const struct settings *s)
{
	AUTO_FREE char *path = mem_printf("%s/slots", s->state_dir);
	AUTO_DIR DIR *dir = opendir(path);
	struct dirent *entry;
	size_t n_held = 0, n_stale = 0;

	if (!dir && errno != ENOENT) {
		checkup_fail(c, "slots", SETUP, "%s: %s", path, strerror(errno));
		return;
	}
	while (dir && fs_next(dir, &entry, NULL) > 0) {
		if (entry->d_name[0] == '.' || !str_has_suffix(entry->d_name, ".json"))
			continue;
		n_held++;
		n_stale += is_stale(dirfd(dir), entry->d_name);
	}
	if (n_stale > 0)
		checkup_warn(c, "slots", "nothing: the next job cleans up and takes them",
			     "%zu of %lld held, %zu of them by a runner that is gone", n_held,
			     (long long)s->job.slots, n_stale);
	else
		checkup_ok(c, "slots", "%zu of %lld held", n_held, (long long)s->job.slots);
}

/* ---- disk ---- */

static void
check_disk(struct checkup *c, const char *key, const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	struct err e = ERR_INIT;
	uint64_t left = 0;

	if (fd < 0 && errno == ENOENT && geteuid() != 0) {
		checkup_ok(c, "disk", "%s %s: made when it is needed", key, path);
		return;
	}
	if (fd < 0) {
		checkup_fail(c, "disk", SETUP, "%s %s: %s", key, path, strerror(errno));
		return;
	}
	if (fs_space_left(fd, &left, &e) < 0) {
		checkup_fail(c, "disk", "see whether its filesystem is well", "%s %s: %s", key, path, e.text);
		return;
	}
	text = str_human_size(left);
	if (left < DISK_FAIL)
		checkup_fail(c, "disk", "make room, or move it with the setting", "%s %s: %s free", key, path,
			     text);
	else if (left < DISK_WARN)
		checkup_warn(c, "disk", "make room: an inspection unpacks a whole image", "%s %s: %s free",
			     key, path, text);
	else
		checkup_ok(c, "disk", "%s %s: %s free", key, path, text);
}

/* Layers that inspections keep for each other. */
static void
check_layers(struct checkup *c, const struct settings *s)
{
	AUTO_FREE char *path = mem_printf("%s/layers", s->cache_dir);
	int64_t max = s->opt.images.store_max;
	AUTO_FREE char *bound = str_format_size(max);
	AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_FREE char *used = NULL;
	struct layer_cache_use use;

	if (max == 0) {
		checkup_ok(c, "layers", "none are kept (images.store_max: 0)");
		return;
	}
	if (fd < 0) {
		checkup_ok(c, "layers", "%s: %s (images.store_max: %s)", path,
			   errno == ENOENT ? "made when it is needed" : strerror(errno), bound);
		return;
	}
	layer_cache_look(fd, &use);
	used = str_human_size(use.size);
	checkup_ok(c, "layers", "%zu kept, %s of %s", use.n, used, bound);
}

/* ---- owners ---- */

/* NULL, or what is wrong with it or a directory above it; owned by the caller. A sticky one, as /tmp, takes nothing away from others. */
static char *
who_else_can_write(const char *path, uid_t courier)
{
	AUTO_FREE char *part = mem_strdup(path);

	for (;;) {
		char *slash = strrchr(part, '/');
		struct stat st;

		if (stat(part, &st) == 0) {
			bool is_shared = (st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX);

			if ((st.st_uid != 0 && st.st_uid != courier) || is_shared)
				return mem_printf("%s belongs to uid %u with mode %04o", part, st.st_uid,
						  st.st_mode & 07777);
		}
		if (str_eq(part, "/"))
			return NULL;
		slash[slash == part] = '\0';
	}
}

/* Whoever can write there rules what jobs are judged by, or what runs as root. */
static void
check_owners(struct checkup *c, const struct settings *s)
{
	AUTO_FREE char *slots = mem_printf("%s/slots", s->state_dir), *db = mem_printf("%s/db", s->cache_dir);
	const struct {
		const char *key, *path;
	} all[] = {
		{ "state_dir", s->state_dir },		 { "state_dir", slots },
		{ "cache_dir", s->cache_dir },		 { "cache_dir", db },
		{ "trivy.db_dir", s->opt.trivy.db_dir }, { "job.builds_dir", s->job.builds_dir },
		{ "trivy.path", s->opt.trivy.path },
	};
	const struct passwd *courier = getpwnam(s->courier_user);
	size_t n = 0;

	if (geteuid() != 0)
		return;
	for (size_t k = 0; k < MEM_COUNT(all); k++) {
		AUTO_FREE char *wrong =
			str_is_empty(all[k].path)
				? NULL
				: who_else_can_write(all[k].path, courier ? courier->pw_uid : 0);

		if (!wrong)
			continue;
		checkup_fail(c, "owners",
			     "chown root, chmod go-w: whoever can write there rules what jobs are judged by",
			     "%s: %s", all[k].key, wrong);
		n++;
	}
	if (n == 0)
		checkup_ok(c, "owners", "state, caches and Trivy are nobody else's to write");
}

void
doctor_host(struct checkup *c, const struct settings *s)
{
	check_users(c, s);
	check_groups(c, s);
	check_cgroup(c, s);
	check_tools(c, s);
	check_slots(c, s);
	check_disk(c, "state_dir", s->state_dir);
	check_disk(c, "cache_dir", s->cache_dir);
	check_disk(c, "job.builds_dir", s->job.builds_dir);
	check_layers(c, s);
	check_owners(c, s);
}
