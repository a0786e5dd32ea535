/* `tidewaiter setup`: users and directories that the settings ask for. Idempotent; says what it did. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/subid.h"
#include "cli/command.h"
#include "executor/settings.h"
#include "stages/policy_git.h"
#include "stages/trivy_db_store.h"

#define TOOL_TIME_MS 60000
#define SUBUID "/etc/subuid"
#define SUBGID "/etc/subgid"
#define TOOL_PATH "/usr/sbin:/usr/bin:/sbin:/bin"
/* Two at once would find the same numbers free. For all installations of a host; jobs cannot write there. */
#define LOCK_DIR "/run"
#define LOCK_NAME "tidewaiter-setup.lock"
#define LOCK_TIME_MS 120000

struct setup {
	const struct settings *s;
	bool is_dry;
	int64_t n_changes;
};

/* "made user x", or with --dry-run "would have made user x". */
static void __attribute__((format(printf, 2, 3))) did(struct setup *u, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	printf("%s%s\n", u->is_dry ? "would have " : "", text);
	u->n_changes++;
}

/* useradd and its like; their words are part of the error. */
static int
run_tool(const struct strv *args, struct err *e)
{
	AUTO_FREE char *path = proc_find(args->v[0], TOOL_PATH);
	AUTO_FREE char *how = NULL;
	AUTO_BUF struct buf out = BUF_INIT(4096);
	AUTO_BUF struct buf words = BUF_INIT(1024);
	char *env[] = { (char[]){ "PATH=" TOOL_PATH }, (char[]){ "LC_ALL=C.UTF-8" }, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_result r;

	if (!path)
		return err_set(e, ERR_FAILED, "%s is not installed (Debian: package passwd)", args->v[0]);
	spec.path = path;
	spec.argv = args->v;
	spec.envp = env;
	if (proc_run(&spec, clock_deadline(TOOL_TIME_MS), &out, &words, &r, e) < 0)
		return -1;
	if (r.end == PROC_EXITED && r.code == 0)
		return 0;
	how = proc_describe(&r);
	return err_set(e, ERR_FAILED, "%s %s %s: %s", args->v[0], args->v[args->n - 1], how, buf_str(&words));
}

/*
 * Numbers that images hardly use: useradd(8) begins at 999 and goes down, where the users of many a database's image are, and
 * what is ended by a number is to be the job's alone. Where all are taken: any.
 */
static const char *const quiet_numbers[] = { "SYS_UID_MIN=600", "SYS_UID_MAX=899" };

static int
run_useradd(const char *name, const char *home, const char *comment, bool is_quiet, struct err *e)
{
	AUTO_STRV struct strv args = { 0 };

	strv_add(&args, "useradd");
	strv_add(&args, "--system");
	strv_add(&args, "--user-group");
	strv_add(&args, "--no-create-home");
	strv_add(&args, "--shell");
	strv_add(&args, access("/usr/sbin/nologin", X_OK) == 0 ? "/usr/sbin/nologin" : "/bin/false");
	strv_add(&args, "--comment");
	strv_add(&args, comment);
	strv_add(&args, "--home-dir");
	strv_add(&args, home);
	for (size_t i = 0; is_quiet && i < MEM_COUNT(quiet_numbers); i++) {
		strv_add(&args, "--key");
		strv_add(&args, quiet_numbers[i]);
	}
	strv_add(&args, name);
	return run_tool(&args, e);
}

static int
add_user(struct setup *u, const char *name, const char *home, const char *comment, struct err *e)
{
	struct err ignored = ERR_INIT;

	did(u, "made user %s", name);
	if (u->is_dry || run_useradd(name, home, comment, true, &ignored) == 0)
		return 0;
	return run_useradd(name, home, comment, false, e);
}

static int
move_home(struct setup *u, const struct passwd *pw, const char *home, struct err *e)
{
	AUTO_STRV struct strv args = { 0 };

	if (str_eq(pw->pw_dir, home))
		return 0;
	did(u, "set the home of user %s to %s (was %s)", pw->pw_name, home, pw->pw_dir);
	if (u->is_dry)
		return 0;
	strv_add(&args, "usermod");
	strv_add(&args, "--home");
	strv_add(&args, home);
	strv_add(&args, pw->pw_name);
	return run_tool(&args, e);
}

static int
check_user(const struct setup *u, const struct passwd *pw, struct err *e)
{
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		return err_set(e, ERR_SETTINGS, "%s: user %s is root or in root's group: name another one",
			       u->s->path, pw->pw_name);
	return 0;
}

static int
setup_user(struct setup *u, const char *name, const char *home, const char *comment, struct err *e)
{
	const struct passwd *pw = getpwnam(name);

	if (!pw)
		return add_user(u, name, home, comment, e);
	if (check_user(u, pw, e) < 0)
		return -1;
	return move_home(u, pw, home, e);
}

/* With numbers in common two slots could kill each other's containers and write their files. */
static int
check_subids(const char *path, const char *user, struct err *e)
{
	const struct passwd *pw = getpwnam(user);
	struct subid_ranges own;

	if (!pw)
		return 0;
	if (subid_ranges(path, user, pw->pw_uid, &own, e) < 0)
		return -1;
	if (own.n == 0)
		return err_set(e, ERR_SETTINGS,
			       "%s: the range of user %s reaches into another user's: give it one of its own",
			       path, user);
	return 0;
}

/* Room for the users of rootless containers: 65536 numbers each of users and groups. */
static int
setup_subids(struct setup *u, const char *user, struct err *e)
{
	AUTO_STRV struct strv args = { 0 };
	struct subid_range uids, gids;
	bool has_uids, has_gids;

	if (subid_find(SUBUID, user, &has_uids, &uids, e) < 0 ||
	    subid_find(SUBGID, user, &has_gids, &gids, e) < 0)
		return -1;
	if ((has_uids && check_subids(SUBUID, user, e) < 0) || (has_gids && check_subids(SUBGID, user, e) < 0))
		return -1;
	if (has_uids && has_gids)
		return 0;
	did(u, "made ranges of subordinate %sids for %s",
	    has_uids   ? "group "
	    : has_gids ? "user "
		       : "user and group ",
	    user);
	if (u->is_dry)
		return 0;
	strv_add(&args, "usermod");
	if (!has_uids) {
		strv_add(&args, "--add-subuids");
		strv_addf(&args, "%llu-%llu", (unsigned long long)uids.first, (unsigned long long)uids.last);
	}
	if (!has_gids) {
		strv_add(&args, "--add-subgids");
		strv_addf(&args, "%llu-%llu", (unsigned long long)gids.first, (unsigned long long)gids.last);
	}
	strv_add(&args, user);
	return run_tool(&args, e);
}

/* Two slots with one number would kill each other's jobs. */
static int
check_numbers(const struct setup *u, const struct strv *users, struct err *e)
{
	AUTO_FREE uid_t *uids = mem_array(users->n, sizeof(*uids));

	for (size_t i = 0; i < users->n; i++) {
		const struct passwd *pw = getpwnam(users->v[i]);

		if (!pw)
			return err_set(e, ERR_FAILED, "user %s was made and is not there", users->v[i]);
		uids[i] = pw->pw_uid;
		for (size_t k = 0; k < i; k++)
			if (uids[k] == uids[i])
				return err_set(e, ERR_SETTINGS,
					       "%s: users %s and %s are both uid %u: each needs its own",
					       u->s->path, users->v[k], users->v[i], uids[i]);
	}
	return 0;
}

static int
setup_users(struct setup *u, struct err *e)
{
	const struct settings *s = u->s;
	AUTO_FREE char *spool = mem_printf("%s/spool", s->state_dir);
	AUTO_STRV struct strv users = { 0 };

	if (setup_user(u, s->courier_user, spool, "Tidewaiter spool and DefectDojo", e) < 0 ||
	    setup_user(u, s->scan_user, "/nonexistent", "Tidewaiter scanner", e) < 0)
		return -1;
	strv_add(&users, s->courier_user);
	strv_add(&users, s->scan_user);
	for (int64_t slot = 0; slot < s->job.slots; slot++) {
		AUTO_FREE char *home = mem_printf("%s/slots/%lld/home", s->state_dir, (long long)slot);

		strv_addf(&users, "%s%lld", s->job.user_prefix, (long long)slot);
		if (setup_user(u, users.v[users.n - 1], home, "Tidewaiter job user", e) < 0 ||
		    setup_subids(u, users.v[users.n - 1], e) < 0)
			return -1;
	}
	for (size_t i = 0; i < s->job.groups.n; i++)
		if (!getgrnam(s->job.groups.v[i]))
			return err_set(e, ERR_SETTINGS, "%s: job.groups: there is no group %s on this host",
				       s->path, s->job.groups.v[i]);
	return u->is_dry ? 0 : check_numbers(u, &users, e);
}

/* What a directory has to be. */
struct want {
	const char *path;
	const char *owner; /* NULL: root */
	mode_t mode;
	bool is_exact;	      /* ours alone; otherwise an admin may open it further, but not for writing */
	const char *group_of; /* the user whose group it gets when it is made; NULL: the owner's */
};

static int
want_ids(const struct want *w, uid_t *uid, gid_t *gid, struct err *e)
{
	const struct passwd *pw = w->owner ? getpwnam(w->owner) : NULL;

	if (w->owner && !pw)
		return err_set(e, ERR_FAILED, "user %s is not there", w->owner);
	*uid = pw ? pw->pw_uid : 0;
	*gid = pw ? pw->pw_gid : 0;
	pw = w->group_of ? getpwnam(w->group_of) : NULL;
	if (w->group_of && !pw)
		return err_set(e, ERR_FAILED, "user %s is not there", w->group_of);
	*gid = pw ? pw->pw_gid : *gid;
	return 0;
}

/* Parents that are missing are made as such are: for all to read. */
static int
make_dir(const struct want *w, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FREE char *parent = mem_strdup(w->path);
	AUTO_FD int fd = -1;

	*strrchr(parent, '/') = '\0';
	if (parent[0] && access(parent, F_OK) < 0 && fs_mkdirs(AT_FDCWD, parent, 0755, e) < 0)
		return -1;
	if (mkdir(w->path, 0700) < 0)
		return err_errno(e, "%s", w->path);
	fd = fs_open_dir(AT_FDCWD, w->path, e);
	if (fd < 0)
		return -1;
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, w->mode) < 0)
		return err_errno(e, "%s", w->path);
	return 0;
}

