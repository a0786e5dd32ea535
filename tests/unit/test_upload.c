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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "executor/upload.h"

#define TOKEN "glcbt-secret"

static void
split(const char *words, struct strv *ret)
{
	AUTO_FREE char *copy = mem_strdup(words);
	char *save = NULL, *word;

	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		strv_add(ret, word);
}

static bool
is_archive(const char *words)
{
	AUTO_STRV struct strv args = { 0 };

	split(words, &args);
	return upload_is_archive(&args);
}

static void
assert_built(const char *words, const char *dir, const char *expected)
{
	AUTO_STRV struct strv args = { 0 };
	AUTO_STRV struct strv built = { 0 };
	AUTO_FREE char *joined = NULL;

	split(words, &args);
	upload_build_args(&args, dir, &built);
	joined = strv_join(&built, " ");
	assert_string_equal(joined, expected);
}

static void
an_archive_is_told_from_reports_and_other_commands(void **state)
{
	(void)state;
	assert_true(is_archive("artifacts-uploader --url u --artifact-type archive"));
	assert_true(is_archive("artifacts-uploader --artifact-type=archive"));
	assert_true(is_archive("artifacts-uploader --artifact-type junit --artifact-type archive"));
	assert_true(is_archive("artifacts-uploader --path x"));
	assert_false(is_archive("artifacts-uploader --artifact-type junit"));
	assert_false(is_archive("artifacts-uploader -artifact-type=cyclonedx"));
	assert_false(is_archive("cache-archiver --artifact-type archive"));
	assert_false(is_archive("--version"));
	assert_false(is_archive(""));
}

static void
where_to_and_in_whose_name_is_taken_out_and_the_reports_added(void **state)
{
	(void)state;
	assert_built("artifacts-uploader --url http://x --token t --id 7 --timeout 1h --path a --expire-in 1w",
		     "scan_result",
		     "artifacts-uploader --timeout 1h --path a --expire-in 1w --path scan_result");
	assert_built("artifacts-uploader --url=http://x --token=t -id=7 --tls-ca-file /evil --path a", NULL,
		     "artifacts-uploader --path a");
	assert_built("artifacts-uploader --path a --token", NULL, "artifacts-uploader --path a");
}

/* A job environment that notes what it was asked to run. */
static struct {
	char *argv;
	char *env;
	char *cwd;
	bool is_shielded;
	int code;
	unsigned n;
} ran;

static int
note_tool(const struct plan *p, const struct env_tool *tool, int64_t deadline, struct env_result *ret,
	  struct err *e)
{
	AUTO_STRV struct strv words = { 0 };
	AUTO_STRV struct strv env = { 0 };
	size_t i;

	(void)p;
	(void)deadline;
	(void)e;
	for (i = 0; tool->argv[i]; i++)
		strv_add(&words, tool->argv[i]);
	for (i = 0; tool->envp[i]; i++)
		strv_add(&env, tool->envp[i]);
	free(take_ptr(ran.argv));
	free(take_ptr(ran.env));
	free(take_ptr(ran.cwd));
	ran.argv = strv_join(&words, " ");
	ran.env = strv_join(&env, "\n");
	ran.cwd = mem_strdup(tool->cwd);
	ran.is_shielded = tool->is_shielded;
	ran.n++;
	ret->code = ran.code;
	return 0;
}

static const struct env_ops noting = { .name = "noting", .run_tool = note_tool };

struct place {
	char dir[64];
	struct plan plan;
	struct payload payload;
	struct upload upload;
};

static int
setup(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));
	AUTO_FREE char *runner = NULL;
	AUTO_FD int fd = -1;

	snprintf(p->dir, sizeof(p->dir), "/tmp/test-upload-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	runner = mem_printf("%s/gitlab-runner", p->dir);
	fd = open(runner, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	p->plan.uid = (int64_t)geteuid();
	p->plan.job.path = mem_strdup("/usr/bin:/bin");
	p->plan.job.runner_path = take_ptr(runner);
	p->plan.job.lang = mem_strdup("C.UTF-8");
	p->plan.slot_dir = mem_strdup(p->dir);
	p->plan.project_dir = mem_strdup("/builds/0/group/app");
	p->plan.opt.report.artifact = true;
	p->plan.opt.report.dir = mem_strdup("scan_result");
	p->plan.opt.report.expire_in = mem_strdup("1 month");
	p->payload.token = mem_strdup(TOKEN);
	p->payload.facts.job_id = 1000;
	p->payload.facts.server_url = mem_strdup("https://gitlab.example.com");
	assert_int_equal(upload_open(&p->upload, &p->plan, &noting, &p->payload, NULL), 0);
	ran.code = 0;
	ran.n = 0;
	*state = p;
	return 0;
}

static int
teardown(void **state)
{
	struct place *p = *state;

	upload_free(&p->upload);
	mem_free_at(&p->plan.job.path);
	mem_free_at(&p->plan.job.runner_path);
	mem_free_at(&p->plan.job.lang);
	strv_free(&p->plan.job.env_set);
	mem_free_at(&p->plan.slot_dir);
	mem_free_at(&p->plan.project_dir);
	mem_free_at(&p->plan.opt.report.dir);
	mem_free_at(&p->plan.opt.report.expire_in);
	mem_free_at(&p->payload.token);
	mem_free_at(&p->payload.facts.server_url);
	free(take_ptr(ran.argv));
	free(take_ptr(ran.env));
	free(take_ptr(ran.cwd));
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	free(p);
	return 0;
}

/* What a client that sends these bytes is answered; "" for a connection that was closed without a word. */
static void
ask(struct upload *u, const char *bytes, size_t len, char answer[256])
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	AUTO_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ssize_t n;

	memcpy(addr.sun_path + 1, u->name, strlen(u->name));
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(u->name))),
			 0);
	assert_int_equal(send(fd, bytes, len, 0), (ssize_t)len);
	assert_int_equal(upload_serve(u, NULL), 0);
	n = recv(fd, answer, 255, MSG_DONTWAIT);
	/* A reset is a close with our words unread. */
	assert_true(n >= 0 || errno == ECONNRESET);
	answer[n > 0 ? n : 0] = '\0';
}
#define ASK(u, text, answer) ask(u, text, sizeof(text), answer)

