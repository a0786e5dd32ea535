#include "executor/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

struct place {
	const char *dir;  /* of the plan: <base>/<slot> */
	const char *base; /* job.builds_dir or job.cache_dir */
};

/* Below base: ".kept/<slot>", and the tree's name in it. */
struct kept {
	char *parent;
	char *name;
};

static void
kept_of(const struct plan *p, struct kept *ret)
{
	ret->parent = mem_printf(".kept/%lld", (long long)p->slot);
	ret->name = mem_printf("%lld%s", (long long)p->facts.project_id, p->facts.is_protected ? "-protected" : "");
}

static void
kept_free(struct kept *k)
{
	mem_free_at(&k->parent);
	mem_free_at(&k->name);
}
#define AUTO_KEPT __attribute__((cleanup(kept_free)))

static const char *
last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* .kept is ours alone; a directory of that name that is not is refused. Descriptor of `parent`. */
static int
open_parent(int basefd, const struct kept *k, struct err *e)
{
	AUTO_FD int fd = -1;
	struct stat st;

	if (fs_mkdirs(basefd, ".kept", 0700, e) < 0 || fs_mkdirs(basefd, k->parent, 0700, e) < 0)
		return -1;
	fd = fs_open_dir(basefd, ".kept", e);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return err_errno(e, ".kept");
	if (st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(e, ERR_FAILED, ".kept must belong to uid %u with mode 0700", geteuid());
	return fs_open_beneath(basefd, k->parent, O_RDONLY | O_DIRECTORY, 0, e);
}

static int
restore_one(const struct plan *p, const struct place *place, const struct kept *k, struct err *e)
{
	AUTO_FD int base = -1;
	AUTO_FD int parent = -1;
	const char *slot = last_part(place->dir);
	struct stat st;

	if (fs_mkdirs(AT_FDCWD, place->base, 0711, e) < 0)
		return -1;
	base = fs_open_dir(AT_FDCWD, place->base, e);
	if (base < 0)
		return -1;
	parent = open_parent(base, k, e);
	if (parent < 0)
		return -1;
	if (fstatat(parent, k->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(e, "%s", k->name);
	if (!S_ISDIR(st.st_mode) || st.st_uid != (uid_t)p->uid)
		return fs_remove_tree(parent, k->name, e);
	/* What a job without cleanup may have left there is worth nothing. */
	if (fs_remove_tree(base, slot, e) < 0)
		return -1;
	if (renameat(parent, k->name, base, slot) < 0)
		return err_errno(e, "%s", place->dir);
	return 0;
}

static int
store_one(const struct place *place, const struct kept *k, struct err *e)
{
	AUTO_FD int base = -1;
	AUTO_FD int parent = -1;
	const char *slot = last_part(place->dir);
	struct err why = ERR_INIT;

	base = fs_open_dir(AT_FDCWD, place->base, &why);
	if (base < 0)
		return why.no == ENOENT ? 0 : err_set(e, why.kind, "%s", why.text);
	/* An empty directory is not kept. */
	if (unlinkat(base, slot, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	parent = open_parent(base, k, e);
	if (parent < 0)
		return -1;
	if (fs_remove_tree(parent, k->name, e) < 0)
		return -1;
	if (renameat(base, slot, parent, k->name) < 0)
		return err_errno(e, "%s", place->dir);
	return 0;
}

/* The directory beside the project's with its file variables, gone if the job ended as it should. */
static int
remove_temporary(const struct plan *p, struct err *e)
{
	const char *below = p->project_dir + strlen(p->builds_dir) + 1;
	AUTO_FREE char *name = mem_printf("%s.tmp", last_part(below));
	AUTO_FREE char *dir = mem_strndup(below, (size_t)(last_part(below) - below));
	AUTO_FD int builds = -1;
	AUTO_FD int fd = -1;
	struct err why = ERR_INIT;

	builds = fs_open_dir(AT_FDCWD, p->builds_dir, &why);
	if (builds >= 0)
		fd = fs_open_beneath(builds, dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY, 0, &why);
	if (fd < 0)
		return why.no == ENOENT ? 0 : err_set(e, why.kind, "%s", why.text);
	return fs_remove_tree(fd, name, e);
}

int
keep_restore(const struct plan *p, struct err *e)
{
	const struct place builds = { p->builds_dir, p->job.builds_dir };
	const struct place caches = { p->job_cache_dir, p->job.cache_dir };
	AUTO_KEPT struct kept k = { NULL, NULL };

	kept_of(p, &k);
	if ((p->job.keep_builds && restore_one(p, &builds, &k, e) < 0) || restore_one(p, &caches, &k, e) < 0)
		return err_wrap(e, "what was kept for the project");
	return 0;
}

int
keep_store(const struct plan *p, struct err *e)
{
	const struct place builds = { p->builds_dir, p->job.builds_dir };
	const struct place caches = { p->job_cache_dir, p->job.cache_dir };
	AUTO_KEPT struct kept k = { NULL, NULL };

	kept_of(p, &k);
	if (p->job.keep_builds && (remove_temporary(p, e) < 0 || store_one(&builds, &k, e) < 0))
		return err_wrap(e, "keeping the project's tree");
	if (store_one(&caches, &k, e) < 0)
		return err_wrap(e, "keeping the job's caches");
	return 0;
}
