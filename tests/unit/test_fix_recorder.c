#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "stages/fix_recorder.h"
#include "tests/unit/sample_image.h"

/* ---- a place ---- */

struct place {
	char path[64];
	struct kept *kept;
	struct sample s;
};

static void
make_place(struct place *p)
{
	snprintf(p->path, sizeof(p->path), "/tmp/test_fix_recorder.XXXXXX");
	assert_non_null(mkdtemp(p->path));
	p->kept = kept_open(p->path, (uid_t)-1, (gid_t)-1);
	assert_int_equal(p->kept->fault.kind, ERR_NONE);
	sample_init(&p->s);
	mem_free_at(&p->s.opt.policy.file);
	p->s.opt.policy.file = mem_strdup("/etc/policy.yml");
}

static void
free_place(struct place *p)
{
	kept_free(p->kept);
	sample_free(&p->s);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->path, NULL), 0);
}
#define AUTO_PLACE __attribute__((cleanup(free_place)))

static int
ask(struct place *p, struct fixes *ret, struct err *e)
{
	AUTO(fix_recorder)
	struct fix_recorder *r = fix_recorder_start(&p->s.i, p->kept, (uid_t)-1, (gid_t)-1);
	int rc;

	p->s.i.fix_recorder = r;
	rc = fix_recorder_ask(&p->s.i, ret, e);
	p->s.i.fix_recorder = NULL;
	return rc;
}

static size_t
count_kept(const struct place *p)
{
	AUTO_FIX_DATES struct fix_dates d = { 0 };

	assert_int_equal(fix_dates_read(p->kept->fixes_fd, &d, NULL), 0);
	return d.n;
}

/* ---- asking ---- */

