#include "executor/host_sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/host_ids.h"
#include "executor/mountinfo.h"

#define PROC_TEXT_MAX (16 * 1024 * 1024) /* bytes */

/* Where crontabs lie: files named after their user. */
static const char *const crontab_dirs[] = { "/var/spool/cron/crontabs", "/var/spool/cron", "/etc/crontabs",
					    "/var/lib/systemd/linger" };
/* Where at jobs lie: files of their user. */
static const char *const at_dirs[] = { "/var/spool/cron/atjobs", "/var/spool/cron/atspool", "/var/spool/at",
				       "/var/spool/at/spool" };
/* Where everybody may write. Directories of others in them, where everybody may write too (/tmp/.X11-unix), are looked into. */
static const char *const shared_dirs[] = { "/tmp",
					   "/var/tmp",
					   "/dev/shm",
					   "/dev/mqueue",
					   "/run/lock",
					   "/run/screen",
					   "/var/crash",
					   "/var/mail",
					   "/var/metrics",
					   "/var/spool/samba",
					   "/var/lib/php/sessions" };
#define SHARED_DEPTH 3 /* directories below each other */

/* The first error of several. */
static void
note(int rc, const struct err *one, struct err *first)
{
	if (rc < 0 && first->kind == ERR_NONE)
		*first = *one;
}

static int
give(const struct err *first, struct err *e)
{
	if (first->kind == ERR_NONE)
		return 0;
	if (e)
		*e = *first;
	return -1;
}

static int
remove_crontab(const char *dir, const char *user, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/%s", dir, user);

	/* EISDIR, EPERM: something of that name that is no crontab */
	if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR && errno != EISDIR)
		return err_errno(e, "%s", path);
	return 0;
}

/* A directory of ours or of the system's; NULL where the host has none. */
static DIR *
open_shared(int dirfd_, const char *path)
{
	int fd = openat(dirfd_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/* Somebody else's directory that lets others make files in it. */
static bool
is_shared(const struct stat *st)
{
	return S_ISDIR(st->st_mode) && (st->st_mode & S_IWOTH);
}

/* What lies in the directory, and `depth` shared ones below each other, and belongs to the slot. */
static int
remove_owned(DIR *dir, const struct host_ids *ids, int depth, struct err *e)
{
	AUTO_STRV struct strv names = { 0 };
	AUTO_STRV struct strv shared = { 0 };
	struct err first = ERR_INIT, one = ERR_INIT;
	struct dirent *ent;
	size_t i;
	int rc;

	while ((rc = fs_next(dir, &ent, &one)) > 0) {
		struct stat st;

		if (fstatat(dirfd(dir), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (host_ids_has(ids, st.st_uid))
			strv_add(&names, ent->d_name);
		else if (depth > 0 && is_shared(&st))
			strv_add(&shared, ent->d_name);
	}
	note(rc, &one, &first);
	for (i = 0; i < names.n; i++) {
		err_clear(&one);
		note(fs_remove_tree(dirfd(dir), names.v[i], &one), &one, &first);
	}
	for (i = 0; i < shared.n; i++) {
		AUTO_DIR DIR *below = open_shared(dirfd(dir), shared.v[i]);

		err_clear(&one);
		if (below)
			note(remove_owned(below, ids, depth - 1, &one), &one, &first);
	}
	return give(&first, e);
}

static void
sweep_dir(const char *path, const struct host_ids *ids, int depth, struct err *first)
{
	AUTO_DIR DIR *dir = open_shared(AT_FDCWD, path);
	struct err one = ERR_INIT;

	if (dir && remove_owned(dir, ids, depth, &one) < 0) {
		err_wrap(&one, "%s", path);
		note(-1, &one, first);
	}
}

int
host_sweep_timers(const struct plan *p, struct err *e)
{
	struct err first = ERR_INIT;
	struct host_ids ids;
	size_t i;

	if (!p->is_separated)
		return 0;
	if (host_ids_load(p, &ids, e) < 0)
		return -1;
	for (i = 0; i < MEM_COUNT(crontab_dirs); i++) {
		struct err one = ERR_INIT;

		note(remove_crontab(crontab_dirs[i], p->user, &one), &one, &first);
		/* and what an editor of it left half written */
		sweep_dir(crontab_dirs[i], &ids, 0, &first);
	}
	for (i = 0; i < MEM_COUNT(at_dirs); i++)
		sweep_dir(at_dirs[i], &ids, 0, &first);
	return give(&first, e);
}

/* One of the tables in /proc/sysvipc: its id is the second column, the uids are found by the heading. */
struct ipc_table {
	const char *path;
	int (*remove)(int id);
};

static int
remove_shm(int id)
{
	return shmctl(id, IPC_RMID, NULL);
}

static int
remove_sem(int id)
{
	return semctl(id, 0, IPC_RMID);
}

static int
remove_msg(int id)
{
	return msgctl(id, IPC_RMID, NULL);
}

static const struct ipc_table ipc_tables[] = {
	{ "/proc/sysvipc/shm", remove_shm },
	{ "/proc/sysvipc/sem", remove_sem },
	{ "/proc/sysvipc/msg", remove_msg },
};

static int
column(const char *line, int n, int64_t *ret)
{
	AUTO_FREE char *copy = mem_strdup(line);
	char *save = NULL, *word = strtok_r(copy, " ", &save);

	while (word && n-- > 0)
		word = strtok_r(NULL, " ", &save);
	return word ? str_parse_int(word, INT32_MIN, INT64_MAX, ret, NULL) : -1;
}

static int
find_column(const char *heading, const char *name)
{
	AUTO_FREE char *copy = mem_strdup(heading);
	char *save = NULL, *word;
	int n = 0;

	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save), n++) {
		if (str_eq(word, name))
			return n;
	}
	return -1;
}

static int
sweep_ipc(const struct ipc_table *t, const struct host_ids *ids, struct err *e)
{
	AUTO_FREE char *text = NULL;
	char *save = NULL, *line;
	int owner, maker;
	size_t len;

	/* A kernel without SysV IPC */
	if (access(t->path, R_OK) < 0)
		return 0;
	if (fs_read_max(AT_FDCWD, t->path, PROC_TEXT_MAX, &text, &len, e) < 0)
		return -1;
	line = strtok_r(text, "\n", &save);
	owner = line ? find_column(line, "uid") : -1;
	maker = line ? find_column(line, "cuid") : -1;
	if (owner < 0 || maker < 0)
		return err_set(e, ERR_FAILED, "%s: no columns uid and cuid", t->path);
	while ((line = strtok_r(NULL, "\n", &save))) {
		int64_t id, a, b;

		if (column(line, 1, &id) < 0 || column(line, owner, &a) < 0 || column(line, maker, &b) < 0)
			continue;
		if ((host_ids_has(ids, (uid_t)a) || host_ids_has(ids, (uid_t)b)) && t->remove((int)id) < 0 &&
		    errno != EINVAL && errno != EIDRM)
			return err_errno(e, "%s: id %lld", t->path, (long long)id);
	}
	return 0;
}

/* All queues of our IPC namespace, wherever they are mounted: by a mount of our own that has no name. */
static int
sweep_queues(const struct host_ids *ids, struct err *e)
{
	AUTO_FD int fs = fsopen("mqueue", FSOPEN_CLOEXEC);
	AUTO_FD int mnt = -1;
	AUTO_DIR DIR *dir = NULL;
	int fd;

	/* Not built into the kernel, or not allowed here: then /dev/mqueue among the shared places has to do. */
	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return 0;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mnt < 0)
		return 0;
	fd = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return err_errno(e, "message queues");
	}
	return remove_owned(dir, ids, 0, e) < 0 ? err_wrap(e, "message queues") : 0;
}

