#include "stages/commit_files.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <git2/sys/repository.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/git_child.h"

#define OBJECTS ".git/objects"
#define MEMORY_MAX ((uint64_t)2 << 30)
#define TREE_MAX ((size_t)16 << 20) /* bytes of a commit or of one directory of it */
#define NAME_BYTES 255

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

/* What is on the way from the child: in front of each file. */
struct head {
	size_t name, text; /* bytes */
};

/* ---- the opener ---- */

/* The same directory as a mount without a place: ".." ends in it. -1: we may not, or the kernel is too old. */
static int
take_apart(int fd)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					       MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW };
	AUTO_FD int tree =
		(int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -1;
	return take_fd(tree);
}

int
commit_files_open(int project_fd, struct err *e)
{
	AUTO_FD int fd = fs_open_beneath(project_fd, OBJECTS, O_RDONLY | O_DIRECTORY, 0, e);
	int apart;

	if (fd < 0)
		return err_wrap(e, OBJECTS);
	apart = take_apart(fd);
	return apart >= 0 ? apart : take_fd(fd);
}

/* ---- the child ---- */

struct look {
	int objects_fd;
	const char *sha;
	git_odb *odb;
	git_repository *repo;
	size_t n;
	struct buf *out;
};

static void
look_end(struct look *k)
{
	git_repository_free(k->repo);
	git_odb_free(k->odb);
}
#define AUTO_LOOK __attribute__((cleanup(look_end)))

static void
free_tree(git_tree **t)
{
	git_tree_free(*t);
}
static void
free_commit(git_commit **c)
{
	git_commit_free(*c);
}
static void
free_odb_object(git_odb_object **o)
{
	git_odb_object_free(*o);
}
#define AUTO_GIT(what) __attribute__((cleanup(free_##what)))

/* The two kinds of places in which objects lie, and none that a file in there names. */
static int
open_objects(struct look *k, struct err *e)
{
	AUTO_FREE char *path = mem_printf("/proc/self/fd/%d", k->objects_fd);
	git_odb_backend *loose = NULL, *packed = NULL;

	if (git_odb_new(&k->odb) < 0)
		return git_fault(e, OBJECTS);
	if (git_odb_backend_loose(&loose, path, -1, 0, 0, 0) < 0 || git_odb_add_backend(k->odb, loose, 1) < 0)
		return git_fault(e, OBJECTS);
	if (git_odb_backend_pack(&packed, path) < 0 || git_odb_add_backend(k->odb, packed, 2) < 0)
		return git_fault(e, OBJECTS);
	return git_repository_wrap_odb(&k->repo, k->odb) < 0 ? git_fault(e, OBJECTS) : 0;
}

/* Before any of it is in memory. */
static int
check_size(const struct look *k, const git_oid *id, git_object_t want, size_t max, const char *what,
	   struct err *e)
{
	git_object_t type;
	size_t size;

	if (git_odb_read_header(&size, &type, k->odb, id) < 0)
		return git_fault(e, "%s", what);
	if (type != want || size > max)
		return err_set(e, ERR_REFUSED, "%s: a %s of %zu bytes, allowed is a %s of %zu", what,
			       git_object_type2string(type), size, git_object_type2string(want), max);
	return 0;
}

static int
add_file(struct look *k, const char *name, const git_oid *id, struct err *e)
{
	AUTO_GIT(odb_object) git_odb_object *blob = NULL;
	AUTO_FREE char *safe = str_safe(name, NAME_BYTES);
	struct head h = { .name = strlen(name) };

	if (++k->n > COMMIT_FILES_MAX)
		return err_set(e, ERR_REFUSED, "more than %d files", COMMIT_FILES_MAX);
	if (check_size(k, id, GIT_OBJECT_BLOB, IGNORE_FILE_MAX, safe, e) < 0)
		return -1;
	if (git_odb_read(&blob, k->odb, id) < 0)
		return git_fault(e, "%s", safe);
	h.text = git_odb_object_size(blob);
	buf_add(k->out, &h, sizeof(h));
	buf_add(k->out, name, h.name);
	buf_add(k->out, git_odb_object_data(blob), h.text);
	return 0;
}

