#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "tests/unit/scratch.h"

static size_t
count_entries(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	size_t n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void
nothing_is_opened_outside_or_through_a_link(void **state)
{
	const struct scratch *p = *state;
	static const char *const out[] = { "..",   "../etc/passwd", "/etc/passwd",
					   "link", "dir/link/file", "magic/passwd" };
	AUTO_FD int fd = -1;
	struct err e = ERR_INIT;

	assert_int_equal(mkdirat(p->fd, "dir", 0700), 0);
	assert_int_equal(symlinkat("/etc/passwd", p->fd, "link"), 0);
	assert_int_equal(symlinkat("/", p->fd, "dir/link"), 0);
	assert_int_equal(symlinkat("/proc/self/root/etc", p->fd, "magic"), 0);
	scratch_write(p, "file", "x");
	for (size_t i = 0; i < MEM_COUNT(out); i++)
		if (fs_open_beneath(p->fd, out[i], O_RDONLY, 0, NULL) >= 0)
			fail_msg("%s", out[i]);
	fd = fs_open_beneath(p->fd, "dir/../file", O_RDONLY, 0, &e);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fs_open_beneath(p->fd, "absent", O_RDONLY, 0, &e), -1);
	assert_int_equal(e.no, ENOENT);
	assert_int_equal(fs_open_beneath(p->fd, "link", O_RDONLY, 0, &e), -1);
	assert_non_null(strstr(e.text, "symbolic link"));
}

static void
reading_is_bounded_and_takes_regular_files_only(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	scratch_write(p, "file", "12345");
	assert_int_equal(mkfifoat(p->fd, "fifo", 0600), 0);
	assert_int_equal(symlinkat("file", p->fd, "link"), 0);
	assert_int_equal(fs_read_max(p->fd, "file", 5, &text, &len, NULL), 0);
	assert_int_equal(len, 5);
	assert_string_equal(text, "12345");
	mem_free_at(&text);
	assert_int_equal(fs_read_max(p->fd, "file", 4, &text, &len, NULL), -1);
	assert_int_equal(fs_read_max(p->fd, "fifo", 4, &text, &len, NULL), -1);
	assert_int_equal(fs_read_max(p->fd, "link", 9, &text, &len, NULL), -1);
	assert_int_equal(fs_read_max(p->fd, ".", 9, &text, &len, NULL), -1);
	assert_null(text);
}

static void
what_a_person_names_may_be_a_link_and_a_secret_may_not(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *path = mem_printf("%s/link", p->path), *text = NULL;
	struct err e = ERR_INIT;
	size_t len = 0;

	scratch_write(p, "file", "12345");
	assert_int_equal(fchmodat(p->fd, "file", 0600, 0), 0);
	assert_int_equal(symlinkat("file", p->fd, "link"), 0);
	assert_int_equal(fs_read_named(path, 5, &text, &len, NULL), 0);
	assert_string_equal(text, "12345");
	mem_free_at(&text);
	assert_int_equal(fs_read_named(p->path, 5, &text, &len, NULL), -1);
	assert_int_equal(fs_read_secret(path, &text, &e), -1);
	assert_non_null(strstr(e.text, "a symbolic link; name the file that it leads to"));
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_null(text);
}

static void
a_secret_that_others_can_read_is_none(void **state)
{
	static const struct {
		mode_t mode;
		bool is_taken;
	} cases[] = { { 0600, true },  { 0400, true },	{ 0640, true },
		      { 0644, false }, { 0660, false }, { 0602, false } };
	const struct scratch *p = *state;
	AUTO_FREE char *path = mem_printf("%s/token", p->path);

	scratch_write(p, "token", "s3cret\r\n");
	for (size_t i = 0; i < MEM_COUNT(cases); i++) {
		AUTO_FREE char *secret = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(chmod(path, cases[i].mode), 0);
		if ((fs_read_secret(path, &secret, &e) == 0) != cases[i].is_taken)
			fail_msg("%04o: %s", (unsigned)cases[i].mode, e.text);
		if (cases[i].is_taken)
			assert_string_equal(secret, "s3cret");
		assert_null(strstr(e.text, "s3cret"));
	}
}