static void
each_finding_with_a_fix_has_a_date_and_keeps_it(void **state)
{
	AUTO_PLACE struct place p = { 0 };
	int64_t before_s = clock_wall_s(), first_s = 0;
	const struct report *r;

	(void)state;
	make_place(&p);
	r = sample_add_image(&p.s, sample_report)->report;
	sample_add_image(&p.s, NULL);
	for (int round = 0; round < 2; round++) {
		AUTO_FIXES struct fixes fixes = { 0 };
		struct err e = ERR_INIT;

		if (ask(&p, &fixes, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(fixes.n_images, 2);
		for (size_t k = 0; k < r->n_findings; k++) {
			assert_int_equal(fixes.since_s[0][k] > 0, *r->findings[k].fixed != '\0');
			if (fixes.since_s[0][k] == 0)
				continue;
			first_s = first_s ? first_s : fixes.since_s[0][k];
			assert_int_equal(fixes.since_s[0][k], first_s);
		}
		assert_in_range(first_s, before_s, clock_wall_s());
		/* so that a second date would be another */
		if (round == 0)
			sleep(1);
	}
	assert_true(count_kept(&p) > 0);
}

static void
without_a_policy_nobody_waits_for_a_question(void **state)
{
	AUTO_PLACE struct place p = { 0 };

	(void)state;
	make_place(&p);
	mem_free_at(&p.s.opt.policy.file);
	p.s.opt.policy.file = mem_strdup("");
	assert_null(fix_recorder_start(&p.s.i, p.kept, (uid_t)-1, (gid_t)-1));
}

static void
assert_no_dates(struct place *p, const struct fixes *f)
{
	const struct report *r = p->s.i.images[0].report;

	for (size_t k = 0; k < r->n_findings; k++)
		assert_int_equal(f->since_s[0][k], 0);
	assert_int_equal(count_kept(p), 0);
}

static void
without_a_process_or_an_answer_no_date_is_known(void **state)
{
	AUTO_PLACE struct place p = { 0 };
	AUTO(fix_recorder) struct fix_recorder *r = NULL;
	AUTO_FIXES struct fixes none = { 0 };
	AUTO_FIXES struct fixes dead = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	make_place(&p);
	sample_add_image(&p.s, sample_report);
	assert_int_equal(fix_recorder_ask(&p.s.i, &none, &e), -1);
	assert_no_dates(&p, &none);
	r = fix_recorder_start(&p.s.i, p.kept, (uid_t)-1, (gid_t)-1);
	kill(r->pid, SIGKILL);
	p.s.i.fix_recorder = r;
	assert_int_equal(fix_recorder_ask(&p.s.i, &dead, &e), -1);
	assert_non_null(strstr(e.text, "no answer"));
	assert_no_dates(&p, &dead);
}

static void
a_host_that_can_keep_nothing_says_why(void **state)
{
	AUTO_PLACE struct place p = { 0 };
	AUTO(kept) struct kept *none = kept_open("/nowhere/at/all", (uid_t)-1, (gid_t)-1), *there = NULL;
	AUTO_FIXES struct fixes fixes = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	make_place(&p);
	sample_add_image(&p.s, sample_report);
	there = p.kept;
	p.kept = none;
	assert_int_equal(ask(&p, &fixes, &e), -1);
	assert_non_null(strstr(e.text, "/nowhere/at/all"));
	p.kept = there;
	there = NULL;
	assert_no_dates(&p, &fixes);
}

/* ---- whoever took the scanner over ---- */

/* What comes back for these bytes; the process has ended by itself then. */
static size_t
send_bytes(const struct place *p, const void *bytes, size_t n, char *answer, size_t max)
{
	size_t got = 0;
	ssize_t some;
	int ends[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		fix_recorder_serve(ends[1], &p->s.i, p->kept);
		_exit(0);
	}
	close(ends[1]);
	(void)!send(ends[0], bytes, n, MSG_NOSIGNAL);
	shutdown(ends[0], SHUT_WR);
	while ((some = recv(ends[0], answer + got, max - got, 0)) > 0)
		got += (size_t)some;
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return got;
}

static void
a_question_that_is_none_is_not_answered_and_puts_nothing_down(void **state)
{
	static const struct {
		uint64_t n;
		unsigned char keys[3];
		size_t n_keys; /* that come along */
	} bad[] = {
		{ FIX_ASKED_MAX + 1, { 1, 2, 3 }, 3 },
		{ UINT64_MAX, { 1, 2, 3 }, 3 },
		{ UINT64_MAX / 16 + 2, { 1, 2, 3 }, 3 },
		{ 3, { 1, 2, 3 }, 2 },
		{ 3, { 1, 3, 2 }, 3 },
		{ 3, { 1, 1, 2 }, 3 },
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(bad); k++) {
		AUTO_PLACE struct place p = { 0 };
		unsigned char bytes[8 + 3 * 16] = { 0 };
		char answer[4096];

		make_place(&p);
		memcpy(bytes, &bad[k].n, 8);
		for (size_t x = 0; x < 3; x++)
			bytes[8 + 16 * x] = bad[k].keys[x];
		assert_int_equal(send_bytes(&p, bytes, 8 + 16 * bad[k].n_keys, answer, sizeof(answer)), 0);
		assert_int_equal(send_bytes(&p, bytes, 5, answer, sizeof(answer)), 0);
		assert_int_equal(count_kept(&p), 0);
	}
}

static void
one_question_is_answered_and_no_other_and_nobody_names_a_date(void **state)
{
	AUTO_PLACE struct place p = { 0 };
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	unsigned char bytes[2 * (8 + 16)] = { 1 };
	int64_t before_s = clock_wall_s(), since_s;
	char answer[4096];
	size_t n;

	(void)state;
	make_place(&p);
	bytes[8] = 7;
	bytes[24] = 1;
	bytes[32] = 9;
	n = send_bytes(&p, bytes, sizeof(bytes), answer, sizeof(answer));
	assert_true(n > sizeof(since_s) && n < sizeof(answer));
	memcpy(&since_s, answer + n - sizeof(since_s), sizeof(since_s));
	assert_in_range(since_s, before_s, clock_wall_s());
	assert_int_equal(fix_dates_read(p.kept->fixes_fd, &d, NULL), 0);
	assert_int_equal(d.n, 1);
	assert_int_equal(d.v[0].key.bytes[0], 7);
	assert_int_equal(d.v[0].since_s, since_s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_finding_with_a_fix_has_a_date_and_keeps_it),
		cmocka_unit_test(without_a_policy_nobody_waits_for_a_question),
		cmocka_unit_test(without_a_process_or_an_answer_no_date_is_known),
		cmocka_unit_test(a_host_that_can_keep_nothing_says_why),
		cmocka_unit_test(a_question_that_is_none_is_not_answered_and_puts_nothing_down),
		cmocka_unit_test(one_question_is_answered_and_no_other_and_nobody_names_a_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
