#include "stages/discover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "stages/archive_kind.h"
#include "stages/discover_globs.h"
#include "stages/pipeline.h"
#include "stages/tar.h"

struct walk {
	struct inspection *i;
	const struct glob_set *globs;
	size_t n_names;
	bool is_over; /* a bound was passed and said */
};

static void
add_fault(struct inspection *i, const char *name, enum err_kind kind, const char *text)
{
	struct archive *a = inspection_add_archive(i);

	a->name = mem_strdup(name);
	a->fd = -1;
	err_set(&a->fault, kind, "%s", text);
}

static bool
is_refused_type(mode_t mode)
{
	return !S_ISREG(mode) && !S_ISDIR(mode);
}

static const char *
type_fault(mode_t mode)
{
	if (S_ISLNK(mode))
		return "link: it is a symbolic link, which is not followed";
	if (S_ISFIFO(mode))
		return "type: it is a FIFO";
	if (S_ISSOCK(mode))
		return "type: it is a socket";
	return "type: it is a device";
}

/* --- a regular file --- */

static int
read_head(int fd, unsigned char head[ARCHIVE_KIND_BYTES], size_t *ret_len, struct err *e)
{
	ssize_t got;

	do
		got = pread(fd, head, ARCHIVE_KIND_BYTES, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_errno(e, "read");
	*ret_len = (size_t)got;
	return 0;
}

static bool
is_candidate(const unsigned char *head, size_t len, const char *name)
{
	enum archive_kind kind = archive_kind_of(head, len);

	if (archive_kind_is_name(name))
		return true;
	/* A block of zeros is an empty tar, or the beginning of a disk's image. */
	return kind != ARCHIVE_OTHER && !(kind == ARCHIVE_TAR && tar_is_zero(head));
}

static int
open_file(int dirfd, const char *name, struct stat *ret_st, struct err *e)
{
	/* O_NONBLOCK: what became a FIFO meanwhile must not hang. */
	AUTO_FD int fd = fs_open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, e);

	if (fd < 0)
		return -1;
	if (fstat(fd, ret_st) < 0)
		return err_errno(e, "fstat");
	return take_fd(fd);
}

static void
take_file(struct walk *w, int dirfd, const char *name, const char *path, bool is_named, bool is_through_link)
{
	struct inspection *i = w->i;
	struct err e = ERR_INIT;
	struct stat st;
	unsigned char head[ARCHIVE_KIND_BYTES];
	size_t len = 0;
	AUTO_FD int fd = open_file(dirfd, name, &st, &e);
	struct archive *a;

	if (fd < 0) {
		if (e.no != ENOENT)
			add_fault(i, path, e.no == ELOOP || e.no == EXDEV ? ERR_REFUSED : e.kind, e.text);
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		add_fault(i, path, ERR_REFUSED, "type: it is not a regular file any more");
		return;
	}
	if (read_head(fd, head, &len, &e) < 0) {
		add_fault(i, path, ERR_FAILED, e.text);
		return;
	}
	if (!is_candidate(head, len, name)) {
		AUTO_FREE char *safe = str_safe(path, 200);

		if (is_named)
			log_line(i->log, LOG_NOTE, "%s is ignored: it is no archive", safe);
		return;
	}
	if (is_through_link) {
		add_fault(i, path, ERR_REFUSED,
			  "link: it is reached through a symbolic link, which is not followed");
	} else if (st.st_nlink != 1) {
		add_fault(i, path, ERR_REFUSED, "link: the file has other names (hard links) too");
	} else {
		a = inspection_add_archive(i);
		a->name = mem_strdup(path);
		a->fd = take_fd(fd);
		fs_identity_of(&st, &a->id);
	}
}

/* --- directories --- */

static bool
has_file(int dirfd, const char *name, const char *begins)
{
	struct err ignored = ERR_INIT;
	unsigned char head[ARCHIVE_KIND_BYTES];
	struct stat st;
	size_t len = 0;
	AUTO_FD int fd = open_file(dirfd, name, &st, &ignored);

	return fd >= 0 && S_ISREG(st.st_mode) && read_head(fd, head, &len, &ignored) == 0 &&
	       len >= strlen(begins) && !memcmp(head, begins, strlen(begins));
}