static int
read_tree(struct look *k, const git_oid *id, const char *prefix, git_tree **ret, struct err *e)
{
	if (check_size(k, id, GIT_OBJECT_TREE, TREE_MAX, *prefix ? prefix : "the commit's tree", e) < 0)
		return -1;
	return git_tree_lookup(ret, k->repo, id) < 0
		       ? git_fault(e, "%s", *prefix ? prefix : "the commit's tree")
		       : 0;
}

static bool
is_plain_file(const git_tree_entry *t)
{
	git_filemode_t mode = git_tree_entry_filemode(t);

	return mode == GIT_FILEMODE_BLOB || mode == GIT_FILEMODE_BLOB_EXECUTABLE;
}

/* Links and submodules are no files of this commit. */
static int
add_files(struct look *k, const git_tree *tree, const char *prefix, struct err *e)
{
	for (size_t i = 0; i < git_tree_entrycount(tree); i++) {
		const git_tree_entry *t = git_tree_entry_byindex(tree, i);
		AUTO_FREE char *name = mem_printf("%s%s", prefix, git_tree_entry_name(t));
		enum ignore_file kind;

		if (strlen(name) <= NAME_BYTES && ignore_file_kind(name, &kind) && is_plain_file(t) &&
		    add_file(k, name, git_tree_entry_id(t), e) < 0)
			return -1;
	}
	return 0;
}

static int
look(void *arg, struct buf *out, struct err *e)
{
	const struct look *given = arg;
	AUTO_LOOK struct look k = { .objects_fd = given->objects_fd, .sha = given->sha, .out = out };
	AUTO_GIT(commit) git_commit *commit = NULL;
	AUTO_GIT(tree) git_tree *tree = NULL;
	AUTO_GIT(tree) git_tree *vex = NULL;
	const git_tree_entry *t;
	git_oid id;

	if (git_oid_fromstr(&id, k.sha) < 0)
		return git_fault(e, "commit");
	if (open_objects(&k, e) < 0 || check_size(&k, &id, GIT_OBJECT_COMMIT, TREE_MAX, "the commit", e) < 0)
		return -1;
	if (git_commit_lookup(&commit, k.repo, &id) < 0)
		return git_fault(e, "the commit");
	if (read_tree(&k, git_commit_tree_id(commit), "", &tree, e) < 0 || add_files(&k, tree, "", e) < 0)
		return -1;
	t = git_tree_entry_byname(tree, ".vex");
	if (!t || git_tree_entry_type(t) != GIT_OBJECT_TREE)
		return 0;
	return read_tree(&k, git_tree_entry_id(t), ".vex/", &vex, e) < 0 ? -1 : add_files(&k, vex, ".vex/", e);
}

/* ---- the scanner ---- */

static void
read_all(const struct buf *all, struct ignore_list *ret)
{
	size_t at = 0;

	while (all->len - at >= sizeof(struct head)) {
		AUTO_FREE char *name = NULL;
		struct err e = ERR_INIT;
		struct head h;

		memcpy(&h, all->data + at, sizeof(h));
		at += sizeof(h);
		if (h.name > all->len - at || h.text > all->len - at - h.name)
			return;
		name = mem_strndup(all->data + at, h.name);
		at += h.name;
		if (ignore_file_read(name, all->data + at, h.text, ret, &e) < 0)
			strv_addf(&ret->notes, "%s: nothing in it counts", e.text);
		at += h.text;
	}
}

void
commit_files_load(int objects_fd, const char *sha, int64_t deadline, struct ignore_list *ret)
{
	const struct git_limits l = { .deadline = deadline,
				      .memory_max = MEMORY_MAX,
				      .answer_max = COMMIT_FILES_MAX * (IGNORE_FILE_MAX + 1024) };
	AUTO_BUF struct buf all = BUF_INIT(l.answer_max);
	struct look k = { .objects_fd = objects_fd, .sha = sha };
	struct err e = ERR_INIT;

	if (objects_fd < 0)
		err_set(&e, ERR_FAILED, "the project has no " OBJECTS);
	else if (!sha || strlen(sha) != GIT_OID_HEXSZ || !str_is_hex(sha, GIT_OID_HEXSZ))
		err_set(&e, ERR_UNSUPPORTED, "its name is no SHA-1");
	else if (git_child_run(&l, look, &k, &all, &e) == 0)
		read_all(&all, ret);
	if (e.kind != ERR_NONE)
		strv_addf(&ret->notes, "ignore files of commit %.12s cannot be read and do not count: %s",
			  sha ? sha : "?", e.text);
}
