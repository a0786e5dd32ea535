/* The config and cleanup phases through phase_main(), as an ordinary user: without separated users, slots and all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "executor/phase.h"
#include "executor/plan.h"

#define NOBODY 65534
#define ANSWER_MAX 100000

static const char payload_text[] =
	"{\"id\":7,\"token\":\"hunter2\",\"job_info\":{\"name\":\"docker_build\",\"stage\":\"s\",\"project_id\":42,"
	"\"project_full_path\":\"group/app\"},\"git_info\":{\"ref\":\"main\",\"sha\":\"60e1\"},"
	"\"steps\":[{\"name\":\"script\"}]}";

/* A host with settings, and calls of attempts on it. */
struct host {
	char dir[64];
	char *settings;
	int code;
	char *out, *err;
};

static void
put_file(const char *dir, const char *name, const char *text)
{
	AUTO_FD int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(fs_publish(dirfd, name, text, strlen(text), 0600, 0, NULL), 0);
}

static void
make_host(struct host *h, const char *more)
{
	AUTO_FREE char *text = NULL;

	memset(h, 0, sizeof(*h));
	snprintf(h->dir, sizeof(h->dir), "/tmp/test-config-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	text = mem_printf("state_dir: %s/state\ncache_dir: %s/cache\n%s", h->dir, h->dir, more);
	put_file(h->dir, "t.yml", text);
	h->settings = mem_printf("%s/t.yml", h->dir);
}

static void
remove_host(struct host *h)
{
	assert_int_equal(fs_remove_tree(AT_FDCWD, h->dir, NULL), 0);
	mem_free_at(&h->settings);
	mem_free_at(&h->out);
	mem_free_at(&h->err);
}
#define AUTO_HOST __attribute__((cleanup(remove_host)))

/* TMPDIR of an attempt, with the payload in it. Owned by the caller. */
static char *
attempt(const struct host *h, const char *name, const char *payload)
{
	char *dir = mem_printf("%s/%s", h->dir, name);

	assert_int_equal(mkdir(dir, 0700), 0);
	put_file(dir, "response.json", payload);
	return dir;
}

static void
call(struct host *h, const struct phase *p, const char *tmpdir)
{
	AUTO_FREE char *out = mem_printf("%s/out", h->dir);
	AUTO_FREE char *err = mem_printf("%s/err", h->dir);
	AUTO_FREE char *response = mem_printf("%s/response.json", tmpdir);
	char *argv[] = { (char[]){ "x" }, (char[]){ "--config" }, h->settings, NULL };
	int status;
	size_t len;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), 1);
		dup2(open(err, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), 2);
		clearenv();
		setenv("TMPDIR", tmpdir, 1);
		setenv("JOB_RESPONSE_FILE", response, 1);
		setenv("PATH", "/usr/bin:/bin", 1);
		/* A job's variables: none of them is to be believed. */
		setenv("CUSTOM_ENV_CI_PROJECT_DIR", "/etc", 1);
		setenv("CUSTOM_ENV_CI_PROJECT_PATH", "other/project", 1);
		exit(phase_main(p, 3, argv));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	h->code = WEXITSTATUS(status);
	mem_free_at(&h->out);
	mem_free_at(&h->err);
	assert_int_equal(fs_read_max(AT_FDCWD, out, ANSWER_MAX, &h->out, &len, NULL), 0);
	assert_int_equal(fs_read_max(AT_FDCWD, err, ANSWER_MAX, &h->err, &len, NULL), 0);
}