static int
mend_dir(struct setup *u, const struct want *w, const struct stat *st, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int fd = -1;
	mode_t mode = st->st_mode & 07777;
	mode_t want = w->is_exact ? w->mode : (mode | w->mode);
	const char *owner = w->owner ? w->owner : "root";

	if (!S_ISDIR(st->st_mode))
		return err_set(e, ERR_FAILED, "%s is there and is no directory", w->path);
	/* A directory of somebody else's is not taken away; /var and its like are not touched either. */
	if (!w->is_exact && (st->st_uid != uid || (mode & 022)))
		return err_set(e, ERR_SETTINGS,
			       "%s: %s belongs to uid %u with mode %04o, and must be %s's and writable by nobody else",
			       u->s->path, w->path, st->st_uid, mode, owner);
	if (st->st_uid == uid && (!w->is_exact || st->st_gid == gid) && mode == want)
		return 0;
	did(u, "set %s to %s, mode %04o (was uid %u, mode %04o)", w->path, owner, want, st->st_uid, mode);
	if (u->is_dry)
		return 0;
	fd = fs_open_dir(AT_FDCWD, w->path, e);
	if (fd < 0)
		return -1;
	if ((w->is_exact && fchown(fd, uid, gid) < 0) || fchmod(fd, want) < 0)
		return err_errno(e, "%s", w->path);
	return 0;
}