static void
the_archive_is_uploaded_by_the_driver_with_the_payloads_token(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *argv =
		mem_printf("%s artifacts-uploader --path a --path scan_result", p->plan.job.runner_path);
	char answer[256];

	ASK(&p->upload, "artifacts-uploader\0--url\0http://evil\0--token\0other\0--path\0a", answer);
	assert_string_equal(answer, "e0");
	assert_string_equal(ran.argv, argv);
	assert_string_equal(ran.cwd, "/builds/0/group/app");
	assert_true(ran.is_shielded);
	assert_non_null(strstr(ran.env, "CI_JOB_TOKEN=" TOKEN));
	assert_non_null(strstr(ran.env, "CI_SERVER_URL=https://gitlab.example.com"));
	assert_non_null(strstr(ran.env, "CI_JOB_ID=1000"));
	assert_null(strstr(ran.argv, TOKEN));
	assert_true(p->upload.was_uploaded);
}

static void
nothing_is_added_where_reports_are_to_be_no_artifact(void **state)
{
	struct place *p = *state;
	char answer[256];

	p->plan.opt.report.artifact = false;
	ASK(&p->upload, "artifacts-uploader\0--path\0a", answer);
	assert_string_equal(answer, "e0");
	assert_null(strstr(ran.argv, "scan_result"));
	assert_true(p->upload.was_uploaded);
}

static void
a_failed_upload_gives_its_exit_code_and_no_mark(void **state)
{
	struct place *p = *state;
	char answer[256];

	ran.code = 137;
	ASK(&p->upload, "artifacts-uploader\0--path\0a", answer);
	assert_string_equal(answer, "e137");
	assert_false(p->upload.was_uploaded);
}

static void
a_second_archive_takes_the_mark_away(void **state)
{
	struct place *p = *state;
	char answer[256];

	ASK(&p->upload, "artifacts-uploader\0--path\0a", answer);
	assert_true(p->upload.was_uploaded);
	ASK(&p->upload, "artifacts-uploader\0--path\0b", answer);
	assert_string_equal(answer, "e1");
	assert_int_equal(ran.n, 1);
	assert_false(p->upload.was_uploaded);
}

static void
other_calls_become_the_real_gitlab_runner(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *expected = mem_printf("x%s", p->plan.job.runner_path);
	char answer[256];

	ASK(&p->upload, "--version", answer);
	assert_string_equal(answer, expected);
	ASK(&p->upload, "artifacts-uploader\0--artifact-type\0junit", answer);
	assert_string_equal(answer, expected);
	assert_int_equal(ran.n, 0);
}

static void
a_message_that_is_no_list_of_arguments_gets_no_answer(void **state)
{
	struct place *p = *state;
	char answer[256];

	ask(&p->upload, "artifacts-uploader", 18, answer);
	assert_string_equal(answer, "");
	assert_int_equal(ran.n, 0);
	assert_int_equal(p->upload.n_asked, 0);
}

static void
another_user_gets_no_answer(void **state)
{
	struct place *p = *state;
	char answer[256];

	p->plan.uid = (int64_t)geteuid() + 1;
	ASK(&p->upload, "artifacts-uploader\0--path\0a", answer);
	assert_string_equal(answer, "");
	assert_int_equal(ran.n, 0);
}

static const struct upload_artifact archive = { "archive", "zip", "scan_result", "scan_result" };

static void
the_drivers_own_upload_is_an_archive_of_the_report_directory(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *expected =
		mem_printf("%s artifacts-uploader --artifact-type archive --artifact-format zip --name "
			   "scan_result --expire-in 1 month --path scan_result",
			   p->plan.job.runner_path);
	int code = -1;

	ran.code = 3;
	assert_int_equal(upload_own(&p->plan, &noting, &p->payload, &archive, &code, NULL), 0);
	assert_int_equal(code, 3);
	assert_string_equal(ran.argv, expected);
	assert_true(ran.is_shielded);
}

static void
without_a_trusted_address_nothing_is_sent_anywhere(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	int code;

	p->payload.facts.server_url[0] = '\0';
	assert_int_equal(upload_own(&p->plan, &noting, &p->payload, &archive, &code, &e), -1);
	assert_non_null(strstr(e.text, "CI_SERVER_URL"));
	assert_int_equal(ran.n, 0);
}

#define WITH_PLACE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_archive_is_told_from_reports_and_other_commands),
		cmocka_unit_test(where_to_and_in_whose_name_is_taken_out_and_the_reports_added),
		WITH_PLACE(the_archive_is_uploaded_by_the_driver_with_the_payloads_token),
		WITH_PLACE(nothing_is_added_where_reports_are_to_be_no_artifact),
		WITH_PLACE(a_failed_upload_gives_its_exit_code_and_no_mark),
		WITH_PLACE(a_second_archive_takes_the_mark_away),
		WITH_PLACE(other_calls_become_the_real_gitlab_runner),
		WITH_PLACE(a_message_that_is_no_list_of_arguments_gets_no_answer),
		WITH_PLACE(another_user_gets_no_answer),
		WITH_PLACE(the_drivers_own_upload_is_an_archive_of_the_report_directory),
		WITH_PLACE(without_a_trusted_address_nothing_is_sent_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