/* As the user himself, whose processes are all dead. */
static int
clear_keys(uid_t uid, gid_t gid)
{
	static const int rings[] = { KEY_SPEC_USER_KEYRING, KEY_SPEC_USER_SESSION_KEYRING };
	long persistent;
	size_t i;

	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return errno;
	/* A session of its own first: the one that we came with is root's. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0)
		return errno == ENOSYS || errno == EPERM ? 0 : errno;
	for (i = 0; i < MEM_COUNT(rings); i++)
		(void)syscall(SYS_keyctl, KEYCTL_CLEAR, rings[i]);
	persistent = syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING);
	if (persistent > 0)
		(void)syscall(SYS_keyctl, KEYCTL_CLEAR, persistent);
	return 0;
}

static int
sweep_keys(const struct plan *p, struct err *e)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_errno(e, "fork");
	if (pid == 0)
		_exit(clear_keys((uid_t)p->uid, (gid_t)p->gid) & 0xff);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return err_errno(e, "wait");
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
		errno = WEXITSTATUS(status);
		return err_errno(e, "keys of user %s", p->user);
	}
	return 0;
}

int
host_sweep_rest(const struct plan *p, struct err *e)
{
	AUTO_FREE char *runtime_dir = mem_printf("/run/user/%lld", (long long)p->uid);
	struct err first = ERR_INIT, one = ERR_INIT;
	struct host_ids ids;
	size_t i;

	if (!p->is_separated)
		return 0;
	if (host_ids_load(p, &ids, e) < 0)
		return -1;
	for (i = 0; i < MEM_COUNT(ipc_tables); i++) {
		err_clear(&one);
		note(sweep_ipc(&ipc_tables[i], &ids, &one), &one, &first);
	}
	err_clear(&one);
	note(sweep_queues(&ids, &one), &one, &first);
	err_clear(&one);
	note(sweep_keys(p, &one), &one, &first);
	for (i = 0; i < MEM_COUNT(shared_dirs); i++)
		sweep_dir(shared_dirs[i], &ids, SHARED_DEPTH, &first);
	/* Where a session of the user was opened: the directory is a mount of systemd's, which takes it away by itself. */
	sweep_dir(runtime_dir, &ids, 0, &first);
	return give(&first, e);
}

static bool
is_below(const char *path, const char *const *dirs, size_t n_dirs)
{
	size_t i;

	for (i = 0; i < n_dirs; i++) {
		size_t len = strlen(dirs[i]);

		if (strncmp(path, dirs[i], len) == 0 && (path[len] == '/' || path[len] == '\0'))
			return true;
	}
	return false;
}

int
host_sweep_mounts(const char *const *dirs, size_t n_dirs, struct err *e)
{
	AUTO_FREE char *text = NULL;
	AUTO_STRV struct strv points = { 0 };
	char *save = NULL, *line;
	size_t len, i;

	if (fs_read_max(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &len, e) < 0)
		return -1;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct mountinfo m;

		if (mountinfo_parse(line, &m) && is_below(m.point, dirs, n_dirs))
			strv_add(&points, m.point);
	}
	for (i = points.n; i > 0; i--) {
		if (umount2(points.v[i - 1], MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL &&
		    errno != ENOENT)
			return err_errno(e, "unmounting %s", points.v[i - 1]);
	}
	return 0;
}