static int
setup_dir(struct setup *u, const struct want *w, struct err *e)
{
	struct stat st;
	uid_t uid = 0;
	gid_t gid = 0;
	bool is_there = stat(w->path, &st) == 0;

	if (!is_there && errno != ENOENT)
		return err_errno(e, "%s", w->path);
	if (!is_there)
		did(u, "made directory %s (%s, mode %04o)", w->path, w->owner ? w->owner : "root", w->mode);
	/* A user that would only be made has no number yet. */
	if (u->is_dry && ((w->owner && !getpwnam(w->owner)) || (w->group_of && !getpwnam(w->group_of))))
		return 0;
	if (want_ids(w, &uid, &gid, e) < 0)
		return -1;
	if (!is_there)
		return u->is_dry ? 0 : make_dir(w, uid, gid, e);
	return mend_dir(u, w, &st, uid, gid, e);
}

/* Of the databases that `tidewaiter db` keeps; what brings others makes their place. */
static int
setup_db(struct setup *u, enum trivy_db_kind kind, const char *link, struct err *e)
{
	const struct settings *s = u->s;
	AUTO_FREE char *store = NULL;
	struct want want = { NULL, s->courier_user, TRIVY_DB_STORE_MODE, false, s->scan_user };

	if (trivy_db_store_check(kind, link, NULL) < 0)
		return 0;
	store = mem_strndup(link, (size_t)(strrchr(link, '/') - link));
	want.path = store;
	return setup_dir(u, &want, e);
}

