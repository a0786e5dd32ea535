#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/report_files.h"
#include "tests/unit/scratch.h"

#define NOBODY 65534

struct place {
	struct scratch at;
	int from, to;
};

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));

	p->at = scratch_new();
	assert_int_equal(mkdirat(p->at.fd, "from", 0700), 0);
	assert_int_equal(mkdirat(p->at.fd, "to", 0700), 0);
	p->from = fs_open_dir(p->at.fd, "from", NULL);
	p->to = fs_open_dir(p->at.fd, "to", NULL);
	assert_true(p->from >= 0 && p->to >= 0);
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	close(p->from);
	close(p->to);
	scratch_remove(&p->at);
	free(p);
	return 0;
}

static void
leave(int dir_fd, const char *name, const char *text)
{
	assert_int_equal(fs_publish(dir_fd, name, text, strlen(text), 0600, 0, NULL), 0);
}

static int
copy(const struct place *p, struct err *e)
{
	return report_files_copy(p->from, p->to, (uid_t)-1, (gid_t)-1, e);
}

static bool
is_there(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
assert_holds(int dir_fd, const char *name, const char *text)
{
	AUTO_FREE char *found = NULL;
	size_t len;

	assert_int_equal(fs_read_max(dir_fd, name, 1000, &found, &len, NULL), 0);
	assert_string_equal(found, text);
}

static void
reports_are_copied_and_nothing_else(void **state)
{
	const struct place *p = *state;
	struct stat st;
	mode_t mask = umask(0077);

	leave(p->from, "app.json", "{}");
	leave(p->from, "app.html", "<p>");
	leave(p->from, "delivery-0", "secret");
	leave(p->from, ".hidden.json", "x");
	leave(p->from, "json", "x");
	assert_int_equal(copy(p, NULL), 0);
	umask(mask);
	assert_holds(p->to, "app.json", "{}");
	assert_holds(p->to, "app.html", "<p>");
	assert_false(is_there(p->to, "delivery-0"));
	assert_false(is_there(p->to, ".hidden.json"));
	assert_false(is_there(p->to, "json"));
	assert_int_equal(fstatat(p->to, "app.json", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void
an_old_report_is_replaced_and_a_link_in_its_place_is_not_followed(void **state)
{
	const struct place *p = *state;

	leave(p->from, "a.json", "new");
	leave(p->from, "b.json", "new");
	leave(p->to, "a.json", "an old and longer one");
	leave(p->at.fd, "victim", "untouched");
	assert_int_equal(symlinkat("../victim", p->to, "b.json"), 0);
	assert_int_equal(copy(p, NULL), 0);
	assert_holds(p->to, "a.json", "new");
	assert_holds(p->to, "b.json", "new");
	assert_holds(p->at.fd, "victim", "untouched");
}

static void
a_link_or_special_file_among_the_reports_is_refused(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;

	leave(p->at.fd, "victim", "secret");
	assert_int_equal(symlinkat("../victim", p->from, "a.json"), 0);
	assert_int_equal(copy(p, &e), -1);
	assert_non_null(strstr(e.text, "a.json"));
	assert_int_equal(unlinkat(p->from, "a.json", 0), 0);
	assert_int_equal(mkfifoat(p->from, "b.json", 0600), 0);
	assert_int_equal(copy(p, &e), -1);
	assert_non_null(strstr(e.text, "b.json"));
	assert_int_equal(unlinkat(p->from, "b.json", 0), 0);
	assert_int_equal(mkdirat(p->from, "c.json", 0700), 0);
	assert_int_equal(copy(p, &e), -1);
	assert_false(is_there(p->to, "a.json") || is_there(p->to, "b.json") || is_there(p->to, "c.json"));
}

static void
a_report_over_its_limit_is_refused(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	AUTO_FD int fd = openat(p->from, "a.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, ((off_t)1 << 30) + 1), 0);
	assert_int_equal(copy(p, &e), -1);
	assert_non_null(strstr(e.text, "1 GiB"));
	assert_false(is_there(p->to, "a.json"));
}

static void
half_a_report_does_not_stay(void **state)
{
	const struct place *p = *state;
	struct rlimit before, small;
	struct err e = ERR_INIT;
	AUTO_FREE char *text = mem_alloc(20001);
	int rc;

	memset(text, 'x', 20000);
	leave(p->from, "a.json", text);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){ .rlim_cur = 5000, .rlim_max = before.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	rc = copy(p, &e);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(rc, -1);
	assert_non_null(strstr(e.text, "a.json"));
	assert_false(is_there(p->to, "a.json"));
}

static void
copies_belong_to_the_user_that_is_named(void **state)
{
	const struct place *p = *state;
	struct stat st;

	if (geteuid() != 0)
		skip();
	leave(p->from, "a.json", "{}");
	assert_int_equal(report_files_copy(p->from, p->to, NOBODY, NOBODY, NULL), 0);
	assert_int_equal(fstatat(p->to, "a.json", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_uid, NOBODY);
	assert_int_equal(st.st_gid, NOBODY);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(reports_are_copied_and_nothing_else),
		WITH_PLACE(an_old_report_is_replaced_and_a_link_in_its_place_is_not_followed),
		WITH_PLACE(a_link_or_special_file_among_the_reports_is_refused),
		WITH_PLACE(a_report_over_its_limit_is_refused),
		WITH_PLACE(half_a_report_does_not_stay),
		WITH_PLACE(copies_belong_to_the_user_that_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
