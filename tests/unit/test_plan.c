#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "executor/plan.h"

#define NOBODY 65534

static const char payload_text[] =
	"{\"id\":7,\"token\":\"hunter2\",\"job_info\":{\"name\":\"build/docker_build: [a/b]\",\"stage\":\"pack\","
	"\"project_id\":42,\"pipeline_id\":5,\"project_full_path\":\"group/app\"},"
	"\"git_info\":{\"repo_url\":\"https://x:t@git.example.com/group/app.git\",\"ref\":\"main\",\"sha\":\"60e1\","
	"\"protected\":true},\"image\":{\"name\":\"alpine:3\"},\"services\":[{\"name\":\"db\"}],"
	"\"steps\":[{\"name\":\"script\"},{\"name\":\"release\"},{\"name\":\"after_script\"}],"
	"\"artifacts\":[{\"paths\":[\"tar_images/*\"],\"when\":\"always\",\"artifact_type\":\"archive\"}]}";

static const char settings_text[] = "state_dir: /srv/tw\n"
				    "cache_dir: /srv/twc\n"
				    "job: { slots: 4, env_set: [\"A=b c\"], kill_wait: 2s }\n"
				    "gate: { mode: enforce, severity: HIGH }\n";

struct place {
	char dir[64];
	int fd;
};

static void
make_place(struct place *p)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/test-plan-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
}