static int
setup_dirs(struct setup *u, struct err *e)
{
	const struct settings *s = u->s;
	AUTO_FREE char *slots = mem_printf("%s/slots", s->state_dir);
	AUTO_FREE char *spool = mem_printf("%s/spool", s->state_dir);
	AUTO_FREE char *policy =
		*s->opt.policy.url ? mem_printf("%s/" POLICY_GIT_DIR, s->state_dir) : mem_strdup("");
	const struct want wants[] = {
		{ s->state_dir, NULL, 0711, false },	 { slots, NULL, 0711, true },
		{ spool, s->courier_user, 0700, true },	 { policy, s->courier_user, 0700, true },
		{ s->cache_dir, NULL, 0711, false },	 { s->job.builds_dir, NULL, 0711, false },
		{ s->job.cache_dir, NULL, 0711, false },
	};

	for (size_t i = 0; i < MEM_COUNT(wants); i++)
		if (!str_is_empty(wants[i].path) && setup_dir(u, &wants[i], e) < 0)
			return -1;
	if (setup_db(u, TRIVY_DB_VULNERABILITIES, s->opt.trivy.db_dir, e) < 0)
		return -1;
	return setup_db(u, TRIVY_DB_JAVA, s->opt.trivy.java_db_dir, e);
}

/* It is read by the courier and by nobody else but root. */
static int
setup_secret(struct setup *u, const char *setting, const char *path, struct err *e)
{
	const struct passwd *pw;
	AUTO_FD int fd = -1;
	struct stat st;

	if (str_is_empty(path))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ELOOP)
		return err_set(e, ERR_SETTINGS, "%s: %s %s is a symbolic link; name the file that it leads to",
			       u->s->path, setting, path);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, "%s %s", setting, path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SETTINGS, "%s: %s %s is not a regular file", u->s->path, setting, path);
	pw = getpwnam(u->s->courier_user);
	if (pw && st.st_uid == 0 && st.st_gid == pw->pw_gid && (st.st_mode & 07777) == 0640)
		return 0;
	did(u, "set %s to root, group of %s, mode 0640 (was uid %u, mode %04o)", path, u->s->courier_user,
	    st.st_uid, st.st_mode & 07777);
	if (u->is_dry)
		return 0;
	if (!pw || fchmod(fd, 0600) < 0 || fchown(fd, 0, pw->pw_gid) < 0 || fchmod(fd, 0640) < 0)
		return err_errno(e, "%s", path);
	return 0;
}