static bool
has_dir(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* https://github.com/containers/image/blob/main/docs/containers-transports.5.md, dir: and oci: */
static bool
is_layout(int dirfd)
{
	return has_file(dirfd, "oci-layout", "") ||
	       (has_file(dirfd, "index.json", "") && has_dir(dirfd, "blobs")) ||
	       (has_file(dirfd, "version", "Directory Transport Version") &&
		has_file(dirfd, "manifest.json", ""));
}

static size_t
n_open(const struct inspection *i)
{
	size_t n = i->n_archives;

	for (size_t k = 0; k < i->n_archives; k++)
		n += i->archives[k].files.n;
	return n;
}

/* An image layout that is a directory, with all that is in it. `fd` stays the caller's. */
static void
take_layout(struct inspection *i, int fd, const char *path)
{
	size_t n = n_open(i);
	AUTO_FD int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct layout_files files = { 0 };
	struct err e = ERR_INIT;
	struct archive *a;
	struct stat st;

	if (own < 0 || fstat(own, &st) < 0) {
		add_fault(i, path, ERR_FAILED, "it cannot be looked at");
	} else if (layout_dir_open(own, n < DISCOVER_FILES_MAX ? DISCOVER_FILES_MAX - n : 0, &files, &e) < 0) {
		add_fault(i, path, e.kind, e.text);
	} else {
		a = inspection_add_archive(i);
		a->name = mem_strdup(path);
		a->fd = take_fd(own);
		a->is_dir = true;
		a->files = files;
		fs_identity_of(&st, &a->id);
	}
}

static void walk_dir(struct walk *w, int dirfd, const char *path, const struct glob_at *at, unsigned depth,
		     bool is_through_link);

/* What names all that is in tar_images/ names tar_images/oci-layout, so that tar_images/ itself may be the layout. */
static bool
is_named_by_its_files(const struct walk *w, const struct glob_at *below)
{
	static const char *const names[] = { "oci-layout", "index.json", "manifest.json" };
	bool is_named = false;

	for (size_t k = 0; k < MEM_COUNT(names); k++) {
		struct glob_at ignored = { 0 };

		is_named = is_named || glob_at_step(w->globs, below, names[k], &ignored).is_named;
		glob_at_free(&ignored);
	}
	return is_named;
}

static void
enter(struct walk *w, int fd, const char *path, const struct glob_at *below, const struct glob_match *m,
      unsigned depth, bool is_through_link)
{
	bool is_image = (m->is_named || m->is_in_tree || is_named_by_its_files(w, below)) && is_layout(fd);

	if (is_image && is_through_link)
		add_fault(w->i, path, ERR_REFUSED,
			  "link: it is reached through a symbolic link, which is not followed");
	else if (is_image)
		take_layout(w->i, fd, path);
	else if (m->is_way)
		walk_dir(w, fd, path, below, depth + 1, is_through_link);
}

/* A link on the way to what a glob names. Where it leads out of the project, an upload would follow it there. */
static void
look_behind_link(struct walk *w, int dirfd, const char *name, const char *path, const struct glob_at *below,
		 const struct glob_match *m, unsigned depth)
{
	/* From the project's top, so that a link may climb within it. */
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	AUTO_FD int fd = (int)syscall(SYS_openat2, w->i->project_fd, path, &how, sizeof(how));
	struct stat st;

	if (fd >= 0)
		enter(w, fd, path, below, m, depth, true);
	else if (errno == EXDEV && fstatat(dirfd, name, &st, 0) == 0 && S_ISDIR(st.st_mode))
		add_fault(w->i, path, ERR_REFUSED,
			  "link: a symbolic link that leads out of the project directory");
	else if (errno == ELOOP)
		add_fault(w->i, path, ERR_REFUSED, "link: a symbolic link that leads nowhere");
}

static void
look_at_name(struct walk *w, int dirfd, const char *name, const char *path, const struct glob_at *at,
	     unsigned depth, bool is_through_link)
{
	struct glob_at below;
	struct glob_match m = glob_at_step(w->globs, at, name, &below);
	struct err e = ERR_INIT;
	struct stat st;

	if (!m.is_named && !m.is_way) {
		glob_at_free(&below);
		return;
	}
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			add_fault(w->i, path, ERR_FAILED, "it cannot be looked at");
	} else if (S_ISDIR(st.st_mode)) {
		AUTO_FD int fd = fs_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0, &e);

		if (fd >= 0)
			enter(w, fd, path, &below, &m, depth, is_through_link);
		else if (e.no != ENOENT)
			add_fault(w->i, path, e.no == ELOOP || e.no == ENOTDIR ? ERR_REFUSED : ERR_FAILED,
				  e.text);
	} else if (m.is_named || m.is_in_tree) {
		if (!is_refused_type(st.st_mode))
			take_file(w, dirfd, name, path, m.is_named, is_through_link);
		else if (m.is_named || archive_kind_is_name(name))
			add_fault(w->i, path, ERR_REFUSED, type_fault(st.st_mode));
	} else if (S_ISLNK(st.st_mode) && m.is_sure_way) {
		look_behind_link(w, dirfd, name, path, &below, &m, depth);
	}
	glob_at_free(&below);
}