static void
remove_place(struct place *p)
{
	close(p->fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
}
#define AUTO_PLACE __attribute__((cleanup(remove_place)))

static struct settings *
make_settings(const char *text)
{
	struct settings *s = NULL;
	struct err e = ERR_INIT;

	if (settings_parse("t.yml", text, strlen(text), &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static struct plan *
make_plan(void)
{
	AUTO(settings) struct settings *s = make_settings(settings_text);
	AUTO(payload) struct payload *payload = NULL;
	struct plan *p = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(payload_parse(payload_text, strlen(payload_text), &payload, &e), 0);
	if (plan_make(s, payload, "group/**", 3, &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static void
a_plan_says_where_the_job_runs(void **state)
{
	AUTO(plan) struct plan *p = make_plan();

	(void)state;
	assert_string_equal(p->builds_dir, "/srv/tw/builds/3");
	assert_string_equal(p->job_cache_dir, "/srv/twc/jobs/3");
	assert_string_equal(p->slot_dir, "/srv/tw/slots/3");
	assert_string_equal(p->project_dir, "/srv/tw/builds/3/group/app");
	assert_false(p->is_separated);
	assert_string_equal(p->user, "");
	assert_int_equal(p->uid, geteuid());
	assert_true(p->is_matching);
}

static void
a_plan_is_read_as_it_was_written(void **state)
{
	AUTO_PLACE struct place place;
	AUTO(plan) struct plan *p = make_plan();
	AUTO(plan) struct plan *q = NULL;
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_write(place.fd, p, &e), 0);
	if (plan_read(place.fd, &q, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(q->settings_path, "t.yml");
	assert_string_equal(q->project_dir, p->project_dir);
	assert_string_equal(q->facts.project_path, "group/app");
	assert_string_equal(q->facts.name, "build/docker_build: [a/b]");
	assert_true(q->facts.is_protected);
	assert_int_equal(q->slot, 3);
	assert_int_equal(q->uid, p->uid);
	assert_string_equal(q->image, "alpine:3");
	assert_int_equal(q->n_services, 1);
	assert_true(q->made_s > 0);
	assert_int_equal(q->made_s, p->made_s);
	assert_int_equal(q->step_stages.n, 2);
	assert_string_equal(q->step_stages.v[1], "step_release");
	assert_true(q->has_archive);
	assert_int_equal(q->archive_when, ARTIFACT_ALWAYS);
	assert_true(q->is_matching);
	assert_string_equal(q->override_match, "group/**");
	assert_int_equal(q->job.kill_wait, 2000);
	assert_string_equal(q->job.env_set.v[0], "A=b c");
	assert_int_equal(q->opt.gate.mode, GATE_ENFORCE);
	assert_int_equal(q->opt.gate.severity, SEVERITY_HIGH);
	assert_int_equal(fstatat(place.fd, PLAN_NAME, &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
a_plan_holds_no_secret(void **state)
{
	AUTO_PLACE struct place place;
	AUTO(plan) struct plan *p = make_plan();
	AUTO_FREE char *text = NULL;
	struct err e = ERR_INIT;
	size_t len;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_write(place.fd, p, &e), 0);
	assert_int_equal(fs_read_max(place.fd, PLAN_NAME, PLAN_MAX, &text, &len, &e), 0);
	assert_null(strstr(text, "hunter2"));
}

static void
no_plan_is_enoent(void **state)
{
	AUTO_PLACE struct place place;
	struct plan *p = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_read(place.fd, &p, &e), -1);
	assert_int_equal(e.no, ENOENT);
	assert_null(p);
}

static void
a_plan_of_another_version_is_refused(void **state)
{
	AUTO_PLACE struct place place;
	struct plan *p = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(fs_publish(place.fd, PLAN_NAME, "{\"version\":99}", 14, 0600, 0, &e), 0);
	assert_int_equal(plan_read(place.fd, &p, &e), -1);
	assert_non_null(strstr(e.text, "version 99"));
	assert_int_equal(fs_publish(place.fd, PLAN_NAME, "{\"version\":1}", 13, 0600, 0, &e), 0);
	assert_int_equal(plan_read(place.fd, &p, &e), -1);
	assert_int_not_equal(e.no, ENOENT);
}

static bool
matches(const char *jobs, const char *name)
{
	AUTO_FREE char *text = mem_printf("inject: { jobs: [\"%s\"] }\n", jobs);
	AUTO(settings) struct settings *s = make_settings(text);
	AUTO_FREE char *job = mem_strdup(name);
	AUTO_FREE char *stage = mem_strdup("a/stage");
	const struct job_facts f = { .name = job, .stage = stage };

	return plan_is_matching(&s->opt, &f);
}

static void
a_star_matches_whole_job_names_slashes_too(void **state)
{
	(void)state;
	assert_true(matches("*docker_build*", "docker_build"));
	assert_true(matches("*docker_build*", "images/docker_build: [linux/amd64]"));
	assert_true(matches("*", "a/b/c"));
	assert_true(matches("a/*", "a/b"));
	assert_false(matches("*docker_build*", "test"));
	assert_false(matches("docker_build", "docker_build/x"));
}

static void
mode_off_matches_nothing(void **state)
{
	AUTO(settings) struct settings *s = make_settings("gate: { mode: off }\ninject: { jobs: [\"*\"] }\n");
	char name[] = "docker_build", stage[] = "s";
	const struct job_facts f = { .name = name, .stage = stage };

	(void)state;
	assert_false(plan_is_matching(&s->opt, &f));
	s->opt.gate.mode = GATE_AUDIT;
	assert_true(plan_is_matching(&s->opt, &f));
}

static void
the_runners_word_settles_where_the_project_lies(void **state)
{
	AUTO_PLACE struct place place;
	AUTO(plan) struct plan *p = make_plan();
	AUTO(plan) struct plan *q = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_settle_project_dir(place.fd, p, NULL, &e), 0);
	assert_string_equal(p->project_dir, "/srv/tw/builds/3/group/app");
	/* GIT_STRATEGY: empty */
	assert_int_equal(plan_settle_project_dir(place.fd, p, "/srv/tw/builds/3/group/app-empty.tmp", &e), 0);
	assert_string_equal(p->project_dir, "/srv/tw/builds/3/group/app-empty");
	assert_int_equal(plan_read(place.fd, &q, &e), 0);
	assert_string_equal(q->project_dir, "/srv/tw/builds/3/group/app-empty");
}

static void
a_project_outside_the_slot_is_an_error(void **state)
{
	static const char *const bad[] = {
		"/srv/tw/builds/33/group/app.tmp", "/srv/tw/builds/3.tmp",
		"/srv/tw/builds/3/../4/app.tmp",   "/srv/tw/builds/3/.tmp",
		"/srv/tw/builds/3/group/app",	   "relative.tmp",
		"/srv/tw/builds/3/...tmp",
	};
	AUTO_PLACE struct place place;
	AUTO(plan) struct plan *p = make_plan();

	(void)state;
	make_place(&place);
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		struct err e = ERR_INIT;

		if (plan_settle_project_dir(place.fd, p, bad[i], &e) == 0)
			fail_msg("%s was taken", bad[i]);
		assert_string_equal(p->project_dir, "/srv/tw/builds/3/group/app");
	}
}

static void
state_is_read_as_it_was_written(void **state)
{
	AUTO_PLACE struct place place;
	char stage[] = "build_script";
	const struct plan_state s = { .is_blocked = true, .was_uploaded = true, .last_stage = stage };
	struct plan_state none = { 0 }, back = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_state_read(place.fd, &none, &e), 0);
	assert_false(none.job_failed || none.is_blocked || none.is_inspected || none.was_uploaded ||
		     none.is_withheld);
	assert_string_equal(none.last_stage, "");
	plan_state_free(&none);
	assert_int_equal(plan_state_write(place.fd, &s, &e), 0);
	assert_int_equal(plan_state_read(place.fd, &back, &e), 0);
	assert_true(back.is_blocked && back.was_uploaded);
	assert_false(back.job_failed || back.is_inspected || back.is_withheld);
	assert_string_equal(back.last_stage, "build_script");
	plan_state_free(&back);
}

static void
what_one_stage_found_out_binds_the_later_ones(void **state)
{
	AUTO_PLACE struct place place;
	const struct plan_state all = {
		.job_failed = true,
		.is_blocked = true,
		.is_inspected = true,
		.was_uploaded = true,
		.is_withheld = true,
		.is_tampered = true,
		.has_own_upload = true,
	};
	struct plan_state back = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_state_write(place.fd, &all, &e), 0);
	assert_int_equal(plan_state_read(place.fd, &back, &e), 0);
	assert_true(back.job_failed && back.is_blocked && back.is_inspected && back.was_uploaded);
	assert_true(back.is_withheld && back.is_tampered && back.has_own_upload);
	plan_state_free(&back);
}

static void
half_a_state_is_an_error_and_not_a_clean_one(void **state)
{
	AUTO_PLACE struct place place;
	struct plan_state s = { 0 };
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(fs_publish(place.fd, PLAN_STATE_NAME, "{\"job_failed\":false}", 20, 0600, 0, &e), 0);
	assert_int_equal(plan_state_read(place.fd, &s, &e), -1);
	assert_non_null(strstr(e.text, "is_blocked"));
}

static void
our_files_are_removed_and_only_those(void **state)
{
	AUTO_PLACE struct place place;
	AUTO(plan) struct plan *p = make_plan();
	const struct plan_state s = { .last_stage = NULL };
	struct err e = ERR_INIT;

	(void)state;
	make_place(&place);
	assert_int_equal(plan_write(place.fd, p, &e), 0);
	assert_int_equal(plan_state_write(place.fd, &s, &e), 0);
	assert_int_equal(fs_publish(place.fd, "response.json", "{}", 2, 0600, 0, &e), 0);
	assert_int_equal(plan_remove(place.fd, &e), 0);
	assert_int_equal(faccessat(place.fd, PLAN_NAME, F_OK, 0), -1);
	assert_int_equal(faccessat(place.fd, PLAN_STATE_NAME, F_OK, 0), -1);
	assert_int_equal(faccessat(place.fd, "response.json", F_OK, 0), 0);
	assert_int_equal(plan_remove(place.fd, &e), 0);
}

static void
as_root_missing_users_name_setup(void **state)
{
	AUTO(settings) struct settings *s = make_settings("job: { user_prefix: tw-test-nobody- }\n");
	struct plan *p = NULL;
	struct err e = ERR_INIT;
	int rc;

	(void)state;
	if (getuid() != 0)
		skip();
	assert_int_equal(seteuid(0), 0);
	rc = plan_of_slot(s, 0, &p, &e);
	assert_int_equal(seteuid(NOBODY), 0);
	assert_int_equal(rc, -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_non_null(strstr(e.text, "tw-test-nobody-0"));
	assert_non_null(strstr(e.text, "tidewaiter setup"));
}

int
main(void)
{
	int failed;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plan_says_where_the_job_runs),
		cmocka_unit_test(a_plan_is_read_as_it_was_written),
		cmocka_unit_test(a_plan_holds_no_secret),
		cmocka_unit_test(no_plan_is_enoent),
		cmocka_unit_test(a_plan_of_another_version_is_refused),
		cmocka_unit_test(a_star_matches_whole_job_names_slashes_too),
		cmocka_unit_test(mode_off_matches_nothing),
		cmocka_unit_test(the_runners_word_settles_where_the_project_lies),
		cmocka_unit_test(a_project_outside_the_slot_is_an_error),
		cmocka_unit_test(state_is_read_as_it_was_written),
		cmocka_unit_test(what_one_stage_found_out_binds_the_later_ones),
		cmocka_unit_test(half_a_state_is_an_error_and_not_a_clean_one),
		cmocka_unit_test(our_files_are_removed_and_only_those),
		cmocka_unit_test(as_root_missing_users_name_setup),
	};

	/* Plans without slot users: the test is to run on any machine. */
	if (geteuid() == 0 && seteuid(NOBODY) < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	/* The leak check traces this process, which needs all its ids to be one. */
	if (getuid() == 0 && seteuid(0) < 0)
		return 1;
	return failed;
}