static int
setup_secrets(struct setup *u, struct err *e)
{
	const struct options *o = &u->s->opt;
	const struct {
		const char *setting, *path;
	} secrets[] = {
		{ "defectdojo.token_file", o->defectdojo.token_file },
		{ "defectdojo.client_key_file", o->defectdojo.client_key_file },
		{ "defectdojo.redis_key_file", o->defectdojo.redis_key_file },
		{ "defectdojo.redis_auth_file", o->defectdojo.redis_auth_file },
		{ "policy.credentials_file", o->policy.credentials_file },
		{ "policy.ssh_key_file", o->policy.ssh_key_file },
		{ "trivy.results_key_file", o->trivy.results_key_file },
		{ "trivy.results_auth_file", o->trivy.results_auth_file },
		{ "trivy.server_token_file", o->trivy.server_token_file },
	};

	for (size_t k = 0; k < MEM_COUNT(secrets); k++)
		if (setup_secret(u, secrets[k].setting, secrets[k].path, e) < 0)
			return -1;
	return 0;
}

static int
lock_others_out(struct err *e)
{
	AUTO_FD int dir = fs_open_dir(AT_FDCWD, LOCK_DIR, e);
	int fd = dir < 0 ? -1 : fs_lock(dir, LOCK_NAME, clock_deadline(LOCK_TIME_MS), e);

	return fd < 0 ? err_wrap(e, "setup is made one at a time (" LOCK_DIR "/" LOCK_NAME ")") : fd;
}

static int
setup_all(struct setup *u, struct err *e)
{
	AUTO_FD int lock = u->is_dry ? -1 : lock_others_out(e);

	if (lock < 0 && !u->is_dry)
		return -1;
	if (setup_users(u, e) < 0 || setup_dirs(u, e) < 0 || setup_secrets(u, e) < 0)
		return -1;
	if (u->n_changes == 0)
		printf("nothing to do: users and directories are as %s asks for\n", u->s->path);
	if (strv_has(&u->s->job.groups, "docker"))
		printf("note: job.groups has docker: a job that reaches the engine's socket is root on this host\n");
	return 0;
}

static const struct cli_option rows[] = {
	{ "dry-run", NULL, OPTION_FLAG, offsetof(struct setup, is_dry), "say what would be done", NULL },
};
static const struct cli_options options = { "setup", rows, MEM_COUNT(rows), NULL };

static int
setup_run(struct cli *cli, int argc, char **argv, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;
	struct setup u = { .is_dry = false };
	int n_operands;

	if (options_parse(&options, argc, argv, &u, &n_operands, e) < 0)
		return -1;
	if (geteuid() != 0 && !u.is_dry)
		return err_set(e, ERR_USAGE, "setup makes users and must run as root; --dry-run only looks");
	if (settings_load(cli->has_config_path ? cli->config_path : NULL, &s, e) < 0)
		return -1;
	umask(022);
	u.s = s;
	return setup_all(&u, e) < 0 ? -1 : CLI_OK;
}

const struct command command_setup = {
	.name = "setup",
	.summary = "make the users and directories that the settings ask for",
	.help = "Usage: tidewaiter setup [--dry-run]\n"
		"\n"
		"Makes what is missing: a user for each of job.slots slots with ranges of subordinate\n"
		"ids (for rootless containers), scan_user and courier_user, state_dir, cache_dir and\n"
		"the directories of jobs; gives files with tokens and keys to the courier's group. Says\n"
		"what it did. Run again it does nothing; after a change of the settings, the rest.\n"
		"Nothing is ever removed: users that are no longer needed are for `userdel`.\n",
	.options = &options,
	.n_options = 1,
	.notes = "Exit codes: 0 done, 2 wrong use or settings, 3 something failed.\n",
	.run = setup_run,
};
