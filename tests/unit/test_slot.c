#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "executor/slot.h"

#define N_SLOTS 3

/* A state directory, and TMPDIRs of attempts as the runner makes them. */
struct host {
	char dir[64];
	char *state;
};

static void
make_host(struct host *h)
{
	snprintf(h->dir, sizeof(h->dir), "/tmp/test-slot-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	h->state = mem_printf("%s/state", h->dir);
}

static void
remove_host(struct host *h)
{
	assert_int_equal(fs_remove_tree(AT_FDCWD, h->dir, NULL), 0);
	mem_free_at(&h->state);
}
#define AUTO_HOST __attribute__((cleanup(remove_host)))

static struct slot_owner *
attempt(const struct host *h, const char *name)
{
	AUTO_FREE char *dir = mem_printf("%s/%s", h->dir, name);
	struct slot_owner *o;
	struct err e = ERR_INIT;

	assert_int_equal(mkdir(dir, 0700), 0);
	o = slot_owner_new(dir, &e);
	if (!o)
		fail_msg("%s", e.text);
	return o;
}

/* Takes a slot without waiting and lets go of its lock. */
static int64_t
take(const struct host *h, const struct slot_owner *o, bool *ret_was_stale)
{
	AUTO_SLOT_TAKEN struct slot_taken t = SLOT_TAKEN_INIT;
	struct err e = ERR_INIT;

	if (slot_take(h->state, N_SLOTS, o, clock_mono_ms(), &t, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(t.lock_fd >= 0);
	*ret_was_stale = t.was_stale;
	return t.slot;
}

static void
the_lowest_free_slot_is_taken(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	AUTO(slot_owner) struct slot_owner *c = NULL;
	bool was_stale = true;
	struct err e = ERR_INIT;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	c = attempt(&h, "c");
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_false(was_stale);
	assert_int_equal(take(&h, b, &was_stale), 1);
	assert_int_equal(slot_release(h.state, a, 0, &e), 0);
	assert_int_equal(take(&h, c, &was_stale), 0);
	assert_false(was_stale);
}

static void
with_no_free_slot_the_error_names_the_holders(void **state)
{
	AUTO_HOST struct host h;
	struct slot_owner *owners[N_SLOTS + 1] = { NULL };
	AUTO_SLOT_TAKEN struct slot_taken t = SLOT_TAKEN_INIT;
	struct err e = ERR_INIT;
	bool was_stale;

	(void)state;
	make_host(&h);
	for (int i = 0; i <= N_SLOTS; i++) {
		AUTO_FREE char *name = mem_printf("t%d", i);

		owners[i] = attempt(&h, name);
		if (i < N_SLOTS)
			assert_int_equal(take(&h, owners[i], &was_stale), i);
	}
	assert_int_equal(slot_take(h.state, N_SLOTS, owners[N_SLOTS], clock_deadline(20), &t, &e), -1);
	assert_int_equal(e.kind, ERR_TIMEOUT);
	assert_non_null(strstr(e.text, "no free slot of 3"));
	assert_non_null(strstr(e.text, "by runner"));
	assert_int_equal(t.slot, -1);
	for (int i = 0; i <= N_SLOTS; i++)
		slot_owner_free(take_ptr(owners[i]));
}

static bool
put(const char *path, const char *text)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* From here on this process has no inotify: a user namespace of its own, with that limit. */
static bool
lose_watches(void)
{
	AUTO_FREE char *map = mem_printf("0 %u 1", (unsigned)geteuid());

	return unshare(CLONE_NEWUSER) == 0 && put("/proc/self/uid_map", map) &&
	       put("/proc/sys/user/max_inotify_instances", "0") && inotify_init1(0) < 0;
}

static void
without_a_watch_a_slot_is_waited_for_all_the_same(void **state)
{
	AUTO_HOST struct host h;
	struct slot_owner *owners[2] = { NULL };
	bool was_stale;
	int status = 0, ready[2];
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	make_host(&h);
	owners[0] = attempt(&h, "holder");
	owners[1] = attempt(&h, "waiter");
	assert_int_equal(take(&h, owners[0], &was_stale), 0);
	pid = fork();
	if (pid == 0) {
		AUTO_SLOT_TAKEN struct slot_taken t = SLOT_TAKEN_INIT;
		struct err e = ERR_INIT;

		if (!lose_watches())
			_exit(2);
		(void)!write(ready[1], "", 1);
		_exit(slot_take(h.state, 1, owners[1], clock_deadline(30000), &t, &e) == 0 && t.slot == 0 ? 0
													  : 1);
	}
	close(ready[1]);
	/* time for its first look; who is slower sees the slot free at once, which is no less right */
	if (read(ready[0], &byte, 1) == 1)
		usleep(100 * 1000);
	close(ready[0]);
	assert_int_equal(slot_release(h.state, owners[0], 0, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < MEM_COUNT(owners); i++)
		slot_owner_free(take_ptr(owners[i]));
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 2)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
a_slot_whose_tmpdir_is_gone_is_stale(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	bool was_stale = false;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(rmdir(a->tmpdir), 0);
	assert_int_equal(take(&h, b, &was_stale), 0);
	assert_true(was_stale);
}

static void
a_slot_whose_runner_is_gone_or_another_process_is_stale(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	bool was_stale = false;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	/* The same number was given to another process since. */
	a->runner_start ^= 1;
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(take(&h, b, &was_stale), 0);
	assert_true(was_stale);
}

static void
a_record_that_cannot_be_understood_is_stale(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO_FREE char *record = NULL;
	AUTO_FD int fd = -1;
	bool was_stale = false;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	assert_int_equal(take(&h, a, &was_stale), 0);
	record = mem_printf("%s/slots/0.json", h.state);
	fd = open(record, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(fs_write_all(fd, "{\"slot\":", 8, NULL), 0);
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_true(was_stale);
}

static void
half_a_record_of_a_config_that_was_killed_does_not_stay(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO_FREE char *half = NULL;
	AUTO_FD int fd = -1;
	bool was_stale;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	assert_int_equal(take(&h, a, &was_stale), 0);
	half = mem_printf("%s/slots/.1.json.0123456789ab", h.state);
	fd = open(half, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(access(half, F_OK), -1);
}

static void
the_same_attempt_gets_its_own_slot_again_to_be_cleaned(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	bool was_stale = false;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_true(was_stale);
}

static void
a_slot_that_is_being_cleaned_is_passed_over(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	AUTO_FD int cleaning = -1;
	bool was_stale = false, is_ours = false;
	struct err e = ERR_INIT;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	assert_int_equal(take(&h, a, &was_stale), 0);
	cleaning = slot_lock(h.state, a, 0, clock_mono_ms(), &is_ours, &e);
	assert_true(cleaning >= 0);
	assert_true(is_ours);
	/* The runner has given up waiting for this cleanup and removed its TMPDIR. */
	assert_int_equal(rmdir(a->tmpdir), 0);
	assert_int_equal(take(&h, b, &was_stale), 1);
	assert_false(was_stale);
}

static void
a_late_cleanup_sees_that_the_slot_is_anothers(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	AUTO_FD int lock = -1;
	bool was_stale = false, is_ours = true;
	int64_t slot = -1;
	struct err e = ERR_INIT;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(rmdir(a->tmpdir), 0);
	assert_int_equal(take(&h, b, &was_stale), 0);
	lock = slot_lock(h.state, a, 0, clock_mono_ms(), &is_ours, &e);
	assert_true(lock >= 0);
	assert_false(is_ours);
	/* Nor can it give the slot away. */
	assert_int_equal(slot_release(h.state, a, 0, &e), 0);
	assert_int_equal(slot_find(h.state, b, &slot, &e), 0);
	assert_int_equal(slot, 0);
}

static void
an_owner_finds_its_slot_though_fewer_are_configured_now(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	AUTO(slot_owner) struct slot_owner *stranger = NULL;
	bool was_stale;
	int64_t slot = -2;
	struct err e = ERR_INIT;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	stranger = attempt(&h, "c");
	assert_int_equal(slot_find(h.state, a, &slot, &e), 0);
	assert_int_equal(slot, -1);
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(take(&h, b, &was_stale), 1);
	assert_int_equal(slot_find(h.state, b, &slot, &e), 0);
	assert_int_equal(slot, 1);
	assert_int_equal(slot_find(h.state, stranger, &slot, &e), 0);
	assert_int_equal(slot, -1);
}

static void
inode_numbers_of_64_bits_survive(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	bool was_stale;
	int64_t slot = -1;
	struct err e = ERR_INIT;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	a->tmp_ino = UINT64_MAX - 1;
	assert_int_equal(take(&h, a, &was_stale), 0);
	assert_int_equal(slot_find(h.state, a, &slot, &e), 0);
	assert_int_equal(slot, 0);
	a->tmp_ino = UINT64_MAX;
	assert_int_equal(slot_find(h.state, a, &slot, &e), 0);
	assert_int_equal(slot, -1);
}

static void
whoever_waits_gets_the_slot_that_is_given_back(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO(slot_owner) struct slot_owner *b = NULL;
	struct err e = ERR_INIT;
	bool was_stale;
	int status;
	pid_t child;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	b = attempt(&h, "b");
	assert_int_equal(take(&h, a, &was_stale), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct slot_taken t;

		_exit(slot_take(h.state, 1, b, clock_deadline(60000), &t, &e) == 0 && t.slot == 0 ? 0 : 1);
	}
	assert_int_equal(slot_release(h.state, a, 0, &e), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
many_at_once_all_get_slots_of_their_own(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	unsigned seen = 0;
	pid_t children[8];

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	for (size_t i = 0; i < MEM_COUNT(children); i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0) {
			AUTO_FREE char *dir = mem_printf("%s/p%zu", h.dir, i);
			struct slot_owner *o;
			struct slot_taken t;

			mkdir(dir, 0700);
			o = slot_owner_new(dir, NULL);
			_exit(!o || slot_take(h.state, 8, o, clock_deadline(60000), &t, NULL) < 0
				      ? 99
				      : (int)t.slot);
		}
	}
	for (size_t i = 0; i < MEM_COUNT(children); i++) {
		int status;

		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_true(WIFEXITED(status));
		seen |= 1u << WEXITSTATUS(status);
	}
	assert_int_equal(seen, 0xff);
}

/* A process that works in a directory; it ends by a signal alone. */
static pid_t
worker_in(const char *dir, const char *name)
{
	int ready[2];
	pid_t child;
	char c;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (prctl(PR_SET_NAME, name) < 0 || chdir(dir) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return child;
}

static void
the_programs_of_a_dead_runners_attempt_are_ended_and_no_others(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *dead = NULL;
	AUTO(slot_owner) struct slot_owner *other = NULL;
	AUTO(slot_owner) struct slot_owner *next = NULL;
	AUTO_SLOT_TAKEN struct slot_taken t = SLOT_TAKEN_INIT;
	struct err e = ERR_INIT;
	pid_t theirs, others, shell;
	bool was_stale;
	int status;

	(void)state;
	make_host(&h);
	dead = attempt(&h, "a");
	other = attempt(&h, "b");
	next = attempt(&h, "c");
	dead->runner_start ^= 1;
	assert_int_equal(take(&h, dead, &was_stale), 0);
	theirs = worker_in(dead->tmpdir, "tidewaiter-run");
	others = worker_in(other->tmpdir, "tidewaiter-run");
	shell = worker_in(dead->tmpdir, "bash");
	/* Also after the directory was removed. */
	assert_int_equal(rmdir(dead->tmpdir), 0);
	assert_int_equal(slot_take(h.state, N_SLOTS, next, clock_mono_ms(), &t, &e), 0);
	assert_non_null(t.former);
	assert_int_equal(slot_end_processes(t.former, clock_deadline(60000), &e), 0);
	assert_int_equal(waitpid(theirs, &status, WNOHANG), theirs);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(waitpid(others, &status, WNOHANG), 0);
	assert_int_equal(waitpid(shell, &status, WNOHANG), 0);
	assert_int_equal(kill(others, SIGKILL), 0);
	assert_int_equal(kill(shell, SIGKILL), 0);
	assert_int_equal(waitpid(others, &status, 0), others);
	assert_int_equal(waitpid(shell, &status, 0), shell);
}

static void
records_are_for_root_alone(void **state)
{
	AUTO_HOST struct host h;
	AUTO(slot_owner) struct slot_owner *a = NULL;
	AUTO_FREE char *record = NULL;
	struct stat st;
	bool was_stale;

	(void)state;
	make_host(&h);
	a = attempt(&h, "a");
	assert_int_equal(take(&h, a, &was_stale), 0);
	record = mem_printf("%s/slots/0.json", h.state);
	assert_int_equal(stat(record, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_lowest_free_slot_is_taken),
		cmocka_unit_test(with_no_free_slot_the_error_names_the_holders),
		cmocka_unit_test(without_a_watch_a_slot_is_waited_for_all_the_same),
		cmocka_unit_test(a_slot_whose_tmpdir_is_gone_is_stale),
		cmocka_unit_test(a_slot_whose_runner_is_gone_or_another_process_is_stale),
		cmocka_unit_test(a_record_that_cannot_be_understood_is_stale),
		cmocka_unit_test(half_a_record_of_a_config_that_was_killed_does_not_stay),
		cmocka_unit_test(the_same_attempt_gets_its_own_slot_again_to_be_cleaned),
		cmocka_unit_test(a_slot_that_is_being_cleaned_is_passed_over),
		cmocka_unit_test(a_late_cleanup_sees_that_the_slot_is_anothers),
		cmocka_unit_test(an_owner_finds_its_slot_though_fewer_are_configured_now),
		cmocka_unit_test(inode_numbers_of_64_bits_survive),
		cmocka_unit_test(whoever_waits_gets_the_slot_that_is_given_back),
		cmocka_unit_test(many_at_once_all_get_slots_of_their_own),
		cmocka_unit_test(the_programs_of_a_dead_runners_attempt_are_ended_and_no_others),
		cmocka_unit_test(records_are_for_root_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