static bool
is_within_bounds(struct walk *w, const char *path, unsigned depth)
{
	if (w->is_over)
		return false;
	if (++w->n_names > DISCOVER_NAMES_MAX) {
		add_fault(w->i, path, ERR_NO_SPACE,
			  "not inspected: there are more than 1000000 names where archives are looked for");
		w->is_over = true;
	} else if (n_open(w->i) >= DISCOVER_FILES_MAX) {
		add_fault(w->i, path, ERR_NO_SPACE,
			  "not inspected: the job left more than 4096 files that may be archives");
		w->is_over = true;
	} else if (depth > DISCOVER_DEPTH_MAX) {
		add_fault(w->i, path, ERR_NO_SPACE, "not inspected: it lies deeper than 64 directories");
		return false;
	}
	return !w->is_over;
}

/* `dirfd` is the directory itself and stays the caller's. */
static void
walk_dir(struct walk *w, int dirfd, const char *path, const struct glob_at *at, unsigned depth,
	 bool is_through_link)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, NULL);
	struct dirent *d;
	int rc = -1;

	while (dir && (rc = fs_next(dir, &d, NULL)) > 0) {
		AUTO_FREE char *below = NULL;

		below = path[0] ? mem_printf("%s/%s", path, d->d_name) : mem_strdup(d->d_name);
		if (!is_within_bounds(w, below, depth))
			return;
		look_at_name(w, dirfd, d->d_name, below, at, depth, is_through_link);
	}
	/* what is behind it may be an image: that is not the same as none */
	if (rc < 0)
		add_fault(w->i, path, ERR_FAILED, "it cannot be looked into");
}

/* --- the stage --- */

/*
 * A path of the job as the runner takes it: variables of the job are not known here but for the project directory,
 * the rest is cleaned by its letters alone. Below the project directory, "." for itself, NULL outside of it.
 */
static char *
below_project(const char *path, const char *project_dir)
{
	static const char *const fronts[] = { "$CI_PROJECT_DIR", "${CI_PROJECT_DIR}" };
	const char *top = project_dir + strspn(project_dir, "/"), *rest = path;
	AUTO_FREE char *whole = NULL, *clean = NULL;
	size_t n_top = strlen(top);

	for (size_t i = 0; i < MEM_COUNT(fronts); i++) {
		size_t n = strlen(fronts[i]);

		if (str_has_prefix(path, fronts[i]) && (path[n] == '/' || !path[n]))
			rest = path + n;
	}
	/* "$X/.." climbs who knows where. */
	if (strchr(rest, '$') && strstr(rest, ".."))
		return mem_strdup(".");
	whole = mem_printf("%s/%s", rest != path || path[0] != '/' ? project_dir : "", rest);
	clean = str_clean_path(whole, NULL);
	if (!str_has_prefix(clean, top) || (n_top > 0 && clean[n_top] && clean[n_top] != '/'))
		return NULL;
	rest = clean + n_top + strspn(clean + n_top, "/");
	return mem_strdup(*rest ? rest : ".");
}