/* What a process of user and group 1 makes of a token of that user that `group` can read. */
static int
read_as_another(const char *path, gid_t group)
{
	int status = 0;
	pid_t pid;

	assert_int_equal(chown(path, 1, group), 0);
	assert_int_equal(chmod(path, 0640), 0);
	pid = fork();
	if (pid == 0) {
		char *secret = NULL;

		if (setgroups(0, NULL) < 0 || setresgid(1, 1, 1) < 0 || setresuid(1, 1, 1) < 0)
			_exit(2);
		_exit(fs_read_secret(path, &secret, NULL) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
a_secret_that_a_foreign_group_can_read_is_none(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *path = mem_printf("%s/token", p->path);

	if (geteuid() != 0)
		skip();
	scratch_write(p, "token", "s3cret\n");
	assert_int_equal(chmod(p->path, 0711), 0);
	assert_int_equal(read_as_another(path, 1), 0);
	assert_int_equal(read_as_another(path, 2), 1);
}

static void
an_empty_secret_or_one_with_a_nul_is_none(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *path = mem_printf("%s/token", p->path);
	AUTO_FREE char *secret = NULL;

	scratch_write(p, "token", "\n");
	assert_int_equal(fs_read_secret(path, &secret, NULL), -1);
	assert_int_equal(fs_publish(p->fd, "token", "a\0b", 3, 0600, 0, NULL), 0);
	assert_int_equal(fs_read_secret(path, &secret, NULL), -1);
	assert_null(secret);
}

static void
publishing_replaces_a_file_whole_and_leaves_nothing_on_failure(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *text = NULL;
	struct stat st;
	size_t len;

	scratch_write(p, "file", "old");
	assert_int_equal(fs_publish(p->fd, "file", "new", 3, 0640, FS_DURABLE, NULL), 0);
	assert_int_equal(fs_read_max(p->fd, "file", 9, &text, &len, NULL), 0);
	assert_string_equal(text, "new");
	assert_int_equal(fstatat(p->fd, "file", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	/* a directory stands where it should go */
	assert_int_equal(mkdirat(p->fd, "taken", 0700), 0);
	assert_int_equal(mkdirat(p->fd, "taken/x", 0700), 0);
	assert_int_equal(fs_publish(p->fd, "taken", "new", 3, 0600, 0, NULL), -1);
	assert_int_equal(count_entries(p->fd), 2);
}

static void
publishing_does_not_write_through_a_link(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *text = NULL;
	size_t len;

	scratch_write(p, "victim", "untouched");
	assert_int_equal(symlinkat("victim", p->fd, "file"), 0);
	assert_int_equal(fs_publish(p->fd, "file", "new", 3, 0600, 0, NULL), 0);
	assert_int_equal(fs_read_max(p->fd, "victim", 99, &text, &len, NULL), 0);
	assert_string_equal(text, "untouched");
}

static void
a_deep_tree_is_removed_whole(void **state)
{
	const struct scratch *p = *state;
	int at = dup(p->fd);

	for (int i = 0; i < 500; i++) {
		int next;

		assert_int_equal(mkdirat(at, "a directory of the tree", 0700), 0);
		close(openat(at, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		next = openat(at, "a directory of the tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(fs_remove_tree(p->fd, "a directory of the tree", NULL), 0);
	assert_int_equal(count_entries(p->fd), 1);
}

static void
what_a_link_in_a_tree_names_stays(void **state)
{
	const struct scratch *p = *state;

	scratch_write(p, "keep", "x");
	assert_int_equal(mkdirat(p->fd, "kept", 0700), 0);
	assert_int_equal(mkdirat(p->fd, "kept/inside", 0700), 0);
	assert_int_equal(mkdirat(p->fd, "tree", 0700), 0);
	assert_int_equal(symlinkat("../keep", p->fd, "tree/file"), 0);
	assert_int_equal(symlinkat("../kept", p->fd, "tree/dir"), 0);
	assert_int_equal(mkfifoat(p->fd, "tree/fifo", 0600), 0);
	assert_int_equal(fs_remove_tree(p->fd, "tree", NULL), 0);
	assert_int_equal(faccessat(p->fd, "keep", F_OK, 0), 0);
	assert_int_equal(faccessat(p->fd, "kept/inside", F_OK, 0), 0);
	assert_int_equal(faccessat(p->fd, "tree", F_OK, 0), -1);
	assert_int_equal(symlinkat("kept", p->fd, "link"), 0);
	assert_int_equal(fs_remove_tree(p->fd, "link", NULL), 0);
	assert_int_equal(faccessat(p->fd, "kept/inside", F_OK, 0), 0);
	assert_int_equal(fs_remove_tree(p->fd, "absent", NULL), 0);
}

static void
what_lies_behind_a_link_is_not_removed(void **state)
{
	const struct scratch *p = *state;
	struct err e = ERR_INIT;

	assert_int_equal(mkdirat(p->fd, "kept", 0700), 0);
	assert_int_equal(mkdirat(p->fd, "kept/inside", 0700), 0);
	assert_int_equal(mkdirat(p->fd, "tree", 0700), 0);
	assert_int_equal(mkdirat(p->fd, "tree/sub", 0700), 0);
	assert_int_equal(symlinkat("../kept", p->fd, "tree/link"), 0);
	assert_int_equal(fs_remove_beneath(p->fd, "tree/link/inside", &e), -1);
	assert_non_null(strstr(e.text, "symbolic link"));
	assert_int_equal(fs_remove_beneath(p->fd, "../kept/inside", NULL), -1);
	assert_int_equal(faccessat(p->fd, "kept/inside", F_OK, 0), 0);
	err_clear(&e);
	assert_int_equal(fs_remove_beneath(p->fd, "absent/sub", &e), 0);
	assert_int_equal(e.kind, ERR_NONE);
	assert_int_equal(fs_remove_beneath(p->fd, "tree/link", NULL), 0);
	assert_int_equal(fs_remove_beneath(p->fd, "tree/sub", NULL), 0);
	assert_int_equal(faccessat(p->fd, "tree/sub", F_OK, 0), -1);
	assert_int_equal(fs_remove_beneath(p->fd, "tree", NULL), 0);
	assert_int_equal(faccessat(p->fd, "tree", F_OK, 0), -1);
	assert_int_equal(faccessat(p->fd, "kept/inside", F_OK, 0), 0);
}

/* As an ordinary user, whom modes bind. */
static void
directories_without_any_rights_are_removed_by_their_owner(void **state)
{
	const struct scratch *p = *state;
	int status = -1;
	pid_t pid;

	assert_int_equal(fchmod(p->fd, 0777), 0);
	pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(9);
		if (mkdirat(p->fd, "tree", 0700) < 0 || mkdirat(p->fd, "tree/closed", 0700) < 0 ||
		    mkdirat(p->fd, "tree/closed/inner", 0700) < 0 ||
		    fchmodat(p->fd, "tree/closed/inner", 0, 0) < 0 ||
		    fchmodat(p->fd, "tree/closed", 0, 0) < 0 || fchmodat(p->fd, "tree", 0500, 0) < 0)
			_exit(8);
		_exit(fs_remove_tree(p->fd, "tree", NULL) == 0 && faccessat(p->fd, "tree", F_OK, 0) < 0 ? 0
													: 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
directories_are_made_down_to_the_last(void **state)
{
	const struct scratch *p = *state;
	struct stat st;

	assert_int_equal(fs_mkdirs(p->fd, "a/b/c", 0711, NULL), 0);
	assert_int_equal(fs_mkdirs(p->fd, "a/b/c", 0711, NULL), 0);
	assert_int_equal(fstatat(p->fd, "a/b/c", &st, 0), 0);
	assert_true(S_ISDIR(st.st_mode));
	scratch_write(p, "file", "x");
	assert_int_equal(fs_mkdirs(p->fd, "file/x", 0711, NULL), -1);
}

static void
a_copy_has_exactly_the_bytes_asked_for(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *text = NULL;
	AUTO_FD int from = -1;
	AUTO_FD int to = -1;
	size_t len;

	scratch_write(p, "from", "0123456789");
	from = openat(p->fd, "from", O_RDONLY | O_CLOEXEC);
	to = openat(p->fd, "to", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(fs_copy(from, 3, to, 4, NULL), 0);
	assert_int_equal(fs_read_max(p->fd, "to", 99, &text, &len, NULL), 0);
	assert_string_equal(text, "3456");
	assert_int_equal(fs_copy(from, 8, to, 4, NULL), -1);
}

static void
a_lock_is_had_by_one_and_a_deadline_ends_the_wait(void **state)
{
	const struct scratch *p = *state;
	struct err e = ERR_INIT;
	int first = fs_lock(p->fd, "lock", clock_deadline(0), NULL);

	assert_true(first >= 0);
	assert_int_equal(fs_lock(p->fd, "lock", clock_deadline(30), &e), -1);
	assert_int_equal(e.kind, ERR_TIMEOUT);
	close(first);
	first = fs_lock(p->fd, "lock", clock_deadline(0), NULL);
	assert_true(first >= 0);
	close(first);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

/* Directories in each other, nobody's and without any rights, a file in each. */
static void
make_closed_tree(const struct scratch *p, const char *name, int depth)
{
	int at;

	assert_int_equal(mkdirat(p->fd, name, 0700), 0);
	at = fs_open_dir(p->fd, name, NULL);
	for (int i = 0; i < depth; i++) {
		int next;

		assert_true(at >= 0);
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		close(openat(at, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0));
		next = fs_open_dir(at, "d", NULL);
		assert_int_equal(fchown(at, 65534, 65534), 0);
		assert_int_equal(fchmod(at, 0), 0);
		close(at);
		at = next;
	}
	assert_int_equal(fchown(at, 65534, 65534), 0);
	close(at);
}

/* Exit code of a removal by nobody: 0, 1 with these words, 2 with others. */
static int
remove_as_nobody(const struct scratch *p, const char *name, const char *words)
{
	int status = -1;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct err e = ERR_INIT;

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(9);
		if (fs_remove_tree(p->fd, name, &e) == 0)
			_exit(0);
		_exit(strcmp(e.text, words) == 0 ? 1 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
closed_directories_deeper_than_descriptors_are_removed_by_their_owner(void **state)
{
	const struct scratch *p = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(fchmod(p->fd, 0777), 0);
	make_closed_tree(p, "tree", 300);
	assert_int_equal(remove_as_nobody(p, "tree", ""), 0);
	assert_int_equal(faccessat(p->fd, "tree", F_OK, 0), -1);
}

static void
a_file_that_cannot_be_removed_is_named_with_the_reason(void **state)
{
	const struct scratch *p = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(fchmod(p->fd, 0755), 0);
	assert_int_equal(mkdirat(p->fd, "tree", 0755), 0);
	scratch_write(p, "tree-file", "x");
	assert_int_equal(renameat(p->fd, "tree-file", p->fd, "tree/f"), 0);
	assert_int_equal(remove_as_nobody(p, "tree", "remove f: Permission denied"), 1);
	assert_int_equal(faccessat(p->fd, "tree/f", F_OK, 0), 0);
}

static void
a_directory_is_opened_whatever_mode_is_named(void **state)
{
	const struct scratch *p = *state;
	AUTO_FD int fd = -1;
	AUTO_FD int anonymous = -1;

	fd = fs_open_beneath(p->fd, ".", O_RDONLY | O_DIRECTORY, 0700, NULL);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	anonymous = fs_open_beneath(p->fd, ".", O_RDWR | O_TMPFILE, 0600, NULL);
	assert_true(anonymous >= 0);
}

static void
a_write_that_fails_midway_leaves_the_old_file_alone(void **state)
{
	const struct scratch *p = *state;
	AUTO_FREE char *text = NULL;
	size_t len;
	int status = -1;
	pid_t pid;

	scratch_write(p, "f", "old");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit small = { 4096, 4096 };
		char *large = mem_alloc(10000);
		struct err e = ERR_INIT;

		/* without its signal the limit is an error of write(2) */
		signal(SIGXFSZ, SIG_IGN);
		if (setrlimit(RLIMIT_FSIZE, &small) < 0)
			_exit(9);
		_exit(fs_publish(p->fd, "f", large, 10000, 0600, 0, &e) < 0 && e.no == EFBIG ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(count_entries(p->fd), 1);
	assert_int_equal(fs_read_max(p->fd, "f", 100, &text, &len, NULL), 0);
	assert_string_equal(text, "old");
}

static void
closed_standard_descriptors_are_held_and_their_use_still_fails(void **state)
{
	int status = -1;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		char c;

		close(0);
		close(2);
		if (fs_hold_standard(NULL) < 0 || open("/", O_RDONLY | O_CLOEXEC) < 3)
			_exit(1);
		if (read(0, &c, 1) != -1 || write(2, "x", 1) != -1)
			_exit(2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Exit code of a child in a mount namespace of its own: 0 when what is mounted in the tree was left alone. */
static int
remove_around_a_mount(const struct scratch *p)
{
	AUTO_FREE char *at = mem_printf("%s/tree/mounted", p->path);
	AUTO_FREE char *kept = mem_printf("%s/kept", at);
	struct err e = ERR_INIT;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", at, "tmpfs", 0, "size=64k") < 0 || mkdir(kept, 0700) < 0)
		return 9;
	if (fs_remove_tree(p->fd, "tree", &e) == 0)
		return 1;
	return access(kept, F_OK) == 0 && strstr(e.text, "mounted") ? 0 : 2;
}

static void
what_is_mounted_in_a_tree_is_not_entered(void **state)
{
	const struct scratch *p = *state;
	int status = -1;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	assert_int_equal(fs_mkdirs(p->fd, "tree/mounted", 0700, NULL), 0);
	pid = fork();
	if (pid == 0)
		_exit(remove_around_a_mount(p));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(nothing_is_opened_outside_or_through_a_link),
		WITH_PLACE(reading_is_bounded_and_takes_regular_files_only),
		WITH_PLACE(what_a_person_names_may_be_a_link_and_a_secret_may_not),
		WITH_PLACE(a_secret_that_others_can_read_is_none),
		WITH_PLACE(a_secret_that_a_foreign_group_can_read_is_none),
		WITH_PLACE(an_empty_secret_or_one_with_a_nul_is_none),
		WITH_PLACE(publishing_replaces_a_file_whole_and_leaves_nothing_on_failure),
		WITH_PLACE(publishing_does_not_write_through_a_link),
		WITH_PLACE(a_deep_tree_is_removed_whole),
		WITH_PLACE(what_a_link_in_a_tree_names_stays),
		WITH_PLACE(what_lies_behind_a_link_is_not_removed),
		WITH_PLACE(directories_without_any_rights_are_removed_by_their_owner),
		WITH_PLACE(directories_are_made_down_to_the_last),
		WITH_PLACE(a_copy_has_exactly_the_bytes_asked_for),
		WITH_PLACE(a_lock_is_had_by_one_and_a_deadline_ends_the_wait),
		WITH_PLACE(closed_directories_deeper_than_descriptors_are_removed_by_their_owner),
		WITH_PLACE(a_file_that_cannot_be_removed_is_named_with_the_reason),
		WITH_PLACE(a_directory_is_opened_whatever_mode_is_named),
		WITH_PLACE(a_write_that_fails_midway_leaves_the_old_file_alone),
		WITH_PLACE(what_is_mounted_in_a_tree_is_not_entered),
		cmocka_unit_test(closed_standard_descriptors_are_held_and_their_use_still_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