static struct plan *
plan_in(const char *tmpdir)
{
	AUTO_FD int fd = open(tmpdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct plan *p = NULL;
	struct err e = ERR_INIT;

	if (plan_read(fd, &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static bool
is_there(const struct host *h, const char *name)
{
	AUTO_FREE char *path = mem_printf("%s/%s", h->dir, name);

	return access(path, F_OK) == 0;
}

static void
config_answers_with_one_object_and_leaves_a_plan(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;
	AUTO_FREE char *builds = NULL;
	AUTO_FREE char *project = NULL;
	AUTO_FREE char *caches = NULL;
	AUTO(plan) struct plan *p = NULL;
	AUTO_JSON cJSON *j = NULL;
	struct err e = ERR_INIT;

	(void)state;
	make_host(&h, "");
	tmpdir = attempt(&h, "a", payload_text);
	call(&h, &phase_config, tmpdir);
	if (h.code != 0)
		fail_msg("%d: %s", h.code, h.err);
	assert_int_equal(json_parse(h.out, strlen(h.out), ANSWER_MAX, JSON_UNIQUE, &j, &e), 0);
	builds = mem_printf("%s/state/builds/0", h.dir);
	caches = mem_printf("%s/cache/jobs/0", h.dir);
	project = mem_printf("%s/group/app", builds);
	assert_string_equal(json_str(json_object(j, "driver"), "name"), "tidewaiter");
	assert_string_equal(json_str(json_object(j, "driver"), "version"), TIDEWAITER_VERSION);
	assert_string_equal(json_str(j, "builds_dir"), builds);
	assert_string_equal(json_str(j, "cache_dir"), caches);
	assert_false(json_bool(j, "builds_dir_is_shared", true));
	assert_true(cJSON_IsObject(json_get(j, "job_env")));
	p = plan_in(tmpdir);
	assert_string_equal(p->project_dir, project);
	assert_string_equal(p->facts.project_path, "group/app");
	assert_true(is_there(&h, "state/slots/0.json"));
	assert_null(strstr(h.out, "hunter2"));
	assert_null(strstr(h.err, "hunter2"));
}

static void
broken_settings_are_a_system_failure_and_take_no_slot(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;

	(void)state;
	make_host(&h, "job: { slots: several }\n");
	tmpdir = attempt(&h, "a", payload_text);
	call(&h, &phase_config, tmpdir);
	assert_int_equal(h.code, 2);
	assert_string_equal(h.out, "");
	assert_non_null(strstr(h.err, "t.yml"));
	assert_non_null(strstr(h.err, "slots"));
	assert_false(is_there(&h, "state/slots/0.json"));
	assert_false(is_there(&h, "a/" PLAN_NAME));
}

static void
a_payload_that_is_none_is_a_system_failure_and_takes_no_slot(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;

	(void)state;
	make_host(&h, "");
	tmpdir = attempt(&h, "a", "{\"id\":");
	call(&h, &phase_config, tmpdir);
	assert_int_equal(h.code, 2);
	assert_string_equal(h.out, "");
	assert_non_null(strstr(h.err, "job payload"));
	assert_false(is_there(&h, "state/slots/0.json"));
}

static void
no_free_slot_is_a_system_failure_that_names_the_setting(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *a = NULL;
	AUTO_FREE char *b = NULL;

	(void)state;
	make_host(&h, "job: { slots: 1, slot_wait: 10ms }\n");
	a = attempt(&h, "a", payload_text);
	b = attempt(&h, "b", payload_text);
	call(&h, &phase_config, a);
	assert_int_equal(h.code, 0);
	call(&h, &phase_config, b);
	assert_int_equal(h.code, 2);
	assert_non_null(strstr(h.err, "job.slots"));
	assert_non_null(strstr(h.err, "no free slot of 1"));
	/* The second attempt holds nothing, and its cleanup must not touch the first one's slot. */
	call(&h, &phase_cleanup, b);
	assert_int_equal(h.code, 0);
	assert_true(is_there(&h, "state/slots/0.json"));
}

static void
projects_of_the_settings_rule_the_plan(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;
	AUTO(plan) struct plan *p = NULL;

	(void)state;
	make_host(&h, "projects:\n"
		      "  - match: \"other/*\"\n"
		      "    gate: { mode: off }\n"
		      "  - match: \"group/*\"\n"
		      "    gate: { mode: enforce }\n");
	tmpdir = attempt(&h, "a", payload_text);
	call(&h, &phase_config, tmpdir);
	assert_int_equal(h.code, 0);
	p = plan_in(tmpdir);
	assert_string_equal(p->override_match, "group/*");
	assert_int_equal(p->opt.gate.mode, GATE_ENFORCE);
	assert_true(p->is_matching);
}

static void
cleanup_gives_the_slot_back_and_may_run_twice(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;

	(void)state;
	make_host(&h, "");
	tmpdir = attempt(&h, "a", payload_text);
	call(&h, &phase_config, tmpdir);
	assert_int_equal(h.code, 0);
	call(&h, &phase_cleanup, tmpdir);
	if (h.code != 0)
		fail_msg("%s", h.err);
	assert_false(is_there(&h, "state/slots/0.json"));
	assert_false(is_there(&h, "state/builds/0"));
	assert_false(is_there(&h, "a/" PLAN_NAME));
	call(&h, &phase_cleanup, tmpdir);
	assert_int_equal(h.code, 0);
}

static void
cleanup_without_a_plan_finds_the_slot_by_the_settings(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;
	AUTO_FREE char *plan = NULL;

	(void)state;
	make_host(&h, "");
	tmpdir = attempt(&h, "a", payload_text);
	call(&h, &phase_config, tmpdir);
	assert_int_equal(h.code, 0);
	plan = mem_printf("%s/" PLAN_NAME, tmpdir);
	assert_int_equal(unlink(plan), 0);
	call(&h, &phase_cleanup, tmpdir);
	if (h.code != 0)
		fail_msg("%s", h.err);
	assert_false(is_there(&h, "state/slots/0.json"));
}

static void
cleanup_with_a_plan_needs_no_settings(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *tmpdir = NULL;

	(void)state;
	make_host(&h, "");
	tmpdir = attempt(&h, "a", payload_text);
	call(&h, &phase_config, tmpdir);
	assert_int_equal(h.code, 0);
	put_file(h.dir, "t.yml", "not: [understood\n");
	call(&h, &phase_cleanup, tmpdir);
	if (h.code != 0)
		fail_msg("%s", h.err);
	assert_false(is_there(&h, "state/slots/0.json"));
}

static void
a_second_attempt_gets_the_slot_after_the_firsts_cleanup(void **state)
{
	AUTO_HOST struct host h;
	AUTO_FREE char *a = NULL;
	AUTO_FREE char *b = NULL;
	AUTO(plan) struct plan *p = NULL;

	(void)state;
	make_host(&h, "job: { slots: 2, slot_wait: 0 }\n");
	a = attempt(&h, "a", payload_text);
	call(&h, &phase_config, a);
	assert_int_equal(h.code, 0);
	call(&h, &phase_cleanup, a);
	assert_int_equal(h.code, 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, a, NULL), 0);
	b = attempt(&h, "b", payload_text);
	call(&h, &phase_config, b);
	assert_int_equal(h.code, 0);
	p = plan_in(b);
	assert_int_equal(p->slot, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_answers_with_one_object_and_leaves_a_plan),
		cmocka_unit_test(broken_settings_are_a_system_failure_and_take_no_slot),
		cmocka_unit_test(a_payload_that_is_none_is_a_system_failure_and_takes_no_slot),
		cmocka_unit_test(no_free_slot_is_a_system_failure_that_names_the_setting),
		cmocka_unit_test(projects_of_the_settings_rule_the_plan),
		cmocka_unit_test(cleanup_gives_the_slot_back_and_may_run_twice),
		cmocka_unit_test(cleanup_without_a_plan_finds_the_slot_by_the_settings),
		cmocka_unit_test(cleanup_with_a_plan_needs_no_settings),
		cmocka_unit_test(a_second_attempt_gets_the_slot_after_the_firsts_cleanup),
	};

	/* As root slot users would be needed: the end-to-end tests have them. */
	if (getuid() == 0 && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		return 1;
	/* A change of user forbids tracing, which the leak check needs. */
	prctl(PR_SET_DUMPABLE, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