static void
add_artifact_path(struct inspection *i, struct glob_set *g, const char *path)
{
	AUTO_FREE char *below = below_project(path, i->project_dir ? i->project_dir : "");
	AUTO_FREE char *safe = str_safe(path, 200);

	if (!below)
		log_line(i->log, LOG_NOTE, "artifacts: paths: %s is not below the project directory", safe);
	else if (!glob_set_add(g, below, true))
		add_fault(i, path, ERR_NO_SPACE,
			  "not inspected: there are more artifacts: paths: than can be looked for");
}

struct glob_set *
discover_collect_globs(struct inspection *i)
{
	struct glob_set *g = glob_set_new();
	const struct strv *globs = &i->opt->images.archives, *paths = &i->job->artifact_paths;

	for (size_t k = 0; k < globs->n; k++)
		if (!glob_set_add(g, globs->v[k], false))
			log_line(i->log, LOG_WARN, "images.archives: %s is not below the project directory",
				 globs->v[k]);
	for (size_t k = 0; k < paths->n && i->opt->images.declared_artifacts; k++)
		add_artifact_path(i, g, paths->v[k]);
	return g;
}

static int
compare_archives(const void *a, const void *b)
{
	return strcmp(((const struct archive *)a)->name, ((const struct archive *)b)->name);
}

/* Each archive holds a descriptor until the end. */
static void
raise_descriptor_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur >= 2 * DISCOVER_FILES_MAX ||
	    r.rlim_cur == r.rlim_max)
		return;
	r.rlim_cur = r.rlim_max < 2 * DISCOVER_FILES_MAX ? r.rlim_max : 2 * DISCOVER_FILES_MAX;
	(void)!setrlimit(RLIMIT_NOFILE, &r); /* where it stays low, opening says so */
}

static int
run(struct inspection *i, struct err *e)
{
	AUTO(glob_set) struct glob_set *globs = NULL;
	struct glob_at at;
	struct walk w;

	(void)e;
	if (i->project_fd < 0)
		return 0;
	raise_descriptor_limit();
	globs = discover_collect_globs(i);
	w = (struct walk){ .i = i, .globs = globs };
	glob_at_start(globs, &at);
	/* Nothing can be withheld of a project without the files that make it a layout. */
	if ((at.is_everything || is_named_by_its_files(&w, &at)) && is_layout(i->project_fd))
		add_fault(i, "index.json", ERR_UNSUPPORTED,
			  "not inspected: the project directory itself is an image layout; one in a directory of its "
			  "own is read");
	walk_dir(&w, i->project_fd, "", &at, 1, false);
	glob_at_free(&at);
	if (i->n_archives)
		qsort(i->archives, i->n_archives, sizeof(*i->archives), compare_archives);
	return 0;
}

int
discover_add_file(struct inspection *i, const char *path, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct archive *a;
	struct stat st;

	raise_descriptor_limit();
	if (fd < 0 || fstat(fd, &st) < 0) {
		err_errno(e, "%s", path);
		if (e)
			e->kind = ERR_USAGE;
		return -1;
	}
	if (S_ISREG(st.st_mode)) {
		a = inspection_add_archive(i);
		a->name = mem_strdup(path);
		a->fd = take_fd(fd);
		fs_identity_of(&st, &a->id);
		return 0;
	}
	if (S_ISDIR(st.st_mode) && is_layout(fd))
		take_layout(i, fd, path);
	else
		add_fault(i, path, ERR_REFUSED,
			  S_ISDIR(st.st_mode) ? "no image: a directory that is no image layout"
					      : type_fault(st.st_mode));
	return 0;
}

const struct stage stage_discover = { "discover", STAGE_OPENER, run };
